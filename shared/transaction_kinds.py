"""What transactions are made of: how they commit, how far they are, what they need of a store, and how they write."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

from shared.results import ResultRecord
from shared.state_types import AutoEnum
from shared.stepping import Do, Steps


class CommitMode(AutoEnum):
    """LAZY commits with the outermost transaction, EAGER when its own block ends, OFF when it is told to."""

    LAZY = AutoEnum.auto()
    EAGER = AutoEnum.auto()
    OFF = AutoEnum.auto()


class TransactionState(AutoEnum):
    """How far a transaction is."""

    PENDING = AutoEnum.auto()
    ACTIVE = AutoEnum.auto()
    STAGED = AutoEnum.auto()
    COMMITTED = AutoEnum.auto()
    ROLLED_BACK = AutoEnum.auto()


class TransactionStore(Protocol):
    """What a transaction needs of a store of results. Each that does I/O has a twin for event loops."""

    def create_record(self, value: Any, key: str | None = None) -> ResultRecord[Any]:
        """A record of the value under this key, that is not written."""

    def find(self, key: str) -> ResultRecord[Any] | None:
        """The record of this key that is not expired, or None."""

    async def afind(self, key: str) -> ResultRecord[Any] | None:
        """As `find`."""

    def write_many(self, records: Sequence[ResultRecord[Any]]) -> object:
        """Keep all of these, or none."""

    async def awrite_many(self, records: Sequence[ResultRecord[Any]]) -> object:
        """As `write_many`."""

    def delete(self, key: str) -> object:
        """Keep nothing under this key."""

    async def adelete(self, key: str) -> object:
        """As `delete`."""

    def lock_of(self, key: str) -> object:
        """What the lock of this key is known by: equal for all stores that share it. ConfigError without locks."""

    def acquire_lock(self, key: str, holder: str | None = None, timeout: float | None = None) -> bool:
        """Wait for the lock of this key, and take it; ConfigError for a store without locks."""

    async def aacquire_lock(self, key: str, holder: str | None = None, timeout: float | None = None) -> bool:
        """As `acquire_lock`."""

    def release_lock(self, key: str, holder: str | None = None) -> object:
        """Free the lock of this key."""

    async def arelease_lock(self, key: str, holder: str | None = None) -> object:
        """As `release_lock`."""


Written: TypeAlias = tuple[TransactionStore, ResultRecord[Any]]
"""A record and the store that it is for."""


def write_records(found: Iterable[Written]) -> Steps[None]:
    """Write all records: in one go for each store, and none at all if one of those fails."""
    stores: dict[int, tuple[TransactionStore, list[ResultRecord[Any]]]] = {}
    for store, record in found:
        stores.setdefault(id(store), (store, []))[1].append(record)
    written: list[Written] = []
    try:
        for store, records in stores.values():
            yield Do(partial(store.write_many, records), partial(store.awrite_many, records))
            written += ((store, record) for record in records)
    except BaseException:
        for store, record in written:
            key = record.metadata.storage_key or ""
            yield Do(partial(store.delete, key), partial(store.adelete, key))
        raise
