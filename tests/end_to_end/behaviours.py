"""The table of behaviours: what a run's history, result, hooks and counts are, whoever drives it.

`rows` are as they are where the run is executed by its caller. On the fleet a PENDING follows each SCHEDULED, and what
else is different there stands in `fleet`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from tests.end_to_end import behaviour_bodies as bodies
from tests.end_to_end.behaviour_bodies import ASYNC_GENERATOR, GENERATOR, Tasks

Row = tuple[str, str, str | None]
Result = tuple[str, object]
"""("value", it), or the name of the exception's class, and its text."""

INLINE = frozenset({"inline", "inline on a loop", "redis", "redis on a loop"})
STREAMS = {"stream": [GENERATOR], "stream on a loop": [GENERATOR, ASYNC_GENERATOR]}
"""Forms that each can drive."""
PROCESSES = frozenset({"fleet", "async fleet"})
FLEETS = PROCESSES | {"threads"}
RECORDED = FLEETS | {"redis", "redis on a loop"}
ALL = INLINE.union(STREAMS, FLEETS)

P: Row = ("PENDING", "Pending", None)
R: Row = ("RUNNING", "Running", None)
BEGAN = "on_running Running 1"
X = "Task run encountered an exception ValueError: x"
OVER = "Task run exceeded timeout of 0.2 second(s)"


class Control(Protocol):
    """What a case may do to its run while it is driven."""

    upstream: str

    def cancel(self) -> None:
        """Have the run ended, by whatever way its driver has."""

    def leave(self) -> None:
        """Stop the worker as planned, and have another one."""


@dataclass(frozen=True)
class Expected:
    """What a run comes to."""

    rows: tuple[Row, ...]
    result: Result
    hooks: tuple[str, ...]
    run_count: int = 1
    crashes: int = 0


@dataclass(frozen=True)
class Case:
    """A row of the table."""

    name: str
    tasks: Tasks
    expected: Expected
    drivers: frozenset[str] = ALL
    recorded: dict[str, Any] = field(default_factory=dict)
    """What is different where the result is read from Redis."""
    fleet: dict[str, Any] = field(default_factory=dict)
    setting: str = ""
    """What has to be the case before: see what drivers know."""
    during: Callable[[Control], None] | None = None
    """Called once the body has begun."""
    raises: str = ""
    """The interrupt that reaches the caller of an inline run."""

    def on(self, driver: str, form: str) -> Expected:
        """What is expected of this form of the task with this driver."""
        expected = self.expected
        if driver in RECORDED:
            expected = replace(expected, **self.recorded)
        if driver in FLEETS:
            expected = replace(expected, rows=with_pending(expected.rows))
            expected = replace(expected, **self.fleet)
        kind, _ = expected.result
        if kind == "value" and "generator" in form and driver not in STREAMS:
            return replace(expected, result=("value", ["first"]))
        if kind == "value" and form == "async generator":
            return replace(expected, result=("value", None))
        return expected


def with_pending(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The history on a fleet: whatever is due waits in a queue once more."""
    found: list[Row] = []
    for row in rows:
        found += [row, P] if row[0] == "SCHEDULED" else [row]
    return tuple(found)


def ended(kind: str, name: str, message: str | None = None) -> Row:
    return (kind, name, message)


def failed(message: str | None, name: str = "Failed") -> Row:
    return ("FAILED", name, message)


def again(message: str | None = None) -> Row:
    return ("RUNNING", "Retrying", message)


def crash(name: str, tasks: Tasks, message: str, raises: str, text: str = "") -> Case:
    """A body that is interrupted."""
    expected = Expected((P, R, ("CRASHED", "Crashed", message)), (raises, text), (BEGAN, "on_crashed Crashed 1"))
    return Case(name, tasks, expected, raises=raises, recorded={"result": ("CrashedRun", message)})


def raises(name: str, tasks: Tasks, text: str, result: Result, recorded: Result | None = None) -> Case:
    """A body that fails by an odd exception."""
    message = f"Task run encountered an exception {text}"
    expected = Expected((P, R, failed(message)), result, (BEGAN, "on_failure Failed 1"))
    return Case(name, tasks, expected, recorded={"result": recorded or result})


def unstorable(error: str, text: str) -> dict[str, Any]:
    """A fleet fails a run whose value cannot be stored, and does not try it again."""
    message = f"Task run's result could not be stored: {error}: {text}"
    return {"rows": (P, R, failed(message)), "result": (error, text), "hooks": (BEGAN, "on_failure Failed 1")}


def lost(attempt: int, why: str = "killed by signal 9, perhaps out of memory") -> Row:
    """The run waits again, since its process is gone."""
    return ("PENDING", "Pending", f"Attempt {attempt} was lost: {why}.")


RERUNNING: Row = ("RUNNING", "Rerunning", None)
UPSTREAM = "Upstream task run '{upstream}' did not reach a 'COMPLETED' state."
FULL = (
    "SCHEDULED",
    "AwaitingConcurrencySlot",
    "Concurrency limit reached for tags: task:behave.is_alone.plain",
)
LOCK_TOLD = (
    "result.lock: _thread.lock is no data: send what it was made from, or register_type it with a dump and a load"
)
DAMAGE = "cut or lengthened: 1 bytes of body, 16,776,961 were written"
UNKNOWN = "Task 'no.such.task' is not registered"
TRIGGER_FAILED = failed(UPSTREAM, "TriggerFailed")
DONE = ("COMPLETED", "Completed", None)
FIVE: Result = ("value", 5)
COMPLETED = "on_completion Completed 1"
SUCCESS = Expected((P, R, DONE), FIVE, (BEGAN, COMPLETED))
AWAITING = ("SCHEDULED", "AwaitingRetry", X)
NOWHERE_ELSE = {
    "result": (
        "MissingResult",
        "State data is missing. Typically, this occurs when result persistence is disabled.",
    )
}
CANCELLED_MEANWHILE = "Cancelled while running."

CASES = (
    Case("success", bodies.gives_five, SUCCESS),
    Case(
        "submitted with a delay",
        bodies.gives_five,
        replace(SUCCESS, rows=(("SCHEDULED", "Scheduled", None), R, DONE)),
        drivers=ALL - {"redis", "redis on a loop"},  # where a record in Redis begins with PENDING
        setting="delay",
    ),
    Case("raises", bodies.fails, Expected((P, R, failed(X)), ("ValueError", "x"), (BEGAN, "on_failure Failed 1"))),
    Case(
        "retries without a delay",
        bodies.fails_thrice,
        Expected(
            (P, R, again(X), again(X), failed(X)),
            ("ValueError", "x"),
            (BEGAN, "on_running Retrying 2", "on_running Retrying 3", "on_failure Failed 3"),
            run_count=3,
        ),
    ),
    Case(
        "retries with a delay",
        bodies.fails_thrice_with_delay,
        Expected(
            (P, R, AWAITING, again(), AWAITING, again(), failed(X)),
            ("ValueError", "x"),
            (BEGAN, "on_running Retrying 2", "on_running Retrying 3", "on_failure Failed 3"),
            run_count=3,
        ),
    ),
    Case(
        "a retry succeeds",
        bodies.fails_once,
        Expected(
            (P, R, again(X), DONE),
            ("value", 2),
            (BEGAN, "on_running Retrying 2", "on_completion Completed 2"),
            run_count=2,
        ),
    ),
    Case(
        "over its time",
        bodies.overruns,
        Expected(
            (P, R, failed(OVER, "TimedOut")),
            ("TaskRunTimeoutError", "Scope timed out after 0.2 second(s)."),
            (BEGAN, "on_failure TimedOut 1"),
        ),
    ),
    Case(
        "over its time once",
        bodies.overruns_once,
        Expected(
            (P, R, again(OVER), DONE), FIVE, (BEGAN, "on_running Retrying 2", "on_completion Completed 2"), run_count=2
        ),
    ),
    Case(
        "a TimeoutError of its own",
        bodies.times_itself_out,
        Expected(
            (P, R, failed("Task run failed due to timeout: TimeoutError('mine')", "TimedOut")),
            ("TimeoutError", "mine"),
            (BEGAN, "on_failure TimedOut 1"),
        ),
    ),
    Case(
        "returns Failed",
        bodies.returns_failed,
        Expected(
            (P, R, again("manual"), failed("manual")),
            ("FailedRun", "manual"),
            (BEGAN, "on_running Retrying 2", "on_failure Failed 2"),
            run_count=2,
        ),
    ),
    Case(
        "returns Cancelled",
        bodies.returns_cancelled,
        Expected(
            (P, R, ("CANCELLED", "Cancelled", None)),
            ("CancelledRun", "Run cancelled."),
            (BEGAN, "on_cancellation Cancelled 1"),
        ),
    ),
    Case(
        "returns states of which one failed",
        bodies.returns_some_failed,
        Expected((P, R, failed("1/2 states failed.")), ("FailedRun", "Run failed."), (BEGAN, "on_failure Failed 1")),
    ),
    Case(
        "returns Scheduled",
        bodies.returns_later,
        Expected(
            (P, R, ("SCHEDULED", "Scheduled", None), again(), DONE),
            FIVE,
            (BEGAN, "on_running Retrying 2", "on_completion Completed 2"),
            run_count=2,
        ),
    ),
    Case(
        "returns Running",
        bodies.returns_running,
        Expected(
            (P, R, failed("Task returned a RUNNING state, which only the engine may set.")),
            ("FailedRun", "Task returned a RUNNING state, which only the engine may set."),
            (BEGAN, "on_failure Failed 1"),
        ),
    ),
    Case(
        "returns states of which one is paused",
        bodies.returns_paused_and_completed,
        Expected(
            (P, R, failed("1/2 states paused.")), ("FailedRun", "1/2 states paused."), (BEGAN, "on_failure Failed 1")
        ),
    ),
    crash(
        "KeyboardInterrupt",
        bodies.is_interrupted,
        "Execution was aborted by an interrupt signal.",
        "KeyboardInterrupt",
    ),
    crash("SystemExit", bodies.exits, "Execution was aborted by Python system exit call.", "SystemExit", "3"),
    crash(
        "a foreign CancelledError",
        bodies.is_cancelled_from_elsewhere,
        "Execution was cancelled by the runtime environment.",
        "CancelledError",
    ),
    crash(
        "another BaseException",
        bodies.raises_base_exception,
        "Execution was interrupted by an unexpected exception: Odd: odd",
        "Odd",
        "odd",
    ),
    Case(
        "upstream not completed",
        bodies.takes,
        Expected(
            (P, TRIGGER_FAILED),
            ("UpstreamTaskError", UPSTREAM),
            ("on_failure TriggerFailed 0",),
            run_count=0,
        ),
        fleet={"rows": (("PENDING", "Pending", "Waiting for 1 upstream runs."), TRIGGER_FAILED)},
        setting="upstream",
    ),
    Case(
        "cancelled while waiting",
        bodies.gives_five,
        Expected(
            (P, ("CANCELLED", "Cancelled", None)),
            ("CancelledRun", "Run cancelled."),
            ("on_cancellation Cancelled 0",),
            run_count=0,
        ),
        setting="cancelled",
    ),
    Case(
        "cancelled while running",
        bodies.waits,
        Expected(
            (P, R, ("CANCELLING", "Cancelling", None), ("CANCELLED", "Cancelled", CANCELLED_MEANWHILE)),
            ("CancelledRun", CANCELLED_MEANWHILE),
            (BEGAN, "on_cancellation Cancelled 1"),
        ),
        during=lambda control: control.cancel(),
    ),
    Case(
        "worker lost twice, then well",
        bodies.is_killed_twice,
        Expected(
            (P, R, lost(1), RERUNNING, lost(2), RERUNNING, DONE),
            FIVE,
            (BEGAN, "on_running Rerunning 2", "on_running Rerunning 3", "on_completion Completed 3"),
            run_count=3,
            crashes=2,
        ),
        drivers=PROCESSES,
    ),
    Case(
        "worker lost three times",
        bodies.is_always_killed,
        Expected(
            (P, R, lost(1), RERUNNING, lost(2), RERUNNING, ("CRASHED", "Crashed", lost(3)[2])),
            ("CrashedRun", lost(3)[2]),
            (BEGAN, "on_running Rerunning 2", "on_running Rerunning 3", "on_crashed Crashed 3"),
            run_count=3,
            crashes=3,
        ),
        drivers=PROCESSES,
    ),
    Case(
        "worker lost once with on_crash='fail'",
        bodies.may_be_lost_once,
        Expected(
            (P, R, ("CRASHED", "Crashed", lost(1, "exit status 4")[2])),
            ("CrashedRun", lost(1, "exit status 4")[2]),
            (BEGAN, "on_crashed Crashed 1"),
            crashes=1,
        ),
        drivers=PROCESSES,
    ),
    Case(
        "worker stopped as planned",
        bodies.stays_once,
        Expected(
            (P, R, ("PENDING", "Pending", "Given back: the worker stopped."), RERUNNING, DONE),
            FIVE,
            (BEGAN, "on_running Rerunning 1", COMPLETED),
        ),
        drivers=frozenset({"fleet that stops"}),
        during=lambda control: control.leave(),
    ),
    Case(
        "task unknown",
        bodies.takes_nothing,
        Expected((P, failed(UNKNOWN, "UnknownTask")), ("TaskNotRegistered", UNKNOWN), (), run_count=0),
        drivers=PROCESSES,
        setting="unknown",
    ),
    Case(
        "parameters unreadable",  # a worker reads them after the step that has begun the run
        bodies.takes_nothing,
        Expected(
            (("SCHEDULED", "Scheduled", None), R, failed(f"Parameters could not be read: BadEnvelope: {DAMAGE}")),
            ("BadEnvelope", DAMAGE),
            ("on_failure Failed 1",),
        ),
        drivers=PROCESSES,
        setting="damaged",
    ),
    Case(
        "limit full",
        bodies.is_alone,
        Expected((P, FULL, R, DONE), ("value", "alone"), (BEGAN, COMPLETED)),
        drivers=FLEETS,
        setting="limit",
    ),
    Case(
        "not started in time",
        bodies.starts_soon,
        Expected(
            (P, ("CANCELLED", "Expired", "Not started within 0.1 seconds.")),
            ("CancelledRun", "Not started within 0.1 seconds."),
            ("on_cancellation Expired 0",),
            run_count=0,
        ),
        drivers=FLEETS,
        setting="paused queue",
    ),
    Case(
        "returns a lock",
        bodies.returns_lock,
        replace(SUCCESS, result=("value", {"lock": bodies.LOCK})),
        recorded=NOWHERE_ELSE,
        fleet=unstorable(
            "ResultNotSerialisable",
            LOCK_TOLD,
        ),
    ),
    Case(
        "returns 11 megabytes",
        bodies.returns_eleven_megabytes,
        replace(SUCCESS, result=("value", bodies.ELEVEN_MEGABYTES)),
        recorded=NOWHERE_ELSE,
        fleet=unstorable("ResultTooLarge", "result: data of 11,000,000 bytes, the limit is 1,048,576"),
    ),
    Case("returns a coroutine", bodies.returns_coroutine, SUCCESS),
    Case("returns a generator", bodies.returns_generator, replace(SUCCESS, result=("value", [0, 1, 2]))),
    raises(
        "raises what has no text",
        bodies.raises_unprintable,
        "Unprintable: <unprintable Unprintable>",
        ("Unprintable", "no text"),
        ("TaskRunFailed", "Unprintable: <unprintable Unprintable>"),
    ),
    raises(
        "raises a group",
        bodies.raises_group,
        "ExceptionGroup: both (2 sub-exceptions)",
        ("ExceptionGroup", "both (2 sub-exceptions)"),
        ("TaskRunFailed", "ExceptionGroup: both (2 sub-exceptions): ValueError: x; KeyError: 'y'"),
    ),
    Case(
        "raises a megabyte",
        bodies.raises_a_megabyte,
        Expected(
            (P, R, failed("Task run encountered... 4096")),
            ("ValueError", "xxxxxxxxxxxxxxxxxxxx... 1000000"),
            (BEGAN, "on_failure Failed 1"),
        ),
        recorded={"result": ("ValueError", "xxxxxxxxxxxxxxxxxxxx... 4096")},
    ),
    raises(
        "raises what no reader knows",
        bodies.raises_unread,
        "Unread: who knows",
        ("Unread", "who knows"),
        ("TaskRunFailed", "Unread: who knows"),
    ),
    raises(
        "raises GeneratorExit",
        bodies.raises_generator_exit,
        "RuntimeError: the function raised GeneratorExit",
        ("RuntimeError", "the function raised GeneratorExit"),
    ),
    raises(
        "raises StopIteration",
        bodies.raises_stop_iteration,
        "RuntimeError: the function raised StopIteration",
        ("RuntimeError", "the function raised StopIteration"),
    ),
)
