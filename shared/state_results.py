"""How the result or the exception of a state is read: written once as steps, with a blocking and an async driver.

The steps ask for a stored record and for time to pass; whoever drives them does it. Nothing here is a state of its own.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from shared.errors import (
    InvalidCall,
    InvalidValue,
    MissingResult,
    PausedRun,
    RedisUnavailable,
    UnfinishedRun,
)
from shared.exceptions_as_data import ExceptionData, failed_run, rebuild_exception
from shared.results import ResultRecord, ResultRecordMetadata, ResultSource
from shared.state_types import StateType
from shared.state_value import StateValue
from shared.texts import shown, text_of

T = TypeVar("T")

TRIES: Final = 10
SECONDS_BETWEEN_TRIES: Final = 0.25
FAILURES: Final = frozenset({StateType.FAILED, StateType.CRASHED, StateType.CANCELLED})

_UNREADABLE: Final = object()


@dataclass(frozen=True, slots=True)
class Load:
    """Read the record there; the answer is the record, or what the loader raises."""

    source: ResultSource


@dataclass(frozen=True, slots=True)
class Wait:
    """Let so many seconds pass, as that source does it."""

    source: ResultSource
    seconds: float


Steps: TypeAlias = Generator[Load | Wait, Any, T]


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception to be raised by whoever drives the steps: a StopIteration raised in them would lose its meaning."""

    error: BaseException


def result_steps(state: StateValue, *, raise_on_failure: bool, fetch: bool | None, retry: bool) -> Steps[Any]:
    """The state's result, or `Raised`.

    Raises:
        PausedRun, UnfinishedRun: there is none yet.
        MissingResult: it was never kept, or is no longer.
        RedisUnavailable: it could not be read, nor by trying again.
    """
    if state.is_paused():
        raise PausedRun("Run is paused, its result is not available.", state)
    if not state.is_final():
        raise UnfinishedRun(f"Run is in {state.type.value} state, its result is not available.")
    tries = TRIES if retry else 1
    if raise_on_failure and state.type in FAILURES:
        return Raised((yield from exception_steps(state, fetch=fetch, tries=tries)))
    if state.data is None:
        return _without_data(state)
    if fetch is False and isinstance(state.data, ResultRecordMetadata):
        return state.data
    value = yield from _opened_steps(state, tries)
    if value is _UNREADABLE:
        return wrapper_of(state)
    return _rebuilt(value, state) if isinstance(value, ExceptionData) else value


def exception_steps(state: StateValue, *, fetch: bool | None = None, tries: int = TRIES) -> Steps[BaseException]:
    """The exception that a failed, crashed or cancelled state stands for.

    Raises:
        InvalidValue: the state is none of these, or holds states of which none is.
        InvalidCall: its data is nothing that an exception can be made of.
        RedisUnavailable: its data could not be read, nor by trying again.
    """
    seen: list[StateValue] = []
    while True:
        if state.type not in FAILURES:
            raise InvalidValue(f"Expected failed or crashed state got {state!r}.")
        if fetch is False and isinstance(state.data, ResultRecordMetadata):
            return wrapper_of(state)
        data = yield from _opened_steps(state, tries)
        if data is None or data is _UNREADABLE or any(state is earlier for earlier in seen):
            return wrapper_of(state)
        seen.append(state)
        if isinstance(data, StateValue):
            state = data
        elif is_state_iterable(data):
            state = _first_failure(data)
        else:
            return _exception_of(data, state)


def _opened_steps(state: StateValue, tries: int) -> Steps[Any]:
    """What the state's data is once references and records are opened.

    Of a failure it is `_UNREADABLE` where a stored one is gone or damaged: that must not hide the failure.
    """
    data = state.data
    if isinstance(data, ResultRecordMetadata):
        try:
            data = yield from _record_steps(data, tries, run_id_of(state))
        except (RedisUnavailable, ConnectionError):
            raise
        except Exception:
            if state.type not in FAILURES:
                raise
            return _UNREADABLE
    return data.result if isinstance(data, ResultRecord) else data


def _record_steps(reference: ResultRecordMetadata, tries: int, run_id: str | None) -> Steps[ResultRecord[Any]]:
    """Read the record that a reference points to, again where the connection broke."""
    source = reference.source
    if source is None:
        raise MissingResult(
            f"The reference to {reference.storage_key!r} is bound to no store, so its result cannot be read."
        )
    while True:
        tries -= 1
        try:
            record: ResultRecord[Any] = yield Load(source)
        except (RedisUnavailable, ConnectionError):
            if tries <= 0:
                raise
        except MissingResult as error:
            run = reference.run_id or run_id
            which = f"of run '{run}'" if run else f"with the key {reference.storage_key!r}"
            raise MissingResult(f"The result {which} is no longer stored: it expired or was deleted.") from error
        else:
            return record
        yield Wait(source, SECONDS_BETWEEN_TRIES)


def _exception_of(data: object, state: StateValue) -> BaseException:
    if isinstance(data, ExceptionData):
        return _rebuilt(data, state)
    if isinstance(data, BaseException):
        return data
    if isinstance(data, str):
        return failed_run(state.type, data, run_id_of(state))
    raise InvalidCall(
        f"Unexpected result for failed state: {shown(data)} —— "
        f"{type(data).__name__} cannot be resolved into an exception"
    )


def _rebuilt(data: ExceptionData, state: StateValue) -> BaseException:
    return rebuild_exception(data, state.type, state.message, run_id_of(state))


def _first_failure(states: Any) -> StateValue:
    for state in states:
        if state.type in FAILURES:
            failed: StateValue = state
            return failed
    raise InvalidValue("Failed state result was an iterable of states but none were failed.")


def _without_data(state: StateValue) -> BaseException:
    if state.type in FAILURES:
        return wrapper_of(state)
    raise MissingResult


def wrapper_of(state: StateValue) -> BaseException:
    """FailedRun, CrashedRun or CancelledRun with the state's message."""
    return failed_run(state.type, state.message or None, run_id_of(state))


def run_id_of(state: StateValue) -> str | None:
    """The run that the state was recorded for."""
    details = state.state_details
    return details.task_run_id or details.flow_run_id


def is_state_iterable(value: object) -> bool:
    """True for a list, tuple or set that holds states and nothing else."""
    return isinstance(value, list | tuple | set) and bool(value) and all(isinstance(one, StateValue) for one in value)


def drive(steps: Steps[T]) -> T:
    """Do the steps, blocking, and return what they return."""
    try:
        step = next(steps)
        while True:
            try:
                answer = step.source.load() if isinstance(step, Load) else step.source.sleep(step.seconds)
            except Exception as error:  # noqa: BLE001 - the steps decide what an error means
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


async def adrive(steps: Steps[T]) -> T:
    """Do the steps without blocking the event loop, and return what they return."""
    try:
        step = next(steps)
        while True:
            try:
                answer = await (step.source.aload() if isinstance(step, Load) else step.source.asleep(step.seconds))
            except Exception as error:  # noqa: BLE001 - the steps decide what an error means
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


def settled(outcome: T | Raised) -> T:
    """The outcome, raised if it is to be raised."""
    if isinstance(outcome, Raised):
        raise outcome.error
    return outcome


def settled_in_coroutine(outcome: T | Raised, state_type: StateType) -> T:
    """The same for a coroutine, where a StopIteration would become a RuntimeError: it comes in the wrapper."""
    if isinstance(outcome, Raised) and isinstance(outcome.error, StopIteration):
        raise failed_run(state_type, f"StopIteration: {text_of(outcome.error)}") from outcome.error
    return settled(outcome)
