"""Checks of a task's pipeline before its run begins, which only look at states. Record nothing.

Each is given a state and returns one, or ends the pipeline with one by ENDRUN.
"""

from collections.abc import Iterable
from typing import Any

from shared.clock import now
from shared.errors import ENDRUN
from shared.results import ResultRecord, ResultStore, record_of
from shared.specs import TaskLike, TaskSpec
from shared.states import Completed, Failed, State
from shared.texts import printable
from worker.pipeline import Runner, StateHandler, check, children_of, flattened, inputs_of, is_due, length_of, loaded
from worker.triggers import States, end_by_skip


class TaskChecks(Runner):
    """The base of TaskRunner."""

    def __init__(
        self,
        task: TaskLike[..., Any],
        state_handlers: Iterable[StateHandler] | None = None,
        flow_result: ResultStore | None = None,
    ) -> None:
        super().__init__(state_handlers)
        self.task: TaskSpec[..., Any] = task.spec
        self.flow_result = flow_result

    @check
    def check_task_is_ready(self, state: State[Any]) -> State[Any]:
        """Ends with what is final, or in other hands; goes on with what waits, and with what is cached or mapped."""
        if state.is_pending() or state.is_scheduled():
            return state
        if state.is_completed() and state.name in ("Cached", "Mapped"):
            return state
        if state.is_paused():
            timeout = state.state_details.pause_timeout
            if timeout is not None and timeout <= now():
                return Failed(message="The task was paused and never resumed.")
            if self.context.get("resume"):
                return state
        raise ENDRUN(state)

    @check
    def check_task_reached_start_time(self, state: State[Any]) -> State[Any]:
        """Ends with a state whose time has not come."""
        if state.is_scheduled() and not is_due(state):
            raise ENDRUN(state)
        return state

    @check
    def check_upstream_finished(self, state: State[Any], upstream_states: States) -> State[Any]:
        """Ends with the same state while something that the task needs is not final; of a mapped run its children."""
        for edge, upstream in upstream_states.items():
            children = None if edge.mapped else children_of(upstream)
            if not upstream.is_final() or not all(child.is_final() for child in children or ()):
                raise ENDRUN(state)
        return state

    @check
    def check_upstream_skipped(self, state: State[Any], upstream_states: States) -> State[Any]:
        """Skipped, if something that the task needs was skipped and its trigger does not say otherwise."""
        if (end := end_by_skip(self.task.trigger, flattened(upstream_states))) is not None:
            raise ENDRUN(end)
        return state

    def load_results(self, state: State[Any], upstream_states: States) -> tuple[State[Any], dict[Any, State[Any]]]:
        """The states with their results, where they had a reference only.

        Raises:
            ENDRUN: one cannot be had; with FAILED.
        """
        read = self.flow_result.read if self.flow_result is not None else None
        try:
            return loaded(state, read), {edge: loaded(each, read) for edge, each in upstream_states.items()}
        except Exception as error:
            message = printable(f"Failed to retrieve task results: {error}")
            raise ENDRUN(self.handle_state_change(state, Failed(message=message, data=error))) from error

    def get_task_inputs(self, upstream_states: States) -> dict[str, ResultRecord[Any]]:
        """What the edges with a key give, by parameter, besides `constants` of the context; of a mapped one a list."""
        constants = {name: record_of(value) for name, value in self.context.get("constants", {}).items()}
        return {**constants, **inputs_of(upstream_states)}

    @check
    def check_task_ready_to_map(self, state: State[Any], upstream_states: States) -> State[Any]:
        """Ends with Mapped, whose data has a place for each child; or with FAILED, if there is nothing to map over."""
        if children_of(state) is not None:
            raise ENDRUN(state)
        mapped = {edge: each for edge, each in upstream_states.items() if edge.mapped}
        if not any(each.is_completed() for each in mapped.values()):
            raise ENDRUN(Failed(message="No upstream states can be mapped over."))
        lengths = [length_of(each) for each in mapped.values() if each.is_completed()]
        if None in lengths:
            raise ENDRUN(Failed(message="At least one upstream state has an unmappable result."))
        many = min(length for length in lengths if length is not None)
        raise ENDRUN(Completed(name="Mapped", message="Ready to proceed with mapping.", data=[None] * many))
