"""The life of a task run as a generator of steps. No Redis, no clock, no event loop: whoever drives it does the work.

# Written once for sync, async and inline use. What a stage wants done it yields; what came of it is sent back.
# What becomes of an attempt is told in outcomes.py; what all stages work with, in core.py.
"""

import asyncio
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any, Final, ParamSpec, TypeVar
from uuid import UUID

from shared.errors import ENDRUN, InvalidCall, ParameterBindError, TerminationSignal
from shared.outcomes import exception_to_failed_state
from shared.results import record_of
from shared.specs import FlowSpec
from shared.states import Cancelled, Completed, Pending, Running, State
from worker.engine.beginning import Dependencies, begun
from worker.engine.handlers import handled
from worker.engine.inline import InlineRun
from worker.engine.recording import Recorder
from worker.engine.steps import (
    Abandoned,
    Ask,
    Call,
    Close,
    Emit,
    Ended,
    Next,
    Open,
    Overran,
    Propose,
    Rename,
    Settle,
    Sleep,
    Stage,
    Step,
    Steps,
    Stream,
    Take,
    Unbound,
)
from worker.engine.transacting import TransactionStages
from worker.inputs import Inputs

INTERRUPTS: Final = (KeyboardInterrupt, SystemExit, asyncio.CancelledError)
P = ParamSpec("P")
R = TypeVar("R")
log = logging.getLogger("baton.engine")


class BaseTaskRunEngine(TransactionStages[P, R]):
    """One run of a task, from its begin to the end of its last attempt in this process."""

    def _begun(
        self, recorder: Recorder, task_run_id: str | UUID | None, dependencies: Dependencies | None
    ) -> InlineRun:
        """Have the run held by this process."""
        place, inputs = begun(
            self.spec,
            self.parameters,
            recorder,
            task_run=self._given_run,
            task_run_id=task_run_id,
            wait_for=self.wait_for,
            dependencies=dependencies,
            context=self.context,
        )
        self.parameters, self.inputs = inputs.parameters, inputs if inputs.sources else None
        if self.seconds is None:
            self.seconds = self.spec.timeout_seconds
        self._place, self._state = place, place.state
        return place

    # --- the life -----------------------------------------------------------------------------------------------------

    def steps(self) -> Steps:
        """The life of the run; the state that then holds."""
        handlers = self.spec.state_handlers
        steps = self._life_steps()
        if not handlers:
            return steps
        # What the fleet hands out was PENDING, whatever it is since.
        return handled(steps, self.spec, handlers, lambda: self._state or Pending())

    def _life_steps(self) -> Steps:
        """Inputs, attempts as long as the rules answer with another one here, the end; the state that then holds."""
        try:
            is_plain = self.inputs is None and self.spec.task_run_name is None and self.spec.kind == "task"
            if is_plain or (yield from self.prepare_steps()):
                yield from self.begin_run_steps()
            while self.state.is_running():
                yield from self.attempt_steps()
                if not self.state.is_final() and self._wakes_at() is not None:
                    yield from self.begin_run_steps()
        except INTERRUPTS as error:
            # In the body it would be an outcome; here it struck while the run waited or was recorded.
            if self._state is None or self._state.is_final():
                raise
            yield from self.handle_crash_steps(error)
        return (yield from self.finish_steps())

    def end_steps(self, outcome: State[Any]) -> Steps:
        """The end of a run whose body cannot be called; no retry would end otherwise."""
        yield from self._end_steps(outcome)
        return (yield from self.finish_steps())

    def prepare_steps(self) -> Generator[Step, Any, bool]:
        """What comes before the first attempt; False if the run cannot begin."""
        if self.inputs is not None and not (yield from self.take_inputs_steps(self.inputs)):
            return False
        if isinstance(self.spec, FlowSpec) and not (yield from self.convert_parameters_steps(self.spec)):
            return False
        return self.spec.task_run_name is None or (yield from self.name_run_steps(self.spec.task_run_name))

    def take_inputs_steps(self, inputs: Inputs) -> Generator[Step, Any, bool]:
        """Wait for upstreams and put their results in; False if the run cannot begin."""
        ready = yield Take(inputs)
        if isinstance(ready, State):
            self._state = yield Propose(ready, retriable=False)
            return False
        self.parameters = ready
        return True

    def convert_parameters_steps(self, spec: FlowSpec[..., Any]) -> Generator[Step, Any, bool]:
        """Make of the parameters what a flow's annotations say; False if the run has ended because they are wrong."""
        try:
            self.parameters = spec.converted(self.parameters)
        except Exception as error:  # noqa: BLE001 - a validator is user code too
            yield from self._end_steps(self.failed_state(error))
            return False
        return True

    def name_run_steps(self, name: str | Callable[..., Any]) -> Generator[Step, Any, bool]:
        """Give the run its name, made of the parameters; False if it has ended because none could be made."""
        try:
            parameters = self.spec.binding.complete(self.parameters)
            if isinstance(name, str):
                rendered = name.format(**parameters)
            else:
                takes = "parameters" in signature(name).parameters
                rendered = yield Ask(partial(name, parameters=parameters) if takes else name, ())
                if not isinstance(rendered, str):
                    kind = type(rendered).__name__
                    option = f"{self.spec.kind}_run_name"
                    text = f"Callable {name} for '{option}' returned type {kind} but a string is required."
                    raise InvalidCall(text)  # noqa: TRY301 - handled like any other error in the name
        except Exception as error:  # noqa: BLE001 - a name is user code too
            failed = exception_to_failed_state(
                error, message=f"The name of the {self.spec.kind} run could not be made:"
            )
            self._state = yield Propose(failed, retriable=False)
            return False
        yield Rename(rendered)
        return True

    def begin_run_steps(self) -> Stage:
        """Ask for RUNNING, until it is granted or the run is not to be waited for here."""
        self._state = yield Propose(Running())
        if not self.state.is_running():
            yield from self.wait_until_ready_steps()
        if self.spec.on_running and self.state.is_running():
            yield from self.call_hooks_steps()

    def wait_until_ready_steps(self) -> Stage:
        """Wait here for as long as the run has to, asking for RUNNING again."""
        while (at := self._wakes_at()) is not None:
            yield Sleep(at)
            self._state = yield Propose(Running())

    def start_steps(self) -> Stage:
        """Inputs, name and the first state of an attempt, for a run that has not ended."""
        if not self.state.is_final() and (yield from self.prepare_steps()):
            yield from self.begin_run_steps()

    def attempt_steps(self) -> Stage:
        """One attempt: the body, its outcome, and what the rules made of it."""
        if self.spec.transacts:
            return (yield from self.transacted_attempt_steps())
        try:
            value = yield from self.call_task_fn_steps()
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever the user's function raises is its outcome
            stage: Generator[Step, Any, object] = self.error_steps(error)
        else:
            stage = self.handle_success_steps(value)
        yield from stage  # out here, so that what is raised in it has not the body's error as its context
        return None

    def error_steps(self, error: BaseException) -> Generator[Step, Any, object]:  # noqa: PLR0911 - one for each kind
        """The outcome of an attempt in which this was raised. An interrupt crashes the run, and not the worker."""
        if isinstance(error, Overran):
            self._overrun = error = error.error
        if isinstance(error, TimeoutError):
            return self.handle_timeout_steps(error)
        if isinstance(error, ENDRUN):
            return self.handle_signal_steps(error)
        if isinstance(error, Unbound):
            return self._end_steps(self.failed_state(error.error))
        if isinstance(error, Abandoned):
            return self.set_state_steps(Completed(message="Closed by the consumer.", data=record_of(None, None, None)))
        if isinstance(error, TerminationSignal):
            return self.set_state_steps(Cancelled(message="Cancelled while running."))
        if isinstance(error, Exception):
            return self.handle_exception_steps(error)
        return self.handle_crash_steps(error)

    def _end_steps(self, state: State[Any]) -> Stage:
        self._state = yield Propose(state, retriable=False)

    def call_task_fn_steps(self) -> Generator[Step, Any, Any]:
        """One call of the function: its value, or of a generator that streams what it returned; a flow's runs seen to.

        Raises:
            Unbound: the parameters do not fit it.
        """
        try:
            args, kwargs = self.spec.binding.unbind(self.parameters)
        except ParameterBindError as error:
            raise Unbound(error) from error
        if self.streams:
            value = yield from self._stream_steps(args, kwargs)
        else:
            value = yield Call(self.spec.fn, args, kwargs, self.seconds)
        return (yield from self.gather_steps(value, self.spec)) if isinstance(self.spec, FlowSpec) else value

    def _stream_steps(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Generator[Step, Any, Any]:
        stream = Stream((yield Open(self.spec.fn, args, kwargs)), self.seconds)
        while not isinstance(answer := (yield Next(stream)), Ended):
            try:
                yield Emit(answer.value)
            except Abandoned:
                yield from self._close_steps(stream)
                raise
        return answer.value

    def _close_steps(self, stream: Stream) -> Stage:
        try:
            yield Close(stream)
        except Exception:
            log.exception("An error was encountered while closing the generator", extra=self.log_fields())

    def finish_steps(self) -> Steps:
        """Hooks of the final state, and the last words."""
        state = self.state
        # Whether a run was cancelled meanwhile only its record tells.
        if state.is_final() and (self._hooks_of(state) or self.spec.on_cancellation):
            self._state = state = yield Settle()
            yield from self.call_hooks_steps(state)
        self.log_finished_message()
        return state
