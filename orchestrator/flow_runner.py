"""FlowRunner: runs a graph in this process, one call after the other, as the older pipelines do. Recorded as any run.

# Every call is run by a TaskRunner of its own, with this runner's run as its parent. What decides about the end, and in
# which words, is told by the states of the reference tasks alone.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from orchestrator.graph_nodes import Node
from orchestrator.graph_runs import Drawn
from orchestrator.graph_states import NodeStates
from shared.clock import iso, now
from shared.errors import ENDRUN, Fenced, InvalidValue, RedisUnavailable, RunGone, TerminationSignal, TransitionRefused
from shared.ids import as_id, new_id
from shared.rules_facts import changed
from shared.runs import TaskRun
from shared.states import Cancelled, Completed, Failed, Pending, Running, State
from shared.texts import printable
from worker.context import inherited
from worker.engine.inline import InlineRun
from worker.engine.recording import Recorder, current_recorder
from worker.graph_end import END, final_state
from worker.pipeline import Runner, StateHandler, check, children_of, is_due, unwrapped
from worker.runner import TaskRunner

__all__ = ["FlowRunner", "FlowRunnerInitializeResult"]

log = logging.getLogger("baton.engine")
Given = Mapping[Any, Any]
"""By node, or by a task that occurs in the graph once."""


class FlowRunnerInitializeResult(NamedTuple):
    """What a graph's pipeline begins with; states and contexts by node."""

    state: State[Any]
    task_states: dict[Node, State[Any]]
    context: dict[str, Any]
    task_contexts: dict[Node, dict[str, Any]]


class FlowRunner(Runner):
    """Runs a graph, for each call of `run` one run.

    Args:
        flow: the graph.
        state_handlers: called with this runner.

    Raises:
        InvalidCall: the handlers are no iterable.
    """

    unexpected = "Unexpected error while running flow"

    def __init__(self, flow: Drawn, state_handlers: Iterable[StateHandler] | None = None) -> None:
        super().__init__(state_handlers)
        self.flow = flow
        self._recorder: Recorder = current_recorder()
        self._new: TaskRun | None = None
        self._place: InlineRun | None = None

    def target(self) -> Drawn:
        """The graph."""
        return self.flow

    def target_handlers(self) -> Sequence[Callable[..., Any]]:
        """None: a graph has no handlers of its own."""
        return ()

    def run(
        self,
        state: State[Any] | None = None,
        task_states: Given | None = None,
        return_tasks: Iterable[Any] | None = None,
        parameters: dict[str, Any] | None = None,
        task_runner_state_handlers: Iterable[StateHandler] | None = None,
        executor: Literal["inline"] | None = None,
        context: dict[str, Any] | None = None,
        task_contexts: Given | None = None,
    ) -> State[Any]:
        """Run the graph; the state in which it then is, whose data are the states of `return_tasks` by what was given.

        Args:
            state: in which the run is; Pending by default.
            task_states: states of calls. What is final is taken over; what is cached or mapped is looked at again.
            return_tasks: calls whose states are wanted.
            parameters: of the graph, by name.
            task_runner_state_handlers: called with the TaskRunner of each call.
            executor: "inline" and None both run it here; `Graph.submit` has a fleet run it.
            context: `flow_run_id` is the id of the run; the contexts of the calls get all of it.
            task_contexts: more context, by call.

        Raises:
            InvalidValue: a parameter is missing or unknown, a call is none of the graph's, or no such executor.
        """
        if executor not in (None, "inline"):
            raise InvalidValue(f"'executor' must be 'inline' or None, got {executor!r}")
        wanted = {key: self._node_of(key) for key in return_tasks or ()}
        begun = self.initialize_run(state, task_states, context, task_contexts, parameters)
        self.context = begun.context
        states = NodeStates(self.flow, begun.task_states, begun.context["parameters"])
        handlers = tuple(task_runner_state_handlers or ())
        try:
            ended = self._passed(begun.state, states, begun.task_contexts, handlers)
        finally:
            if self._place is not None:
                self._place.release()
        if not wanted or not (ended.is_final() or ended.is_running()):
            return ended
        pending = Pending(message="Task state not available.")
        return changed(ended, data={key: states.found.get(node, pending) for key, node in wanted.items()})

    def _passed(
        self,
        state: State[Any],
        states: NodeStates,
        contexts: Mapping[Node, dict[str, Any]],
        handlers: Sequence[StateHandler],
    ) -> State[Any]:
        """Once through the checks."""
        try:
            state = self.check_flow_is_ready(state)
            state = self.check_flow_reached_start_time(state)
            state = self.set_flow_to_running(state)
            return self.get_flow_run_state(state, states, contexts, handlers)
        except ENDRUN as end:
            ended: State[Any] = end.state
            return ended

    def initialize_run(
        self,
        state: State[Any] | None,
        task_states: Given | None,
        context: dict[str, Any] | None,
        task_contexts: Given | None,
        parameters: dict[str, Any] | None,
    ) -> FlowRunnerInitializeResult:
        """The state to begin with, states and contexts by node, and the context with what every graph's has.

        Raises:
            InvalidValue: as `run`.
        """
        told = dict(context or {})
        run_id = told.get("flow_run_id")
        known = self._recorder.find(as_id(run_id)) if run_id is not None else None
        run_id = new_id() if run_id is None else as_id(run_id)
        found = unwrapped(state) or (Pending() if known is None else known.state)
        stored = (known.parameters if known is not None else None) or {}
        filled = self.flow.filled({**stored, **(parameters or {})})
        self._new = known or self._unrecorded(run_id, filled)
        started = found.state_details.scheduled_time or now()
        told |= {"flow_name": self.flow.name, "flow_run_id": run_id, "scheduled_start_time": started}
        for name, days in (("yesterday", -1), ("today", 0), ("tomorrow", 1)):
            day = iso(started + timedelta(days=days))[:10]
            told |= {name: day, f"{name}_nodash": day.replace("-", "")}
        told["parameters"] = filled
        return FlowRunnerInitializeResult(
            found,
            {self._node_of(key): each for key, each in (task_states or {}).items()},
            told,
            {self._node_of(key): dict(each) for key, each in (task_contexts or {}).items()},
        )

    @check
    def check_flow_is_ready(self, state: State[Any]) -> State[Any]:
        """Ends with what neither waits nor runs."""
        if not (state.is_pending() or state.is_scheduled() or state.is_running()):
            raise ENDRUN(state)
        return state

    @check
    def check_flow_reached_start_time(self, state: State[Any]) -> State[Any]:
        """Ends with a state whose time has not come."""
        if state.is_scheduled() and not is_due(state):
            raise ENDRUN(state)
        return state

    @check
    def set_flow_to_running(self, state: State[Any]) -> State[Any]:
        """Running; what is recorded as that stays as it is."""
        is_recorded = self._new is not None and self._new.state.is_running()
        return state if state.is_running() and is_recorded else Running(message="Running flow.")

    @check
    def get_flow_run_state(
        self,
        state: State[Any],
        states: NodeStates,
        contexts: Mapping[Node, dict[str, Any]],
        handlers: Sequence[StateHandler],
    ) -> State[Any]:
        """Run each call behind those that it needs, and judge by what they ended as."""
        for node in self.flow.order():
            if states.is_settled(node):
                continue
            with self.check_for_cancellation():
                states.found[node] = self._run_node(node, states, contexts.get(node, {}), handlers)
        return self.determine_final_state(state, states)

    def determine_final_state(self, state: State[Any], states: NodeStates) -> State[Any]:
        """How the graph ends; the same state while one of its terminal tasks has not."""
        terminal = states.of(self.flow.terminal_tasks())
        references = states.of(self.flow.reference_tasks())
        end = final_state(terminal, references)
        if self.flow.terminal_state_handler is not None:
            end = self.flow.terminal_state_handler(self.flow, end, references) or end
        return state if end.is_running() else end

    @contextmanager
    def check_for_cancellation(self) -> Iterator[None]:
        """Around work that a cancel must not outlive.

        Raises:
            ENDRUN: the run is cancelled.
        """
        try:
            self._check_goes_on()
            yield
        except TerminationSignal as error:
            raise ENDRUN(Cancelled(message="Flow run is cancelled")) from error
        self._check_goes_on()

    # --- recording ----------------------------------------------------------------------------------------------------

    def propose(self, new: State[Any]) -> State[Any]:
        """Have the state recorded; the one that then holds.

        Raises:
            ENDRUN: another process has the run, or nobody recorded it; with FAILED.
        """
        if self._new is None:
            raise TransitionRefused("there is no run: it begins with initialize_run")
        try:
            if self._place is None:
                self._place = InlineRun(self._new, END, self._recorder, self.context.get("cancel_event"))
            return self._place.propose(new)
        except RedisUnavailable as error:
            raise ENDRUN(Failed(name="ClientFailed", message=printable(str(error)), data=new)) from error
        except (Fenced, TransitionRefused, RunGone) as error:
            raise ENDRUN(Failed(message=printable(f"{new.name} was refused: {error}"), data=error)) from error

    # --- calls --------------------------------------------------------------------------------------------------------

    def _run_node(
        self, node: Node, states: NodeStates, more: Mapping[str, Any], handlers: Sequence[StateHandler]
    ) -> State[Any]:
        if node.task is None:
            return Completed(data=self.context["parameters"][node.name])
        runner = TaskRunner(node.task, handlers)
        told = {**self.context, "parent_run": self.context["flow_run_id"], **more}
        upstream, constants = states.needed(node)
        given = states.found.get(node)
        if not node.is_mapped:
            return runner.run(given, upstream, {**told, "constants": constants})
        parent = runner.run(given, upstream, told, is_mapped_parent=True)
        before = children_of(parent)
        if before is None:
            return parent
        children: list[State[Any]] = []
        for index in range(len(parent.data)):
            known = parent.data[index]
            if isinstance(known, State) and known.is_completed():
                children.append(known)
                continue
            upstream, constants = states.needed(node, index)
            children.append(runner.run(None, upstream, {**told, "constants": constants, "map_index": index}))
        return changed(parent, data=children)

    def _unrecorded(self, run_id: str, parameters: Mapping[str, Any]) -> TaskRun:
        name, flow = self.flow.name, inherited().get("flow")
        parent, queue = inherited().get("parent"), END.queue
        return TaskRun(
            id=run_id,
            task=END.key,
            name=name,
            queue=queue,
            state=Pending(),
            parent=parent,
            flow=flow,
            parameters=parameters,
        )

    def _node_of(self, key: Any) -> Node:
        if isinstance(key, Node) and key.graph is self.flow:
            return key
        spec = key.spec if not isinstance(key, Node) and hasattr(key, "spec") else None
        found = [node for node in self.flow.nodes if spec is not None and node.task is spec]
        if len(found) != 1:
            raise InvalidValue(f"{key!r} is no call of graph {self.flow.name!r}, or more than one")
        return found[0]

    def _check_goes_on(self) -> None:
        if self._place is not None and self._place.is_cancelled():
            raise ENDRUN(Cancelled(message="Flow run is cancelled"))
