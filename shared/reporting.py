"""How an attempt's end is put on the wire: its state as an Outcome, value and exception encoded. No I/O."""

from collections.abc import Iterable
from datetime import datetime
from math import ceil
from typing import Any, Final

from shared import codec
from shared.clock import as_utc
from shared.commands import Outcome
from shared.errors import ResultNotSerialisable, ResultTooLarge
from shared.exceptions_as_data import ExceptionData, describe_exception
from shared.result_storage import StoredRecord
from shared.results import ResultRecord, encoded_result
from shared.settings import Settings
from shared.state_types import StateType
from shared.states import Failed, State
from shared.texts import printable, text_of

LEAST_PAUSE: Final = 0.001
"""Seconds of a pause whose time is over already: none would stand for no end."""


def delay_of(state: State[Any], at: datetime) -> float:
    """Seconds from this time until a state is due, or for how long it is paused at most; 0 for none."""
    if state.is_scheduled() and state.state_details.scheduled_time is not None:
        return max(0.0, (as_utc(state.state_details.scheduled_time) - as_utc(at)).total_seconds())
    if state.is_paused() and state.state_details.pause_timeout is not None:
        return max(LEAST_PAUSE, (as_utc(state.state_details.pause_timeout) - as_utc(at)).total_seconds())
    return 0.0


def outcome_of(
    state: State[Any],
    settings: Settings,
    *,
    persist_result: bool = True,
    result_ttl: int | None = None,
    delay: float = 0.0,
) -> Outcome:
    """The state as scripts take it. A value that cannot be stored makes it FAILED: nobody could read it.

    Exceptions are always stored; `persist_result` concerns values only. Times are seconds.
    """
    value = state.data.result if isinstance(state.data, ResultRecord) else state.data
    has_value = isinstance(state.data, ResultRecord) or state.data is not None
    if isinstance(value, BaseException):
        value = describe_exception(value)
    if isinstance(value, ExceptionData):
        return _outcome(state, settings, _encoded_exception(value), value, result_ttl, delay)
    if not has_value or (state.is_completed() and not persist_result):
        return _outcome(state, settings, b"", None, result_ttl, delay)
    try:
        encoded = encoded_result(value, settings.max_result, settings.result_serializer)
    except (ResultTooLarge, ResultNotSerialisable) as error:
        return _unstorable(type(error)(str(error)), settings)  # without our own frames in its traceback
    return _outcome(state, settings, encoded, None, result_ttl, delay)


def cached_from(run_id: str) -> bytes:
    """What a report says of a value that this run has made."""
    return b"from " + run_id.encode(errors="replace")


def uncached(why: str) -> bytes:
    """What a report says of a run that went on without the cache."""
    return b"error " + printable(why).encode(errors="replace")


def kept(records: Iterable[StoredRecord]) -> bytes:
    """What a report says of records that are to be kept with it."""
    parts = [b"keep "]
    for key, data, seconds in records:
        name = key.encode()
        life = "" if seconds is None else max(0, ceil(seconds * 1000))
        parts += (f"{life} {len(name)} {len(data)}\n".encode(), name, data)
    return b"".join(parts) if len(parts) > 1 else b""


def _unstorable(error: Exception, settings: Settings) -> Outcome:
    message = printable(f"Task run's result could not be stored: {type(error).__name__}: {error}")
    return outcome_of(Failed(message=message, data=error), settings)


def _outcome(
    state: State[Any],
    settings: Settings,
    result: bytes,
    error: ExceptionData | None,
    result_ttl: int | None,
    delay: float,
) -> Outcome:
    retention = _retention(state.type, settings)
    return Outcome(
        state.type.value,
        state.name,
        state.message or "",
        result,
        f"{error.type_name.rpartition('.')[2]}: {error.message}" if error else "",
        (error.traceback or "") if error else "",
        retention,
        result_ttl if result_ttl is not None and state.is_completed() else retention,
        delay,
    )


def _retention(kind: StateType, settings: Settings) -> int:
    match kind:
        case StateType.COMPLETED:
            return settings.retention_finished
        case StateType.CANCELLED:
            return settings.retention_cancelled
    return settings.retention_failed


def _encoded_exception(error: ExceptionData) -> bytes:
    """Without the traceback, which lies in a key of its own as plain text."""
    bare = ExceptionData(error.type_name, error.message, error.arguments, None, error.is_interrupt)
    return codec.encode(bare, limit=codec.DEFAULT_LIMIT, where=text_of(error.type_name))
