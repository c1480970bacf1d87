"""What a state may hold instead of a bare value: a record (value and how it is kept) or a reference to a stored one.

Small frozen types. No store and no connection: a reference is bound to where it came from by functions that load it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from shared import clock
from shared.version import __version__

R = TypeVar("R")


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
