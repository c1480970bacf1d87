"""What both sides know of runs: the record, the handle on one, and the naming of one as an input. No I/O, no Redis."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, Literal, Self, TypeVar

from shared.clock import as_utc, now
from shared.states import State

R = TypeVar("R")
F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class RunInput:
    """A run that another one takes input from."""

    kind: Literal["task", "flow"]
    id: str


class BaseRunFuture(ABC, Generic[R]):
    """The handle on one run, as far as an engine needs it. What it waits with belongs to its subclass.

    Times to wait are seconds; None has no limit.
    """

    @property
    @abstractmethod
    def run_id(self) -> str:
        """The id of the run."""

    @abstractmethod
    def get_state(self) -> State[R]:
        """The current state, final or not.

        Raises:
            RunGone: the run's record is not there.
        """

    @abstractmethod
    def done(self) -> bool:
        """True when the final state is known or one read finds it."""

    @abstractmethod
    def wait(self, timeout: float | None = None) -> State[R] | None:
        """The final state, or None when the time is over.

        Raises:
            RunGone: the run's record is not there.
        """

    @abstractmethod
    async def wait_async(self, timeout: float | None = None) -> State[R] | None:
        """The same as `wait`, without blocking the event loop."""

    @abstractmethod
    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R | BaseException:
        """Wait, then the result of the final state.

        Raises:
            WaitTimeout: the time is over.
            RunGone: the run's record is not there.
        """

    @abstractmethod
    async def aresult(
        self,
        timeout: float | None = None,
        raise_on_failure: bool = True,
    ) -> R | BaseException:
        """The same as `result`, without blocking the event loop."""


class BaseRunFutureList(list[F]):
    """Base of RunFutureList: among arguments it is the list of what its runs return."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRun:
    """A run of a task, as its record was when it was read. Durations are seconds, times aware and in UTC.

    Of `max_retries`, `retry_delays` and `retry_jitter_factor` those are None that are as the task has them.
    `parameters` are as they were sent, with references for other runs; None where they were not read or cannot be.
    `task_inputs` names the runs that it takes input from by parameter, those that only had to end under `wait_for`,
    the one that submitted it under `__parents__`.
    """

    id: str
    kind: Literal["task", "flow"] = "task"
    task: str
    name: str
    queue: str
    state: State[Any]
    seq: int = 0
    attempt: int = 0
    run_count: int = 0
    crashes: int = 0
    max_retries: int | None = None
    retry_delays: tuple[float, ...] | None = None
    retry_jitter_factor: float | None = None
    parent: str | None = None
    flow: str | None = None
    worker: str | None = None
    created: datetime | None = None
    expected_start: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    total_run_time: float = 0.0
    error: str | None = None
    tags: tuple[str, ...] = ()
    parameters: Mapping[str, Any] | None = None
    task_inputs: Mapping[str, tuple[RunInput, ...]] = field(default_factory=dict)
    correlation: str | None = None
    traceparent: str | None = None
    progress: str | None = None
    rolled_back: bool = False

    @property
    def estimated_run_time(self) -> float:
        """Seconds in its bodies so far, the present one among them."""
        if not (self.state.is_running() or self.state.is_cancelling()):
            return self.total_run_time
        return self.total_run_time + max(0.0, (now() - as_utc(self.state.timestamp)).total_seconds())

    @property
    def estimated_start_time_delta(self) -> float:
        """Seconds by which it began too late, or is late by now; 0 for one that ended without a begin."""
        if self.expected_start is None or (self.start_time is None and self.state.is_final()):
            return 0.0
        return max(0.0, (as_utc(self.start_time or now()) - as_utc(self.expected_start)).total_seconds())

    def with_state(self, state: State[Any]) -> Self:
        """The same run in another state."""
        return replace(self, state=state)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRun(TaskRun):
    """A run of a flow: a function that submits runs of its own."""

    kind: Literal["task", "flow"] = "flow"
