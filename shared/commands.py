"""The commands of runs and attempts as data: what is sent, how the answer reads. `ledger.py` sends them.

What a script takes and answers stands on top of its Lua file.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from shared import keys
from shared.scripts import SCRIPTS, Script
from shared.settings import Settings
from shared.transport import Argument

T = TypeVar("T")
OF_SEAT, OF_QUEUE = 6, 5
"""How many keys a cycle takes of its worker, and of each queue."""
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
    """A run to be accepted. `parameters` is an envelope, `fields` are further fields of the run's hash.

    `delay` is in seconds, `at` in seconds since 1970: one of them for a run that is due later.

    `ties` are pairs of a kind and a value: `up` (id of a run that it needs), `tag`, `idem` and `digest` (an idempotency
    key, and what tells whether the same is submitted under it), `unique` (until when the key is its own), `within`
    (seconds in which it has to begin), `slots` (of the limit of its task's own), `again` (its key is that of a flow,
    which may run again).
    """

    id: str
    task: str
    queue: str
    parameters: bytes
    delay: float | None = None
    at_front: bool = False
    fields: dict[str, Argument] = field(default_factory=dict)
    ties: Sequence[tuple[str, Argument]] = ()
    at: float | None = None


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


def submit(runs: Sequence[NewRun], settings: Settings) -> Request[list[str]]:
    """Accept up to `AT_ONCE` runs; the answer holds a tag for each, see `submit.lua`."""
    queues = dict.fromkeys(run.queue for run in runs)
    key_names = [keys.QUEUES, keys.TASKS, keys.COUNTS, *(name for queue in queues for name in _written_in(queue))]
    arguments: list[Argument] = [settings.retention_cancelled, len(runs)]
    for run in runs:
        arguments += _accepted(run)
    return Request(SCRIPTS["submit"], key_names, arguments, texts)


def _written_in(queue: str) -> list[str]:
    """All that a submit writes of a queue: who may not write to one of these is refused at once, and not half way."""
    registries = (keys.SCHEDULED, keys.DEFERRED, keys.CANCELED)
    return [keys.queue(queue), *(prefix + queue for prefix in registries), keys.wake(queue), keys.hooks(queue)]


def _accepted(run: NewRun) -> list[Argument]:
    delay = f"@{run.at:.6f}" if run.at is not None else "" if run.delay is None else f"{run.delay:.6f}"
    front = "1" if run.at_front else ""
    arguments: list[Argument] = [run.id, run.queue, run.task, delay, front, run.parameters, len(run.fields)]
    for pair in run.fields.items():
        arguments += pair
    arguments.append(len(run.ties))
    for tie in run.ties:
        arguments += tie
    return arguments


class Entrusted(NamedTuple):
    """What became of a run that its process executes itself: OK, or why not, and what holds now."""

    tag: str
    token: str
    seq: int
    state_type: str
    state_time: str


def entrust(run: NewRun, worker: str, operation: str, settings: Settings) -> Request[Entrusted]:
    """Accept a run into the hands of the process with this lease, which executes it itself."""
    key_names = [keys.QUEUES, keys.TASKS, keys.COUNTS, *_written_in(run.queue), keys.LEASES]
    arguments: list[Argument] = [settings.retention_cancelled, worker, operation, *_accepted(run)]
    return Request(SCRIPTS["entrust"], key_names, arguments, _entrusted)


def _entrusted(answer: Any) -> Entrusted:
    tag, token, seq, state_type, state_time = answer
    return Entrusted(tag.decode(), token.decode(), seq, state_type.decode(), state_time.decode())


# --- attempts ---------------------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """How an attempt ended, as scripts take it. Retentions and delay are seconds; '' and b'' stand for nothing.

    `cached` is what is said of the cache: `cached_from`, `uncached` or `kept` of reporting.py.
    """

    state_type: str
    state_name: str
    message: str = ""
    result: bytes = b""
    error: str = ""
    traceback: str = ""
    retention: int = 0
    result_retention: int = 0
    delay: float = 0
    cached: bytes = b""


class Report(NamedTuple):
    """The end of an attempt, told by the worker that holds it."""

    run_id: str
    token: str
    outcome: Outcome


class Claim(NamedTuple):
    """A run that was begun for this worker, or handed to it. `parameters` is an envelope, None if there is none.

    `state` is RUNNING; PENDING where the worker has to find out whether it may begin; CANCELLING where it has to end.
    """

    run_id: str
    token: str
    attempt: int
    run_count: int
    crashes: int
    started: str
    task: str
    parameters: bytes | None
    state: str = "RUNNING"
    name: str | None = None
    max_retries: int | None = None
    retry_delays: str | None = None
    timeout: float | None = None
    result_ttl: int | None = None
    parent: str | None = None
    flow: str | None = None
    correlation: str | None = None
    traceparent: str | None = None
    persist_result: bool | None = None
    retry_jitter_factor: float | None = None
    limits: str | None = None
    cache_expiration: float | None = None
    refresh_cache: str | None = None
    result_storage_key: str | None = None


@dataclass(slots=True)
class Seat:
    """A worker's place at the table: its name, its queues in order, and the number of its next cycle.

    `takes_turns`: each of the queues is the first one in its turn, instead of always the same.
    """

    worker: str
    queues: Sequence[str]
    number: int = 1
    awaited_only: bool = False
    takes_turns: bool = False
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
            names += (keys.queue(queue), keys.wake(queue), keys.queue_settings(queue), keys.awaited(queue))
            names.append(keys.WIP + queue)
        self.key_names = tuple(names)

    def turn(self) -> None:
        """Let the next queue come first, if they take turns. What was asked under a number keeps its answer."""
        if self.takes_turns:
            names = self.key_names
            self.key_names = (*names[:OF_SEAT], *names[OF_SEAT + OF_QUEUE :], *names[OF_SEAT : OF_SEAT + OF_QUEUE])


class Cycle(NamedTuple):
    """What a cycle answered: OK, MORE or BURIED; a verdict per report; the attempts that were begun."""

    tag: str
    verdicts: list[str]
    claims: list[Claim]


def cycle(seat: Seat, reports: Sequence[Report], want: int, settings: Settings) -> Request[Cycle]:
    """Report ended attempts and begin up to `want` new ones."""
    grace, retention = settings.unknown_task_grace, settings.retention_cancelled
    mode = "awaited" if seat.awaited_only else ""
    arguments: list[Argument] = [seat.worker, seat.number, want, grace, retention, mode, len(reports)]
    for report in reports:
        arguments += (report.run_id, report.token)
        arguments += report.outcome
    return Request(SCRIPTS["cycle"], seat.key_names, arguments, _cycle)


def _cycle(answer: Any) -> Cycle:
    tag, verdicts, claims = answer
    return Cycle(tag.decode(), texts(verdicts), [_claim(*fields) for fields in claims])


def _claim(*fields: Any) -> Claim:
    run_id, token, attempt, run_count, crashes, started, task, parameters, state, *rest = fields
    name, max_retries, retry_delays, timeout, result_ttl, parent, flow, correlation, traceparent, *more = rest
    persist, jitter, limits, *caching = more
    expiration, refresh, storage_key = caching or (None, None, None)
    return Claim(
        run_id.decode(),
        token.decode(),
        attempt,
        run_count,
        crashes,
        started.decode(),
        text(task),
        parameters,
        state.decode(),
        name and text(name),
        max_retries and int(max_retries),
        retry_delays and text(retry_delays),
        timeout and float(timeout),
        result_ttl and int(result_ttl),
        parent and text(parent),
        flow and text(flow),
        correlation and text(correlation),
        traceparent and text(traceparent),
        persist and persist == b"1",
        jitter and float(jitter),
        limits and text(limits),
        expiration and float(expiration),
        None if refresh is None else text(refresh),
        None if storage_key is None else text(storage_key),
    )


def text(field: bytes) -> str:
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
    leaves_hooks: bool = False,
) -> Request[Recorded]:
    """Move a run that is still as the proposer knew it, by token (its own attempt) or by seq (everybody else).

    `leaves_hooks`: the hooks of an end are for a worker to call, since the proposer does not.
    """
    known = ("token", token, "op") if token is not None else ("seq", str(seq), "ask")
    arguments: list[Argument] = [run_id, known[0], known[1] or "", known[2], operation, actor, worker, *outcome]
    arguments.append("1" if leaves_hooks else "")
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
        text(state_name),
        state_time.decode(),
    )


def give_back(worker: str, held: Sequence[tuple[str, str]], message: str, settings: Settings) -> Request[list[str]]:
    """Put attempts, as pairs of run id and token, back to the head of their queues, uncounted."""
    arguments: list[Argument] = [worker, message, settings.retention_cancelled, len(held)]
    for pair in held:
        arguments += pair
    return Request(SCRIPTS["give_back"], [keys.RUNNING, keys.COUNTS], arguments, texts)


def give_back_after(worker: str, run_id: str, token: str, message: str, settings: Settings) -> Request[list[str]]:
    """Put back, uncounted, what a worker began in one batch with this attempt and behind it."""
    arguments: list[Argument] = [worker, message, settings.retention_cancelled, "after", run_id, token]
    return Request(SCRIPTS["give_back"], [keys.RUNNING, keys.COUNTS], arguments, texts)


def texts(answer: Any) -> list[str]:
    """An answer of texts."""
    return [text(part) for part in answer]
