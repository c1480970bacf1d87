"""The transaction of one attempt: commits in two steps where the record of its run's end has to lie between them.

# What it would write is handed over to whoever records the end, and its lock is kept until that is done: nobody takes
# the lock and looks for a record that is still on its way.
# Inside another transaction it ends as any other does: that one writes, and frees the lock, with its own commit.
"""

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from shared import clock
from shared.errors import BatonError, Fenced, ResultNotSerialisable, ResultTooLarge
from shared.isolation import IsolationLevel
from shared.result_storage import Storage, StoredRecord
from shared.results import ResultRecord, ResultStore
from shared.stepping import Steps
from shared.transaction_kinds import CommitMode, TransactionState, Written, write_records
from shared.transactions import Transaction

_OVER = (TransactionState.COMMITTED, TransactionState.ROLLED_BACK)


class RunTransaction(Transaction):
    """That of an attempt of this run. `found` is the record that was there at its begin, `handed` what is handed over.

    `seconds` is how long a record lives, None for ever; `along` is the storage whose records are handed over.
    """

    def __init__(
        self,
        run_id: str,
        key: str | None,
        store: ResultStore,
        *,
        isolation_level: IsolationLevel | None,
        overwrite: bool,
        seconds: float | None,
        along: Storage | None,
        logger: logging.LoggerAdapter[Any],
    ) -> None:
        super().__init__(key, store, None, isolation_level, overwrite, logger=logger)
        self.found: ResultRecord[Any] | None = None
        self.handed: list[StoredRecord] = []
        self.may_be_stored = False
        """True once a store was asked to keep its record, whatever it answered."""
        self.results = store
        self._run_id = run_id
        self._seconds = seconds
        self._along = along
        self._packed: StoredRecord | None = None
        self._is_kept_back = False

    def begin_steps(self) -> Steps[None]:
        """Take the lock if it is to be alone, and look for a record. The transaction around it is the current one."""
        self._enter()
        self._leave()  # bodies are put inside one by one, and what else runs in this thread meanwhile is not
        try:
            yield from self._begin()
        except BaseException:
            # It may have been taken when the wait for it was interrupted.
            self.is_locked = self.key is not None and self.isolation_level is IsolationLevel.SERIALIZABLE
            yield from self.unlock_steps()
            raise

    def end_steps(self) -> Steps[None]:
        """The attempt succeeded, its value is staged: commit, but for what is handed over; or wait for those around.

        To be followed by `settled_steps` or `undo_steps`.
        """
        is_outermost = all(one.is_committed() for one in self._around())
        self._is_kept_back = is_outermost or self.commit_mode is CommitMode.EAGER
        try:
            # Before hooks are called: with a value that cannot be stored, a worker ends the run as FAILED.
            self._packed = self._own_record()
        except (ResultTooLarge, ResultNotSerialisable) as error:
            self.logger.warning("%r: not committed, and all that was staged is undone: %s", self, error)
            yield from self._roll_all_back()
            return
        yield from self._end(None)

    def _own_record(self) -> StoredRecord | None:
        found = self.record() if self._is_kept_back and self._goes_along(self.store) else None
        self.may_be_stored = False
        return None if found is None else self.results.packed(found[1])

    def _goes_along(self, store: object) -> bool:
        return self._along is not None and isinstance(store, ResultStore) and store.storage is self._along

    def settled_steps(self) -> Steps[None]:
        """What was handed over is recorded, or nobody knows: free what was kept back."""
        if self._is_kept_back:
            self._is_kept_back = False
            yield from self.unlock_steps()

    def undo_steps(self) -> Steps[None]:
        """Roll back this one alone, also if its commit was kept back: that nothing of it was recorded is known."""
        was_kept_back, self._is_kept_back = self._is_kept_back, False
        if self.is_rolled_back() or (self.is_committed() and not was_kept_back):  # the latter by the body itself
            yield from self.unlock_steps()
            return
        for one in self.in_order():
            if one.is_committed():
                one.state = TransactionState.STAGED
        yield from self.rollback_steps()

    def undo_around_steps(self) -> Steps[None]:
        """Roll back those around it: the run did not succeed, and they stand on it."""
        for one in self._around():
            if one.state not in _OVER:
                yield from one.rollback_steps()

    def write_steps(self, below: Sequence[Transaction]) -> Steps[None]:
        """Write the records of all these, but those that go along with the end of the run."""
        along: list[StoredRecord] = [] if self._packed is None else [self._packed]
        others: list[Written] = []
        for one in below:
            found = None if one is self and along else one.record()
            if found is None:
                continue
            store, record = found
            # Whose lock is freed with this commit has its record then: others look for it at once.
            if self._is_kept_back and not one.is_locked and self._goes_along(store) and isinstance(store, ResultStore):
                along.append(store.packed(record))
            else:
                others.append(found)
        yield from write_records(others)
        self.handed = along

    def record(self) -> Written | None:
        """What its commit writes, and where; its lifetime counts from now."""
        found = super().record()
        if found is None:
            return None
        self.may_be_stored = True
        end = None if self._seconds is None else clock.as_utc(clock.now() + timedelta(seconds=self._seconds))
        return self.results, self.results.create_record(found[1].result, self.key, end, run_id=self._run_id)

    def unlock_steps(self) -> Steps[None]:
        """Free its lock, if it has one and does not need it any more."""
        if not self._is_kept_back:
            yield from super().unlock_steps()

    def _find(self) -> Steps[ResultRecord[Any] | None]:
        try:
            self.found = yield from super()._find()
        except Fenced:
            raise
        except BatonError as error:
            self.logger.warning("%r: the cache cannot be read, and counts as empty: %s", self, error)
        return self.found
