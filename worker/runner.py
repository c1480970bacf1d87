"""TaskRunner: the older way to run a task, a pipeline of named checks. Runs it in this thread, recorded as any other.

# What the body came to is recorded by `check_for_retry` alone: only there the rules may have it tried again.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from shared.clock import now
from shared.errors import ENDRUN, Fenced, RedisUnavailable, RunGone, TransitionRefused
from shared.ids import as_id, new_id
from shared.outcomes import exception_to_failed_state
from shared.results import ResultRecord, ResultStore
from shared.rules_common import has_tries_left
from shared.rules_facts import changed
from shared.runs import TaskRun
from shared.specs import TaskLike, TaskSpec
from shared.states import Cancelled, Failed, Pending, Running, State
from shared.texts import printable
from worker.engine.beginning import new_task_run
from worker.engine.drivers import SyncTaskRunEngine
from worker.engine.inline import InlineRun
from worker.engine.recording import Recorder, current_recorder
from worker.inputs import named_inputs
from worker.pipeline import (
    WAITS_HERE,
    Runner,
    StateHandler,
    TaskRunnerInitializeResult,
    check,
    flattened,
    is_due,
    references_of,
    rendered,
    unwrapped,
    values_of,
    waited,
)
from worker.runner_body import body_outcome
from worker.runner_cache import TaskCache, cache_of
from worker.runner_checks import TaskChecks
from worker.triggers import States, all_successful, end_by_trigger

__all__ = ["Runner", "StateHandler", "TaskRunner", "TaskRunnerInitializeResult"]

Inputted = Mapping[str, ResultRecord[Any]]
log = logging.getLogger("baton.engine")


class TaskRunner(TaskChecks):
    """Runs one task at a time, for each call of `run` one run.

    Args:
        task: a `@task`.
        state_handlers: called with this runner, after the task's own.
        flow_result: where results are cached, and read that states have a reference to only.

    Raises:
        InvalidCall: the handlers are no iterable.
    """

    def __init__(
        self,
        task: TaskLike[..., Any],
        state_handlers: Iterable[StateHandler] | None = None,
        flow_result: ResultStore | None = None,
    ) -> None:
        super().__init__(task, state_handlers, flow_result)
        self._recorder: Recorder = current_recorder()
        self._begin({})

    def _begin(self, states: States) -> None:
        self._states = dict(states)
        self._new: TaskRun | None = None
        self._place: InlineRun | None = None
        self._engine: SyncTaskRunEngine[..., Any] | None = None
        self._is_final = False

    def target(self) -> TaskSpec[..., Any]:
        """The task."""
        return self.task

    def target_handlers(self) -> Sequence[Callable[..., Any]]:
        """The task's own handlers."""
        return self.task.state_handlers

    # --- the pipeline -------------------------------------------------------------------------------------------------

    def run(
        self,
        state: State[Any] | None = None,
        upstream_states: States | None = None,
        context: dict[str, Any] | None = None,
        is_mapped_parent: bool = False,
    ) -> State[Any]:
        """Run the task, or find out why it does not begin; the state in which it then is.

        Waits here for retries that are due within a minute, or however long where no server records the run.

        Args:
            state: in which the run is; Pending by default.
            upstream_states: the states of what it needs, by edge; an edge's `key` is the parameter that it is for.
            context: `task_run_id` selects the run, `map_index` says which child of a mapped one it is, `resume` lets a
                paused one go on, `parameters` are the flow's, `raise_on_exception` lets errors through.
            is_mapped_parent: find out only over how many elements it is to be mapped.

        Raises:
            KeyboardInterrupt, SystemExit, CancelledError: whatever interrupted the task, once that is recorded.
        """
        self._begin(upstream_states or {})
        try:
            found, self.context = self.initialize_run(state, context)
            log.info("Task '%s': Starting task run...", self.context["task_full_name"])
            ended = self._to_the_end(found, is_mapped_parent=is_mapped_parent)
        finally:
            if self._place is not None:
                self._place.release()
        told = self.context["task_full_name"], ended.name
        log.info("Task '%s': Finished task run for task with final state: '%s'", *told)
        if self._engine is not None and self._engine.crash is not None:
            raise self._engine.crash
        return ended

    def _to_the_end(self, found: State[Any], *, is_mapped_parent: bool) -> State[Any]:
        while True:
            try:
                ended = self._checked(found, is_mapped_parent=is_mapped_parent)
            except ENDRUN as end:
                ended = end.state
            until = self._wakes_at(ended)
            if until is None or (ended is found and is_due(ended)):
                return ended
            waited(until, self._is_cancelled)
            if self._is_cancelled():
                return self.propose(Cancelled(message="Cancelled while waiting."))
            self.context["task_run_count"] += ended is not found
            found = ended

    def _checked(self, state: State[Any], *, is_mapped_parent: bool) -> State[Any]:
        state = self.check_task_reached_start_time(self.check_task_is_ready(state))
        state = self.check_upstream_finished(state, self._states)
        state = self.check_upstream_skipped(state, self._states)
        state, states = self.load_results(state, self._states)
        inputs = self.get_task_inputs(states)
        if is_mapped_parent:
            state = self.check_task_ready_to_map(state, states)
        state = self.check_task_run_has_name(state, inputs)
        state = self.check_task_trigger(state, states)
        state = self.check_task_is_cached(state, inputs)
        state = self.set_task_to_running(state)
        while True:
            state = self.get_task_run_state(state, inputs)
            state = self.check_for_retry(state, inputs)
            if not state.is_running():
                return state
            self.context["task_run_count"] += 1

    def initialize_run(self, state: State[Any] | None, context: dict[str, Any] | None) -> TaskRunnerInitializeResult:
        """The state to begin with, without those around it, and the context with what every task's has."""
        told = dict(context or {})
        run_id = told.get("task_run_id")
        known = self._recorder.find(as_id(run_id)) if run_id is not None else None
        found = unwrapped(state) or (Pending() if known is None else known.state)
        if found.name == "AwaitingRetry" and found.state_details.attempt:
            told["task_run_count"] = found.state_details.attempt + 1
        told.setdefault("task_run_count", 1 if known is None else known.run_count + 1)
        if found.name == "Resuming":
            told["resume"] = True
        full = self.task.name if told.get("map_index") is None else f"{self.task.name}[{told['map_index']}]"
        if known is None:
            run_id = new_id() if run_id is None else as_id(run_id)
            known = new_task_run(self.task, references_of(self._states), run_id, told)
        self._new = known
        told |= {"task_name": full, "task_full_name": full, "task_tags": known.tags, "task_run_id": known.id}
        about = {"run_id": known.id, "task": self.task.key}
        told["logger"] = logging.LoggerAdapter(logging.getLogger("baton.runs"), about)
        return TaskRunnerInitializeResult(found, told)

    def set_task_run_name(self, task_inputs: Inputted) -> None:
        """Give the run its name, made of the flow's parameters, the context and the inputs; later ones win."""
        if (name := self.task.task_run_name) is None:
            return
        about = {**self.context.get("parameters", {}), **self.context, **values_of(task_inputs)}
        self._new = replace(self._selected(), name=rendered(name, about))
        if self._place is not None:
            self._place.rename(self._new.name)

    @check
    def check_task_run_has_name(self, state: State[Any], inputs: Inputted) -> State[Any]:
        """Ends with FAILED if no name can be made for the run."""
        try:
            self.set_task_run_name(inputs)
        except Exception as error:
            message = "The name of the task run could not be made:"
            raise ENDRUN(exception_to_failed_state(error, message=message)) from error
        return state

    @check
    def check_task_is_cached(self, state: State[Any], inputs: Inputted) -> State[Any]:
        """Cached, if a result for these inputs is kept; Pending, if a state that is Cached is valid no more."""
        return self._cache(inputs).found_for(state)

    @check
    def check_task_trigger(self, state: State[Any], upstream_states: States) -> State[Any]:
        """What the task's trigger says: the same state, or the one in which it ends."""
        trigger, flat = self.task.trigger or all_successful, flattened(upstream_states)
        if (end := end_by_trigger(trigger, flat, lambda: bool(self.context.get("resume")))) is not None:
            raise ENDRUN(end)
        return state

    @check
    def set_task_to_running(self, state: State[Any]) -> State[Any]:
        """Running; ends with a state that cannot become it, such as a cached one."""
        is_resumed = state.is_paused() and self.context.get("resume")
        if not (state.is_pending() or state.is_scheduled() or is_resumed):
            raise ENDRUN(state)
        return Running(message="Starting task run.")

    def get_task_run_state(self, state: State[Any], inputs: Inputted) -> State[Any]:
        """One attempt: what came of the function, and what the handlers make of that. Not recorded yet.

        Raises:
            ENDRUN: it was not begun.
        """
        if not state.is_running() or self._place is None:
            raise ENDRUN(state)
        engine = self._engine = self._engine or SyncTaskRunEngine(self.task, {}, place=self._place)
        engine.parameters, engine.seconds = values_of(inputs), self.task.timeout_seconds
        outcome, self._is_final = body_outcome(engine, raises=bool(self.context.get("raise_on_exception")))
        return self._shaped_or_ended(state, outcome)[0]

    def check_for_retry(self, state: State[Any], inputs: Inputted) -> State[Any]:
        """What is recorded of an attempt's outcome: itself, or where the rules have it tried again what they say."""
        place, proposed, retriable = self._held(), state, None
        if state.is_failed() and place.retries > 0 and has_tries_left(place):
            is_final = self._is_final or state.name == "TriggerFailed"
            is_tried = not is_final and (self._engine is None or self._engine.can_retry(state))
            retriable = None if is_tried else False
            if is_tried:
                tried, most = place.run_count - place.crashes, place.retries + 1
                proposed = changed(state, message=f"Retrying Task (after attempt {tried} of {most})")
        recorded = self._record(proposed, retriable)
        if recorded.type != state.type:
            recorded = self._record_shaped(state, recorded)
        if recorded.is_completed():
            self._cache(inputs).keep(recorded)
        return recorded

    # --- recording ----------------------------------------------------------------------------------------------------

    def propose(self, new: State[Any]) -> State[Any]:
        """Have the state recorded, and call its hooks; the one that then holds.

        Raises:
            ENDRUN: another process has the run, with its state; or nobody recorded it, with ClientFailed around it.
        """
        if new.name == "Mapped":
            return new  # no run: its children are
        recorded = self._record(new)
        while new.is_running() and not recorded.is_running() and (until := self._wakes_at(recorded)) is not None:
            waited(until, self._is_cancelled)
            recorded = self._record(new)
        return recorded

    def _wakes_at(self, state: State[Any]) -> datetime | None:
        """When to go on with a state that is waited for here."""
        if self._place is not None:
            return None if state.is_final() or state.is_paused() else self._place.wakes_at(state)
        due, longest = state.state_details.scheduled_time, self._recorder.longest_wait
        is_far = longest is not None and due is not None and due > now() + timedelta(seconds=longest)
        return due if state.is_scheduled() and state.name in WAITS_HERE and not is_far else None

    def _is_cancelled(self) -> bool:
        event = self.context.get("cancel_event")
        return self._place.is_cancelled() if self._place is not None else bool(event and event.is_set())

    def _cache(self, inputs: Inputted) -> TaskCache:
        run, parameters = self._selected(), self.context.get("parameters")
        return cache_of(self.task, self.flow_result, self._recorder, values_of(inputs), parameters, run)

    def _selected(self) -> TaskRun:
        if self._new is None:
            raise TransitionRefused("there is no run: it begins with initialize_run")
        return self._new

    def _record(self, new: State[Any], retriable: bool | None = None) -> State[Any]:
        try:
            place = self._held()
            recorded = place.propose(new, retriable)
        except RedisUnavailable as error:
            raise ENDRUN(Failed(name="ClientFailed", message=printable(str(error)), data=new)) from error
        except (Fenced, TransitionRefused, RunGone) as error:
            raise ENDRUN(self._recorded_elsewhere(new, error)) from error
        if recorded.is_running() or recorded.is_final():
            engine = self._engine or SyncTaskRunEngine(self.task, {}, place=place)
            engine.call_hooks(recorded)
        data = new.data if recorded.type == new.type and new.data is not None else recorded.data
        details = recorded.state_details.replaced(task_run_id=place.run.id)
        return changed(recorded, data=data, state_details=details)

    def _record_shaped(self, old: State[Any], recorded: State[Any]) -> State[Any]:
        shaped, ends = self._shaped_or_ended(old, recorded)
        if ends:
            raise ENDRUN(self._record(shaped, retriable=False))
        return recorded if shaped is recorded else self._record(shaped)

    def _recorded_elsewhere(self, new: State[Any], error: Exception) -> State[Any]:
        known, place = self._recorder.find(self._selected().id), self._place
        failed = Failed(message=printable(f"{new.name} was refused: {error}"), data=error)
        if known is None or known.state.is_final():
            return failed if known is None else known.state
        if place is not None and known.seq == place.run.seq and not new.is_failed():
            return self._record(failed, retriable=False)  # nobody else has it: it was a handler's wish
        return known.state if known.state.is_running() else failed

    def _held(self) -> InlineRun:
        """The run, recorded at the latest now, and held by this process."""
        if self._place is None:
            new = self._selected()
            named = named_inputs(references_of(self._states), {}, new.parent)
            self._place = InlineRun(new, self.task, self._recorder, self.context.get("cancel_event"), named)
        return self._place
