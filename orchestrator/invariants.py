"""What must hold of everything in Redis: pure functions from a Snapshot to what breaks it. Reads and repairs nothing.

# A run whose fields cannot be read breaks `fields`, and no other law is asked about it: one fault, one report.
# So too with a key of the wrong type: what would have been read there counts neither as present nor as missing.
# Two laws cannot be seen in what is stored at one moment, and are not here: that tokens never decrease (I5), and that
# limits are kept (I6).
# Texts of violations hold no run's id and nothing that changes by itself: equal ones are shown together, and a second
# look finds the same text again.
"""

import math
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from shared import keys
from shared.rq_words import REGISTRIES, WORDS, call_of
from shared.seen import Place, SeenRun, Snapshot
from shared.snapshot import run_of
from shared.state_types import TERMINAL_STATES, StateType

LONG_OVER: Final = 300.0
"""Seconds after the end of a lease within which somebody should have noticed."""
KEPT_ROWS: Final = 1000
"""Rows of a history from which on old ones are dropped, all but the first."""
SECOND: Final = 2

_HELD: Final = (StateType.RUNNING, StateType.CANCELLING)
_COUNTED: Final = frozenset(kind.value for kind in StateType if kind not in TERMINAL_STATES)
_WAITING_PLACES: Final = {
    StateType.SCHEDULED: (keys.SCHEDULED, keys.DEFERRED, keys.LIMIT),
    StateType.PENDING: (keys.QUEUE, keys.SCHEDULED, keys.DEFERRED, keys.LIMIT),
    StateType.PAUSED: (keys.PAUSED,),
    StateType.RUNNING: (),
    StateType.CANCELLING: (),
}
_ENDS: Final = (keys.FINISHED, keys.FAILED, keys.CANCELED)


@dataclass(frozen=True, slots=True)
class Violation:
    """A law that is broken, by which runs (keys, members), how, and what repairs it. ID stands for each of them."""

    invariant: str
    ids: tuple[str, ...]
    what: str
    repair: str


class Invariant(NamedTuple):
    """A law: its name, its text, and the function that finds what breaks it."""

    name: str
    law: str
    check: Callable[[Snapshot], Iterator[Violation]]


def violations(snapshot: Snapshot) -> Iterator[Violation]:
    """Everything that breaks a law, one violation for each run and fault."""
    for invariant in INVARIANTS:
        yield from invariant.check(snapshot)


# --- what the laws share ----------------------------------------------------------------------------------------------


def _sound(snapshot: Snapshot) -> Iterator[tuple[SeenRun, StateType]]:
    """The runs that can be read, with their states."""
    for run in snapshot.runs.values():
        if run.is_ours and not run.faults:
            yield run, StateType(run.fields["state_type"])


def _missing(snapshot: Snapshot) -> Iterator[SeenRun]:
    """The ids that were found somewhere without a run."""
    for run in snapshot.runs.values():
        if not run.fields and keys.job(run.id) not in snapshot.unreadable:
            yield run


def _cli(command: str, *words: str) -> str:
    """A line for people: nothing here sends a command. Each `{}` takes a word, quoted as a shell needs it."""
    return f"redis-cli {command.format(*map(shlex.quote, words))}"


def _is_waiting_row(place: Place) -> bool:
    """True for a row of a sorted set that says where a run lies; what processes hold is told by other rows."""
    return place.kind not in (keys.QUEUE, keys.WIP, keys.RUNNING)


# --- I1: places -------------------------------------------------------------------------------------------------------


def one_place(snapshot: Snapshot) -> Iterator[Violation]:
    """A waiting run lies in exactly one place, one that has ended in the registry of its end, all others in none.

    An id in a queue is a place only for a PENDING run: what else lies there is dropped when its turn comes. What
    processes hold is `held_by_one`.
    """
    for run, state in _sound(snapshot):
        yield from _ended(run, state, snapshot) if state in TERMINAL_STATES else _waiting(run, state, snapshot)
    for run in _missing(snapshot):
        for place in filter(_is_waiting_row, run.places):
            # A row whose time is over only waits for the sweep; Redis has removed its run already.
            if place.kind not in _ENDS or place.score > snapshot.at:
                yield _superfluous(run, place, "that is not there")


def _superfluous(run: SeenRun, place: Place, why: str) -> Violation:
    return Violation("I1", (run.id,), f"{place.key} lists a run {why}", _cli("ZREM {} ID", place.key))


def _ended(run: SeenRun, state: StateType, snapshot: Snapshot) -> Iterator[Violation]:
    registry = REGISTRIES[state] + run.queue
    rows = [place for place in run.places if _is_waiting_row(place)]
    if registry not in snapshot.unreadable and all(place.key != registry for place in rows):
        repair = f"{_cli('ZADD {} TIME ID', registry)}, with the Unix time at which the run shall be deleted"
        yield Violation("I1", (run.id,), f"is {state}, but {registry} does not list it", repair)
    for place in rows:
        if place.key != registry:
            yield _superfluous(run, place, f"that is {state} in queue {run.queue}")


def _waiting(run: SeenRun, state: StateType, snapshot: Snapshot) -> Iterator[Violation]:
    kinds = _WAITING_PLACES[state]
    own = [place for place in run.places if place.kind in kinds and place.queue in ("", run.queue)]
    for place in run.places:
        if _is_waiting_row(place) and place not in own:
            yield _superfluous(run, place, f"that is {state} in queue {run.queue}")
    if len(own) > 1:
        found = " and ".join(sorted(place.key for place in own))
        repair = "; ".join(_cli("ZREM {} ID", place.key) for place in own if place.kind != keys.QUEUE)
        yield Violation(
            "I1", (run.id,), f"is {state} and lies in several places: {found}", f"leave one place: {repair}"
        )
    hidden = any(key in snapshot.unreadable for kind in kinds for key in (kind, kind + run.queue))
    if not (own or hidden or state in _HELD or (state is StateType.PAUSED and run.holdings)):
        what = f"is {state}, but lies in no place where it would be found"
        yield Violation("I1", (run.id,), what, _way_back(state, run.queue))


def _way_back(state: StateType, queue: str) -> str:
    if state is StateType.PENDING:
        return _cli("RPUSH {} ID", keys.queue(queue))
    if state is StateType.PAUSED:
        return _cli("ZADD {} +inf ID", keys.PAUSED)
    return f"{_cli('ZADD {} 0 ID', keys.SCHEDULED + queue)}, and it is due at once"


# --- I2, I3: history --------------------------------------------------------------------------------------------------


def history_is_whole(snapshot: Snapshot) -> Iterator[Violation]:
    """A history counts up by one from 1, and ends with the run's seq and state. Of a long one old rows are dropped."""
    repair = (
        "rows that are gone stay gone; readers accept the run again after its next transition, or after "
        f"{_cli('HSET {} seq SEQ', keys.job('ID'))} with the seq of its last row"
    )
    for run, state in _sound(snapshot):
        if keys.run_part(run.id, "history") in snapshot.unreadable:
            continue
        fault = _fault_of_history(run, state)
        if fault:
            yield Violation("I2", (run.id,), fault, repair)


def _fault_of_history(run: SeenRun, state: StateType) -> str:
    before, last = 0, ""
    for number, row in enumerate(run.history, start=1):
        if isinstance(row, str):
            return f"row {number} of its history cannot be read: {row}"
        may_jump = number == SECOND and len(run.history) >= KEPT_ROWS and row.seq > before
        if row.seq != before + 1 and not may_jump:
            return f"row {number} of its history has seq {row.seq}, after {before}"
        before, last = row.seq, row.type
    if not run.history:
        return "has no history"
    if before != int(run.fields["seq"]):
        return f"its history ends with seq {before}, its record says {run.fields['seq']}"
    return "" if last == state else f"its history ends with {last}, its record says {state}"


def ended_once(snapshot: Snapshot) -> Iterator[Violation]:
    """Nothing follows the end of a run."""
    repair = "nothing by hand; keep what `baton runs show ID --json` says and report it"
    for run, _ in _sound(snapshot):
        rows = [row for row in run.history if not isinstance(row, str)]
        for row, after in pairwise(rows):
            if row.type in TERMINAL_STATES:
                what = f"ended as {row.type} with seq {row.seq}, but {after.type} follows"
                yield Violation("I3", (run.id,), what, repair)
                break


# --- I4: what processes hold ------------------------------------------------------------------------------------------


def held_by_one(snapshot: Snapshot) -> Iterator[Violation]:
    """A running run is held by exactly one worker, which has a lease or waits to be reaped; nothing else is held."""
    for run, state in _sound(snapshot):
        if state in _HELD or (state is StateType.PAUSED and run.holdings):
            yield from _holder(run, state, snapshot)
            yield from _rows_of_held(run, state, snapshot)
        else:
            yield from _stray(run, f"that is {state}")
    for run in _missing(snapshot):
        yield from _stray(run, "that is not there")


def _stray(run: SeenRun, why: str) -> Iterator[Violation]:
    for place in run.places:
        if place.kind in (keys.WIP, keys.RUNNING):
            yield Violation(
                "I4", (run.id,), f"{place.key} lists a run {why}", _cli("ZREM {} {}", place.key, _member(place))
            )
    for holding in run.holdings:
        repair = _cli("HDEL {} ID", keys.held(holding.worker))
        yield Violation("I4", (run.id,), f"worker {holding.worker} holds a run {why}", repair)


def _member(place: Place) -> str:
    return f"ID:{place.token}" if place.kind == keys.WIP else "ID"


def _holder(run: SeenRun, state: StateType, snapshot: Snapshot) -> Iterator[Violation]:
    named, token = run.fields["worker_name"], run.fields["token"]
    retake = f"{_cli('HSET {} ID {}', keys.held(named), 'TOKEN 0 1')} with the token of its record"
    if not run.holdings and keys.held(named) not in snapshot.unreadable:
        over = _cli("ZADD {} NX 0 {}", keys.LEASES, named)
        repair = f"{retake}; if that worker is gone, then also {over}, and a fleet takes it back"
        yield Violation("I4", (run.id,), f"is {state}, but no worker holds it; its record names {named}", repair)
    for holding in run.holdings:
        if holding.worker != named:
            repair = _cli("HDEL {} ID", keys.held(holding.worker))
            yield Violation("I4", (run.id,), f"is held by {holding.worker}, but its record names {named}", repair)
        elif holding.token != token:
            yield Violation("I4", (run.id,), f"is held by {named} with a token that is not its record's", retake)
        elif keys.LEASES not in snapshot.unreadable:
            yield from _lease(run, named, snapshot)


def _lease(run: SeenRun, worker: str, snapshot: Snapshot) -> Iterator[Violation]:
    end = snapshot.leases.get(worker)
    if end is None:
        repair = f"{_cli('ZADD {} 0 {}', keys.LEASES, worker)}, and a fleet takes it back"
        yield Violation("I4", (run.id,), f"is held by {worker}, which has no lease: nobody would take it back", repair)
    elif snapshot.at - end > LONG_OVER:
        repair = "start a fleet with `baton worker`: any fleet takes back what was held under a lease that is over"
        yield Violation("I4", (run.id,), f"is held by {worker}, whose lease ended long ago", repair)


def _rows_of_held(run: SeenRun, state: StateType, snapshot: Snapshot) -> Iterator[Violation]:
    wip, token = keys.WIP + run.queue, run.fields["token"]
    rows = [place for place in run.places if place.kind == keys.WIP]
    right = [place for place in rows if (place.key, place.token) == (wip, token)]
    if not right and wip not in snapshot.unreadable:
        repair = f"{_cli('ZADD {} +inf ID:TOKEN', wip)} with the token of its record"
        yield Violation("I4", (run.id,), f"is {state}, but {wip} does not list it with its token", repair)
    for place in rows:
        if place not in right:
            repair = _cli("ZREM {} {}", place.key, _member(place))
            yield Violation(
                "I4", (run.id,), f"{place.key} lists it with token {place.token}, which is not its own", repair
            )
    if keys.RUNNING not in snapshot.unreadable and all(place.kind != keys.RUNNING for place in run.places):
        repair = _cli("ZADD {} 0 ID", keys.RUNNING)
        yield Violation("I4", (run.id,), f"is {state}, but {keys.RUNNING} does not list it", repair)


# --- I7: counters -----------------------------------------------------------------------------------------------------


def counters_agree(snapshot: Snapshot) -> Iterator[Violation]:
    """The counters tell how many runs are in each state that is not final. Says nothing of runs counted under load."""
    census = snapshot.census
    if census is None or not census.quiet or keys.COUNTS in snapshot.unreadable:
        return
    for name in sorted({*census.counters, *_COUNTED.intersection(census.states)}):
        text, found = census.counters.get(name, "0"), census.states.get(name, 0)
        if name not in _COUNTED:
            what = f"{keys.COUNTS} has a counter {name}, which is no state that is counted"
            yield Violation("I7", (), what, _cli("HDEL {} {}", keys.COUNTS, name))
        elif not text.removeprefix("-").isdecimal():
            what = f"the counter of {name} is {text}, which is no number"
            yield Violation("I7", (), what, _cli("HSET {} {} {}", keys.COUNTS, name, str(found)))
        elif not found <= int(text) <= found + census.unreadable:  # one that cannot be read may be in any state
            off = int(text) - found
            what = f"the counter of {name} is {abs(off)} too {'high' if off > 0 else 'low'}"
            yield Violation("I7", (), what, _cli("HINCRBY {} {} {}", keys.COUNTS, name, str(-off)))


# --- I8: what RQ's tools read -----------------------------------------------------------------------------------------


def rq_agrees(snapshot: Snapshot) -> Iterator[Violation]:
    """RQ's word and call stand with each run, its queue is known, and rows have scores that RQ's cleanup respects."""
    for run, state in _sound(snapshot):
        yield from _words_of(run, state)
        queue = keys.queue(run.queue)
        if queue not in snapshot.queues and keys.QUEUES not in snapshot.unreadable:
            what = f"lies in queue {run.queue}, which {keys.QUEUES} does not list: nothing there is promoted or swept"
            yield Violation("I8", (run.id,), what, _cli("SADD {} {}", keys.QUEUES, queue))
        for place in run.places:
            yield from _score_of(run, place)
    for key, member in snapshot.odd_members:
        owner = snapshot.runs.get(member.rpartition(":")[0])
        if owner is not None and owner.fields and not owner.is_ours:
            continue  # a job of RQ's own, taken by a worker of RQ's own
        yield Violation("I8", (member,), f"{key} lists what is no run with its token", _cli("ZREM {} ID", key))


def _words_of(run: SeenRun, state: StateType) -> Iterator[Violation]:
    key, word, status = keys.job("ID"), WORDS[state], run.fields.get("status")
    if status != word:
        yield Violation(
            "I8", (run.id,), f"is {state}, but its status is {status}", _cli("HSET {} status {}", key, word)
        )
    if run.fields.get("data") != call_of(run.id):
        call = call_of("ID").replace("\n", "\\n")
        repair = f"{_cli('HSET {} data', key)} $'{call}'"
        yield Violation("I8", (run.id,), "its data is not the call that refuses stock RQ workers", repair)


def _score_of(run: SeenRun, place: Place) -> Iterator[Violation]:
    if place.kind == keys.WIP and place.score != math.inf:
        repair = _cli("ZADD {} +inf {}", place.key, _member(place))
        yield Violation(
            "I8", (run.id,), f"{place.key} lists it with an end, at which RQ takes it for abandoned", repair
        )
    elif place.kind in (*_ENDS, keys.SCHEDULED) and not 0 <= place.score < math.inf:
        repair = _cli("ZADD {} TIME ID", place.key)
        yield Violation("I8", (run.id,), f"{place.key} lists it with a score that is no time", repair)


# --- what is stored ---------------------------------------------------------------------------------------------------


def fields_are_readable(snapshot: Snapshot) -> Iterator[Violation]:
    """Every field of a run reads as what it is, and none is missing that its state needs."""
    repair = f"look at `baton runs show ID` and its history, then {_cli('HSET {} FIELD VALUE', keys.job('ID'))}"
    for run in snapshot.runs.values():
        for fault in run.faults:
            yield Violation("fields", (run.id,), fault, repair)


def keys_are_ours(snapshot: Snapshot) -> Iterator[Violation]:
    """Every key is of its type, and none is left behind by a run that is gone."""
    for key, error in snapshot.unreadable.items():
        run_id = run_of(key)
        name = key.replace(run_id, "ID") if run_id else key
        repair = (
            f"look at it ({_cli('TYPE {}', name)}), then move it away: {_cli('RENAME {} {}', name, f'broken:{name}')}"
        )
        yield Violation("keys", (run_id or key,), f"{name} cannot be read: {error}", repair)
    for run in _missing(snapshot):
        # As long as a registry lists it, the sweep comes by and takes along what has no lifetime of its own.
        if run.leftovers and all(place.kind not in _ENDS for place in run.places):
            repair = _cli("DEL " + " ".join(keys.run_part("ID", part) for part in run.leftovers))
            yield Violation("keys", (run.id,), f"is gone, but left behind: {', '.join(run.leftovers)}", repair)


def lives_as_long_as_needed(snapshot: Snapshot) -> Iterator[Violation]:
    """A run has an end of its lifetime if, and only if, it has ended."""
    for run, state in _sound(snapshot):
        if state in TERMINAL_STATES and run.lifetime < 0:
            repair = _cli("EXPIRE {} 86400", keys.job("ID"))
            yield Violation("lifetime", (run.id,), f"is {state}, but nothing ends its lifetime", repair)
        elif state not in TERMINAL_STATES and run.lifetime >= 0:
            what = f"is {state}, but Redis will delete it when its lifetime ends"
            yield Violation("lifetime", (run.id,), what, _cli("PERSIST {}", keys.job("ID")))


INVARIANTS: Final = (
    Invariant("I1", "Every run lies in exactly one place.", one_place),
    Invariant("I2", "Every history is whole and ends with its run's state.", history_is_whole),
    Invariant("I3", "Nothing follows the end of a run.", ended_once),
    Invariant("I4", "What runs is held by exactly one worker, and by one that counts.", held_by_one),
    Invariant("I7", "The counters tell how many runs are in each state.", counters_agree),
    Invariant("I8", "RQ's own tools see the same.", rq_agrees),
    Invariant("fields", "Every field of a run can be read.", fields_are_readable),
    Invariant("keys", "Every key is of its type and belongs to something.", keys_are_ours),
    Invariant("lifetime", "Runs are deleted after their end, and only then.", lives_as_long_as_needed),
)
