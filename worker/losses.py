"""Ending a block when the lease is lost under which it holds something: as by a time-out, where that can interrupt."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from worker.leases import Lease

SIGNAL = signal.SIGURG
"""Ignored by default, so that one which comes too late ends nothing."""


@contextmanager
def ended_with(lease: Lease, error: Exception) -> Iterator[None]:
    """Raise this in the block when the lease is lost.

    In another thread than the main one nothing can be interrupted: there it is raised when the block ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        if lease.is_lost():
            raise error
        return
    is_armed = True

    outer = signal.getsignal(SIGNAL)

    def strike(number: int, frame: FrameType | None) -> None:
        nonlocal is_armed
        if is_armed and lease.is_lost():
            is_armed = False  # once: what the block does about it is its own
            raise error
        if callable(outer):
            outer(number, frame)  # for a block around this one: nobody strikes for it again

    signal.signal(SIGNAL, strike)
    main = threading.get_ident()
    forget = lease.when_lost(lambda: signal.pthread_kill(main, SIGNAL))
    try:
        yield
    finally:
        is_armed = False
        forget()
        signal.signal(SIGNAL, outer)


class Cancelling:
    """The same for a task of an event loop, which is cancelled: enter it, and ask when it was left."""

    def __init__(self, lease: Lease, error: Exception) -> None:
        self._error = error
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._is_struck = False
        self._is_over = False
        self._forget = lease.when_lost(lambda: self._loop.call_soon_threadsafe(self._strike))

    def _strike(self) -> None:
        if not self._is_over and self._task is not None:
            self._is_struck = True
            self._task.cancel()

    def left(self, raised: BaseException | None) -> None:
        """The block was left with this.

        Raises:
            Exception: the error, if the block was ended because of the loss.
        """
        self._is_over = True
        self._forget()
        is_cancelled = isinstance(raised, asyncio.CancelledError)
        if self._is_struck and self._task is not None and not self._task.uncancel() and is_cancelled:
            raise self._error from raised
