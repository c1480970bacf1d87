"""A store of results in the memory of this process, for tests of what stands on stores."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

from shared.results import ResultRecord, record_of


class MemoryStore:
    """A store of this process, with locks."""

    def __init__(self) -> None:
        self.records: dict[str, ResultRecord[Any]] = {}
        self.writes: list[list[str]] = []
        self.is_full = False
        self.holders: dict[str, str | None] = {}
        self._freed = threading.Condition()

    def values(self) -> dict[str, Any]:
        return {key: record.result for key, record in self.records.items()}

    def create_record(self, value: Any, key: str | None = None) -> ResultRecord[Any]:
        return record_of(value, key)

    def find(self, key: str) -> ResultRecord[Any] | None:
        return self.records.get(key)

    async def afind(self, key: str) -> ResultRecord[Any] | None:
        return self.find(key)

    def write_many(self, records: Sequence[ResultRecord[Any]]) -> None:
        if self.is_full:
            raise OSError("the disk is full")
        found = {str(record.metadata.storage_key): record for record in records}
        self.records |= found
        self.writes.append(list(found))

    async def awrite_many(self, records: Sequence[ResultRecord[Any]]) -> None:
        self.write_many(records)

    def delete(self, key: str) -> None:
        self.records.pop(key, None)

    async def adelete(self, key: str) -> None:
        self.delete(key)

    def lock_of(self, key: str) -> object:
        return id(self), key

    def acquire_lock(self, key: str, holder: str | None = None, timeout: float | None = None) -> bool:
        with self._freed:
            is_free = self._freed.wait_for(lambda: key not in self.holders, timeout)
            if is_free:
                self.holders[key] = holder
            return is_free

    async def aacquire_lock(self, key: str, holder: str | None = None, timeout: float | None = None) -> bool:
        return await asyncio.to_thread(self.acquire_lock, key, holder, timeout)

    def release_lock(self, key: str, holder: str | None = None) -> None:
        with self._freed:
            if self.holders.get(key) == holder:
                del self.holders[key]
            self._freed.notify_all()

    async def arelease_lock(self, key: str, holder: str | None = None) -> None:
        self.release_lock(key, holder)
