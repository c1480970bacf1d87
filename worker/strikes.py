"""Ending a body that its own process called, from another thread of it. Knows no run.

# The signal is one that does nothing where nobody heeds it: one that comes too late finds no block and harms nobody.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from shared.errors import TerminationSignal

SIGNAL: Final = signal.SIGURG


@contextmanager
def interruptible(is_wanted: Callable[[], bool]) -> Iterator[None]:
    """Let `strike` end the code in this block, if it is to end then.

    In the main thread only, where signals reach; and not on an event loop, which it would end in the middle of another
    task's work.

    Raises:
        TerminationSignal: it is to end, before it began or in its midst.
    """
    if threading.current_thread() is not threading.main_thread() or _a_loop_runs():
        yield
        return
    is_inside = True
    outer = signal.getsignal(SIGNAL)  # known before the handler is: a signal may come at once

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal is_inside
        if is_inside and is_wanted():
            is_inside = False  # once: what the body does about it is its own
            raise TerminationSignal(number)
        if callable(outer):
            outer(number, frame)

    signal.signal(SIGNAL, end)
    try:
        if is_wanted():
            raise TerminationSignal(SIGNAL)
        yield
    finally:
        is_inside = False
        signal.signal(SIGNAL, outer)


def strike() -> None:
    """Have the main thread look whether what it executes is to end. From any thread."""
    number = threading.main_thread().ident
    if number is not None:
        signal.pthread_kill(number, SIGNAL)


def _a_loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
