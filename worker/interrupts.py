"""Ending a body from outside: by a signal that is heeded within that body only, and only if it is the one meant.

# Which attempts are to end stands in the page, by token. The signal says no more than: look there. One that comes too
# late finds another token, or none, and does nothing.
"""

import signal
import threading
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from types import FrameType

from shared.errors import TerminationSignal
from shared.failpoints import failpoint
from worker.page import Page
from worker.timeouts import timeout

SIGNAL = signal.SIGUSR1


class Interrupts:
    """Of one place in a worker: which body runs there, and whether somebody wants its end."""

    def __init__(self, page: Page, place: int = 0) -> None:
        self._page = page
        self._place = place
        self._token = 0
        self._on_strike: Callable[[], object] | None = None

    def install(self) -> None:
        """Heed the signal. In the main thread of a process that is a worker's alone."""
        signal.signal(SIGNAL, self._strike)

    @contextmanager
    def around(self, token: int, seconds: float | None) -> Iterator[None]:
        """Let the body in this block be ended as the one with this token; tell the supervisor its time limit.

        Raises:
            TerminationSignal: it is to end; before it has begun, or in its midst where signals reach.
        """
        self._page.begin_body(token, seconds, self._place)
        failpoint("engine.before_body")
        try:
            if self._page.is_cancelled(token, self._place):
                raise TerminationSignal(SIGNAL)
            # From here to the line below in the `finally` the signal raises. In another thread than the main one it
            # never arrives.
            self._token = token if threading.current_thread() is threading.main_thread() else 0
            if self._token and self._page.is_cancelled(token, self._place):
                self._token = 0
                raise TerminationSignal(SIGNAL)
            yield
        finally:
            self._token = 0
            self._page.end_body(self._place)

    @contextmanager
    def struck_by(self, strike: Callable[[], object]) -> Iterator[None]:
        """Within `around`, where the body shares its thread with others: call this instead of raising there."""
        self._on_strike = strike
        try:
            yield
        finally:
            self._on_strike = None

    def strike(self, cancelled: Container[tuple[str, int]]) -> None:
        """End the body by what `struck_by` was given, if its attempt is among these; see `Page.cancelled`."""
        attempt = self._page.run_in(self._place), self._token
        if self._on_strike is not None and attempt in cancelled:
            self._token = 0  # once, as in `_strike`
            self._on_strike()

    def rest(self) -> None:
        """The outcome of the run that was executed is recorded."""
        self._page.rest(self._place)

    @contextmanager
    def around_hook(self, seconds: float) -> Iterator[None]:
        """Let the code in this block, which is the user's and no body, last so long; tell the supervisor of it.

        Raises:
            TaskRunTimeoutError: it took longer; in its midst where signals reach.
        """
        self._page.begin_hook()
        try:
            with timeout(seconds):
                yield
        finally:
            self._page.end_hook()

    def is_cancelled(self, token: int) -> bool:
        """True if somebody wants the end of this attempt."""
        return self._page.is_cancelled(token, self._place)

    def _strike(self, number: int, _frame: FrameType | None) -> None:
        if self._token and self._page.is_cancelled(self._token, self._place):
            self._token = 0  # once: what the body does about it is its own, until its time is over
            raise TerminationSignal(number)
