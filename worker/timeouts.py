"""Time limits of bodies. In the main thread a timer's signal interrupts even blocking calls."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from shared.clock import monotonic
from shared.errors import InvalidValue, TaskRunTimeoutError


@contextmanager
def timeout(seconds: float | None, kind: type[TimeoutError] = TaskRunTimeoutError) -> Iterator[TimeoutError | None]:
    """Raise in the body of this block when it has lasted so many seconds; None has no limit.

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
        error = kind(f"Scope timed out after {seconds:g} second(s).")
        with _alarm(seconds, error):
            yield error
        return
    error = kind(f"Scope timed out after {seconds:g} second(s). It ran to its end: a thread cannot be interrupted.")
    began = monotonic()
    yield error
    if monotonic() - began > seconds:
        raise error


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
