"""Every exception of Baton, in one tree. No logic but texts.

    BatonError                       base of all but the signals
    ├── ConfigError                  wrong configuration (exit 78)
    │   └── LayoutTooNew
    ├── RedisUnavailable             no answer, or no right to one (exit 69)
    │   └── StorageFull
    ├── NotDurable
    ├── InvalidCall                  also a TypeError
    │   ├── ParameterBindError
    │   ├── ReservedArgumentError
    │   └── ResultNotSerialisable
    ├── InvalidValue                 also a ValueError
    │   ├── HashError
    │   ├── LimitExceeded
    │   │   └── ResultTooLarge
    │   ├── MappingLengthMismatch
    │   ├── MappingMissingIterable
    │   └── WouldDeadlock
    ├── SubmitError                  what a submit can be told
    │   ├── IdempotencyConflict
    │   └── QueueFull
    ├── TransitionRefused
    ├── Fenced
    ├── RunGone
    ├── Closed                       also a RuntimeError
    ├── MissingContextError          also a RuntimeError
    ├── TaskNotRegistered
    ├── BadEnvelope
    │   └── BadSignature
    ├── FailedRun                    wrappers of a run's end
    │   └── TaskRunFailed
    ├── CrashedRun
    ├── CancelledRun
    ├── PausedRun
    ├── UnfinishedRun
    ├── MissingResult
    ├── UpstreamTaskError
    ├── ConcurrencySlotAcquisitionError
    │   └── AcquireConcurrencySlotTimeoutError   also a TimeoutError
    ├── WaitTimeout                  also a TimeoutError: the caller's patience
    └── TaskRunTimeoutError          also a TimeoutError: the body's time

    RemoteTraceback(Exception)       the worker's traceback, as the cause of what a reader raises
    BatonSignal(BaseException)       control flow that `except Exception` in a body must not swallow
    ├── Abort
    ├── Pause
    ├── TerminationSignal
    └── ENDRUN

The docstring of a class is its default message.
"""

import builtins
from collections.abc import Sequence
from typing import Any


class BatonError(Exception):
    """Something in Baton went wrong."""

    def __init__(self, message: str | None = None, *rest: object) -> None:
        text = message if message is not None else _default_message(type(self))
        super().__init__(text, *rest)

    def __str__(self) -> str:
        return str(self.args[0])


def _default_message(kind: type[BaseException]) -> str:
    return " ".join((kind.__doc__ or kind.__name__).split())


class ConfigError(BatonError):
    """The configuration is wrong."""


class LayoutTooNew(ConfigError):
    """This Redis holds data of a newer Baton; install that version, nothing was touched."""


class RedisUnavailable(BatonError):
    """Redis did not answer."""

    def __init__(self, message: str | None = None, address: str | None = None) -> None:
        super().__init__(message)
        self.address = address


class StorageFull(RedisUnavailable):
    """Redis cannot take writes: it is out of memory, or its disk is full."""


class NotDurable(BatonError):
    """The write was accepted, but not by as many replicas as asked for."""


class InvalidCall(BatonError, TypeError):
    """The call is wrong."""


class ParameterBindError(InvalidCall):
    """The arguments do not fit the function's signature."""


class ReservedArgumentError(InvalidCall):
    """A parameter has a name that belongs to Baton."""


class ResultNotSerialisable(InvalidCall):
    """The result holds a value that cannot be stored."""


class InvalidValue(BatonError, ValueError):
    """A value is wrong."""


class HashError(InvalidValue):
    """A value has no canonical form, so no cache key can be made of it."""


class LimitExceeded(InvalidValue):
    """A size or number is above its limit."""


class ResultTooLarge(LimitExceeded):
    """The result is larger than the limit."""


class MappingLengthMismatch(InvalidValue):
    """The mapped arguments differ in length."""


class MappingMissingIterable(InvalidValue):
    """None of the arguments can be mapped over."""


class WouldDeadlock(InvalidValue):
    """A run would wait for itself."""


class SubmitError(BatonError):
    """The run was not accepted."""

    answers: Sequence[object] = ()
    """Where several were submitted in one call: a future or an exception for each, in the order of the calls."""


class IdempotencyConflict(SubmitError):
    """This idempotency key was used for other parameters."""

    def __init__(self, message: str | None = None, *, run_id: str = "", digests: tuple[str, str] = ("", "")) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.digests = digests


class QueueFull(SubmitError):
    """The queue has reached its cap."""

    def __init__(self, message: str | None = None, *, depth: int = 0, cap: int = 0) -> None:
        super().__init__(message)
        self.depth = depth
        self.cap = cap


class TransitionRefused(BatonError):
    """The rules refuse this transition."""


class Fenced(BatonError):
    """This attempt no longer owns its run: another one took over."""


class RunGone(BatonError):
    """This run is no longer in Redis: it was deleted, or Redis lost data."""


class Closed(BatonError, RuntimeError):
    """This Orchestrator is closed."""


class MissingContextError(BatonError, RuntimeError):
    """There is no run here: this works inside a task or flow only."""


class TaskNotRegistered(BatonError):
    """No task of this key is registered in this process."""


class BadEnvelope(BatonError):
    """A stored value cannot be read."""


class BadSignature(BadEnvelope):
    """A stored value has no valid signature."""


class _RunEnd(BatonError):
    """A run ended without a result."""

    def __init__(
        self,
        message: str | None = None,
        *,
        type_name: str | None = None,
        traceback: str | None = None,
        run_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.traceback = traceback
        self.run_id = run_id


class FailedRun(_RunEnd):
    """Run failed."""


class TaskRunFailed(FailedRun):
    """Run failed with an exception of a type that this process may not rebuild."""


class CrashedRun(_RunEnd):
    """Run crashed."""


class CancelledRun(_RunEnd):
    """Run cancelled."""


class PausedRun(BatonError):
    """Run is paused, its result is not available."""

    def __init__(self, message: str | None = None, state: Any = None) -> None:
        super().__init__(message)
        self.state = state


class UnfinishedRun(BatonError):
    """Run is not final, its result is not available."""


class MissingResult(BatonError):
    """State data is missing. Typically, this occurs when result persistence is disabled."""


class UpstreamTaskError(BatonError):
    """An upstream run did not complete."""


class ConcurrencySlotAcquisitionError(BatonError):
    """Slots of a limit cannot be had, or were lost."""


class AcquireConcurrencySlotTimeoutError(ConcurrencySlotAcquisitionError, TimeoutError):
    """Slots of a limit could not be had in time."""


class WaitTimeout(BatonError, TimeoutError):
    """The run did not end in the time given to wait."""


class TaskRunTimeoutError(BatonError, TimeoutError):
    """The body did not end in its time."""


class RemoteTraceback(Exception):
    """The traceback of another process, as text: the cause of what a reader raises."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n\n{self.text.rstrip()}"


class BatonSignal(BaseException):
    """Control flow of Baton, which must pass through a body's `except Exception`."""


class Abort(BatonSignal):
    """The rules stopped this run."""

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason if reason is not None else _default_message(type(self)))
        self.reason = str(self.args[0])


class Pause(BatonSignal):
    """The run leaves its process and waits."""

    def __init__(self, state: Any) -> None:
        super().__init__(state)
        self.state = state


class TerminationSignal(BatonSignal):
    """The process was asked to end."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


class ENDRUN(BatonSignal):
    """A check ends the run with this state."""

    def __init__(self, state: Any) -> None:
        super().__init__(state)
        self.state = state


def qualified_name(kind: type[BaseException]) -> str:
    """`module.QualName`, without the module for builtins."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


# Raised inside a coroutine or generator these two would mean "ended": neither they nor what is derived from them comes
# back as itself, even if it is registered.
_LOSE_THEIR_MEANING = (StopIteration, StopAsyncIteration)
_REBUILDABLE: dict[str, type[Exception]] = {
    qualified_name(kind): kind
    for kind in [*vars(builtins).values(), *list(globals().values())]
    if isinstance(kind, type) and issubclass(kind, Exception)
}


def allow_exceptions(*classes: type[Exception]) -> None:
    """Let exceptions of these classes come back as themselves when a run failed with one in another process.

    Builtin exceptions and Baton's own need no registration; all others arrive as `TaskRunFailed`.

    Raises:
        InvalidCall: one of them is no subclass of Exception; none of them was registered then.
    """
    for kind in classes:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise InvalidCall(f"allow_exceptions takes exception classes, got {kind!r}")
    for kind in classes:
        _REBUILDABLE[qualified_name(kind)] = kind


def find_exception(name: str) -> type[Exception] | None:
    """The class of this qualified name that may be rebuilt here, or None. Never imports anything."""
    kind = _REBUILDABLE.get(name)
    return None if kind is None or issubclass(kind, _LOSE_THEIR_MEANING) else kind
