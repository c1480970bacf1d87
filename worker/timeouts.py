"""Time limits of bodies. In the main thread a timer's signal interrupts even blocking calls."""

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from shared.clock import monotonic
from shared.errors import InvalidValue, TaskRunTimeoutError

T = TypeVar("T")


@contextmanager
def timeout(
    seconds: float | None, kind: type[TimeoutError] = TaskRunTimeoutError, told: float | None = None
) -> Iterator[TimeoutError | None]:
    """Raise in the body of this block when it has lasted so many seconds; None has no limit.

    `told` are the seconds that the error names, where this block is not all that they are for.

    Gives the exception that it would raise, so that the caller can tell it from another one of the same class.

    In another thread than the main one nothing can be interrupted: there it raises when the block ends too late.

    Raises:
        InvalidValue: `kind` is no TimeoutError.
    """
    if not (isinstance(kind, type) and issubclass(kind, TimeoutError)):
        raise InvalidValue(f"a time limit needs a TimeoutError to raise, got {kind!r}")
    if seconds is None:
        yield None
        return
    if threading.current_thread() is threading.main_thread():
        error = kind(text_of_limit(seconds if told is None else told))
        with _alarm(seconds, error):
            yield error
        return
    limit = text_of_limit(seconds if told is None else told)
    error = kind(f"{limit} It ran to its end: a thread cannot be interrupted.")
    began = monotonic()
    yield error
    if monotonic() - began > seconds:
        raise error


def text_of_limit(seconds: float) -> str:
    """What an error says of the limit that it is for."""
    return f"Scope timed out after {seconds:g} second(s)."


class Late(Exception):
    """The limit of `within` ended the work: told apart from a TimeoutError that the work raised."""


async def within(seconds: float | None, work: Awaitable[T]) -> T:
    """What this gives, if it does so in so many seconds; None has no limit. It is cancelled when they are over.

    Raises:
        Late: they were over.
    """
    try:
        async with asyncio.timeout(seconds) as scope:
            return await work
    except TimeoutError as error:
        # One of the work's own has not the cancelling as its cause.
        if scope.expired() and isinstance(error.__cause__, asyncio.CancelledError):
            raise Late from error
        raise


@contextmanager
def _alarm(seconds: float, error: TimeoutError) -> Iterator[None]:
    def strike(_number: int, _frame: FrameType | None) -> None:
        raise error

    outer: Callable[..., Any] | int | None = signal.signal(signal.SIGALRM, strike)
    began = monotonic()
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        try:
            # The alarm may strike here too: it is then raised from here, late by microseconds but not lost.
            signal.setitimer(signal.ITIMER_REAL, 0)
        finally:
            signal.signal(signal.SIGALRM, outer)
            if left:
                # The outer limit's time went on meanwhile; 0 would turn it off.
                signal.setitimer(signal.ITIMER_REAL, max(left - (monotonic() - began), 0.000_001))
