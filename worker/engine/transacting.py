"""The transaction of an attempt: its key, a look into the cache, its commit and its rollback. No I/O, drives nothing.

# Only attempts of tasks that are cached, or have hooks of transactions, come here.
# Alone, hooks of a commit are called before the end of the run is recorded, and what is cached goes with that record.
"""

import logging
from abc import abstractmethod
from collections.abc import Callable, Generator
from typing import Any, ParamSpec, TypeVar

from shared.cache import KEY_ERROR, CacheContext
from shared.errors import Fenced
from shared.reporting import cached_from, kept, uncached
from shared.results import ResultRecord, record_of
from shared.rules_facts import changed
from shared.states import Completed, State, StateDetails
from shared.texts import printable
from shared.transactions import Transaction
from worker.engine.outcomes import OutcomeStages
from worker.engine.steps import Ask, Propose, Settle, Stage, Step
from worker.run_transactions import RunTransaction
from worker.signals import SUCCESS

P = ParamSpec("P")
R = TypeVar("R")
log = logging.getLogger("baton.engine")


class TransactionStages(OutcomeStages[P, R]):
    """The stages of an attempt that has a transaction."""

    _cache_error: str | None = None

    @abstractmethod
    def call_task_fn_steps(self) -> Generator[Step, Any, Any]:
        """One call of the function."""

    @abstractmethod
    def error_steps(self, error: BaseException) -> Generator[Step, Any, object]:
        """The outcome of an attempt in which this was raised."""

    @property
    def _rollback_hook(self) -> Callable[[Transaction], Any]:
        """What a rollback calls of the engine itself."""
        return self.handle_rollback

    def transacted_attempt_steps(self) -> Stage:
        """One attempt: transaction, cache, body, its outcome, and what the rules made of it."""
        transaction: RunTransaction | None = None
        value, raised = None, list[BaseException]()
        try:
            transaction = yield from self.open_transaction_steps()
            if transaction.found is None:
                value = yield from self.call_task_fn_steps()
        except GeneratorExit:
            raise
        except BaseException as error:
            if transaction is None and isinstance(error, Fenced):
                raise  # the cache was asked about a run that is another's now
            if isinstance(error, SUCCESS) and transaction is not None:
                value = error.state  # another way of returning
            else:
                raised.append(error)  # whatever the user's function raises is its outcome
        self.transaction = None
        if transaction is None or raised:
            yield from self._fail_steps(transaction, raised[0])
        elif transaction.found is not None:
            yield from self.cached_steps(transaction.found, transaction.key)
        else:
            yield from self.commit_steps(value, transaction)

    def open_transaction_steps(self) -> Generator[Step, Any, RunTransaction]:
        """Begin the transaction of this attempt; with a key, its lock is taken if need be, and the cache is read.

        Raises:
            ConfigError: it is to be alone, and its store has no locks.
            TerminationSignal: somebody wants the run's end while it waits for the lock.
        """
        self._cache_error = None
        spec, policy, caching = self.spec, self.spec.caching, self.place.caching
        key = None
        if policy.is_caching and not caching.is_off:
            key = yield Ask(self.compute_transaction_key, ())
        refreshes = caching.refreshes if spec.refresh_cache is None else spec.refresh_cache
        transaction = RunTransaction(
            self.place.context().run_id,
            key,
            caching.store_of(policy),
            isolation_level=policy.isolation_level,
            overwrite=refreshes or spec.isgenerator,
            seconds=spec.cache_expiration,
            along=caching.storage if caching.in_script else None,
            logger=logging.LoggerAdapter(logging.getLogger("baton.transactions"), self.log_fields()),
        )
        yield from transaction.begin_steps()
        self.transaction = transaction
        return transaction

    def compute_transaction_key(self) -> str | None:
        """The key under which the run's result is cached; None if it is not, or no key can be made, which is logged."""
        policy = self.spec.caching
        if not policy.is_caching:
            return None
        try:
            inputs = self.spec.binding.complete(self.parameters)
            return policy.compute_key(CacheContext(self.spec, self.place.known_run()), inputs)
        except Exception as error:
            self._cache_error = printable(f"{type(error).__name__}: {error}")
            log.exception(KEY_ERROR, extra=self.log_fields())
            return None

    def cached_steps(self, found: ResultRecord[Any], key: str | None) -> Stage:
        """End the run with a copy of what another one has made."""
        maker = found.metadata.run_id
        details = StateDetails.trusted(cache_key=key, cached_from=maker)
        state = changed(Completed(name="Cached", data=record_of(found.result)), state_details=details)
        self.place.cached = cached_from(maker) if maker else b""
        yield from self._end_attempt_steps(state)

    def commit_steps(self, value: Any, transaction: RunTransaction) -> Stage:
        """The function returned: commit what that stands for, and record it; or undo an attempt that is no success."""
        state = self.returned_state(value)
        if not state.is_completed() or state.name == "Skipped":  # a run with equal inputs is not to be skipped for it
            yield from transaction.undo_steps()
            if state.is_failed():
                yield from self.handle_retry_steps(state)
            else:
                self._state = yield Propose(state)
            yield from self._undo_around_steps(transaction)
            return
        if not transaction.is_rolled_back():  # by the body itself
            result = state.data.result if isinstance(state.data, ResultRecord) else state.data
            transaction.stage(result, [self._rollback_hook, *self.spec.on_rollback], self.spec.on_commit)
        yield from transaction.end_steps()
        if self._cache_error is not None:
            self.place.cached = uncached(self._cache_error)
            details = state.state_details.replaced(cache_error=self._cache_error)
            state = changed(state, state_details=details)
        elif transaction.is_committed():
            self.place.cached = kept(transaction.handed)
        yield from self._record_steps(state, transaction)

    def _record_steps(self, state: State[Any], transaction: RunTransaction) -> Stage:
        try:
            yield from self._end_attempt_steps(state)
            # What goes along has to be there before the lock is free; and only the record tells whether the run was
            # cancelled in its last moment, and is to be undone.
            if self.state.is_final() and (transaction.is_locked or self.spec.on_rollback):
                self._state = yield Settle()
        except GeneratorExit:
            raise
        except BaseException:
            yield from transaction.settled_steps()
            raise
        if self.state.is_completed():
            yield from transaction.settled_steps()
        else:
            yield from transaction.undo_steps()
            yield from self._undo_around_steps(transaction)

    def _end_attempt_steps(self, state: State[Any]) -> Stage:
        try:
            self._state = yield Propose(state)
        finally:
            self.place.cached = b""

    def _fail_steps(self, transaction: RunTransaction | None, error: BaseException) -> Stage:
        if transaction is not None:
            yield from transaction.undo_steps()
        yield from self.error_steps(error)
        if transaction is not None:
            yield from self._undo_around_steps(transaction)

    def _undo_around_steps(self, transaction: RunTransaction) -> Stage:
        if self.state.is_final() and not self.state.is_completed():
            yield from transaction.undo_around_steps()

    def handle_rollback(self, txn: Transaction) -> None:
        """The attempt, which had succeeded, is undone: its recorded state stays, and its record says so."""
        log.info("Task rolled back as part of transaction", extra=self.log_fields())
        self.place.note_rollback()
        store, key = txn.store, txn.key
        if isinstance(txn, RunTransaction) and txn.may_be_stored and store is not None and key is not None:
            # It was written, or the answer to that was lost; another run's record under the key is left.
            found = store.find(key)
            if found is not None and found.metadata.run_id == self.place.context().run_id:
                store.delete(key)
