"""The ledger's commands as data: what is sent, and how the answer reads. Pure functions; `ledger.py` sends them.

What a script takes and answers stands on top of its Lua file.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from shared import keys
from shared.scripts import SCRIPTS, Script
from shared.settings import Settings
from shared.transport import Argument
from shared.version import LAYOUT, __version__

T = TypeVar("T")
AT_ONCE = 500
"""Runs that one call takes; whoever has more makes several."""
ACCEPTED = frozenset({"OK", "EXISTS"})
"""Answers to a submit that mean: the run is there, now or since an earlier try."""


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """One call of a script, and how to read its answer."""

    script: Script
    key_names: Sequence[str]
    arguments: Sequence[Argument]
    read: Callable[[Any], T]


# --- submitting -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be accepted. `parameters` is an envelope, `fields` are further fields of the run's hash."""

    id: str
    task: str
    queue: str
    parameters: bytes
    delay: float | None = None
    at_front: bool = False
    fields: dict[str, Argument] = field(default_factory=dict)


def calls(runs: Sequence[NewRun]) -> Iterator[Sequence[int]]:
    """Which of the runs each call takes, in the order of the calls.

    Those for the head go backwards, since each call goes in front of the one before it.
    """
    if len(runs) <= AT_ONCE:
        yield range(len(runs))
        return
    tails = [i for i, run in enumerate(runs) if not run.at_front]
    heads = [i for i, run in enumerate(runs) if run.at_front]
    for start in range(0, len(tails), AT_ONCE):
        yield tails[start : start + AT_ONCE]
    for start in reversed(range(0, len(heads), AT_ONCE)):
        yield heads[start : start + AT_ONCE]


def submit(runs: Sequence[NewRun]) -> Request[list[str]]:
    """Accept up to `AT_ONCE` runs; the answer holds a tag for each: OK, EXISTS, CONFLICT."""
    queues = dict.fromkeys(run.queue for run in runs)
    key_names = [keys.QUEUES, keys.TASKS, keys.COUNTS]
    for queue in queues:
        key_names += (keys.queue(queue), keys.SCHEDULED + queue)
    arguments: list[Argument] = [len(runs)]
    for run in runs:
        delay = "" if run.delay is None else f"{run.delay:.6f}"
        front = "1" if run.at_front else ""
        arguments += (run.id, run.queue, run.task, delay, front, run.parameters, len(run.fields))
        for pair in run.fields.items():
            arguments += pair
    return Request(SCRIPTS["submit"], key_names, arguments, _texts)


# --- attempts ---------------------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """How an attempt ended, as scripts take it. Retentions and delay are seconds; '' and b'' stand for nothing."""

    state_type: str
    state_name: str
    message: str = ""
    result: bytes = b""
    error: str = ""
    traceback: str = ""
    retention: int = 0
    result_retention: int = 0
    delay: float = 0


class Report(NamedTuple):
    """The end of an attempt, told by the worker that holds it."""

    run_id: str
    token: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Claim:
    """An attempt that was begun for this worker. `parameters` is an envelope, None if there is none (any more)."""

    run_id: str
    token: str
    attempt: int
    run_count: int
    crashes: int
    started: str
    task: str
    parameters: bytes | None
    name: str | None = None
    max_retries: int | None = None
    retry_delays: str | None = None
    timeout: float | None = None
    result_ttl: int | None = None
    parent: str | None = None
    flow: str | None = None
    correlation: str | None = None
    traceparent: str | None = None


@dataclass(slots=True)
class Seat:
    """A worker's place at the table: its name, its queues in order, and the number of its next cycle."""

    worker: str
    queues: Sequence[str]
    number: int = 1
    key_names: Sequence[str] = ()

    def __post_init__(self) -> None:
        names = [
            keys.LEASES,
            keys.worker(self.worker),
            keys.held(self.worker),
            keys.RUNNING,
            keys.COUNTS,
            keys.SUSPENDED,
        ]
        for queue in self.queues:
            names += (keys.queue(queue), keys.wake(queue), keys.queue_settings(queue), keys.WIP + queue)
        self.key_names = tuple(names)


class Cycle(NamedTuple):
    """What a cycle answered: OK, MORE or BURIED; a verdict per report; the attempts that were begun."""

    tag: str
    verdicts: list[str]
    claims: list[Claim]


def cycle(seat: Seat, reports: Sequence[Report], want: int) -> Request[Cycle]:
    """Report ended attempts and begin up to `want` new ones."""
    arguments: list[Argument] = [seat.worker, seat.number, want, len(reports)]
    for report in reports:
        arguments += (report.run_id, report.token)
        arguments += report.outcome
    return Request(SCRIPTS["cycle"], seat.key_names, arguments, _cycle)


def _cycle(answer: Any) -> Cycle:
    tag, verdicts, claims = answer
    return Cycle(tag.decode(), _texts(verdicts), [_claim(*fields) for fields in claims])


def _claim(*fields: Any) -> Claim:
    run_id, token, attempt, run_count, crashes, started, task, parameters, *rest = fields
    name, max_retries, retry_delays, timeout, result_ttl, parent, flow, correlation, traceparent = rest
    return Claim(
        run_id.decode(),
        token.decode(),
        attempt,
        run_count,
        crashes,
        started.decode(),
        _text(task),
        parameters,
        name and _text(name),
        max_retries and int(max_retries),
        retry_delays and _text(retry_delays),
        timeout and float(timeout),
        result_ttl and int(result_ttl),
        parent and _text(parent),
        flow and _text(flow),
        correlation and _text(correlation),
        traceparent and _text(traceparent),
    )


def _text(field: bytes) -> str:
    """Damaged text stays readable: an error here would strike every run of the batch."""
    return field.decode(errors="replace")


class Recorded(NamedTuple):
    """What a proposal came to: OK, or why not, and what holds now."""

    tag: str
    token: str = ""
    attempt: int = 0
    run_count: int = 0
    seq: int = 0
    state_type: str = ""
    state_name: str = ""
    state_time: str = ""


def propose(
    run_id: str,
    outcome: Outcome,
    operation: str,
    *,
    token: str | None = None,
    seq: int | None = None,
    actor: str = "",
    worker: str = "",
) -> Request[Recorded]:
    """Move a run that is still as the proposer knew it, by token (its own attempt) or by seq (everybody else)."""
    known = ("token", token, "op") if token is not None else ("seq", str(seq), "ask")
    arguments: list[Argument] = [run_id, known[0], known[1] or "", known[2], operation, actor, worker, *outcome]
    history = keys.run_part(run_id, "history")
    key_names = [keys.job(run_id), history, keys.RUNNING, keys.COUNTS, keys.LEASES]
    return Request(SCRIPTS["propose"], key_names, arguments, _recorded)


def _recorded(answer: Any) -> Recorded:
    if len(answer) == 1:
        return Recorded(answer[0].decode())
    tag, token, attempt, run_count, seq, state_type, state_name, state_time = answer
    return Recorded(
        tag.decode(),
        token.decode(),
        attempt,
        run_count,
        seq,
        state_type.decode(),
        _text(state_name),
        state_time.decode(),
    )


def give_back(worker: str, held: Sequence[tuple[str, str]], message: str, settings: Settings) -> Request[list[str]]:
    """Put attempts, as pairs of run id and token, back to the head of their queues, uncounted."""
    arguments: list[Argument] = [worker, message, settings.retention_cancelled, len(held)]
    for pair in held:
        arguments += pair
    return Request(SCRIPTS["give_back"], [keys.RUNNING, keys.COUNTS], arguments, _texts)


# --- processes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a fleet says of one of its workers with each beat. `fields` are those of RQ's registration and ours."""

    worker: str
    queues: Sequence[str]
    fields: Mapping[str, Argument]
    is_new: bool = False


def beat(pulses: Sequence[Pulse], settings: Settings, lifetime: int = 480) -> Request[list[str]]:
    """Renew leases; the answer names the buried."""
    arguments: list[Argument] = [settings.lease, lifetime, len(pulses)]
    for pulse in pulses:
        arguments += (pulse.worker, "new" if pulse.is_new else "", len(pulse.queues), *pulse.queues, len(pulse.fields))
        for pair in pulse.fields.items():
            arguments += pair
    return Request(SCRIPTS["beat"], [keys.LEASES, keys.WORKERS], arguments, _texts)


class Death(NamedTuple):
    """A worker that is over. `why` completes "Attempt 2 was lost: "; '' is a planned stop.

    `in_body` is the run that was in its body: an id, '' for none, '*' where nobody knows (then all count as lost).
    """

    worker: str
    why: str
    in_body: str = "*"


class Buried(NamedTuple):
    """What became of the runs of a worker that is over: `lost` and `uncounted` ones are queued again."""

    worker: str
    lost: int
    ended: int
    uncounted: int


def reap(deaths: Sequence[Death], settings: Settings) -> Request[list[Buried]]:
    """Bury these workers; without names, those whose lease is over."""
    arguments: list[Argument] = [
        settings.crash_budget,
        settings.retention_failed,
        settings.retention_cancelled,
        len(deaths),
    ]
    for death in deaths:
        arguments += death
    key_names = [keys.LEASES, keys.RUNNING, keys.COUNTS, keys.WORKERS, keys.QUARANTINE]
    return Request(SCRIPTS["reap"], key_names, arguments, _buried)


def _buried(answer: Any) -> list[Buried]:
    return [Buried(answer[i].decode(), *answer[i + 1 : i + 4]) for i in range(0, len(answer), 4)]


def greet() -> Request[str]:
    """Mark a Redis that is new to Baton; the answer is the layout of its data."""
    return Request(SCRIPTS["greet"], [keys.META], [LAYOUT, __version__], lambda answer: answer.decode(errors="replace"))


# --- upkeep -----------------------------------------------------------------------------------------------------------


class Promoted(NamedTuple):
    """How many due runs were queued, and in how many seconds the next one is due (None: none is scheduled)."""

    moved: int
    next_due: float | None


def promote(most: int = 100) -> Request[Promoted]:
    """Queue what is due, at most so many runs per queue, and wake workers where ids lie unnoticed."""
    key_names = [keys.QUEUES, keys.COUNTS, keys.SUSPENDED, keys.WAKE_DUE]
    return Request(SCRIPTS["promote"], key_names, [most], _promoted)


def _promoted(answer: Any) -> Promoted:
    moved, next_due = answer
    return Promoted(moved, float(next_due) if next_due else None)


def sweep(most: int = AT_ONCE) -> Request[int]:
    """Remove runs whose retention is over; the answer is how many."""
    return Request(SCRIPTS["sweep"], [keys.QUEUES], [most], int)


def _texts(answer: Any) -> list[str]:
    return [_text(text) for text in answer]
