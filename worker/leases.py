"""A lease of a process that is no fleet's worker: for slots that it holds, and for runs that it executes itself.

# It begins with its first use and ends with the process, or with `end`. A thread renews it. What is held under it is
# freed by whoever reaps, when it has not been renewed in time: so what this process holds is never held for ever.
# Known to be lost is a lease that was buried, or that could not be renewed for its length: then somebody may have taken
# what it held. The next use begins another one, under another name.
# The child of a fork has no part in its parent's leases.
"""

import atexit
import logging
import os
import secrets
import socket
import threading
import weakref
from collections.abc import Callable, Sequence

from shared.clock import iso, monotonic, now
from shared.errors import BatonError, RedisUnavailable
from shared.keys import INLINE
from shared.ledger import RunLedger
from shared.retries import backoff
from shared.settings import Settings
from shared.transport import Argument
from shared.upkeep import Death, Ended, Pulse
from shared.version import __version__

log = logging.getLogger("baton.leases")
KIND = INLINE.removesuffix("-")
"""What names of such leases begin with."""
ENDED = "its process ended"


class Lease:
    """One lease, under one name, of one process."""

    def __init__(self, length: float) -> None:
        self.name = f"{KIND}-{socket.gethostname()[:30]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._length = length
        self._pid = os.getpid()
        self._good_at = monotonic()
        self._over = threading.Event()
        self._told: list[Callable[[], object]] = []
        self._lock = threading.Lock()

    @property
    def is_told(self) -> bool:
        """True if everybody who asked for it was told that it is over."""
        return self._over.is_set()

    def is_lost(self) -> bool:
        """True if what it held may be held by others."""
        return self._over.is_set() or self._pid != os.getpid() or monotonic() - self._good_at > self._length

    def when_lost(self, tell: Callable[[], object]) -> Callable[[], object]:
        """Have this called once when the lease is over, in the thread that renews. The answer takes that back."""
        with self._lock:
            if not self._over.is_set():
                self._told.append(tell)
                return lambda: self._forget(tell)
        tell()
        return lambda: None

    def renewed(self, sent: float) -> None:
        """A beat that was sent then has been answered."""
        self._good_at = sent

    def lose(self) -> None:
        """It is over; everybody who asked for it is told."""
        with self._lock:
            self._over.set()
            told, self._told = self._told, []
        for tell in told:
            try:
                tell()
            except Exception:
                log.exception("lease %s is over: somebody who holds something under it could not be told", self.name)

    def _forget(self, tell: Callable[[], object]) -> None:
        with self._lock:
            self._told = [one for one in self._told if one is not tell]


class Leases:
    """The lease of this process with one Redis: the same one for everybody, until it is lost."""

    def __init__(self, ledger: RunLedger, settings: Settings) -> None:
        self._ledger = ledger
        self._settings = settings
        self._hearers: list[Callable[[Ended], object]] = []
        self._calls: list[Callable[[Lease], object]] = []
        self.begin_anew()
        _all.add(self)

    def begin_anew(self) -> None:
        """Forget everything, in the child of a fork: its parent's lease is not its own, and no thread came along."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._lease: Lease | None = None

    def current(self) -> Lease:
        """The lease, which begins now if there is none, or none that counts.

        Raises:
            RedisUnavailable: no answer; there is no lease.
        """
        with self._lock:
            lease = self._lease
            if lease is None or lease.is_lost():
                lease = Lease(self._settings.lease)
                sent = monotonic()
                self._ledger.beat([self._pulse(lease, is_new=True)])
                lease.renewed(sent)
                self._lease, self._wake = lease, threading.Event()
                target, name = self._keep, f"baton-{lease.name}"
                threading.Thread(target=target, args=(lease, self._wake), name=name, daemon=True).start()
            return lease

    def hear(self, hearer: Callable[[Ended], object]) -> None:
        """Have this called, in the thread that renews, for each run under the lease that is to end; at every beat."""
        self._hearers.append(hearer)

    def hasten(self) -> None:
        """Renew now: the answer tells which runs are to end."""
        self._wake.set()

    def with_each_beat(self, call: Callable[[Lease], object]) -> None:
        """Have this called after each beat that was answered, in the thread that renews.

        What it could not do, it may do with a later beat.
        """
        self._calls.append(call)

    def end(self) -> None:
        """Give the lease up, and with it all that is held under it. The next use begins another one."""
        with self._lock:
            lease, self._lease = self._lease, None
        if lease is None:
            return
        lease.lose()
        self._wake.set()
        try:
            self._ledger.reap([Death(lease.name, ENDED)])
        except BatonError as error:
            log.warning("lease %s was not given up, and will run out: %s", lease.name, error)

    # --- in the thread that renews ------------------------------------------------------------------------------------

    def _keep(self, lease: Lease, wake: threading.Event) -> None:
        tries, pause = 0, self._settings.beat
        while not lease.is_lost():
            wake.wait(pause)
            wake.clear()
            try:
                if not lease.is_lost():
                    self._beat(lease)
                    tries, pause = 0, self._settings.beat
            except RedisUnavailable as error:
                log.warning("lease %s: %s", lease.name, error)
                tries, pause = tries + 1, min(backoff(tries), self._settings.beat)
        if not lease.is_told:
            log.warning("lease %s is lost: what was held under it may be held by others", lease.name)
            lease.lose()

    def _beat(self, lease: Lease) -> None:
        sent = monotonic()
        answer = self._ledger.beat([self._pulse(lease)])
        if lease.name in answer.buried:
            log.warning("lease %s was taken away: what was held under it may be held by others", lease.name)
            lease.lose()
            return
        lease.renewed(sent)
        self._tell(answer.to_cancel)
        for call in list(self._calls):
            try:
                call(lease)
            except Exception:
                # Whatever it is: without this thread the lease would be lost.
                log.exception("lease %s: what is to be done with each beat was not done", lease.name)

    def _tell(self, to_end: Sequence[Ended]) -> None:
        for ended in to_end:
            for hearer in list(self._hearers):
                try:
                    hearer(ended)
                except Exception:
                    log.exception("run %s: its process could not be told that it is to end", ended.run_id)

    def _pulse(self, lease: Lease, *, is_new: bool = False) -> Pulse:
        fields: dict[str, Argument] = {"hostname": socket.gethostname(), "pid": os.getpid(), "version": __version__}
        fields["fleet"] = lease.name  # by its channel a cancel is told at once
        if is_new:
            fields |= {"birth": iso(now()), "state": "busy", "kind": KIND}
        return Pulse(lease.name, (), fields, is_new=is_new)


_all: weakref.WeakSet[Leases] = weakref.WeakSet()


def _begin_anew() -> None:
    for leases in _all:
        leases.begin_anew()


def _end_all() -> None:
    for leases in list(_all):
        leases.end()


os.register_at_fork(after_in_child=_begin_anew)
atexit.register(_end_all)
