"""What every fleet does for all: reap ended leases, queue what is due, end what is late, sweep what is past its time.

Any number may do it at the same time: each move is conditional and done in one step. Nobody is a leader.
"""

import logging

from shared.clock import monotonic
from shared.commands import AT_ONCE
from shared.errors import RedisUnavailable
from shared.failpoints import failpoint, is_off
from shared.keys import WAKE_DUE
from shared.ledger import RunLedger
from shared.settings import Settings
from shared.transport import Line
from shared.upkeep import Promoted

log = logging.getLogger("baton.housekeeping")
DUE_AT_ONCE = 100
SWEEP_EVERY = 60.0
AT_A_STRETCH = 0.25
PAUSE_AFTER_ERROR = 1.0


class Upkeep:
    """Reaping and sweeping, each when its time has come."""

    def __init__(self, ledger: RunLedger, settings: Settings) -> None:
        self._ledger = ledger
        self._settings = settings
        self._reap_at = self._sweep_at = monotonic()
        self._life = ""
        self._quiet_until = 0.0

    def due_in(self) -> float:
        """Seconds until there is something to do."""
        return max(0.0, min(self._reap_at, self._sweep_at) - monotonic())

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

    def _reap(self) -> float:
        if is_off("reap") or self._server_is_young():
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

    def _server_is_young(self) -> bool:
        """True for a lease after a start of Redis: nobody could renew one meanwhile, so let the living beat first."""
        life = self._ledger.server_life()
        if life is None:
            return False
        run_id, age = life
        if run_id != self._life:
            # Of a new life not its age: loading its data may have taken longer than a lease.
            left = self._settings.lease if self._life else self._settings.lease - age
            self._life, self._quiet_until = run_id, monotonic() + left
        return monotonic() < self._quiet_until

    def _sweep(self) -> float:
        return 0.0 if self._ledger.sweep() >= AT_ONCE else SWEEP_EVERY


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
