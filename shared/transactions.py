"""Transactions: what is staged in a block is recorded as a whole, or undone as a whole. Knows no Redis: stores do.

    PENDING -> ACTIVE -> STAGED -> COMMITTED or ROLLED_BACK

# What a transaction wants done is a generator of steps: `with` and `async with` share every line but the drivers.
# A transaction is in the hands of one thread or task at a time, that which is in its block.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from copy import deepcopy
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from shared.errors import ConfigError, InvalidCall, InvalidValue
from shared.ids import new_id
from shared.isolation import IsolationLevel
from shared.results import ResultRecord
from shared.stepping import Do, Steps, ado, adrive, called, do, drive
from shared.transaction_kinds import CommitMode, TransactionState, TransactionStore, Written, write_records

__all__ = [
    "CommitMode",
    "IsolationLevel",
    "Transaction",
    "TransactionState",
    "TransactionStore",
    "get_transaction",
    "transaction",
]

Hook = Callable[["Transaction"], Any]


_NOT_GIVEN: Final = object()
_OVER: Final = (TransactionState.COMMITTED, TransactionState.ROLLED_BACK)
_log = logging.getLogger("baton.transactions")
_current: ContextVar["Transaction | None"] = ContextVar("baton_transaction", default=None)


def get_transaction() -> "Transaction | None":
    """The innermost transaction around this code, or None."""
    return _current.get()


@contextmanager
def inside(one: "Transaction") -> Iterator[None]:
    """Make this the transaction around the code in the block, whatever becomes of it."""
    token = _current.set(one)
    try:
        yield
    finally:
        _current.reset(token)


def transaction(
    key: str | None = None,
    store: TransactionStore | None = None,
    commit_mode: CommitMode | None = None,
    isolation_level: IsolationLevel | None = None,
    overwrite: bool = False,
    write_on_commit: bool = True,
    logger: logging.Logger | logging.LoggerAdapter[Any] | None = None,
) -> "Transaction":
    """A transaction around a block, `with` or `async with`: what is staged in it is recorded or undone as a whole.

    Args:
        key: under which the staged value is recorded. If there is a record already, the transaction is committed when
            it begins: ask `is_committed()`, and `read()` it.
        store: where records are. Without one nothing is read or written.
        commit_mode: that of the transaction around this one, else LAZY.
        isolation_level: likewise, else READ_COMMITTED. With SERIALIZABLE one block at a time has the key.
        overwrite: do not look for a record.
        write_on_commit: False records nothing; hooks are called all the same.
        logger: is told what hooks raise.

    Raises:
        ConfigError: when the block is entered, SERIALIZABLE with a key, and a store that is missing or has no locks.
    """
    return Transaction(key, store, commit_mode, isolation_level, overwrite, write_on_commit, logger)


class Transaction:
    """See `transaction`. Its block is entered once.

    `commit_mode` and `isolation_level` are those in force from its begin on, `parent` is the one around it.
    """

    def __init__(
        self,
        key: str | None = None,
        store: TransactionStore | None = None,
        commit_mode: CommitMode | None = None,
        isolation_level: IsolationLevel | None = None,
        overwrite: bool = False,
        write_on_commit: bool = True,
        logger: logging.Logger | logging.LoggerAdapter[Any] | None = None,
    ) -> None:
        self.key = key
        self.store = store
        self.commit_mode = commit_mode
        self.isolation_level = isolation_level
        self.overwrite = overwrite
        self.write_on_commit = write_on_commit
        self.logger = logger or _log
        self.state = TransactionState.PENDING
        self.parent: Transaction | None = None
        self.children: list[Transaction] = []
        self.values: dict[str, Any] = {}
        self._staged: Any = _NOT_GIVEN
        self.on_commit_hooks: list[Hook] = []
        self.on_rollback_hooks: list[Hook] = []
        self._holder = new_id()
        self.is_locked = False
        self.lock: object = None
        self._token: Token[Transaction | None] | None = None

    def __repr__(self) -> str:
        return f"Transaction(key={self.key!r}, state={self.state})"

    # --- questions ----------------------------------------------------------------------------------------------------

    def is_pending(self) -> bool:
        """True before it has begun."""
        return self.state is TransactionState.PENDING

    def is_active(self) -> bool:
        """True while nothing is staged."""
        return self.state is TransactionState.ACTIVE

    def is_staged(self) -> bool:
        """True while something is staged."""
        return self.state is TransactionState.STAGED

    def is_committed(self) -> bool:
        """True after its commit, and from its begin on if there was a record."""
        return self.state is TransactionState.COMMITTED

    def is_rolled_back(self) -> bool:
        """True after its rollback."""
        return self.state is TransactionState.ROLLED_BACK

    def read(self) -> ResultRecord[Any] | None:
        """The record under its key, or None."""
        return drive(self._find(), do)

    async def aread(self) -> ResultRecord[Any] | None:
        """The same as `read`, without blocking the event loop."""
        return await adrive(self._find(), ado)

    # --- what is staged -----------------------------------------------------------------------------------------------

    def stage(self, value: Any, on_rollback_hooks: Iterable[Hook] = (), on_commit_hooks: Iterable[Hook] = ()) -> None:
        """Record this value with the commit: plain, or a record of the store. Nothing is done if it is committed.

        Hooks are called with the transaction, those of several calls one after the other. They may be `async`.

        Raises:
            InvalidCall: it has not begun, or was rolled back.
        """
        if self.is_committed():
            return
        self._check_has_begun("stage")
        self._staged = value
        self.on_rollback_hooks += on_rollback_hooks
        self.on_commit_hooks += on_commit_hooks
        self.state = TransactionState.STAGED

    def set(self, name: str, value: Any) -> None:
        """Keep a copy of this value for its hooks, and for the transactions in its block."""
        self.values[name] = deepcopy(value)

    def get(self, name: str, default: Any = ...) -> Any:
        """A copy of the value that was set here, or in the nearest transaction around; else the default.

        Raises:
            InvalidValue: nowhere, and no default was given.
        """
        for one in (self, *self._around()):
            if name in one.values:
                return deepcopy(one.values[name])
        if default is ...:
            raise InvalidValue(f"Could not retrieve value for unknown key: {name}")
        return default

    # --- ends ---------------------------------------------------------------------------------------------------------

    def commit(self) -> bool:
        """Call the hooks of what is staged here and below, then record all of it; whether that was done.

        If a hook raises or nothing can be recorded, that is logged and all of it is rolled back.
        """
        return drive(self._commit(), do)

    async def acommit(self) -> bool:
        """The same as `commit`, without blocking the event loop."""
        return await adrive(self._commit(), ado)

    def rollback(self) -> bool:
        """Undo what is staged here and below, and the transactions around; whether every hook went well.

        False too for one that is over.
        """
        return drive(self._roll_all_back(), do)

    async def arollback(self) -> bool:
        """The same as `rollback`, without blocking the event loop."""
        return await adrive(self._roll_all_back(), ado)

    def __enter__(self) -> Self:
        self._enter()
        try:
            drive(self._begin(), do)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, raised: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._leave()
        drive(self._end(raised), do)

    async def __aenter__(self) -> Self:
        self._enter()
        try:
            await adrive(self._begin(), ado)
        except BaseException:
            self._leave()
            raise
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, raised: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._leave()
        await adrive(self._end(raised), ado)

    # --- steps --------------------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        if not self.is_pending() or self._token is not None:
            raise InvalidCall("a transaction is entered once: call transaction() for each block")
        self.parent = parent = get_transaction()
        self.commit_mode = self.commit_mode or (parent and parent.commit_mode) or CommitMode.LAZY
        self.isolation_level = (
            self.isolation_level or (parent and parent.isolation_level) or IsolationLevel.READ_COMMITTED
        )
        self._token = _current.set(self)

    def _leave(self) -> None:
        if self._token is not None:
            _current.reset(self._token)
            self._token = None

    def _around(self) -> Iterator["Transaction"]:
        one = self.parent
        while one is not None:
            yield one
            one = one.parent

    def _begin(self) -> Steps[None]:
        yield from self._lock()
        try:
            found = None if self.overwrite else (yield from self._find())
        except BaseException:
            yield from self.unlock_steps()
            raise
        self.state = TransactionState.ACTIVE
        if found is not None:
            self.state = TransactionState.COMMITTED
            yield from self.unlock_steps()

    def _end(self, raised: BaseException | None) -> Steps[None]:
        """The block was left."""
        if self.state in _OVER:
            return
        outer = next((one for one in self._around() if one.state is not TransactionState.COMMITTED), None)
        if raised is not None or (outer is not None and outer.is_rolled_back()):
            yield from self._roll_all_back()
        elif self.commit_mode is CommitMode.EAGER:
            yield from self._commit()
        elif self.commit_mode is CommitMode.OFF:
            yield from self._roll_all_back()
        elif outer is not None:
            outer.children.append(self)
        else:
            yield from self._commit()

    def _commit(self) -> Steps[bool]:
        if self.state in _OVER:
            return False
        self._check_has_begun("commit")
        below = [one for one in self.in_order() if one.state not in _OVER]
        try:
            for one in below:
                for hook in one.on_commit_hooks:
                    yield called(hook, one)
            yield from self.write_steps(below)
        except Exception:
            self.logger.exception("%r: not committed, and all that was staged is undone", self)
            yield from self._roll_all_back()
            return False
        except BaseException:
            yield from self._roll_all_back()
            raise
        for one in below:
            one.state = TransactionState.COMMITTED
        for one in below:
            yield from one.unlock_steps()
        return True

    def in_order(self) -> Iterator["Transaction"]:
        """Those below, in the order in which they ended, and this one."""
        for child in self.children:
            yield from child.in_order()
        yield self

    def _roll_all_back(self) -> Steps[bool]:
        """Roll back this one, and those around it, since they stand on it."""
        if self.state in _OVER:
            return False
        went_well = yield from self.rollback_steps()
        for one in self._around():
            if one.state not in _OVER:
                went_well = (yield from one.rollback_steps()) and went_well
        return went_well

    def rollback_steps(self) -> Steps[bool]:
        """Undo this one and those below, last done first; whether every hook went well."""
        self.state = TransactionState.ROLLED_BACK
        went_well = True
        try:
            for hook in reversed(self.on_rollback_hooks):
                try:
                    yield called(hook, self)
                except Exception:
                    self.logger.exception("%r: a hook of its rollback failed, the others are called", self)
                    went_well = False
            for child in reversed(self.children):
                if child.state not in _OVER:
                    went_well = (yield from child.rollback_steps()) and went_well
        finally:
            yield from self.unlock_steps()
        return went_well

    def _find(self) -> Steps[ResultRecord[Any] | None]:
        store, key = self.store, self.key
        if store is None or key is None:
            return None
        found: ResultRecord[Any] | None = yield Do(partial(store.find, key), partial(store.afind, key))
        return found

    def _lock(self) -> Steps[None]:
        store, key = self.store, self.key
        if key is None or self.isolation_level is not IsolationLevel.SERIALIZABLE:
            return
        if store is None:
            raise ConfigError("SERIALIZABLE needs a store with locks: this transaction has none")
        self.lock = lock = store.lock_of(key)
        if any(one.is_locked and one.lock == lock for one in self._around()):
            return  # it would wait for itself
        yield Do(
            partial(store.acquire_lock, key, self._holder, None),
            partial(store.aacquire_lock, key, self._holder, None),
            "wait",
        )
        self.is_locked = True

    def unlock_steps(self) -> Steps[None]:
        """Free its lock, if it has one."""
        store, key = self.store, self.key
        if not self.is_locked or store is None or key is None:
            return
        self.is_locked = False
        try:
            yield Do(partial(store.release_lock, key, self._holder), partial(store.arelease_lock, key, self._holder))
        except Exception:
            self.logger.exception("%r: its lock was not freed, and will be when its process is over", self)

    def _check_has_begun(self, what: str) -> None:
        if self.state in (TransactionState.PENDING, TransactionState.ROLLED_BACK):
            raise InvalidCall(f"cannot {what}: {self!r}")

    def write_steps(self, below: Sequence["Transaction"]) -> Steps[None]:
        """Write the records of all these."""
        yield from write_records([found for one in below if (found := one.record()) is not None])

    def record(self) -> Written | None:
        """What its commit writes, and where."""
        if not self.write_on_commit or self.store is None or self.key is None or self._staged is _NOT_GIVEN:
            return None
        staged = self._staged
        is_record = isinstance(staged, ResultRecord)
        return self.store, staged if is_record else self.store.create_record(staged, self.key)
