"""What every stage of an engine works with: the run's task and place, its state, and the words of its log. No I/O."""

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Generic, ParamSpec, TypeVar

from shared.ledger import RunLedger
from shared.runs import TaskRun
from shared.specs import TaskLike, TaskSpec
from shared.state_types import StateType
from shared.states import State
from shared.transactions import inside
from worker.context import RunContext
from worker.engine.place import Place
from worker.inputs import Inputs
from worker.prints import logged_prints
from worker.run_transactions import RunTransaction
from worker.signals import LOOP

HOOKS_OF: Final[Mapping[StateType, str]] = {
    StateType.RUNNING: "on_running",
    StateType.COMPLETED: "on_completion",
    StateType.FAILED: "on_failure",
    StateType.CRASHED: "on_crashed",
    StateType.CANCELLED: "on_cancellation",
}
FINISHED_AT: Final[Mapping[StateType, int]] = {
    StateType.CANCELLED: logging.WARNING,
    StateType.FAILED: logging.ERROR,
    StateType.CRASHED: logging.ERROR,
}
P = ParamSpec("P")
R = TypeVar("R")
log = logging.getLogger("baton.engine")


class EngineCore(Generic[P, R]):
    """One run of a task in this process, as its stages see it."""

    def __init__(
        self,
        task: TaskLike[P, R],
        parameters: Mapping[str, Any],
        seconds: float | None = None,
        place: Place | None = None,
        inputs: Inputs | None = None,
        *,
        task_run: TaskRun | None = None,
        wait_for: Any = None,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        self.spec = task.spec
        self.wait_for = wait_for
        self.context = context
        self._given_run = task_run
        self.parameters = parameters
        self.seconds = seconds
        self.inputs = inputs
        self.crash: BaseException | None = None
        """The interrupt that ended the run: who runs it inline raises it again."""
        self.streams = False
        """True if a generator's items are handed out as they come."""
        self.looped: LOOP | None = None
        """What asked for the function to be called again in the same attempt, last."""
        self.loop_count = 1
        self._place = place
        self._state = place.state if place is not None else None
        self._overrun: TimeoutError | None = None
        self.transaction: RunTransaction | None = None
        """That of the present attempt, if it has one."""
        self._untold: str | None = None
        """Of a flow: how many of its runs did not complete."""

    @property
    def _noun(self) -> str:
        """What kind of run it is, as messages begin."""
        return self.spec.kind.capitalize()

    @property
    def place(self) -> Place:
        """Where the run is executed.

        Raises:
            RuntimeError: it is not executed yet.
        """
        if self._place is None:
            raise RuntimeError("Engine has not started.")
        return self._place

    @property
    def state(self) -> State[Any]:
        """The run's state.

        Raises:
            ValueError: there is no run yet.
        """
        if self._state is None:
            raise ValueError("Task run is not set")
        return self._state

    @property
    def task(self) -> TaskSpec[P, R]:
        """The description of the task."""
        return self.spec

    @property
    def task_run(self) -> TaskRun:
        """The run's record, in the state that holds.

        Raises:
            RuntimeError: there is no run yet.
        """
        return self.place.task_run()

    @property
    def attempt(self) -> int:
        """The number of the attempt that was begun last, 0 before the first."""
        return self.place.attempt

    @property
    def token(self) -> int:
        """What its attempt is known by: it grows with every attempt."""
        return self.place.context().fence

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """The run's log, whose records say run, task and attempt."""
        return logging.LoggerAdapter(logging.getLogger("baton.runs"), self.log_fields())

    @property
    def ledger(self) -> RunLedger:
        """Where the run is recorded.

        Raises:
            RuntimeError: it is not executed yet, or is recorded in this process alone.
        """
        ledger = self.place.ledger
        if ledger is None:
            raise RuntimeError("The run is recorded in this process alone, and has no ledger.")
        return ledger

    @property
    def client(self) -> RunLedger:
        """The same as `ledger`."""
        return self.ledger

    def is_running(self) -> bool:
        """True while the run is executed, or waits here to be."""
        return self.state.is_running() or self._wakes_at() is not None

    def is_cancelled(self) -> bool:
        """True if somebody wants the end of this attempt."""
        return self.place.is_cancelled()

    def record_terminal_state_timing(self, state: State[Any]) -> None:
        """Note in memory when the run ended and how long it ran; what is stored has the server's times."""
        self.place.note_end(state)

    def log_finished_message(self) -> None:
        """Say how the run ended here."""
        state = self.state
        level = FINISHED_AT.get(state.type, logging.INFO)
        if log.isEnabledFor(level):
            log.log(level, "Finished in state %s", state, extra=self.log_fields())

    def log_fields(self) -> dict[str, Any]:
        """What every line of the run's log carries."""
        context = self.place.context()
        return {"run_id": context.run_id, "task": context.task, "attempt": context.attempt}

    def around_body(self, place: Place) -> RunContext:
        """What the body that is called now may ask."""
        about = place.context(self.parameters)
        if self.looped is None:
            return about
        return replace(about, task_loop_count=self.loop_count, task_loop_result=self.looped.result)

    def prints(self) -> AbstractContextManager[None]:
        """Around the body, in its run's context: where its prints go."""
        return logged_prints() if self.spec.log_prints else nullcontext()

    def in_transaction(self) -> AbstractContextManager[None]:
        """Around the body: that of its attempt, if it has one."""
        return nullcontext() if self.transaction is None else inside(self.transaction)

    # --- questions ----------------------------------------------------------------------------------------------------

    def _wakes_at(self) -> datetime | None:
        state = self.state
        return None if state.is_running() or state.is_final() else self.place.wakes_at(state)

    def _hooks_of(self, state: State[Any]) -> tuple[Callable[..., Any], ...]:
        name = HOOKS_OF.get(state.type)
        hooks: tuple[Callable[..., Any], ...] = getattr(self.spec, name) if name is not None else ()
        return hooks
