"""Exceptions as data, for the way through Redis: described where they were raised, rebuilt where they are read.

Imports, unpickles and looks up nothing because of data: only classes that `shared.errors` knows already come back.
"""

import re
import traceback
from dataclasses import dataclass
from typing import Any, Final

from shared.codec_types import register_type
from shared.errors import CancelledRun, CrashedRun, FailedRun, RemoteTraceback, TaskRunFailed, find_exception
from shared.errors import qualified_name as qualified_name_of
from shared.state_types import StateType
from shared.texts import MESSAGE_BYTES, TRACEBACK_BYTES, cut, printable, printable_end, text_of

GROUP_MEMBERS_SHOWN: Final = 20
UNKNOWN_TYPE: Final = "UnknownError"
"""Stands where the name of a class was lost; there is no such class."""

_ERRNO_AND_TEXT = 2
_MOST_ARGUMENTS = 32
_INT_END = 1 << 63
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


@register_type(name="baton.exception")
@dataclass(frozen=True, slots=True)
class ExceptionData:
    """What is left of an exception away from its process.

    `type_name` is qualified, `message` holds 4 kB at most, `traceback` 16 kB. `arguments` is None where the exception
    cannot be made again from plain values. `is_interrupt` is True for what is no subclass of Exception.

    One that was read from Redis may hold anything: `rebuild_exception` looks before it believes.
    """

    type_name: str
    message: str = ""
    arguments: tuple[Any, ...] | None = None
    traceback: str | None = None
    is_interrupt: bool = False


def describe_exception(error: BaseException) -> ExceptionData:
    """The exception as data. Never raises, whatever its class does."""
    return ExceptionData(
        type_name=printable(qualified_name_of(type(error))),
        message=printable(_message(error)),
        arguments=_constructor_arguments(error),
        traceback=_traceback(error),
        is_interrupt=not isinstance(error, Exception),
    )


def rebuild_exception(
    data: ExceptionData, state_type: StateType, state_message: str | None = None, run_id: str | None = None
) -> BaseException:
    """The exception that a reader raises; its cause is the other process's traceback.

    The same class where it is a builtin, one of Baton's or registered by `allow_exceptions`, and takes its arguments;
    else the wrapper for that end of a run. What is no Exception comes as CrashedRun with the state's message, so that a
    worker's interrupt does not end its reader. Of damaged data comes what can be read; it never raises.
    """
    data = _readable(data)
    error = None if data.is_interrupt else _same_exception(data)
    if error is None:
        error = _wrapper(data, state_type, state_message, run_id)
    if data.traceback is not None:
        error.__cause__ = RemoteTraceback(data.traceback)
    return error


def _readable(data: ExceptionData) -> ExceptionData:
    """The data within its types and bounds, whatever was stored in its place."""
    stored: tuple[Any, ...] = (data.type_name, data.message, data.arguments, data.traceback, data.is_interrupt)
    type_name, message, arguments, trace, is_interrupt = stored
    return ExceptionData(
        printable(type_name) if isinstance(type_name, str) and type_name else UNKNOWN_TYPE,
        printable(message) if isinstance(message, str) else "",
        _plain_arguments(tuple(arguments)) if isinstance(arguments, list | tuple) else None,
        printable_end(trace, TRACEBACK_BYTES) if isinstance(trace, str) else None,
        is_interrupt is True,
    )


def _same_exception(data: ExceptionData) -> Exception | None:
    kind = find_exception(data.type_name)
    if kind is None or data.arguments is None:
        return None
    try:
        error = kind(*data.arguments)
    except Exception:  # noqa: BLE001 - the constructor refuses, with whatever it likes
        return None
    return error if isinstance(error, kind) else None


def _wrapper(data: ExceptionData, state_type: StateType, state_message: str | None, run_id: str | None) -> Exception:
    about = {"type_name": data.type_name, "traceback": data.traceback, "run_id": run_id}
    if data.is_interrupt:
        return CrashedRun(state_message or None, **about)
    text = f"{data.type_name.rpartition('.')[2] or data.type_name}: {data.message}"
    match state_type:
        case StateType.CRASHED:
            return CrashedRun(text, **about)
        case StateType.CANCELLED:
            return CancelledRun(text, **about)
    return TaskRunFailed(text, **about)


def failed_run(
    state_type: StateType, text: str | None = None, run_id: str | None = None
) -> FailedRun | CrashedRun | CancelledRun:
    """The wrapper for a run that ended so without an exception of its own."""
    match state_type:
        case StateType.CRASHED:
            return CrashedRun(text, run_id=run_id)
        case StateType.CANCELLED:
            return CancelledRun(text, run_id=run_id)
    return FailedRun(text, run_id=run_id)


def _message(error: BaseException) -> str:
    """The exception's text; of a group also its members, level by level."""
    if not isinstance(error, BaseExceptionGroup):
        return text_of(error)
    members: list[BaseException] = [error]
    texts: list[str] = []
    for member in members:
        if isinstance(member, BaseExceptionGroup):
            members.extend(member.exceptions[:GROUP_MEMBERS_SHOWN])
        else:
            texts.append(f"{type(member).__name__}: {printable(text_of(member), MESSAGE_BYTES // 4)}")
        if len(texts) >= GROUP_MEMBERS_SHOWN:
            break
    return f"{text_of(error)}: {'; '.join(texts)}"


def _constructor_arguments(error: BaseException) -> tuple[Any, ...] | None:
    """What the class was called with, as far as it can be sent. An OSError keeps its file names apart from `args`."""
    arguments: tuple[Any, ...] = vars(BaseException)["args"].__get__(error)  # the class may have an `args` of its own
    if isinstance(error, OSError) and len(arguments) == _ERRNO_AND_TEXT and error.filename is not None:
        second = () if error.filename2 is None else (None, error.filename2)
        arguments = (*arguments, error.filename, *second)
    return _plain_arguments(arguments)


def _plain_arguments(arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The arguments with their texts cut to 4 kB, or None if one cannot be sent or they are too many."""
    if len(arguments) > _MOST_ARGUMENTS or not all(_is_plain(argument) for argument in arguments):
        return None
    cut_ones = tuple(cut(argument) if isinstance(argument, str) else argument for argument in arguments)
    size = sum(len(argument) for argument in cut_ones if isinstance(argument, str | bytes))
    return cut_ones if size <= MESSAGE_BYTES else None


def _is_plain(argument: object) -> bool:
    """True for exactly these types: what is only derived from them would not come back as itself."""
    if type(argument) is int:
        return -_INT_END <= argument < _INT_END
    if type(argument) is str:
        return not _LONE_SURROGATE.search(argument)
    return argument is None or type(argument) in (bool, float, bytes)


def _traceback(error: BaseException) -> str | None:
    try:
        lines = traceback.format_exception(error)
    except Exception:  # noqa: BLE001 - it calls methods of the user's classes
        return None
    return printable_end("".join(lines), TRACEBACK_BYTES)
