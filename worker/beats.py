"""A fleet's beat: one call renews the leases of all its children and tells what they do.

# Order after an outage: the own leases first, then housekeeping, which buries whoever has not renewed in time.
"""

import logging
import socket
import sys
from collections.abc import Collection, Mapping, Sequence

from shared.clock import iso, monotonic, now
from shared.errors import RedisUnavailable
from shared.ledger import RunLedger
from shared.settings import Settings
from shared.specs import registry
from shared.transport import Argument
from shared.upkeep import Beaten, Pulse
from shared.version import __version__
from worker.child import Child
from worker.housekeeping import PAUSE_AFTER_ERROR
from worker.left_hooks import hooked_tasks
from worker.page import Page

log = logging.getLogger("baton.fleet")


class Beats:
    """When the next is due, and whether the last one was answered. `good_at`: when the last answered one was sent."""

    def __init__(self, ledger: RunLedger, queues: Sequence[str], fields: Mapping[str, str], settings: Settings) -> None:
        self.cut_off = False
        self.good_at = float("-inf")
        self._ledger = ledger
        self._queues = queues
        self._settings = settings
        self._fields: dict[str, Argument] = {
            "queues": ",".join(queues),
            "hostname": socket.gethostname(),
            "version": __version__,
            "python_version": sys.version,
            **fields,
        }
        self._at = 0.0

    def due_in(self) -> float:
        """Seconds until the next."""
        return max(0.0, self._at - monotonic())

    def hasten(self) -> None:
        """Beat as soon as possible: something has changed, or the answer will tell something."""
        self._at = 0.0

    def first(self, births: Sequence[tuple[str, Page]]) -> None:
        """Give these their first lease.

        Raises:
            RedisUnavailable: no answer; none may be started.
        """
        self._ledger.announce(hooked_tasks(registry.specs()))
        sent = monotonic()
        pulses = []
        for name, page in births:
            fields = {**self._fields, **_own(page), "birth": iso(now()), "state": "idle"}
            pulses.append(Pulse(name, self._queues, fields, is_new=True))
        self._ledger.beat(pulses)
        for _, page in births:
            page.beaten(sent)
        self._at = 0.0  # once more at once: now the registrations can name their processes

    def beat(self, children: Collection[Child], *, is_quiet: bool) -> Beaten | None:
        """Renew the leases of these; None if it was not answered."""
        sent = monotonic()
        try:
            answer = self._ledger.beat([self._pulse(child, is_quiet=is_quiet) for child in children])
            if self.cut_off:
                self._ledger.announce(hooked_tasks(registry.specs()))  # it may be another server by now
        except RedisUnavailable as error:
            log.warning("beat: %s", error)
            self.cut_off = True
            self._at = monotonic() + PAUSE_AFTER_ERROR
            return None
        self.cut_off = False
        self.good_at = sent
        self._at = sent + self._settings.beat
        for child in children:
            if child.name not in answer.buried:
                child.page.beaten(sent)
        return answer

    def _pulse(self, child: Child, *, is_quiet: bool) -> Pulse:
        since = min((body.since for body in child.page.bodies()), default=None)
        fields: dict[str, Argument] = {
            **self._fields,
            **_own(child.page),
            "pid": child.pid,
            "parked": int(child.page.is_parked()),
            "quiet": int(is_quiet),
            "current_job_working_time": f"{monotonic() - since if since is not None else 0:.3f}",
        }
        return Pulse(child.name, self._queues, fields)


def _own(page: Page) -> Mapping[str, Argument]:
    """An extra has no slots of its own: it works in one that is lent."""
    return {"slots": 0} if page.is_extra() else {}
