"""`baton server` without its pages: housekeeping, and the runs of schedules. One thread; any number may run at once.

# Nobody leads: each move is conditional and made in one step, so that two who find the same thing due do it once.
"""

import logging
import select

from orchestrator.firing import Firing
from shared.clock import monotonic
from shared.connect import connect
from shared.errors import RedisUnavailable
from shared.ledger import RunLedger
from shared.roles import SERVER
from shared.settings import Settings
from worker.housekeeping import PAUSE_AFTER_ERROR, Promoter, Upkeep
from worker.posix_signals import Signals
from worker.systemd import Systemd

log = logging.getLogger("baton.server")
BUDGET = 0.5
"""Seconds for trying a call again: its loop tries again too, and signals wait for it."""


class Service:
    """What a Redis needs done while no fleet is there, and what only a server does."""

    def __init__(self, settings: Settings) -> None:
        exchange = connect(settings, BUDGET)
        self._line = exchange.line()
        self._ledger = RunLedger(self._line, settings)
        self._upkeep = Upkeep(self._ledger, settings)
        self._promoter = Promoter(self._ledger, exchange.line(), settings)
        self._firing = Firing(self._ledger, self._line)
        self._fire_at = monotonic()
        self._systemd = Systemd()

    def run(self) -> int:
        """Work until SIGTERM, SIGINT or SIGHUP; the exit code.

        Raises:
            RedisUnavailable, ConfigError: Redis cannot be used; nothing was done.
        """
        self._ledger.check(SERVER)
        with Signals(0) as signals:
            log.info("server: housekeeping and schedules of Redis at %s", self._ledger.address)
            self._systemd.ready()
            try:
                while not signals.stops:
                    self._pause(signals)
                    self._upkeep.run()
                    self._fire()
                    self._systemd.alive()
            finally:
                self._promoter.close()
                self._line.close()
        log.info("server: stopped")
        return 0

    def _pause(self, signals: Signals) -> None:
        timers = [self._upkeep.due_in(), self._promoter.due_in(), self._systemd.due_in()]
        timers.append(self._fire_at - monotonic())
        promoter = self._promoter.fileno()
        watched = [each for each in (signals.woken.fileno(), promoter) if each is not None]
        ready, _, _ = select.select(watched, [], [], max(0.0, min(timers)))
        if signals.woken.fileno() in ready:
            signals.woken.recv(4096)
        self._promoter.run(readable=promoter in ready)

    def _fire(self) -> None:
        if monotonic() < self._fire_at:
            return
        try:
            self._fire_at = monotonic() + self._firing.run()
        except RedisUnavailable as error:
            log.warning("schedules: %s", error)
            self._fire_at = monotonic() + PAUSE_AFTER_ERROR
