"""Time limits in threads that no signal reaches: one thread watches them all, and raises in those that are late.

# The interpreter raises such an exception between two steps of Python code. A call that blocks outside of Python ends
# first; the log says when one does not.
# Whoever leaves a block says so first, and then looks whether the watcher strikes. The watcher says that it strikes,
# and then looks whether the block was left. So one of the two sees the other, and nothing strikes outside.
# A limit strikes once, and makes those within it void. So code that is struck while it leaves need not be asked again.
# No lock is taken in a thread that may be struck: it could be struck while it holds it.
"""

import ctypes
import logging
import os
import threading
import time
from heapq import heapify, heappop, heappush
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, Final

from shared.clock import monotonic

log = logging.getLogger("baton.worker")
PATIENCE: Final = 1.0
"""Seconds that a thread has from the end of its time until the log says that it cannot be interrupted."""
FEW: Final = 64
LONGEST: Final = 3600.0
_numbers = count()
_raise_in: Final = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in.argtypes = (ctypes.c_ulong, ctypes.py_object)
_raise_in.restype = ctypes.c_int


class ThreadLimit:
    """The limit of one block in the thread that makes it."""

    def __init__(self, seconds: float, error: TimeoutError) -> None:
        self.error = error
        self.seconds = seconds
        self.thread = threading.current_thread()
        self.number = next(_numbers)
        self.ends_at = self.due = monotonic() + seconds
        self.is_left = False
        self._strikes = self._has_struck = self._was_raised = False

    def __lt__(self, other: "ThreadLimit") -> bool:
        return self.due < other.due

    def enter(self) -> None:
        """Have the error raised in this thread when the time is over."""
        try:
            _watcher.watch(self)
        except BaseException:  # one around it struck
            self.is_left = True
            raise

    def leave(self) -> None:
        """Raise nothing in this thread any more on account of this limit."""
        try:
            self._leave()
        except BaseException:
            self._leave()
            raise

    def is_late(self) -> bool:
        """True if the time is over and nothing was raised: the block was in a call that cannot be interrupted."""
        return not self._was_raised and monotonic() > self.ends_at

    def strike(self) -> None:
        """Raise in the thread, unless the block was left. The second time: say that it does not end. By the watcher."""
        if self._has_struck:
            self._complain()
            return
        self._strikes = True
        if not self.is_left:
            _raise_in(self.thread.ident or 0, self._raised())
            self._has_struck = True
        self._strikes = False

    def _leave(self) -> None:
        self.is_left = True
        while self._strikes:
            time.sleep(0)
        if self._has_struck and not self._was_raised:
            self._was_raised = True
            _raise_in(threading.get_ident(), ctypes.py_object())
            raise self.error

    def _complain(self) -> None:
        if not (self.is_left or self._was_raised):
            text = "Thread '%s' is in a call that cannot be interrupted: its time limit of %g s is over."
            log.warning(text, self.thread.name, self.seconds)
        self.is_left = True

    def _raised(self) -> type[BaseException]:
        """What is given to the interpreter: a class, of which it makes an instance where it raises."""
        limit = self

        class Announced(TimeoutError):
            def __new__(cls) -> Any:
                limit._was_raised = True
                return limit.error

        return Announced


class _Watcher:
    """The thread that looks for limits whose time is over. It begins with the first one."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._new: SimpleQueue[ThreadLimit] = SimpleQueue()
        self._limits: list[ThreadLimit] = []
        self._most = FEW
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def watch(self, limit: ThreadLimit) -> None:
        """Strike when its time is over."""
        if self._thread is None:
            self._start()
        self._new.put(limit)

    def forked(self) -> None:
        """Begin anew: a process that was forked has the thread that forked it, and no other."""
        self._reset()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="baton-limits", daemon=True)
                thread.start()
                self._thread = thread

    def _work(self) -> None:
        limits = self._limits
        while True:
            left = min(limits[0].due - monotonic(), LONGEST) if limits else LONGEST
            if left > 0:
                self._take(left)
                continue
            limit = heappop(limits)
            if not limit.is_left:
                self._strike(limit)
            if not limit.is_left:
                limit.due = monotonic() + PATIENCE
                heappush(limits, limit)

    def _strike(self, limit: ThreadLimit) -> None:
        while not self._new.empty():
            self._take(0)
        if limit.is_left:
            return
        for other in self._limits:  # begun while this one had not been left: within it
            if other.thread is limit.thread and other.number > limit.number:
                other.is_left = True
        limit.strike()

    def _take(self, seconds: float) -> None:
        try:
            heappush(self._limits, self._new.get(timeout=seconds))
        except Empty:
            return
        if len(self._limits) > self._most:
            self._limits[:] = [limit for limit in self._limits if not limit.is_left]
            heapify(self._limits)
            self._most = max(FEW, 2 * len(self._limits))


_watcher = _Watcher()
os.register_at_fork(after_in_child=_watcher.forked)
