"""The dead of a fleet: what each died of, and the report that puts its runs back. Kills nobody.

# A report that does not reach Redis is sent again: whoever reaps after the lease does the same, only later and without
# knowing which run was in its body.
"""

import logging
import signal

from shared.clock import monotonic
from shared.errors import RedisUnavailable
from shared.failpoints import is_off
from shared.ledger import RunLedger
from shared.retries import backoff
from shared.settings import Settings
from shared.upkeep import Death
from worker.child import EXIT_BURIED, Child
from worker.housekeeping import PAUSE_AFTER_ERROR
from worker.overruns import end_overrun
from worker.page import Body, in_words

log = logging.getLogger("baton.fleet")
QUICK = 1.0
"""Seconds: a child that died younger than this, and in its first run at the latest, has hardly worked."""
LONGEST_PAUSE = 30.0
LONGEST_PAUSE_AFTER_RUN = 1.0
"""Seconds, where a run was lost: its crashes are numbered, and those behind it in the queue cannot help it."""


class Deaths:
    """Those that are not reported yet. `pause`: seconds to wait before the next birth, since children die at once."""

    def __init__(self, ledger: RunLedger, settings: Settings) -> None:
        self.pause = 0.0
        self._ledger = ledger
        self._settings = settings
        self._unreported: list[Death] = []
        self._overruns: list[Body] = []
        self._quick = 0
        self._report_at = 0.0

    def record(self, child: Child, code: int) -> Death:
        """A child ended with this code (negative: by that signal)."""
        death = self._death_of(child, code)
        if not is_off("deaths"):
            self._unreported.append(death)
        self._overruns += child.overran
        return death

    def due_in(self) -> float:
        """Seconds until `report` has something to do."""
        return max(0.0, self._report_at - monotonic()) if self._unreported else float("inf")

    def report(self, *, at_once: bool = False) -> None:
        """Put back what the dead held, if it is time."""
        if not self._unreported or (monotonic() < self._report_at and not at_once):
            return
        try:
            # An attempt that ignored its time limit has ended by it, and is not lost: recorded before the rest is.
            while self._overruns:
                end_overrun(self._ledger, self._overruns[-1], self._settings)
                self._overruns.pop()
            self._ledger.reap(self._unreported)
            self._unreported = []
        except RedisUnavailable as error:
            log.warning("%s", error)
            self._report_at = monotonic() + PAUSE_AFTER_ERROR

    def _death_of(self, child: Child, code: int) -> Death:
        # Also a run whose body has ended is lost with its child, as long as its outcome is not recorded.
        runs = child.page.started()
        started = " ".join(runs)
        self.pause = 0.0
        if child.why:
            return Death(child.name, child.why, started)
        if child.ended_by_us or (code == 0 and not started):
            return Death(child.name, "", started)
        if code == EXIT_BURIED and not any(child.page.bodies()):
            return Death(child.name, f"the lease of {child.name} ended", started)
        hardly_worked = child.page.rounds()[0] == 0 or (child.age() < QUICK and child.page.runs() <= 1)
        self._quick = self._quick + 1 if hardly_worked else 0
        longest = LONGEST_PAUSE_AFTER_RUN if started else LONGEST_PAUSE
        self.pause = backoff(self._quick, most=longest) if self._quick else 0.0
        why = _cause(code)
        log.error("worker %s (pid %d): %s%s", child.name, child.pid, why, f", in {in_words(runs)}" if runs else "")
        return Death(child.name, why, started)


def _cause(code: int) -> str:
    if code == 0:
        return "exit without a report"
    if code > 0:
        return f"exit status {code}"
    return f"killed by signal {-code}" + (", perhaps out of memory" if -code == signal.SIGKILL else "")
