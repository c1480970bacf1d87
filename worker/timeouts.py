"""Time limits of bodies. In the main thread a signal interrupts even blocking calls, elsewhere Python code only."""

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from shared.clock import monotonic
from shared.errors import InvalidValue, TaskRunTimeoutError
from worker.thread_limits import ThreadLimit

T = TypeVar("T")


@contextmanager
def timeout(
    seconds: float | None, kind: type[TimeoutError] = TaskRunTimeoutError, told: float | None = None
) -> Iterator[TimeoutError | None]:
    """Raise in the body of this block when it has lasted so many seconds; None has no limit.

    `told` are the seconds that the error names, where this block is not all that they are for.

    Gives the exception that it would raise, so that the caller can tell it from another one of the same class.

    In another thread than the main one a call that blocks outside of Python is not interrupted: there it raises when
    that call has ended, and the log says that it lasts.

    Raises:
        InvalidValue: `kind` is no TimeoutError.
    """
    if not (isinstance(kind, type) and issubclass(kind, TimeoutError)):
        raise InvalidValue(f"a time limit needs a TimeoutError to raise, got {kind!r}")
    if seconds is None:
        yield None
        return
    error = kind(text_of_limit(seconds if told is None else told))
    with _alarm(seconds, error) if threading.current_thread() is threading.main_thread() else _watched(seconds, error):
        yield error


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
    left, _ = signal.getitimer(signal.ITIMER_REAL)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)  # a short one strikes in this line
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


@contextmanager
def _watched(seconds: float, error: TimeoutError) -> Iterator[None]:
    limit = ThreadLimit(seconds, error)
    limit.enter()
    try:
        yield
    finally:
        limit.leave()
    if limit.is_late():
        raise error
