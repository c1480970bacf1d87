"""What a state may hold instead of a bare value: a record (value and how it is kept) or a reference to a stored one.

And the store that keeps records under keys, in whatever `result_storage.py` or `result_redis.py` gives it. A reference
is bound to where it came from by functions that load it.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from shared import clock, codec
from shared.errors import (
    BadEnvelope,
    ConfigError,
    InvalidCall,
    InvalidValue,
    LimitExceeded,
    MissingResult,
    ResultNotSerialisable,
    ResultTooLarge,
)
from shared.exceptions_as_data import describe_exception
from shared.ids import new_id
from shared.result_storage import DirectoryStorage, Storage, StoredRecord
from shared.version import __version__
from shared.waits import waited_for

R = TypeVar("R")
MOST_BYTES: Final = 1024 * 1024
"""The most that a value in a store may have, unless said otherwise."""
OWN_KEY_SECONDS: Final = 86_400
"""How long a record without an expiration lives that is nobody's cached value."""
_SLICE: Final = 1.0
"""Seconds: so long at most a wait for a lock goes on that nobody waits for any more."""
_AROUND: Final = 16 * 1024
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResultSource:
    """Where a reference is read. `sleep` and `asleep` take seconds, and wait between two tries.

    Both loaders return the record, or raise MissingResult (no longer stored), BadEnvelope (unreadable) or
    RedisUnavailable (no answer: worth another try).
    """

    load: "Callable[[], ResultRecord[Any]]"
    aload: "Callable[[], Awaitable[ResultRecord[Any]]]"
    sleep: Callable[[float], object] = time.sleep
    asleep: Callable[[float], Awaitable[object]] = asyncio.sleep


@dataclass(frozen=True, slots=True)
class ResultRecordMetadata:
    """How a result is kept; as the data of a state, a reference to it.

    `source` says where it can be read: it is None until the record was stored, never compared, and never stored itself.
    """

    storage_key: str | None = None
    expiration: datetime | None = None
    serializer: str = "msgpack"
    baton_version: str = __version__
    run_id: str | None = None
    source: ResultSource | None = field(default=None, compare=False, repr=False)

    def bound_to(self, source: ResultSource) -> Self:
        """The same reference, readable from there."""
        return replace(self, source=source)

    def to_json(self) -> dict[str, str | None]:
        """Its fields as JSON types; the time of expiration as ISO text."""
        return {
            "storage_key": self.storage_key,
            "expiration": None if self.expiration is None else clock.iso(self.expiration),
            "serializer": self.serializer,
            "baton_version": self.baton_version,
            "run_id": self.run_id,
        }


UNKEPT: Final = ResultRecordMetadata()


@dataclass(frozen=True, slots=True)
class ResultRecord(Generic[R]):
    """A value and how it is kept. A record of None is a value."""

    metadata: ResultRecordMetadata
    result: R


def record_of(value: R, key: str | None = None, expiration: datetime | None = None) -> ResultRecord[R]:
    """A record that no store has seen."""
    if key is None and expiration is None:
        return ResultRecord(UNKEPT, value)
    return ResultRecord(ResultRecordMetadata(storage_key=key, expiration=expiration), value)


class RecordStore(Protocol):
    """A store as the makers of states need it. What it writes is found again under the record's `storage_key`."""

    def create_record(
        self, value: Any, key: str | None = None, expiration: datetime | None = None
    ) -> ResultRecord[Any]:
        """A record of the value that is not written; without a key under one of its own."""

    def write(self, record: ResultRecord[Any]) -> object:
        """Keep the record."""

    async def awrite(self, record: ResultRecord[Any]) -> object:
        """Keep the record."""

    def read(self, key: str) -> ResultRecord[Any]:
        """The record of this key, or MissingResult."""

    async def aread(self, key: str) -> ResultRecord[Any]:
        """The record of this key, or MissingResult."""


class LockManager(Protocol):
    """Locks by key, each held by one at a time; one whose holder has died is freed. Equal ones have the same locks.

    `holder` is a name for who holds it, None for this process. Times are seconds, None has no limit.
    """

    def acquire_lock(self, key: str, holder: str | None = None, timeout: float | None = None) -> bool:
        """Take the lock, waiting for it so long; whether it was taken, or was held by this holder before."""

    def release_lock(self, key: str, holder: str | None = None) -> None:
        """Free the lock if this holder has it."""

    def is_locked(self, key: str) -> bool:
        """True if anybody holds it."""

    def is_lock_holder(self, key: str, holder: str | None = None) -> bool:
        """True if this holder has it."""

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until nobody holds it; False if the time is over before."""


def encoded_result(value: object, limit: int, serializer: str = "msgpack") -> bytes:
    """The envelope of a result.

    Raises:
        ResultTooLarge, ResultNotSerialisable: it cannot be stored; names the place in it.
        InvalidValue: no such serializer.
    """
    try:
        return codec.encode(value, limit=limit, where="result", serializer=serializer)
    except LimitExceeded as error:
        raise ResultTooLarge(str(error)) from error
    except InvalidCall as error:
        raise ResultNotSerialisable(str(error)) from error


class ResultStore:
    """Records under keys. An expired one does not exist; an exception is stored as data, as everywhere.

    Every method that does I/O may raise RedisUnavailable, StorageFull or ConfigError (a directory that refuses), and
    has a twin for event loops. Those for locks raise ConfigError where the store has none.
    """

    def __init__(
        self,
        storage: Storage | Path | str,
        prefix: str = "",
        *,
        serializer: str = "msgpack",
        lock_manager: LockManager | None = None,
        limit: int = MOST_BYTES,
    ) -> None:
        """`storage` may be the path of a directory, `prefix` begins all keys there, `limit` is the bytes of a value."""
        if serializer not in codec.SERIALIZERS:
            raise InvalidValue(f"unknown serializer {serializer!r}: it is one of {', '.join(codec.SERIALIZERS)}")
        self.storage = DirectoryStorage(Path(storage)) if isinstance(storage, Path | str) else storage
        self.prefix = prefix
        self.serializer = serializer
        self.lock_manager = lock_manager
        self.limit = limit

    def create_record(
        self,
        value: R,
        key: str | None = None,
        expiration: datetime | None = None,
        *,
        run_id: str | None = None,
    ) -> ResultRecord[R]:
        """A record of the value that is not written; without a key under one of its own.

        That lives for a day unless `expiration` says otherwise, and so does that of an exception: nobody asks for it by
        its key later, or deletes it.
        """
        if expiration is None and (key is None or isinstance(value, BaseException)):
            expiration = clock.as_utc(clock.now() + timedelta(seconds=OWN_KEY_SECONDS))
        metadata = ResultRecordMetadata(key or new_id(), expiration, self.serializer, run_id=run_id)
        return ResultRecord(metadata, value)

    def packed(self, record: ResultRecord[Any]) -> StoredRecord:
        """The record as it is stored: the key with the prefix, the bytes, how long from now on.

        Raises:
            ResultTooLarge, ResultNotSerialisable: the value cannot be stored.
            InvalidValue: the record has no key, or a serializer that there is not.
        """
        metadata, value = record.metadata, record.result
        if not metadata.storage_key:
            raise InvalidValue("a record without a storage_key cannot be written")
        if isinstance(value, BaseException):
            value = describe_exception(value)
        body = encoded_result(value, self.limit, metadata.serializer)
        data = codec.encode({**metadata.to_json(), "result": body}, limit=len(body) + _AROUND, where="record")
        end = metadata.expiration
        seconds = None if end is None else clock.to_epoch(end) - clock.to_epoch(clock.now())
        return StoredRecord(self.prefix + metadata.storage_key, data, seconds)

    def write(self, record: ResultRecord[Any]) -> None:
        """Keep the record instead of one that was there. Raises what `packed` does."""
        self.write_many([record])

    async def awrite(self, record: ResultRecord[Any]) -> None:
        """The same as `write`, without blocking the event loop."""
        await asyncio.to_thread(self.write, record)

    def write_many(self, records: Sequence[ResultRecord[Any]]) -> None:
        """Keep all of these records, in Redis all or none. Raises what `packed` does, before anything is written."""
        self.storage.write([self.packed(record) for record in records])

    async def awrite_many(self, records: Sequence[ResultRecord[Any]]) -> None:
        """The same as `write_many`, without blocking the event loop."""
        await asyncio.to_thread(self.write_many, records)

    def read(self, key: str) -> ResultRecord[Any]:
        """The record of this key.

        Raises:
            MissingResult: there is none, or no longer.
            BadEnvelope: what is stored there cannot be read here.
        """
        data = self.storage.read(self.prefix + key, self.limit + 3 * _AROUND)
        if data is None:
            raise MissingResult(f"There is no result under the key '{key}': it expired, was deleted or never was.")
        return self._unpacked(key, data)

    async def aread(self, key: str) -> ResultRecord[Any]:
        """The same as `read`, without blocking the event loop."""
        return await asyncio.to_thread(self.read, key)

    def find(self, key: str) -> ResultRecord[Any] | None:
        """The record of this key, or None. One that cannot be read here counts as none, and a warning is logged."""
        try:
            return self.read(key)
        except MissingResult:
            return None
        except BadEnvelope as error:
            _log.warning("The result under the key %r cannot be read, and counts as missing: %s", key, error)
            return None

    async def afind(self, key: str) -> ResultRecord[Any] | None:
        """The same as `find`, without blocking the event loop."""
        return await asyncio.to_thread(self.find, key)

    def exists(self, key: str) -> bool:
        """True if `find` finds a record."""
        return self.find(key) is not None

    async def aexists(self, key: str) -> bool:
        """The same as `exists`, without blocking the event loop."""
        return await asyncio.to_thread(self.exists, key)

    def delete(self, key: str) -> None:
        """Keep nothing under this key any more."""
        self.storage.delete(self.prefix + key)

    async def adelete(self, key: str) -> None:
        """The same as `delete`, without blocking the event loop."""
        await asyncio.to_thread(self.delete, key)

    def _unpacked(self, key: str, data: bytes) -> ResultRecord[Any]:
        found = codec.decode(data, limit=self.limit + 2 * _AROUND)
        metadata, body = _metadata_of(found)
        if metadata.storage_key != key:
            raise BadEnvelope(f"the record is that of the key {metadata.storage_key!r}")
        return ResultRecord(metadata, codec.decode(body, limit=self.limit))

    # --- locks --------------------------------------------------------------------------------------------------------

    @property
    def _locks(self) -> LockManager:
        if self.lock_manager is None:
            raise ConfigError("This store has no locks: give it a lock_manager.")
        return self.lock_manager

    def lock_of(self, key: str) -> tuple[LockManager, str]:
        """What the lock of this key is known by: equal for stores that share it, as lock managers do that are equal."""
        return self._locks, self.prefix + key

    def acquire_lock(self, key: str, holder: str | None = None, timeout: float | None = None) -> bool:
        """Take the lock of this key, as `LockManager.acquire_lock`."""
        return self._locks.acquire_lock(self.prefix + key, holder, timeout)

    async def aacquire_lock(self, key: str, holder: str | None = None, timeout: float | None = None) -> bool:
        """The same as `acquire_lock`, without blocking the event loop. Cancelled, it leaves no lock behind."""
        guard, ended = threading.Lock(), set[str]()
        until = float("inf") if timeout is None else clock.monotonic() + timeout

        def acquire() -> bool:
            is_taken = False
            # A thread that waits cannot be interrupted: it looks now and then whether anybody wants the lock.
            while not is_taken and "abandoned" not in ended:
                left = until - clock.monotonic()
                is_taken = self.acquire_lock(key, holder, max(0.0, min(left, _SLICE)))
                if left <= _SLICE:
                    break
            with guard:
                ended.add("taken" if is_taken else "refused")
                is_unwanted = is_taken and "abandoned" in ended
            if is_unwanted:
                self.release_lock(key, holder)
            return is_taken

        try:
            return await waited_for(acquire)
        except asyncio.CancelledError:
            # The thread cannot be interrupted: whichever of the two is the last gives back what was taken.
            with guard:
                ended.add("abandoned")
                is_unwanted = "taken" in ended
            if is_unwanted:
                await asyncio.to_thread(self.release_lock, key, holder)
            raise

    def release_lock(self, key: str, holder: str | None = None) -> None:
        """Free the lock of this key, as `LockManager.release_lock`."""
        self._locks.release_lock(self.prefix + key, holder)

    async def arelease_lock(self, key: str, holder: str | None = None) -> None:
        """The same as `release_lock`, without blocking the event loop."""
        await asyncio.to_thread(self.release_lock, key, holder)

    def is_locked(self, key: str) -> bool:
        """True if anybody holds the lock of this key."""
        return self._locks.is_locked(self.prefix + key)

    async def ais_locked(self, key: str) -> bool:
        """The same as `is_locked`, without blocking the event loop."""
        return await asyncio.to_thread(self.is_locked, key)

    def is_lock_holder(self, key: str, holder: str | None = None) -> bool:
        """True if this holder has the lock of this key."""
        return self._locks.is_lock_holder(self.prefix + key, holder)

    async def ais_lock_holder(self, key: str, holder: str | None = None) -> bool:
        """The same as `is_lock_holder`, without blocking the event loop."""
        return await asyncio.to_thread(self.is_lock_holder, key, holder)

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until nobody holds the lock of this key, as `LockManager.wait_for_lock`."""
        return self._locks.wait_for_lock(self.prefix + key, timeout)

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """The same as `wait_for_lock`, without blocking the event loop."""
        return await waited_for(partial(self.wait_for_lock, key, timeout))


def _metadata_of(found: Any) -> tuple[ResultRecordMetadata, bytes]:
    """What a stored record says of itself, and the envelope of its value."""
    try:
        key, serializer, version, body = (
            found[name] for name in ("storage_key", "serializer", "baton_version", "result")
        )
        expiration, run_id = found["expiration"], found["run_id"]
        is_right = [type(part) for part in (key, serializer, version, body)] == [str, str, str, bytes]
        moment = None if expiration is None else clock.parse_iso(expiration)
    except (KeyError, TypeError, ValueError) as error:
        raise BadEnvelope(f"no record of a result: {error!r}") from error
    if not is_right or not (run_id is None or type(run_id) is str):
        raise BadEnvelope("no record of a result")
    if serializer not in codec.SERIALIZERS:
        raise BadEnvelope(f"the record was written by the serializer {serializer!r}, which this Baton does not know")
    return ResultRecordMetadata(key, moment, serializer, version, run_id), body
