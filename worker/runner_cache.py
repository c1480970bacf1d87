"""What a TaskRunner asks of cached results: whether there is one and is valid, and to keep one. Records nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from shared.cache import CacheContext, CacheValidator
from shared.clock import as_utc, now
from shared.errors import HashError, LimitExceeded
from shared.results import ResultRecord, ResultStore
from shared.runs import TaskRun
from shared.specs import TaskSpec
from shared.states import Completed, Pending, State


@dataclass(frozen=True, slots=True)
class TaskCache:
    """The results of one task, for these inputs. `parameters` are the flow's."""

    task: TaskSpec[..., Any]
    store: ResultStore | None
    inputs: Mapping[str, Any]
    parameters: Mapping[str, Any] | None
    run: TaskRun

    def found_for(self, state: State[Any]) -> State[Any]:
        """The state; or Cached where a result is kept, Pending where a state that is Cached is valid no more."""
        if state.is_completed() and state.name == "Cached":
            return state if self._is_valid(state) else Pending(message="Cache was invalid; ready to run.")
        key = self.key() if state.is_pending() or state.is_scheduled() or state.is_paused() else None
        record = (
            self.store.find(key) if key is not None and self.store is not None and not self.task.refresh_cache else None
        )
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
        self.store.write(self.store.create_record(state.data.result, key, expiration, run_id=self.run.id))

    def key(self) -> str | None:
        """Where the result lies; None if it is not cached, or no key can be made."""
        if self.store is None or not self.task.caching.is_caching:
            return None
        about = CacheContext(self.task, self.run)
        try:
            return self.task.caching.compute_key(about, self.inputs, self.parameters)
        except (HashError, LimitExceeded):
            return None

    def _is_valid(self, state: State[Any]) -> bool:
        policy, expiration = self.task.cache_policy, state.state_details.cache_expiration
        if isinstance(policy, CacheValidator):
            return policy(state, self.inputs, self.parameters)
        return expiration is None or expiration > now()
