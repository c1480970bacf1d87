"""What transactions are made of: how they commit, how far they are, and what they need of a store."""

from collections.abc import Sequence
from typing import Any, Protocol

from shared.results import ResultRecord
from shared.state_types import AutoEnum


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

    def acquire_lock(self, key: str, holder: str | None = None, timeout: float | None = None) -> bool:
        """Wait for the lock of this key, and take it; ConfigError for a store without locks."""

    async def aacquire_lock(self, key: str, holder: str | None = None, timeout: float | None = None) -> bool:
        """As `acquire_lock`."""

    def release_lock(self, key: str, holder: str | None = None) -> object:
        """Free the lock of this key."""

    async def arelease_lock(self, key: str, holder: str | None = None) -> object:
        """As `release_lock`."""
