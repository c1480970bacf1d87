"""Locks by key, each a limit of one slot that is there only while somebody holds it or waits for it."""

import hashlib
import threading
from typing import Final

from shared.clock import monotonic
from shared.errors import AcquireConcurrencySlotTimeoutError
from shared.slots import LOCK
from worker.slots import Hold, Holds

LONGEST: Final = 200
"""Characters of a key that are seen in the name of its lock; a longer one is named by its digest."""


class LimitLocks:
    """The lock manager of one Redis. A lock is held under the lease of this process, or of the worker it is in.

    So it is free when that is over, and nobody but the process that took it can free it. `holder` is a name for who
    holds it, None for this process. Times are seconds, None has no limit. All may raise RedisUnavailable.
    """

    def __init__(self, holds: Holds) -> None:
        self._holds = holds
        self._mine: dict[tuple[str, str | None], Hold] = {}
        self._guard = threading.Lock()

    def __eq__(self, other: object) -> bool:
        """True for any of the same Redis: there a lock is one and the same, whoever asks for it."""
        return isinstance(other, LimitLocks) and self._address == other._address

    def __hash__(self) -> int:
        return hash(self._address)

    @property
    def _address(self) -> str:
        return self._holds.exchange.address

    def acquire_lock(self, key: str, holder: str | None = None, timeout: float | None = None) -> bool:
        """Take the lock, waiting for it so long; whether it was taken, or was held by this holder before."""
        if self.is_lock_holder(key, holder):
            return True
        hold = Hold(self._holds, [lock_name(key)], lock=True)
        try:
            hold.take(timeout)
        except AcquireConcurrencySlotTimeoutError:
            return False
        with self._guard:
            self._mine[key, holder] = hold
        return True

    def release_lock(self, key: str, holder: str | None = None) -> None:
        """Free the lock if this holder has it."""
        with self._guard:
            hold = self._mine.pop((key, holder), None)
        if hold is not None:
            hold.free()

    def is_locked(self, key: str) -> bool:
        """True if anybody holds it."""
        return self._holds.slots.is_held(lock_name(key))

    def is_lock_holder(self, key: str, holder: str | None = None) -> bool:
        """True if this holder took it in this process, and it was not lost since."""
        with self._guard:
            hold = self._mine.get((key, holder))
        return hold is not None and not hold.is_lost()

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until nobody holds it, behind those that wait for it already; False if the time is over before."""
        until = None if timeout is None else monotonic() + timeout
        if not self.is_locked(key):
            return True
        hold = Hold(self._holds, [lock_name(key)], lock=True)
        try:
            hold.take(None if until is None else max(0.0, until - monotonic()))
        except AcquireConcurrencySlotTimeoutError:
            return False
        hold.free()
        return True


def lock_name(key: str) -> str:
    """The name of the limit that is the lock of this key."""
    if 0 < len(key) <= LONGEST and key.isprintable() and not any(map(str.isspace, key)):
        return f"{LOCK}{key}"
    return f"{LOCK}sha256.{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"
