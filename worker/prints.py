"""What a body prints, as lines of its run's log. What other code of the process prints goes where it went before.

While such a body runs, `sys.stdout` is one that asks who writes: a context variable tells, so that bodies in threads
and on one event loop do not mix.
"""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

from worker.context import RunLog, get_run_logger


class _Lines:
    """What one body has written since its last complete line. `shown`: it goes where it went before as well."""

    def __init__(self, log: RunLog, *, shown: bool) -> None:
        self.shown = shown
        self._log = log
        self._begun = ""
        self._lock = threading.RLock()  # a finalizer or a signal's handler that prints may come while it is held

    def write(self, text: str) -> None:
        with self._lock:
            *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._log.info("%s", line)

    def close(self) -> None:
        with self._lock:
            last, self._begun = self._begun, ""
        if last:
            self._log.info("%s", last)


_lines: ContextVar[_Lines | None] = ContextVar("baton_prints", default=None)


class _Router:
    """Stands for the standard output: what a body writes goes to its log, all else to the stream that was there."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        lines = _lines.get()
        if lines is None:
            return self.stream.write(text)
        lines.write(text)
        if lines.shown:
            self.stream.write(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _Installed:
    """The router, for as long as there are bodies whose prints are logged."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._router: _Router | None = None

    def enter(self) -> None:
        with self._lock:
            self._users += 1
            if sys.stdout is not self._router or self._router is None:
                self._router = _Router(sys.stdout)
                sys.stdout = self._router

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._router is not None and sys.stdout is self._router:
                sys.stdout = self._router.stream


_installed = _Installed()


@contextmanager
def logged_prints() -> Iterator[None]:
    """Log what the code in this block prints, a record of level INFO for each line.

    Where no logger wants records of that level, prints go where they went before, so that nobody misses them.

    Raises:
        MissingContextError: it runs in no run.
    """
    log = get_run_logger()
    if not log.isEnabledFor(logging.INFO):
        yield
        return
    lines = _Lines(log, shown=not log.is_told(logging.INFO))
    _installed.enter()
    token = _lines.set(lines)
    try:
        yield
    finally:
        _lines.reset(token)
        _installed.leave()
        lines.close()
