"""States: the value with its result, and the fourteen makers. The one module to import states from.

What a run may become next is decided elsewhere; here a state is only made, read and copied.
"""
# ruff: noqa: N802 - the makers read like the classes of states that they stand for

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Generic, Literal, TypeVar, overload

from shared import clock
from shared.errors import InvalidCall, InvalidValue
from shared.results import ResultRecord, ResultRecordMetadata
from shared.state_model import StateBaseModel
from shared.state_results import adrive, drive, result_steps, settled, settled_in_coroutine
from shared.state_types import TERMINAL_STATES, AutoEnum, StateType
from shared.state_value import StateDetails, StateValue, name_of

__all__ = [
    "TERMINAL_STATES",
    "AutoEnum",
    "AwaitingConcurrencySlot",
    "AwaitingRetry",
    "Cancelled",
    "Cancelling",
    "Completed",
    "Crashed",
    "Failed",
    "Late",
    "Paused",
    "Pending",
    "R",
    "Retrying",
    "Running",
    "Scheduled",
    "State",
    "StateBaseModel",
    "StateCreate",
    "StateDetails",
    "StateType",
    "Suspended",
]

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class StateCreate:
    """What a proposal carries of a state. Values never travel inside of it: `data` is the reference of a stored one."""

    type: StateType
    name: str
    message: str | None
    state_details: StateDetails
    data: ResultRecordMetadata | None = None


class State(StateValue, Generic[R]):
    """What a run is at one time, as an immutable value; R is the type of its result.

    The type decides and the name tells. `data` is None (nothing), a value, a ResultRecord, a ResultRecordMetadata (a
    reference to a stored value) or an exception; it is neither copied nor looked into. Equal are states whose fields
    but `id` are equal. Bad fields are an InvalidValue that names all of them, assigning to one is an InvalidCall.
    """

    def __class_getitem__(cls, parameter: Any) -> type["State[Any]"]:
        """`State[int]` is State itself: the parameter is for readers and type checkers."""
        return cls

    @overload
    def result(
        self, raise_on_failure: Literal[True] = True, fetch: bool | None = None, retry_result_failure: bool = True
    ) -> R: ...
    @overload
    def result(
        self, raise_on_failure: bool, fetch: bool | None = None, retry_result_failure: bool = True
    ) -> R | BaseException: ...
    def result(
        self, raise_on_failure: bool = True, fetch: bool | None = None, retry_result_failure: bool = True
    ) -> R | BaseException:
        """The value that the run returned, read from its store where it is kept there. Never a coroutine.

        Args:
            raise_on_failure: raise the exception of a failed, crashed or cancelled run, instead of returning it.
            fetch: False does no I/O and returns a reference as it is.
            retry_result_failure: try ten times, a quarter of a second apart, while the connection is broken; else once.

        Raises:
            PausedRun: the run is paused.
            UnfinishedRun: the run has not ended.
            MissingResult: the result was not kept, or is no longer stored.
            RedisUnavailable: the result could not be read.
        """
        steps = result_steps(self, raise_on_failure=raise_on_failure, fetch=fetch, retry=retry_result_failure)
        outcome: R | BaseException = settled(drive(steps))
        return outcome

    @overload
    async def aresult(
        self, raise_on_failure: Literal[True] = True, fetch: bool | None = None, retry_result_failure: bool = True
    ) -> R: ...
    @overload
    async def aresult(
        self, raise_on_failure: bool, fetch: bool | None = None, retry_result_failure: bool = True
    ) -> R | BaseException: ...
    async def aresult(
        self, raise_on_failure: bool = True, fetch: bool | None = None, retry_result_failure: bool = True
    ) -> R | BaseException:
        """The same as `result`, without blocking the event loop."""
        steps = result_steps(self, raise_on_failure=raise_on_failure, fetch=fetch, retry=retry_result_failure)
        outcome: R | BaseException = settled_in_coroutine(await adrive(steps), self.type)
        return outcome

    def to_state_create(self) -> StateCreate:
        """What a proposal carries: type, name, message, details, and the reference of a result that is stored."""
        reference = self.data.metadata if isinstance(self.data, ResultRecord) else self.data
        is_stored = isinstance(reference, ResultRecordMetadata) and (
            reference is self.data or reference.source is not None
        )
        return StateCreate(self.type, self.name, self.message, self.state_details, reference if is_stored else None)


# --- the makers -------------------------------------------------------------------------------------------------------


def Scheduled(cls: type[State[Any]] = State, scheduled_time: datetime | None = None, **fields: Any) -> State[Any]:
    """A state that waits for a time; without one it is due now.

    Raises:
        InvalidValue: a time both here and in `state_details`, or a bad field.
    """
    return _scheduled(cls, None, scheduled_time, fields)


def AwaitingRetry(cls: type[State[Any]] = State, scheduled_time: datetime | None = None, **fields: Any) -> State[Any]:
    """A failed run's wait for its next attempt; otherwise like Scheduled."""
    return _scheduled(cls, "AwaitingRetry", scheduled_time, fields)


def AwaitingConcurrencySlot(
    cls: type[State[Any]] = State, scheduled_time: datetime | None = None, **fields: Any
) -> State[Any]:
    """A wait for a free slot of a limit; otherwise like Scheduled."""
    return _scheduled(cls, "AwaitingConcurrencySlot", scheduled_time, fields)


def Late(cls: type[State[Any]] = State, scheduled_time: datetime | None = None, **fields: Any) -> State[Any]:
    """An overdue run; otherwise like Scheduled."""
    return _scheduled(cls, "Late", scheduled_time, fields)


def Pending(cls: type[State[Any]] = State, **fields: Any) -> State[Any]:
    """A run that waits in a queue, or for other runs."""
    return _made(cls, StateType.PENDING, None, fields)


def Running(cls: type[State[Any]] = State, **fields: Any) -> State[Any]:
    """A run whose function is executed."""
    return _made(cls, StateType.RUNNING, None, fields)


def Retrying(cls: type[State[Any]] = State, **fields: Any) -> State[Any]:
    """A run that is executed again after a failed attempt."""
    return _made(cls, StateType.RUNNING, "Retrying", fields)


def Completed(cls: type[State[Any]] = State, **fields: Any) -> State[Any]:
    """A run that ended well; `data` is its result."""
    return _made(cls, StateType.COMPLETED, None, fields)


def Failed(cls: type[State[Any]] = State, **fields: Any) -> State[Any]:
    """A run whose function raised, or could not be called; `data` is the exception."""
    return _made(cls, StateType.FAILED, None, fields)


def Crashed(cls: type[State[Any]] = State, **fields: Any) -> State[Any]:
    """A run whose process was interrupted or lost."""
    return _made(cls, StateType.CRASHED, None, fields)


def Cancelling(cls: type[State[Any]] = State, **fields: Any) -> State[Any]:
    """A run that was asked to end."""
    return _made(cls, StateType.CANCELLING, None, fields)


def Cancelled(cls: type[State[Any]] = State, **fields: Any) -> State[Any]:
    """A run that ended because it was asked to."""
    return _made(cls, StateType.CANCELLED, None, fields)


def Paused(
    cls: type[State[Any]] = State,
    timeout_seconds: float | None = None,
    pause_expiration_time: datetime | None = None,
    reschedule: bool = False,
    pause_key: str | None = None,
    **fields: Any,
) -> State[Any]:
    """A run that waits to be resumed.

    Args:
        cls: the class of the state.
        timeout_seconds: it waits so long from now; 0 is over at once. Without this and the next one it has no time-out.
        pause_expiration_time: it waits until then.
        reschedule: the run leaves its process, and is queued again to be resumed.
        pause_key: what tells this pause from the run's others.
        fields: of the state.

    Raises:
        InvalidValue: two time-outs, a negative one, or a bad field.
    """
    timeout = _pause_timeout(timeout_seconds, pause_expiration_time, fields)
    return _paused(
        cls, None, {"pause_timeout": timeout, "pause_reschedule": reschedule, "pause_key": pause_key}, fields
    )


def Suspended(
    cls: type[State[Any]] = State,
    timeout_seconds: float | None = None,
    pause_expiration_time: datetime | None = None,
    pause_key: str | None = None,
    **fields: Any,
) -> State[Any]:
    """A pause in which the run leaves its process, and is queued again to be resumed; otherwise like Paused."""
    timeout = _pause_timeout(timeout_seconds, pause_expiration_time, fields)
    asked = {"pause_timeout": timeout, "pause_reschedule": True, "pause_key": pause_key}
    return _paused(cls, "Suspended", asked, fields)


# --- what they share --------------------------------------------------------------------------------------------------

_NAMES: Final = {kind: name_of(kind) for kind in StateType}
_DATA_ALONE: Final = frozenset({"data"})


def _made(cls: type[State[Any]], kind: StateType, name: str | None, fields: dict[str, Any]) -> State[Any]:
    """A state of that type, with that name unless it is free."""
    if cls is State and fields.keys() <= _DATA_ALONE and kind is not StateType.SCHEDULED:
        # Nothing is left to check: this is how states are made while a run is executed.
        return State.trusted(kind, name or _NAMES[kind], clock.now(), data=fields.get("data"))
    _check_class(cls)
    if "type" in fields:
        raise InvalidCall(f"this maker makes {kind.value} states only: it takes no 'type'")
    if isinstance(details := fields.get("state_details"), StateDetails):
        fields["state_details"] = details.replaced()
    if name is None:
        return cls(type=kind, **fields)
    if "name" in fields:
        raise InvalidCall(f"states made by {name} are named so: it takes no 'name'")
    return cls(type=kind, name=name, **fields)


def _scheduled(cls: type[State[Any]], name: str | None, due: datetime | None, fields: dict[str, Any]) -> State[Any]:
    details = _given_details(fields)
    if due is not None:
        if details.get("scheduled_time") is not None:
            raise InvalidValue("An extra scheduled_time was provided in state_details")
        fields["state_details"] = {**details, "scheduled_time": due}
    return _made(cls, StateType.SCHEDULED, name, fields)


def _paused(cls: type[State[Any]], name: str | None, asked: dict[str, Any], fields: dict[str, Any]) -> State[Any]:
    """A paused state; what was not asked for is as the given details say."""
    asked = {field: value for field, value in asked.items() if value not in (None, False)}
    if asked:
        fields["state_details"] = {**_given_details(fields), **asked}
    return _made(cls, StateType.PAUSED, name, fields)


def _pause_timeout(seconds: float | None, expiration: datetime | None, fields: dict[str, Any]) -> datetime | None:
    if _given_details(fields).get("pause_timeout") is not None:
        raise InvalidValue("An extra pause timeout was provided in state_details")
    if seconds is not None and expiration is not None:
        raise InvalidValue("Cannot supply both a pause_expiration_time and timeout_seconds")
    if seconds is None:
        return expiration
    if not seconds >= 0:  # so that it refuses NaN too
        raise InvalidValue(f"'timeout_seconds' must be a non-negative number, got {seconds}")
    try:
        return clock.now() + timedelta(seconds=seconds)
    except OverflowError as error:
        raise InvalidValue(f"'timeout_seconds' of {seconds} ends after the year 9999") from error


def _given_details(fields: dict[str, Any]) -> Mapping[str, Any]:
    details = fields.get("state_details") or {}
    if isinstance(details, StateDetails):
        return details.__dict__
    if isinstance(details, Mapping):
        return details
    raise InvalidValue(f"state_details: must be a StateDetails or a mapping, got {details!r}")


def _check_class(cls: object) -> None:
    if isinstance(cls, type) and issubclass(cls, State):
        return
    advice = "write scheduled_time=... for a time" if isinstance(cls, datetime) else "pass all else by its name"
    raise InvalidCall(f"a maker takes State or a subclass of it first, got {cls!r}: {advice}")
