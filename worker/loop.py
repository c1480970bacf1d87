"""The loop of a worker: report and begin, execute, wait for a token. Knows no process, no signal and no RQ.

A run's way here: `Hand.refill` brings it, `execute` (attempt.py) drives it through the engine, `Hand.done` takes its
outcome, and the next `refill` reports that.
"""

import logging
import random
from collections.abc import Sequence

from shared.errors import RedisUnavailable
from shared.keys import wake
from shared.settings import Settings
from shared.transport import Line
from worker.attempt import execute
from worker.flusher import Flusher
from worker.hand import Hand
from worker.page import Page

log = logging.getLogger("baton.worker")


class Woken(BaseException):
    """Raised in the waiting thread to end its wait, by whoever sees `WorkLoop.idle` and takes it back."""


class WorkLoop:
    """Works until `stop`, or until nothing is left to do with `burst`."""

    def __init__(self, hand: Hand, line: Line, page: Page, queues: Sequence[str], settings: Settings) -> None:
        self.stopping = False
        self.idle = False
        self._hand = hand
        self._line = line
        self._page = page
        self._wake_lists = [wake(queue) for queue in queues]
        self._settings = settings
        self._flusher = Flusher(hand)

    def run(self, *, burst: bool = False) -> None:
        """Work.

        Raises:
            Buried: the lease is over; what was held runs elsewhere.
        """
        self._flusher.start()
        try:
            while self._round(burst=burst):
                pass
        finally:
            self._flusher.close()

    def _round(self, *, burst: bool) -> bool:
        """Report, begin, execute, or wait; False when the loop is to end."""
        answer = self._hand.refill(begin=not self.stopping)
        if answer.claims:
            if len(answer.claims) > 1:
                self._flusher.arm()  # alone, a run keeps nothing waiting: neither reports nor others begun with it
            self._work_off()
        elif self.stopping or (burst and answer.tag == "OK"):
            return False
        elif answer.tag == "OK":
            try:
                self._wait()
            except Woken:
                log.debug("woken to stop")
        return True

    def _work_off(self) -> None:
        while not self.stopping and (claim := self._hand.take()) is not None:
            report = execute(claim, self._hand, self._page, self._settings)
            if report is not None:
                self._hand.done(report)

    def _wait(self) -> None:
        seconds = self._settings.idle_wait * random.uniform(0.8, 1.0)  # noqa: S311 - spreads load, guards nothing
        self.idle = True
        try:
            # Asked again only now: a stop before the line above was not told by an exception, one after it is.
            if not self.stopping:
                self._line.pop(self._wake_lists, seconds)
        except RedisUnavailable as error:
            log.warning("%s", error)
        finally:
            self.idle = False
