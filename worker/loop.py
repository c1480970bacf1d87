"""The loop of a worker: report and begin, execute, wait for a token. Knows no process, no signal and no RQ.

A run's way here: `Hand.refill` brings it, `execute` (attempt.py) drives it through the engine, `Hand.done` takes its
outcome, and the next `refill` reports that.
"""

import logging
import random
import sys
import time
from collections.abc import Callable, Sequence

from shared.errors import RedisUnavailable
from shared.failpoints import failpoint
from shared.keys import wake, wake_awaited
from shared.settings import Settings
from shared.transport import Line
from worker.attempt import execute
from worker.flusher import Flusher
from worker.hand import BUSY, Buried, Hand
from worker.interrupts import Interrupts
from worker.left_hooks import LeftHooks
from worker.lending import Lender
from worker.page import Page
from worker.process_hooks import run_start_hooks, run_stop_hooks

log = logging.getLogger("baton.worker")
STOPPED = "Not started: the worker stops."
QUIET = "Not started: the worker is quiet."


class Woken(BaseException):
    """Raised in the waiting thread to end its wait, by whoever sees `WorkLoop.idle` and takes it back; see `wake`."""


class WorkLoop:
    """Works until `stop`, or until nothing is left to do with `burst`. `rest` waits while nothing may be begun."""

    def __init__(self, hand: Hand, line: Line, page: Page, queues: Sequence[str], settings: Settings) -> None:
        self.stopping = False
        self.idle = False
        self.in_hooks = False
        self.rest: Callable[[float], object] = time.sleep
        self._hand = hand
        self._line = line
        self._page = page
        list_of = wake_awaited if page.is_extra() else wake
        self._wake_lists = [list_of(queue) for queue in queues]
        self._settings = settings
        self._flusher = Flusher(hand)
        self._left = page.most_runs() or sys.maxsize
        self._is_extra = page.is_extra()
        self.interrupts = Interrupts(page)
        self._left_hooks = LeftHooks(hand, page, self.interrupts, settings)
        self.lender = Lender(page)

    def install(self) -> None:
        """Heed the signal that a body has to end. In the main thread of a process that is a worker's alone."""
        self.interrupts.install()

    def wake(self) -> None:
        """End the wait of this thread, if it waits. In a signal handler."""
        if self.idle:
            self.idle = False  # taken back here, so that it is raised once, and never outside of the wait
            raise Woken

    def start(self) -> bool:
        """Call the start hooks; False if it was told to stop before they were through.

        Raises:
            Exception: whatever a hook raised.
        """
        try:
            self._call_start_hooks()
        except Woken:
            return False
        return not self.stopping

    def _call_start_hooks(self) -> None:
        self._page.in_start_hooks(on=True)
        self.in_hooks = self.idle = True
        try:
            # Asked only now, as in `_wait`.
            if not self.stopping:
                run_start_hooks()
        finally:
            self.in_hooks = self.idle = False
        self._page.in_start_hooks(on=False)

    def run(self, *, burst: bool = False) -> None:
        """Work, and call the stop hooks in the end. After `start`.

        Raises:
            Buried: the lease is over; what was held runs elsewhere.
        """
        self._flusher.start()
        try:
            while self._round(burst=burst):
                pass
        except Buried:
            self._hand.last_words()
            raise
        finally:
            self._flusher.close()
            self._hand.notes.close()
            self.lender.end()
            run_stop_hooks()

    def _round(self, *, burst: bool) -> bool:
        """Report, begin, execute, or wait; False when the loop is to end."""
        most, why = self._may_begin()
        if most and self._left_hooks.are_due():
            self._hand.refill(0)  # nothing that is finished or was begun waits for a hook
            self._page.rest()
            self._left_hooks.call_next()
            most, why = self._may_begin()
        answer = self._hand.refill(most, why)
        self._page.rest()
        if answer.claims:
            if len(answer.claims) > 1:
                self._flusher.arm()  # alone, a run keeps nothing waiting: neither reports nor others begun with it
            self._work_off()
        elif self.stopping or (burst and most and answer.tag == "OK"):
            return not self.stopping and self._left_hooks.call_next()
        elif answer.tag == "OK":
            try:
                self._wait(is_quiet=not most)
            except Woken:
                log.debug("woken")
        return True

    def _may_begin(self) -> tuple[int, str]:
        """How many runs may be begun now, and why those that were begun and not started go back."""
        if self.stopping:
            return 0, STOPPED
        return (0, QUIET) if self._page.is_quiet() else (self._left, BUSY)

    def _work_off(self) -> None:
        self.lender.open()
        try:
            self._execute_all()
        finally:
            self.lender.close()

    def _execute_all(self) -> None:
        while not self._is_over() and (claim := self._hand.take()) is not None:
            report = execute(claim, self._hand, self._page, self.interrupts, self._settings)
            if report is not None:
                self._hand.done(report)
            self._left -= 1
            self.stopping = self.stopping or not self._left

    def _is_over(self) -> bool:
        # An extra is quiet whenever the body goes on that it works for, many times a second: it ends its batch, which
        # takes milliseconds, where every run in it would come and go.
        return self.stopping or (self._page.is_quiet() and not self._is_extra)

    def _wait(self, *, is_quiet: bool) -> None:
        seconds = self._settings.idle_wait * random.uniform(0.8, 1.0)  # noqa: S311 - spreads load, guards nothing
        self.idle = True
        try:
            # Asked again only now: a signal before the line above was not told by an exception, one after it is.
            if self.stopping or self._page.is_quiet() != is_quiet or self._left_hooks.are_due():
                return
            if is_quiet:
                self.rest(seconds)  # not at the lists: a token that wakes one who begins nothing is lost
            elif self._line.pop(self._wake_lists, seconds):
                failpoint("wake.taken")
        except RedisUnavailable as error:
            log.warning("%s", error)
        finally:
            self.idle = False
