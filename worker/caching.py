"""Where a process keeps the cached results of the runs that it executes, with which locks, and what settings say of it.

Decides nothing about a run: `engine/transacting.py` does.
"""

import threading
from collections.abc import Callable
from typing import Final

from shared.cache import CachePolicy
from shared.result_storage import MemoryStorage, Storage
from shared.results import LockManager, ResultStore
from shared.settings import Settings


class Caching:
    """The cache of a process. For any number of threads. Making one costs nothing, and no I/O.

    `in_script`: what is kept in `storage` can be kept by the script that records the end of its run.
    """

    def __init__(
        self, storage: Storage, settings: Settings, locks: Callable[[], LockManager] | None, *, in_script: bool
    ) -> None:
        self.storage = storage
        self.is_off = settings.disable_caching
        self.refreshes = settings.refresh_cache
        self.in_script = in_script
        self._settings = settings
        self._make_locks = locks
        self._locks: LockManager | None = None
        self._stores: dict[tuple[int, int], ResultStore] = {}
        self._guard = threading.Lock()

    def store_of(self, policy: CachePolicy) -> ResultStore:
        """The store of tasks with this policy: always the same one."""
        with self._guard:
            if self._locks is None and self._make_locks is not None:
                self._locks = self._make_locks()
            storage = policy.key_storage or self.storage
            locks = policy.lock_manager or self._locks
            # The store keeps both alive, so that no other object can have their ids.
            store = self._stores.get((id(storage), id(locks)))
            if store is None:
                settings = self._settings
                store = ResultStore(
                    storage, serializer=settings.result_serializer, limit=settings.max_result, lock_manager=locks
                )
                self._stores[id(storage), id(locks)] = store
            return store


class ThreadLocks:
    """Locks among the threads of this process; see `LockManager`. Whoever has none of its own is told by None."""

    def __init__(self) -> None:
        self._holders: dict[str, str | None] = {}
        self._changed = threading.Condition()

    def acquire_lock(self, key: str, holder: str | None = None, timeout: float | None = None) -> bool:
        """Take the lock, waiting for it so long; whether it was taken, or was held by this holder before."""
        with self._changed:
            if self._is_held_by(key, holder):
                return True
            is_free = self._changed.wait_for(lambda: key not in self._holders, timeout)
            if is_free:
                self._holders[key] = holder
            return is_free

    def release_lock(self, key: str, holder: str | None = None) -> None:
        """Free the lock if this holder has it."""
        with self._changed:
            if self._is_held_by(key, holder):
                del self._holders[key]
                self._changed.notify_all()

    def is_locked(self, key: str) -> bool:
        """True if anybody holds it."""
        return key in self._holders

    def is_lock_holder(self, key: str, holder: str | None = None) -> bool:
        """True if this holder has it."""
        with self._changed:
            return self._is_held_by(key, holder)

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until nobody holds it; False if the time is over before."""
        with self._changed:
            return self._changed.wait_for(lambda: key not in self._holders, timeout)

    def _is_held_by(self, key: str, holder: str | None) -> bool:
        return key in self._holders and self._holders[key] == holder


_MEMORY: Final = MemoryStorage()
_LOCKS: Final = ThreadLocks()


def private_caching(settings: Settings) -> Caching:
    """That of runs which are recorded in this process alone: they share what this process has kept."""
    return Caching(_MEMORY, settings, lambda: _LOCKS, in_script=False)
