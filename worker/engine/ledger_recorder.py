"""Inline runs in Redis: accepted into this process's hands, held under its lease, moved as an attempt moves its run.

# A run lies in no queue from its first state on: nobody else begins it while this process waits or runs.
# A proposal carries the token of the run's holder, or where nobody holds it the seq that was read. Where the record has
# moved meanwhile it is read again, and the rules are asked again.
# What was computed is reported until Redis answers or the lease is over. Then whoever reaps ends the run.
"""

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from shared import codec
from shared.clock import now, parse_iso
from shared.commands import NewRun, Outcome, Recorded
from shared.errors import Fenced, InvalidCall, LimitExceeded, RedisUnavailable, RunGone, TransitionRefused
from shared.ledger import RunLedger
from shared.naming import limits_of, own_limit
from shared.references import DEPENDENCIES, references_in
from shared.reporting import delay_of, outcome_of
from shared.result_redis import RedisStorage
from shared.retries import backoff
from shared.roles import WORKER
from shared.rules import Facts, Verdict, decide
from shared.rules_facts import changed
from shared.rules_transforms import record_of, transformed
from shared.runs import TaskRun
from shared.settings import Settings
from shared.specs import TaskSpec
from shared.state_types import IN_BODY, StateType
from shared.states import Crashed, State
from shared.transport import Argument, Exchange
from worker.caching import Caching
from worker.engine.cancels import Cancels, Held
from worker.engine.recording import Moved, check_may_be_forced, updated
from worker.inputs import Named
from worker.leases import Lease, Leases
from worker.locks import LimitLocks
from worker.notes import Notes
from worker.slots import Holds
from worker.strikes import interruptible

log = logging.getLogger("baton.engine")
LONGEST_WAIT: Final = 60.0
TRIES: Final = 10
ABSENT: Final[Mapping[str, str]] = {"GONE": "is not in Redis any more", "BROKEN": "has a record that cannot be read"}
T = TypeVar("T")
Told = Callable[[TaskSpec[..., Any]], Mapping[str, Argument]]
"""Which options of a task its run's record tells."""


class LedgerRecorder:
    """Keeps inline runs in one Redis. Any number of threads may use it; also after a fork."""

    blocks = True
    longest_wait = LONGEST_WAIT

    def __init__(
        self,
        exchange: Exchange,
        settings: Settings,
        told: Told = lambda _spec: {},
        leases: Leases | None = None,
        holds: Holds | None = None,
    ) -> None:
        """`holds` is what locks of cached results are held with, instead of something of its own."""
        self._exchange = exchange
        self._settings = settings
        self._told = told
        self.ledger: RunLedger | None = RunLedger(exchange, settings)
        self._ledger = self.ledger
        held_with = holds or Holds(exchange, self._ledger, settings)
        self._leases = leases or held_with.leases
        self.caching = Caching(RedisStorage(exchange), settings, partial(LimitLocks, held_with), in_script=True)
        self._leases.with_each_beat(self._give_up_left)
        self._left: deque[Callable[[], object]] = deque()
        self._held: dict[str, Held] = {}
        self._cancels = Cancels(exchange, self._ledger, self._leases, self._held)
        self._storing = threading.Lock()
        self.notes: Notes | None = Notes(self._store_notes)
        self._notes = self.notes
        self._checked = False

    def close(self) -> None:
        """Give up the lease, and every run that is still held under it."""
        self._notes.close()
        self._store_notes()
        self._leases.end()

    def find(self, run_id: str) -> TaskRun | None:
        """The run of this id, or None if there is none."""
        try:
            return self._ledger.get_with_inputs(run_id)
        except RunGone:
            return None

    def take(self, run: TaskRun, spec: TaskSpec[..., Any], inputs: Named) -> TaskRun:
        """Hold this run in this process, and record it first, with its inputs, if its `seq` is 0; as it is now.

        Raises:
            TransitionRefused: another process holds it.
            RedisUnavailable: no answer; there is no run.
        """
        if run.state.type in IN_BODY:
            raise TransitionRefused(f"Run {run.id} is {run.state.type}: another process holds it.")
        held = Held(run, spec)
        if self._held.setdefault(run.id, held) is not held:
            raise TransitionRefused(f"Run {run.id} is executed by this process already.")
        try:
            if run.seq == 0:
                self._accept(held, inputs)
        except BaseException:
            del self._held[run.id]
            raise
        return held.run

    def move(self, run_id: str, proposed: State[Any], facts: Facts, cached: bytes = b"") -> Moved:
        """Ask the rules, and record what they answer, with what is said of the cache.

        Raises:
            Fenced: the run is another's now, or the lease under which it was held is over.
            RunGone: its record is not there any more.
        """
        held = self._held[run_id]
        for _ in range(TRIES):
            verdict = decide(record_of(held.run, held.spec), proposed, self._with_flow(held, proposed, facts), now())
            if verdict.state is None:
                return self._moved(held, verdict)
            recorded = self._propose(held, verdict.state, cached)
            if recorded.tag == "OK":
                self._note(held, verdict.state, facts, recorded)
                return self._moved(held, verdict)
            if recorded.tag == "FULL" and held.token is not None:
                return self._moved(held, Verdict("WAIT", reason="A limit has no free slot."))
            if refused := self._look_again(held, proposed, recorded.tag):
                return self._moved(held, refused)
        raise TransitionRefused(f"Run {run_id} moves on all the time.")

    def force(self, run_id: str, state: State[Any]) -> TaskRun:
        """Write a state without asking the rules, if nobody has moved the run since; the run as it is now.

        Raises:
            Fenced: somebody has.
            InvalidValue: only a process can be in that state.
        """
        check_may_be_forced(state)
        held = self._held[run_id]
        outcome = self._outcome(held, state, delay_of(state, now()))
        operation = secrets.token_hex(6)
        answer = self._insist(held, lambda: self._ledger.force(run_id, held.run.seq, operation, outcome))
        if answer.tag != "OK":
            raise Fenced(f"run {run_id} was not forced to be {state.type}: {answer.tag}")
        held.token = None
        held.run = self._insist(held, lambda: self._ledger.get(run_id))
        return held.run

    def rename(self, run_id: str, name: str) -> TaskRun:
        """Call a run by this name; the run as it is now."""
        held = self._held[run_id]
        held.run = replace(held.run, name=name)
        if held.token is not None:
            self._notes.name(run_id, int(held.token), name)
        return held.run

    def note_rollback(self, run_id: str, token: int) -> None:
        """Have a run's record say that its attempt with this token was rolled back, within a second."""
        self._notes.rolled_back(run_id, token)

    def release(self, run_id: str) -> None:
        """Hold the run no more: one that has no end yet, and that nobody else would go on with, is CRASHED."""
        held = self._held.pop(run_id, None)
        if held is None:
            return
        self._notes.ended(run_id)
        if held.token is None or held.run.state.is_final():
            return
        give_up = partial(self._crash, run_id, secrets.token_hex(6), held.token)
        try:
            give_up()
        except RedisUnavailable:
            self._left.append(give_up)

    def is_cancelled(self, run_id: str) -> bool:
        """True if somebody wants the end of the run. No I/O."""
        held = self._held.get(run_id)
        return held is not None and held.is_to_end.is_set()

    def guard(self, run_id: str) -> AbstractContextManager[None]:
        """Put around the body: lets somebody who wants the end of the run interrupt it. No I/O."""
        return interruptible(self._held[run_id].is_to_end.is_set)

    def _crash(self, run_id: str, operation: str, token: str) -> None:
        outcome = outcome_of(Crashed(message="Its process left it before its end."), self._settings)
        self._ledger.propose(run_id, outcome, operation, token=token)

    def _disown(self, new: NewRun, worker: str, operation: str) -> None:
        if self._ledger.get_many([new.id])[new.id] is not None:
            token = self._ledger.entrust(new, worker, operation).token
            self._crash(new.id, f"{operation}-left", token)

    def _give_up_left(self, _lease: Lease) -> None:
        """End what could not be ended when it was left."""
        while self._left:
            self._left[0]()
            self._left.popleft()

    # --- what is asked of the ledger ----------------------------------------------------------------------------------

    def _accept(self, held: Held, inputs: Named) -> None:
        if not self._checked:
            self._ledger.check(WORKER)
            self._checked = True
        held.lease = self._leases.current()
        self._cancels.listen_to(held.lease)
        new, operation = self._new_run(held.run, held.spec, inputs), secrets.token_hex(6)
        try:
            taken = self._ledger.entrust(new, held.lease.name, operation)
        except RedisUnavailable:
            # It may have been accepted: then it is held here, and nobody would ever end it.
            self._left.append(partial(self._disown, new, held.lease.name, operation))
            raise
        if taken.tag != "OK":
            raise TransitionRefused(f"Run {held.run.id} was not accepted: {taken.tag}")
        kind, at = StateType(taken.state_type), parse_iso(taken.state_time)
        if kind is StateType.PENDING:
            record = transformed(
                replace(record_of(held.run, held.spec), state=None), held.run.state, Facts("client"), at
            )
            held.run = replace(updated(held.run, record), created=at, worker=held.lease.name)
            held.token = taken.token
        else:
            held.run = self._ledger.get(held.run.id)

    def _new_run(self, run: TaskRun, spec: TaskSpec[..., Any], inputs: Named) -> NewRun:
        fields: dict[str, Argument] = {"name": run.name, **self._told(spec)}
        own = own_limit(run.task) if spec.limit is not None else None
        limits = limits_of(run.tags, own)
        of_run = {"parent": run.parent, "flow": run.flow, "correlation": run.correlation}
        of_run |= {"traceparent": run.traceparent, "limits": limits or None}
        fields |= {name: value for name, value in of_run.items() if value is not None}
        parameters: dict[str, Any] = dict(run.parameters or {})
        ups = [("up", reference.run_id) for reference in references_in(parameters)]
        ties: list[tuple[str, Argument]] = [*dict.fromkeys(ups), *(("tag", tag) for tag in run.tags)]
        if spec.limit is not None:
            ties.append(("slots", spec.limit))
        told = {name: list(ids) for name, ids in inputs.items() if name != "__parents__"}
        if told:
            parameters[DEPENDENCIES] = told
        return NewRun(
            run.id,
            run.task,
            run.queue,
            self._sent(run.id, parameters),
            fields=fields,
            ties=ties,
        )

    def _sent(self, run_id: str, parameters: Mapping[str, Any]) -> bytes:
        """The parameters as they are stored: what is called here may take what cannot be sent."""
        try:
            return codec.encode(parameters, limit=self._settings.max_parameters, where="parameters")
        except (InvalidCall, LimitExceeded) as error:
            log.warning("run %s: its parameters are not stored, so no other process can run it: %s", run_id, error)
            return b""

    def _propose(self, held: Held, state: State[Any], cached: bytes) -> Recorded:
        delay = delay_of(state, now())
        stays = state.is_scheduled() and held.token is not None and delay <= LONGEST_WAIT
        if state.is_running() and held.lease is None:
            held.lease = self._leases.current()
            self._cancels.listen_to(held.lease)
        worker = held.lease.name if held.lease and (stays or state.is_running()) else ""
        known: dict[str, Any] = {"seq": held.run.seq} if held.token is None else {"token": held.token}
        outcome = self._outcome(held, state, delay)._replace(cached=cached)
        operation = secrets.token_hex(6)
        if self._notes.waits:
            self._store_notes()
        return self._insist(held, lambda: self._ledger.propose(held.run.id, outcome, operation, worker=worker, **known))

    def _outcome(self, held: Held, state: State[Any], delay: float) -> Outcome:
        spec = held.spec
        given: dict[str, Any] = {"result_ttl": spec.result_ttl, "delay": delay}
        outcome = outcome_of(state, self._settings, persist_result=spec.persist_result, **given)
        if outcome.state_type != state.type:
            log.warning("run %s: its value stays in this process: %s", held.run.id, outcome.message)
            return outcome_of(state, self._settings, persist_result=False, **given)
        return outcome

    def _insist(self, held: Held, call: Callable[[], T]) -> T:
        """The answer, asked for again while Redis is away and the run is still ours."""
        tries = 0
        while True:
            try:
                return call()
            except RedisUnavailable as error:
                if held.token is None or held.lease is None:
                    raise
                if held.lease.is_lost():
                    raise Fenced(f"run {held.run.id}: Redis was away for longer than its lease") from error
                log.warning("%s", error)
            time.sleep(backoff(tries))
            tries += 1

    def _note(self, held: Held, state: State[Any], facts: Facts, recorded: Recorded) -> None:
        at = parse_iso(recorded.state_time)
        record = transformed(record_of(held.run, held.spec), state, facts, at)
        run = updated(held.run, record)
        named = changed(run.state, name=recorded.state_name, timestamp=at)
        held.run = replace(run, state=named, seq=recorded.seq, attempt=recorded.attempt, run_count=recorded.run_count)
        is_held = state.type in IN_BODY or recorded.token == held.token
        held.token = recorded.token if is_held else None
        if is_held and held.lease is not None:
            held.run = replace(held.run, worker=held.lease.name)

    def _look_again(self, held: Held, proposed: State[Any], tag: str) -> Verdict | None:
        """What holds instead, where the record has moved; None if the rules are to be asked again.

        Raises:
            Fenced, RunGone: the run is not ours any more.
        """
        if tag in ABSENT:
            raise RunGone(f"Run {held.run.id} {ABSENT[tag]}.")
        if tag == "BURIED":
            raise Fenced(f"run {held.run.id}: the lease of this process is over")
        was_ours = held.token is not None
        held.run = self._insist(held, lambda: self._ledger.get(held.run.id))
        state = held.run.state
        if tag not in ("CANCELLING", "CHANGED", "FULL"):
            held.token = None
        if state.is_final() and (proposed.is_running() or proposed.is_cancelling()):
            return Verdict("REJECT", reason=f"Run is already in terminal state {state.type}.")
        if was_ours and tag in ("FENCED", "TERMINAL"):
            raise Fenced(f"run {held.run.id}: its outcome {proposed.name} was not recorded: it is {state.type}")
        if not was_ours and state.type in IN_BODY:
            raise TransitionRefused(f"Run {held.run.id} is {state.type}: another process holds it.")
        return None

    def _store_notes(self) -> None:
        with self._storing:
            self._notes.store(self._ledger.note)

    def _with_flow(self, held: Held, proposed: State[Any], facts: Facts) -> Facts:
        flow = held.run.flow
        if flow is None or not proposed.is_running():
            return facts
        found = self._insist(held, lambda: self._ledger.get_many([flow]))[flow]
        return replace(facts, flow_state=found.state) if isinstance(found, TaskRun) else facts

    @staticmethod
    def _moved(held: Held, verdict: Verdict) -> Moved:
        return Moved(held.run, verdict, int(held.token or 0))
