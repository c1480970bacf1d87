"""What a TaskRunner asks of cached results: whether there is one and is valid, and to keep one. Records nothing."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from shared.cache import KEY_ERROR, CacheContext, CacheValidator
from shared.clock import as_utc, now
from shared.errors import BatonError
from shared.results import ResultRecord, ResultStore
from shared.runs import TaskRun
from shared.specs import TaskSpec
from shared.states import Completed, Pending, State
from worker.engine.recording import Recorder

log = logging.getLogger("baton.engine")


@dataclass(frozen=True, slots=True)
class TaskCache:
    """The results of one task, for these inputs. `parameters` are the flow's; `refreshes`: none is read.

    Where no key can be made, or the store fails, that is logged and the run goes on without it.
    """

    task: TaskSpec[..., Any]
    store: ResultStore | None
    inputs: Mapping[str, Any]
    parameters: Mapping[str, Any] | None
    run: TaskRun
    refreshes: bool = False

    def found_for(self, state: State[Any]) -> State[Any]:
        """The state; or Cached where a result is kept, Pending where a state that is Cached is valid no more."""
        if state.is_completed() and state.name == "Cached":
            return state if self._is_valid(state) else Pending(message="Cache was invalid; ready to run.")
        key = self.key() if state.is_pending() or state.is_scheduled() or state.is_paused() else None
        record = self._read(key) if key is not None and not (self.refreshes or self.task.isgenerator) else None
        if record is None:
            return state
        details = {"cache_key": key, "cache_expiration": record.metadata.expiration}
        return Completed(name="Cached", data=record, state_details=details)

    def keep(self, state: State[Any]) -> None:
        """Keep the result of a run that has COMPLETED by its body."""
        key = self.key() if state.name not in ("Cached", "Skipped", "Mapped") else None
        if key is None or self.store is None or not isinstance(state.data, ResultRecord):
            return
        seconds = self.task.cache_expiration
        expiration = None if seconds is None else as_utc(now() + timedelta(seconds=seconds))
        try:
            self.store.write(self.store.create_record(state.data.result, key, expiration, run_id=self.run.id))
        except BatonError as error:
            log.warning("run %s: its result is not cached: %s", self.run.id, error)

    def key(self) -> str | None:
        """Where the result lies; None if it is not cached, or no key can be made."""
        if self.store is None or not self.task.caching.is_caching:
            return None
        about = CacheContext(self.task, self.run)
        try:
            return self.task.caching.compute_key(about, self.inputs, self.parameters)
        except Exception:
            log.exception("run %s: %s", self.run.id, KEY_ERROR)
            return None

    def _read(self, key: str) -> ResultRecord[Any] | None:
        try:
            return None if self.store is None else self.store.find(key)
        except BatonError as error:
            log.warning("run %s: the cache cannot be read, and counts as empty: %s", self.run.id, error)
            return None

    def _is_valid(self, state: State[Any]) -> bool:
        policy, expiration = self.task.cache_policy, state.state_details.cache_expiration
        if isinstance(policy, CacheValidator):
            return policy(state, self.inputs, self.parameters)
        return expiration is None or expiration > now()


def cache_of(
    task: TaskSpec[..., Any],
    store: ResultStore | None,
    recorder: Recorder,
    inputs: Mapping[str, Any],
    parameters: Mapping[str, Any] | None,
    run: TaskRun,
) -> TaskCache:
    """The results in this store, as far as settings and the task's options let them be used."""
    if store is None:
        return TaskCache(task, None, inputs, parameters, run)
    settings = recorder.caching
    refreshes = settings.refreshes if task.refresh_cache is None else task.refresh_cache
    return TaskCache(task, None if settings.is_off else store, inputs, parameters, run, refreshes)
