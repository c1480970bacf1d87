"""The one door to runs in Redis: submit, begin, report, read, and the upkeep that any process may do.

# Every change of a run is one call of one script; nothing here reads, decides and then writes.
# Every call may be sent twice, since a lost reply is asked for again. What makes the repeat harmless stands with each.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from shared import commands, keys, notes, records, steering, upkeep
from shared.commands import AT_ONCE, Cycle, Entrusted, NewRun, Outcome, Recorded, Report, Seat
from shared.errors import BadEnvelope, MissingResult, RunGone
from shared.notes import LogRow, Note
from shared.on_server import OnServer
from shared.patrol import Patrol
from shared.planning import PlanChange, plan
from shared.results import ResultRecord, ResultRecordMetadata, ResultSource
from shared.runs import TaskRun
from shared.seen import Needed, Stray
from shared.states import State
from shared.steering import Cleared, QueueChange, Steered
from shared.transport import Argument
from shared.upkeep import Beaten, Buried, Death, HooksDue, Promoted, Pulse, Recount

T = TypeVar("T")
TRIES = 10


class RunLedger(OnServer):
    """Runs in one Redis. Used by any number of threads if its transport is; holds no state of its own."""

    # --- submitting and proposing -------------------------------------------------------------------------------------

    def submit(self, runs: Sequence[NewRun]) -> list[str]:
        """Accept runs, 500 a call; a tag for each: OK, EXISTS (a repeat), or why not (see `submit.lua`).

        Repeatable: a run is known by its id, task and parameters.
        """
        tags: dict[int, str] = {}
        for places in commands.calls(runs):
            answered: list[str] = self._send(commands.submit([runs[i] for i in places], self._settings))
            tags.update(zip(places, answered, strict=True))
        return [tags[i] for i in range(len(runs))]

    def entrust(self, run: NewRun, worker: str, operation: str) -> Entrusted:
        """Accept a run that the process with this lease executes itself. Repeatable: the run keeps the operation."""
        return self._send(commands.entrust(run, worker, operation, self._settings))

    def propose(
        self,
        run_id: str,
        outcome: Outcome,
        operation: str,
        *,
        token: str | None = None,
        seq: int | None = None,
        actor: str = "",
        worker: str = "",
        leaves_hooks: bool = False,
    ) -> Recorded:
        """Move a run that is still as the proposer knew it, by token (its own attempt) or by seq (everybody else).

        `leaves_hooks`: the hooks of an end are for a worker to call, since the proposer does not.
        Repeatable: the run keeps the id of the last operation.
        """
        known: dict[str, Any] = {"token": token, "seq": seq, "leaves_hooks": leaves_hooks}
        return self._send(commands.propose(run_id, outcome, operation, actor=actor, worker=worker, **known))

    # --- attempts -----------------------------------------------------------------------------------------------------

    def cycle(self, seat: Seat, reports: Sequence[Report], want: int) -> Cycle:
        """Report ended attempts and begin up to `want` new ones.

        Repeatable: under the same number a cycle answers what it answered, and the number goes on only with an answer.
        """
        answer = self._send(commands.cycle(seat, reports, want, self._settings))
        seat.number += 1
        return answer

    def give_back(self, worker: str, held: Sequence[tuple[str, str]], message: str) -> list[str]:
        """Put attempts (run id, token) back to the head of their queues, uncounted. Repeatable: by token."""
        return self._send(commands.give_back(worker, held, message, self._settings))

    def give_back_after(self, worker: str, run_id: str, token: str, message: str) -> list[str]:
        """Put back what this worker began with that attempt and has not come to yet. Repeatable: by tokens."""
        return self._send(commands.give_back_after(worker, run_id, token, message, self._settings))

    def beat(self, pulses: Sequence[Pulse]) -> Beaten:
        """Renew the leases of these workers. Repeatable: it writes what holds now."""
        return self._send(upkeep.beat(pulses, self._settings))

    def reap(self, deaths: Sequence[Death] = ()) -> list[Buried]:
        """Bury these workers, or those whose lease is over. Repeatable: who is buried holds nothing."""
        return self._send(upkeep.reap(deaths, self._settings))

    def announce(self, hooked: Sequence[str]) -> int:
        """Say for which ends tasks have hooks; how many were not known yet. Repeatable: what was said is known."""
        starts = range(0, len(hooked), AT_ONCE)
        return sum(self._send(upkeep.announce(hooked[start : start + AT_ONCE])) for start in starts)

    def next_hooks(self, worker: str, queues: Sequence[str]) -> HooksDue:
        """Take the hooks of an end that are due. Repeatable: what the worker holds is answered again."""
        return self._send(upkeep.next_hooks(worker, queues))

    def hooks_called(self, worker: str, entry: str, *, is_for_others: bool = False) -> None:
        """What was taken is done, or is left to other workers. Repeatable: what is not held is done."""
        self._send(upkeep.hooks_called(worker, entry, is_for_others=is_for_others))

    def promote(self, most: int = 100) -> Promoted:
        """Queue what is due. Repeatable: each run is moved once."""
        return self._send(upkeep.promote(most))

    def sweep(self, most: int = AT_ONCE) -> int:
        """Remove what is past its retention; how many. Repeatable: what is gone is gone."""
        return self._send(upkeep.sweep(most))

    def expire(self, most: int = 100) -> int:
        """End what has waited too long; how many were looked at. Repeatable: who has ended is in no row any more."""
        return self._send(upkeep.expire(self._settings, most))

    def go_on(self, most: int = 1) -> int:
        """Go on with continuations; how many are left. Repeatable: what was done is not there any more."""
        return self._send(upkeep.go_on(self._settings, most))

    def reconcile(self, run_ids: Sequence[str]) -> list[str]:
        """Adopt or clean what was done to these runs behind the ledger's back; what was done to each, in words.

        Repeatable: what is as it should be is left alone.
        """
        done: list[str] = []
        for start in range(0, len(run_ids), AT_ONCE):
            answered: list[str] = self._send(upkeep.reconcile(run_ids[start : start + AT_ONCE], self._settings))
            done += answered
        return done

    def fire(self, schedule_id: str, due: str, next_due: str, fields: Mapping[str, Argument], run: NewRun) -> str:
        """Submit the run of an occurrence and write when the next one is due. Repeatable: then it is due later."""
        return self._send(upkeep.fire(schedule_id, due, next_due, fields, run, self._settings))

    def plan(
        self,
        what: PlanChange,
        schedule_id: str,
        *,
        due: str = "",
        next_due: str = "",
        call: bytes = b"",
        fields: Mapping[str, Argument] | None = None,
    ) -> str:
        """Make or change a schedule; see `plan.lua`. Repeatable: it writes what shall hold."""
        return self._send(plan(what, schedule_id, due=due, next_due=next_due, call=call, fields=fields))

    def strike(self, strays: Sequence[Stray]) -> list[bool]:
        """Take rows out of indexes where their runs do not belong; whether each was. Repeatable: what is gone is so."""
        struck: list[bool] = []
        for start in range(0, len(strays), AT_ONCE):
            answered: list[bool] = self._send(upkeep.strike(strays[start : start + AT_ONCE]))
            struck += answered
        return struck

    def patrol(self) -> Patrol:
        """Looks for runs that `reconcile` should be asked about."""
        return Patrol(self._transport)

    def write_needs(self, needs: Sequence[Needed]) -> list[bool]:
        """Write how many runs need these results; whether each was as seen. Repeatable: then they are as written."""
        written: list[bool] = []
        for start in range(0, len(needs), AT_ONCE):
            answered: list[bool] = self._send(upkeep.write_needs(needs[start : start + AT_ONCE]))
            written += answered
        return written

    def recount(self, counters: Sequence[Recount]) -> bool:
        """Write counters as they were found, if none has moved since. Repeatable: then they are as written."""
        return self._send(upkeep.recount(counters))

    def note(self, said: Sequence[Note]) -> list[str]:
        """Store what processes say of their runs; what became of each. Repeatable: by the number of the last row."""
        return self._send(notes.store(said))

    # --- steering -----------------------------------------------------------------------------------------------------

    def cancel(self, run_ids: Sequence[str], *, actor: str = "", message: str = "") -> list[Steered]:
        """End runs that wait, ask the processes of those that run. Repeatable: a cancelled run is left as it is."""
        answers: list[Steered] = []
        for start in range(0, len(run_ids), AT_ONCE):
            page = run_ids[start : start + AT_ONCE]
            answered: list[Steered] = self._send(steering.cancel(page, self._settings, actor=actor, message=message))
            answers += answered
        return answers

    def retry(
        self,
        run_id: str,
        seq: int,
        operation: str,
        *,
        actor: str = "",
        message: str = "",
        delay: float = 0,
        rerun: bool = False,
    ) -> Steered:
        """Make a run that has ended wait again. Repeatable: the run keeps the id of the operation."""
        return self._send(
            steering.retry(run_id, seq, operation, actor=actor, message=message, delay=delay, rerun=rerun)
        )

    def force(self, run_id: str, seq: int, operation: str, outcome: Outcome, *, actor: str = "") -> Steered:
        """Write a state without asking the rules. Repeatable: the run keeps the id of the operation."""
        return self._send(steering.force(run_id, seq, operation, outcome, actor=actor))

    def resume(self, run_id: str, seq: int, operation: str, *, actor: str = "", given: bytes = b"") -> Steered:
        """Let a paused run go on. Repeatable: the run keeps the id of the operation."""
        return self._send(steering.resume(run_id, seq, operation, actor=actor, given=given))

    def set_queue(self, queue: str, what: QueueChange, value: Argument = "") -> bool:
        """Pause, resume or cap a queue; whether anything changed. Repeatable: it writes what shall hold."""
        return self._send(steering.set_queue(queue, what, value))

    def move(self, queue: str, to: str, *, actor: str = "", most: int = AT_ONCE) -> Cleared:
        """Put runs that wait in a queue into another. Repeatable: what was moved is not there any more."""
        return self._send(steering.move(queue, to, actor=actor, most=most))

    def purge(self, queue: str, *, actor: str = "", message: str = "", most: int = AT_ONCE) -> Cleared:
        """Cancel runs that wait in a queue for a worker. Repeatable: what was cancelled does not wait any more."""
        return self._send(steering.purge(queue, self._settings, actor=actor, message=message, most=most))

    def set_limit(self, name: str, slots: int | None, decay: float | None = None) -> int:
        """Make, change or delete a limit; how many wait for it still. Repeatable: it writes what shall hold."""
        return self._send(steering.set_limit(name, slots, decay))

    def drain(self, workers: Sequence[str], *, whole_fleet: bool) -> list[str]:
        """Ask workers, or their fleets, to finish what runs and to end; OK or GONE. Repeatable: it writes a wish."""
        tags: list[str] = []
        for start in range(0, len(workers), AT_ONCE):
            answered: list[str] = self._send(steering.drain(workers[start : start + AT_ONCE], whole_fleet=whole_fleet))
            tags += answered
        return tags

    def drop(self, entries: Sequence[str]) -> int:
        """Remove entries of the quarantine; how many were there. Repeatable: what is gone is gone."""
        starts = range(0, len(entries), AT_ONCE)
        return sum(self._send(steering.drop(entries[start : start + AT_ONCE])) for start in starts)

    def wait_for(self, run_ids: Sequence[str]) -> int:
        """Tell workers that somebody waits for these runs, and for what those wait for; how many hints were left.

        Of those some thousands are looked at, the rest with the next repeat. A hint is no place of a run, and a repeat
        leaves none where one lies.
        """
        return steering.wait_for_all(self._send, run_ids)

    # --- reading ------------------------------------------------------------------------------------------------------

    def get(self, run_id: str) -> TaskRun:
        """The run as it is now, with its result up to the inline limit.

        Raises:
            RunGone: there is no such run, or no longer.
            BadEnvelope: what is stored there cannot be read.
        """
        run = self.get_many([run_id])[run_id]
        if isinstance(run, BadEnvelope):
            raise run
        if run is None:
            raise RunGone(f"Run {run_id} is not in Redis: it was deleted, is past its retention, or never was.")
        return run

    def get_with_inputs(self, run_id: str) -> TaskRun:
        """The same as `get`, with the run's parameters and what it takes from other runs: one round trip more.

        Raises:
            RunGone, BadEnvelope: as for `get`.
        """
        run = self.get(run_id)
        (parameters,) = self._transport.read([("GET", keys.run_part(run_id, "parameters"))])
        return records.with_inputs(run, parameters, self._settings.max_parameters)

    def get_many(self, run_ids: Iterable[str]) -> dict[str, TaskRun | BadEnvelope | None]:
        """The runs as they are now; None for one that is not there, the error for one that cannot be read."""
        found: dict[str, TaskRun | BadEnvelope | None] = {}
        missing = list(dict.fromkeys(run_ids))
        for _ in range(TRIES):
            for start in range(0, len(missing), AT_ONCE):
                self._read_batch(missing[start : start + AT_ONCE], found)
            missing = [run_id for run_id in missing if run_id not in found]
            if not missing:
                return found
        return found | {run_id: BadEnvelope(f"run {run_id}: its history and its record disagree") for run_id in missing}

    def _read_batch(self, run_ids: Sequence[str], found: dict[str, TaskRun | BadEnvelope | None]) -> None:
        limit = self._settings.inline_limit
        asked = [command for run_id in run_ids for command in records.reading(run_id, limit)]
        answers = self._transport.read(asked)
        for i, run_id in enumerate(run_ids):
            mine = answers[i * records.ANSWERS : (i + 1) * records.ANSWERS]
            try:
                found[run_id] = records.record(run_id, mine, limit, self._settings.max_result, self._source)
            except BadEnvelope as error:
                found[run_id] = error
            except records.Torn:
                continue

    def history(self, run_id: str) -> list[State[Any]]:
        """Every state the run went through, oldest first.

        Raises:
            RunGone: there is no such run, or no longer.
            BadEnvelope: what is stored there cannot be read.
        """
        (rows,) = self._transport.read([("LRANGE", keys.run_part(run_id, "history"), 0, -1)])
        if isinstance(rows, Exception):
            raise BadEnvelope(f"run {run_id}: {rows}")
        if not rows:
            raise RunGone(f"Run {run_id} is not in Redis: it was deleted, is past its retention, or never was.")
        return [records.state_of_row(run_id, row) for row in rows]

    def children(self, run_id: str) -> list[str]:
        """The ids of the runs that this one submitted, in no order; those of runs that are gone among them.

        Raises:
            BadEnvelope: what is stored there cannot be read.
        """
        (ids,) = self._transport.read([("SMEMBERS", keys.run_part(run_id, "children"))])
        if isinstance(ids, Exception):
            raise BadEnvelope(f"run {run_id}: {ids}")
        return [child.decode(errors="replace") for child in ids]

    def logs(self, run_id: str) -> list[LogRow]:
        """What the run's bodies have logged, oldest first, as far as it is kept.

        Raises:
            BadEnvelope: what is stored there cannot be read.
        """
        (rows,) = self._transport.read([("LRANGE", keys.run_part(run_id, "logs"), 0, -1)])
        if isinstance(rows, Exception):
            raise BadEnvelope(f"run {run_id}: {rows}")
        return [notes.read(row) for row in rows]

    def _source(self, run_id: str) -> ResultSource:
        return ResultSource(
            load=lambda: self._load_result(run_id), aload=lambda: asyncio.to_thread(self._load_result, run_id)
        )

    def _load_result(self, run_id: str) -> ResultRecord[Any]:
        key = keys.run_part(run_id, "result")
        result, traceback = self._transport.read([("GET", key), ("GET", keys.run_part(run_id, "traceback"))])
        for answer in (result, traceback):
            if isinstance(answer, Exception):
                raise BadEnvelope(f"run {run_id}: {answer}")
        if result is None:
            raise MissingResult(f"The result of run '{run_id}' is no longer stored: it expired or was deleted.")
        value = records.result_value(result, traceback, self._settings.max_result)
        return ResultRecord(ResultRecordMetadata(storage_key=key, run_id=run_id), value)
