"""What every fleet does for all: reap ended leases, queue what is due, end what is late, sweep what is past, reconcile.

Any number may do it at the same time: each move is conditional and done in one step. Nobody is a leader.
"""

import logging
import random

from shared import keys
from shared.clock import monotonic
from shared.commands import AT_ONCE
from shared.errors import ConfigError, RedisUnavailable
from shared.failpoints import failpoint, is_off
from shared.keys import WAKE_DUE
from shared.ledger import RunLedger
from shared.seen import Stray
from shared.settings import Settings
from shared.transport import Line
from shared.upkeep import Promoted
from worker.caution import Caution

log = logging.getLogger("baton.housekeeping")
DUE_AT_ONCE = 100
SWEEP_EVERY = 60.0
AT_A_STRETCH = 0.25
PAUSE_AFTER_ERROR = 1.0


class Upkeep:
    """Reaping, sweeping, and looking for runs that are in no place, each when its time has come.

    `workers`: how many this fleet has. All fleets together patrol as often as one alone, each for its part.
    """

    def __init__(self, ledger: RunLedger, settings: Settings, workers: int = 1) -> None:
        self._ledger = ledger
        self._settings = settings
        self._workers = workers
        self._reap_at = self._sweep_at = monotonic()
        self.patrol = ledger.patrol()
        self._patrol_at = monotonic() + self._settings.reconcile * _spread()
        self._caution = Caution(settings.lease)

    def due_in(self) -> float:
        """Seconds until there is something to do."""
        return max(0.0, min(self._reap_at, self._sweep_at, self._patrol_at) - monotonic())

    def run(self) -> None:
        """Do what is due. An error is logged and tried again soon."""
        try:
            if monotonic() >= self._reap_at:
                self._reap_at = monotonic() + self._reap()
            if monotonic() >= self._sweep_at:
                self._sweep_at = monotonic() + self._sweep()
        except RedisUnavailable as error:
            log.warning("housekeeping: %s", error)
            self._reap_at = self._sweep_at = monotonic() + PAUSE_AFTER_ERROR
        if monotonic() >= self._patrol_at:
            self._patrol_at = monotonic() + self._reconcile()

    def _reap(self) -> float:
        if is_off("reap") or self._has_to_wait():
            return self._settings.reap
        buried = self._ledger.reap()
        for row in buried:
            log.warning(
                "worker %s is over: %d runs queued again, %d ended, %d given back",
                row.worker,
                row.lost,
                row.ended,
                row.uncounted,
            )
        if buried:
            failpoint("reap.batch")
        return 0.0 if buried else self._settings.reap

    def _has_to_wait(self) -> bool:
        asked = monotonic()
        life = self._ledger.server_life()
        if self._caution.is_new(life):
            self._mark()
        for warning in self._caution.hear(life, asked, monotonic()):
            log.warning("Redis at %s: %s", self._ledger.address, warning)
        return monotonic() < self._caution.until and not is_off("guard")

    def _mark(self) -> None:
        """Mark a server that came back empty as Baton's again. What it finds there ends no fleet that runs."""
        try:
            self._ledger.check()
        except ConfigError as error:
            log.error("%s", error)  # noqa: TRY400 - its text says it all

    def _sweep(self) -> float:
        return 0.0 if self._ledger.sweep() >= AT_ONCE else SWEEP_EVERY

    def _reconcile(self) -> float:
        """Adopt or clean what was done behind the ledger's back to runs of the next slice; seconds until the next."""
        if is_off("reconcile"):
            return SWEEP_EVERY
        try:
            suspects, leased = self.patrol.look()
            mended = [row for row in zip(suspects, self._ledger.reconcile(list(suspects)), strict=True) if row[1]]
            parked = [(run_id, keys.queue(suspects[run_id]) + keys.INTERMEDIATE) for run_id, _ in mended]
            # Only now: a run that a worker of RQ's took lies in its queue again before it is nowhere else.
            self._ledger.strike([Stray(run_id, "parked", key, run_id) for run_id, key in parked if suspects[run_id]])
        except RedisUnavailable as error:
            log.warning("reconcile: %s", error)
            return SWEEP_EVERY
        for run_id, words in mended:
            log.warning("run %s was changed by others: %s", run_id, words)
        return 0.0 if mended else self._settings.reconcile * max(1.0, leased / self._workers) * _spread()


def _spread() -> float:
    """Around 1, so that fleets that were started together do not go on together."""
    return random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing


def keep_going(ledger: RunLedger) -> Promoted:
    """Queue what is due, end what is late, go on with what was left over; for a while: its caller has beats to send.

    Answers when there is something to do again, which is at once if much is left.
    """
    began = monotonic()
    while True:
        promoted = ledger.promote(DUE_AT_ONCE)
        if promoted.is_over:
            ledger.expire(DUE_AT_ONCE)
        elif promoted.continuations:
            ledger.go_on()
        elif promoted.moved < DUE_AT_ONCE:
            return promoted
        if monotonic() - began > AT_A_STRETCH:
            return promoted._replace(next_due=0.0)


class Promoter:
    """Queues due runs, ends late ones, goes on with what was too long for one call; in between it waits in Redis.

    `fileno` becomes readable when the wait is over; then, or when `due_in` has passed, call `run`.
    """

    def __init__(self, ledger: RunLedger, line: Line, settings: Settings) -> None:
        self._ledger = ledger
        self._line = line
        self._settings = settings
        self._waiting = False
        self._retry_at = monotonic()
        self._hooked: tuple[str, ...] = ()

    def fileno(self) -> int | None:
        """The socket to watch, or None while there is none."""
        try:
            return self._line.fileno() if self._waiting else None
        except RedisUnavailable:
            return None

    def due_in(self) -> float:
        """Seconds until `run` must be called even though the socket is silent."""
        return max(0.0, self._retry_at - monotonic())

    def run(self, *, readable: bool) -> None:
        """Queue what is due if the wait is over, and wait anew. An error is logged and tried again soon."""
        if not readable and self.due_in() > 0:
            return
        try:
            if self._waiting and readable:
                self._line.hear(0)
            elif self._waiting:
                self._line.close()
            self._waiting = False
            self._promote()
        except RedisUnavailable as error:
            log.warning("promote: %s", error)
            self._line.close()
            self._waiting = False
            self._retry_at = monotonic() + PAUSE_AFTER_ERROR

    def _promote(self) -> None:
        promoted = keep_going(self._ledger)
        self._hooked = promoted.hooked
        wait = self._settings.promote
        if promoted.next_due is not None:
            # Never 0, which would mean for ever.
            wait = min(wait, max(promoted.next_due, 0.001))
        self._line.send("BLPOP", WAKE_DUE, wait)
        self._waiting = True
        self._retry_at = monotonic() + wait + self._settings.socket_timeout

    def take_hooked(self) -> tuple[str, ...]:
        """The queues on which hooks were due at the last look; once for each look."""
        hooked, self._hooked = self._hooked, ()
        return hooked

    def close(self) -> None:
        """Leave the wait."""
        self._line.close()
