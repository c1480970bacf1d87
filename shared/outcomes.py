"""What a function returned or raised, as a state, and back again: the result or the exception that a state stands for.

A store of results may be given and is only written to where `write_result` says so; nothing else here does I/O, but
reading a result that lies in a store.
"""

import asyncio
import inspect
import logging
import sys
from collections.abc import AsyncGenerator, Generator, Iterable
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any, Final, TypeGuard, TypeVar

from shared import clock
from shared.collections import objects_in
from shared.errors import InvalidCall, InvalidValue, LimitExceeded, RedisUnavailable, TerminationSignal
from shared.ids import new_id
from shared.results import RecordStore, ResultRecord, ResultRecordMetadata, ResultSource, record_of
from shared.runs import BaseRunFuture
from shared.state_groups import StateGroup
from shared.state_results import FAILURES, Raised, adrive, drive, exception_steps, settled_in_coroutine
from shared.state_results import is_state_iterable as holds_only_states
from shared.state_types import StateType
from shared.states import Completed, Failed, State
from shared.texts import printable, text_of

__all__ = [
    "StateGroup",
    "aexception_to_failed_state",
    "aget_state_exception",
    "aget_state_result",
    "araise_state_exception",
    "areturn_value_to_state",
    "exception_to_crashed_state",
    "exception_to_failed_state",
    "get_state_exception",
    "get_state_result",
    "is_state_iterable",
    "raise_state_exception",
    "return_value_to_state",
]

R = TypeVar("R")
GENERATED_ITEMS: Final = 100_000
"""The most that a generator may give as a result."""

_INTERRUPTS: Final = (
    (asyncio.CancelledError, "Execution was cancelled by the runtime environment."),
    (KeyboardInterrupt, "Execution was aborted by an interrupt signal."),
    (TerminationSignal, "Execution was aborted by a termination signal."),
    (SystemExit, "Execution was aborted by Python system exit call."),
)
_log = logging.getLogger(__name__)


# --- exceptions to states ---------------------------------------------------------------------------------------------


def exception_to_crashed_state(exc: BaseException, result_store: RecordStore | None = None) -> State[Any]:
    """CRASHED, for an exception from outside the user's code, and for what is no Exception from inside.

    Its data is the exception, or with a store a record of it, which is not written.
    """
    data = exc if result_store is None else result_store.create_record(exc, key=new_id())
    return State.trusted(StateType.CRASHED, "Crashed", clock.now(), printable(_crash_message(exc)), data=data)


def _crash_message(exc: BaseException) -> str:
    for kind, message in _INTERRUPTS:
        if isinstance(exc, kind):
            return message
    told = f"{type(exc).__name__}: {text_of(exc)}"
    if not isinstance(exc, RedisUnavailable):
        return f"Execution was interrupted by an unexpected exception: {told}"
    if not exc.address:
        return f"Request failed while attempting to contact the server: {told}"
    return f"Request to {exc.address.rpartition('@')[2]} failed: {told}."  # a password would stand before the @


def exception_to_failed_state(
    exc: BaseException | None = None,
    result_store: RecordStore | None = None,
    write_result: bool = False,
    **fields: Any,
) -> State[Any]:
    """FAILED, with the exception as data, or with a store a record of it under a key of its own.

    Args:
        exc: the exception; unless given the one that is being handled.
        result_store: makes the record.
        write_result: write the record at once; an error in that is logged.
        fields: of the state. `message` comes before the exception's type and text.

    Raises:
        InvalidValue: no exception was given and none is active, or a field is bad.
        InvalidCall: `data` is among the fields.
    """
    state = _failed_state(exc, result_store, fields)
    if write_result and result_store is not None and _written(state, result_store):
        return _bound(state, result_store)
    return state


async def aexception_to_failed_state(
    exc: BaseException | None = None,
    result_store: RecordStore | None = None,
    write_result: bool = False,
    **fields: Any,
) -> State[Any]:
    """The same as `exception_to_failed_state`, writing without blocking the event loop."""
    state = _failed_state(exc, result_store, fields)
    if write_result and result_store is not None and await _awritten(state, result_store):
        return _bound(state, result_store)
    return state


def _failed_state(exc: BaseException | None, store: RecordStore | None, fields: dict[str, Any]) -> State[Any]:
    error = exc if exc is not None else sys.exception()
    if error is None:
        raise InvalidValue("Exception was not passed and no active exception could be found.")
    if "data" in fields:
        raise InvalidCall("the data of a failed state is the exception: it takes no 'data'")
    prefix = fields.pop("message", None) or ""
    space = "" if not prefix or prefix.endswith(" ") else " "
    message = printable(f"{prefix}{space}{type(error).__name__}: {text_of(error)}")
    data = error if store is None else store.create_record(error, key=new_id())
    if fields:
        return Failed(message=message, data=data, **fields)
    return State.trusted(StateType.FAILED, "Failed", clock.now(), message, data=data)


# --- values to states -------------------------------------------------------------------------------------------------


def return_value_to_state(
    retval: Any,
    result_store: RecordStore | None = None,
    key: str | None = None,
    expiration: datetime | None = None,
    write_result: bool = False,
) -> State[Any]:
    """The state in which a run ends whose function returned this.

    A state made by hand is that state. A recorded one, or a list, tuple or set of nothing but states, is judged as a
    group. Anything else is COMPLETED with a record of the value; a generator is read into a list first.

    Args:
        retval: what was returned; futures in it must have been resolved.
        result_store: makes the record.
        key: under which a completed result is kept; all others have keys of their own.
        expiration: when it ceases to be.
        write_result: write the record at once; an error in that is logged.

    Raises:
        InvalidCall: a future was left in it, or it is a coroutine or an async generator, which is closed.
        LimitExceeded: a generator gave more than 100,000 items.
    """
    state = _ended_state(retval, result_store, key, expiration)
    if write_result and result_store is not None and _written(state, result_store):
        return state if state is retval else _bound(state, result_store)
    return state


async def areturn_value_to_state(
    retval: Any,
    result_store: RecordStore | None = None,
    key: str | None = None,
    expiration: datetime | None = None,
    write_result: bool = False,
) -> State[Any]:
    """The same as `return_value_to_state`, writing without blocking the event loop."""
    state = _ended_state(retval, result_store, key, expiration)
    if write_result and result_store is not None and await _awritten(state, result_store):
        return state if state is retval else _bound(state, result_store)
    return state


def _ended_state(retval: Any, store: RecordStore | None, key: str | None, expiration: datetime | None) -> State[Any]:
    value = _list_of(retval) if inspect.isgenerator(retval) else retval
    _refuse_unfinished(value)
    if isinstance(value, ResultRecord):
        return Completed(data=value)
    state = _state_among(value)
    if state is None:
        return Completed(data=_record(value, store, key, expiration))
    data = state.data if state is value else value
    if isinstance(data, ResultRecord | ResultRecordMetadata):
        return state
    if not state.is_completed():
        key = expiration = None  # whoever asks for this key later must be given a value, not a failure
    return state.filled({**state.__dict__, "data": _record(data, store, key, expiration)})


def _state_among(value: Any) -> State[Any] | None:
    """The state made by hand that a value is, or the verdict on the states that it consists of."""
    if isinstance(value, State):
        is_recorded = value.state_details.flow_run_id or value.state_details.task_run_id
        return StateGroup([value]).verdict() if is_recorded else value
    return StateGroup(list(value)).verdict() if is_state_iterable(value) else None


def _record(value: Any, store: RecordStore | None, key: str | None, expiration: datetime | None) -> ResultRecord[Any]:
    return record_of(value, key, expiration) if store is None else store.create_record(value, key, expiration)


def _list_of(generator: Generator[Any, Any, Any]) -> list[Any]:
    items = list(islice(generator, GENERATED_ITEMS + 1))
    if len(items) > GENERATED_ITEMS:
        generator.close()
        raise LimitExceeded(f"the generator that was returned gives more than {GENERATED_ITEMS} items")
    return items


def _refuse_unfinished(value: Any) -> None:
    if inspect.iscoroutine(value):
        value.close()  # else a warning would follow that it was never awaited
        raise InvalidCall("a coroutine was returned: await it, or use `async def`")
    if inspect.isasyncgen(value):
        _close_async_generator(value)
        raise InvalidCall("an async generator was returned: read it and return the list, or use `async def`")
    for one in objects_in(value):
        if isinstance(one, BaseRunFuture):
            raise InvalidCall(f"the value that was returned holds a future, of run {one.run_id}: return its result")


def _close_async_generator(generator: AsyncGenerator[Any, Any]) -> None:
    """Close it as far as that goes without an event loop: one that waits while it ends is abandoned."""
    closing = generator.aclose()
    try:
        closing.send(None)
    except StopIteration:
        return
    except Exception:  # noqa: BLE001 - the user's code, which has returned its result already
        _log.exception("An async generator that was returned raised while it was closed")
    else:
        closing.close()


def _written(state: State[Any], store: RecordStore) -> bool:
    if not isinstance(state.data, ResultRecord):
        return False
    try:
        store.write(state.data)
    except Exception:  # noqa: BLE001 - whatever a store raises, the outcome is known and must be told
        _log.exception("The result of a %s state could not be written", state.type)
        return False
    return True


async def _awritten(state: State[Any], store: RecordStore) -> bool:
    if not isinstance(state.data, ResultRecord):
        return False
    try:
        await store.awrite(state.data)
    except Exception:  # noqa: BLE001 - whatever a store raises, the outcome is known and must be told
        _log.exception("The result of a %s state could not be written", state.type)
        return False
    return True


def _bound(state: State[Any], store: RecordStore) -> State[Any]:
    """The same state, whose record can from now on be read from the store."""
    record: ResultRecord[Any] = state.data
    key = record.metadata.storage_key
    if key is None:
        return state
    source = ResultSource(load=lambda: store.read(key), aload=lambda: store.aread(key))
    return state.filled({**state.__dict__, "data": replace(record, metadata=record.metadata.bound_to(source))})


# --- states to results and exceptions ---------------------------------------------------------------------------------


def is_state_iterable(obj: object) -> TypeGuard[Iterable[State[Any]]]:
    """True for a list, tuple or set (subclasses too) that is not empty and holds states alone."""
    return holds_only_states(obj)


def get_state_result(
    state: State[R], raise_on_failure: bool = True, fetch: bool | None = None, retry_result_failure: bool = True
) -> R | BaseException:
    """The same as `state.result(...)`."""
    return state.result(raise_on_failure, fetch, retry_result_failure)


async def aget_state_result(
    state: State[R], raise_on_failure: bool = True, fetch: bool | None = None, retry_result_failure: bool = True
) -> R | BaseException:
    """The same as `state.aresult(...)`."""
    return await state.aresult(raise_on_failure, fetch, retry_result_failure)


def get_state_exception(state: State[Any]) -> BaseException:
    """The exception that a failed, crashed or cancelled state stands for, read from its store if it lies there.

    It is the state's own, or that of the first failure among states in its data; without any, and where it is gone or
    unreadable, it is FailedRun, CrashedRun or CancelledRun.

    Raises:
        InvalidValue: the state is none of these, or those in its data are not.
        InvalidCall: its data is nothing that an exception can be made of.
        RedisUnavailable: it could not be read, nor by trying again.
    """
    return drive(exception_steps(state))


async def aget_state_exception(state: State[Any]) -> BaseException:
    """The same as `get_state_exception`, without blocking the event loop."""
    return await adrive(exception_steps(state))


def raise_state_exception(state: State[Any]) -> None:
    """Raise the exception of a failed, crashed or cancelled state; do nothing for any other."""
    if state.type in FAILURES:
        raise get_state_exception(state)


async def araise_state_exception(state: State[Any]) -> None:
    """The same as `raise_state_exception`, without blocking the event loop."""
    if state.type in FAILURES:
        settled_in_coroutine(Raised(await aget_state_exception(state)), state.type)
