"""The life of a task run as a generator of steps. No Redis, no clock, no event loop: whoever drives it does the work.

# Written once for sync, async and inline use. What a stage wants done it yields; what came of it is sent back.
# Hooks are called after their state is recorded, and only then; where there are none, nothing is done for them.
"""

import asyncio
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from functools import partial
from inspect import signature
from typing import Any, Final, Generic, ParamSpec, TypeVar

from shared.errors import InvalidCall, ParameterBindError, TerminationSignal
from shared.outcomes import exception_to_crashed_state, exception_to_failed_state, return_value_to_state
from shared.results import record_of
from shared.rules_common import has_tries_left
from shared.specs import TaskSpec
from shared.state_types import StateType
from shared.states import Cancelled, Completed, Failed, Running, State
from shared.texts import printable
from worker.engine.place import Place
from worker.engine.steps import (
    Abandoned,
    Ask,
    Call,
    Close,
    Emit,
    Ended,
    Look,
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
)
from worker.inputs import Inputs
from worker.prints import logged_prints

NOT_TO_BE_RETURNED = frozenset({StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED})
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
INTERRUPTS: Final = (KeyboardInterrupt, SystemExit, asyncio.CancelledError)
P = ParamSpec("P")
R = TypeVar("R")
log = logging.getLogger("baton.engine")


class BaseTaskRunEngine(Generic[P, R]):
    """One run of a task, from its begin to the end of its last attempt in this process."""

    def __init__(
        self,
        spec: TaskSpec[P, R],
        parameters: Mapping[str, Any],
        seconds: float | None = None,
        place: Place | None = None,
        inputs: Inputs | None = None,
    ) -> None:
        self.spec = spec
        self.parameters = parameters
        self.seconds = seconds
        self.inputs = inputs
        self.crash: BaseException | None = None
        """The interrupt that ended the run: who runs it inline raises it again."""
        self.streams = False
        """True if a generator's items are handed out as they come."""
        self._place = place
        self._state = place.state if place is not None else None
        self._overrun: TimeoutError | None = None

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

    def is_running(self) -> bool:
        """True while the run is executed, or waits here to be."""
        return self.state.is_running() or self._wakes_at() is not None

    def is_cancelled(self) -> bool:
        """True if somebody wants the end of this attempt."""
        return self.place.is_cancelled()

    # --- the life -----------------------------------------------------------------------------------------------------

    def steps(self) -> Steps:
        """Inputs, attempts as long as the rules answer with another one here, the end; the state that then holds."""
        try:
            is_plain = self.inputs is None and self.spec.task_run_name is None
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
        self._state = yield Propose(outcome, retriable=False)
        return (yield from self.finish_steps())

    def prepare_steps(self) -> Generator[Step, Any, bool]:
        """What comes before the first attempt; False if the run cannot begin."""
        if self.inputs is not None and not (yield from self.take_inputs_steps(self.inputs)):
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
                    text = f"Callable {name} for 'task_run_name' returned type {kind} but a string is required."
                    raise InvalidCall(text)  # noqa: TRY301 - handled like any other error in the name
        except Exception as error:  # noqa: BLE001 - a name is user code too
            failed = exception_to_failed_state(error, message="The name of the task run could not be made:")
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

    def attempt_steps(self) -> Stage:
        """One attempt: the body, its outcome, and what the rules made of it."""
        stage: Generator[Step, Any, object]
        try:
            args, kwargs = self.spec.binding.unbind(self.parameters)
        except ParameterBindError as error:
            self._state = yield Propose(self.failed_state(error), retriable=False)
            return
        try:
            value = yield from self.call_task_fn_steps(args, kwargs)
        except Overran as overrun:
            self._overrun = overrun.error
            stage = self.handle_timeout_steps(overrun.error)
        except TimeoutError as error:
            stage = self.handle_timeout_steps(error)
        except Abandoned:
            stage = self.set_state_steps(Completed(message="Closed by the consumer.", data=record_of(None, None, None)))
        except Exception as error:  # noqa: BLE001 - whatever the user's function raises is its outcome
            stage = self.handle_exception_steps(error)
        except TerminationSignal:
            stage = self.set_state_steps(Cancelled(message="Cancelled while running."))
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - an interrupt in the body is a crash of the run, not of the worker
            stage = self.handle_crash_steps(error)
        else:
            stage = self.handle_success_steps(value)
        yield from stage  # out here, so that what is raised in it has not the body's error as its context

    def call_task_fn_steps(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Generator[Step, Any, Any]:
        """One call of the function: its value, or of a generator that streams what it returned."""
        if not self.streams:
            return (yield Call(self.spec.fn, args, kwargs, self.seconds))
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

    # --- outcomes -----------------------------------------------------------------------------------------------------

    def set_state_steps(self, state: State[Any]) -> Stage:
        """Propose a state."""
        self._state = yield Propose(state)

    def handle_success_steps(self, value: Any) -> Stage:
        """What a returned value stands for; a failure that was returned is one like any other."""
        state = self.returned_state(value)
        if state.is_failed():
            yield from self.handle_retry_steps(state)
        else:
            self._state = yield Propose(state)

    def handle_exception_steps(self, error: Exception) -> Generator[Step, Any, bool]:
        """The function raised; True if it is tried again."""
        return (yield from self.handle_retry_steps(error))

    def handle_timeout_steps(self, error: TimeoutError) -> Generator[Step, Any, bool]:
        """The attempt overran its time limit, or raised a TimeoutError of its own; True if it is tried again."""
        return (yield from self.handle_retry_steps(error))

    def handle_retry_steps(self, outcome: Exception | State[Any]) -> Generator[Step, Any, bool]:
        """A failure, which the rules may answer with another attempt; True if they did."""
        state = outcome if isinstance(outcome, State) else self.failed_state(outcome)
        place = self.place
        may_go_on = place.retries > 0 and has_tries_left(place)
        retriable = None
        if may_go_on and self.spec.retry_condition_fn is not None and not (yield from self.can_retry_steps(state)):
            retriable = False
        tried = place.run_count - place.crashes
        self._state = recorded = yield Propose(state, retriable)
        if recorded.is_final():
            if recorded.is_failed() and place.retries > 0 and not may_go_on:
                log.error("%s - Retries are exhausted", state.message, extra=self.log_fields())
            return False
        log.info("%s - Retry %d of %d follows", state.message, tried, place.retries, extra=self.log_fields())
        if recorded.is_running() and self.spec.on_running:
            yield from self.call_hooks_steps()
        return True

    def can_retry_steps(self, outcome: Exception | State[Any]) -> Generator[Step, Any, bool]:
        """What the task's condition says about this failure; True where there is none, False if it raises."""
        condition = self.spec.retry_condition_fn
        if condition is None:
            return True
        state = outcome if isinstance(outcome, State) else self.failed_state(outcome)
        run = yield Look()
        try:
            return bool((yield Ask(condition, (self.spec, run, state))))
        except (Exception, SystemExit):
            name = name_of(condition)
            log.exception("An error was encountered while running retry condition '%s'", name, extra=self.log_fields())
            return False

    def handle_crash_steps(self, error: BaseException) -> Stage:
        """The body was interrupted: a crash that the process can report."""
        self.crash = error
        state = exception_to_crashed_state(error)
        log.error("Crash detected! %s", state.message, extra=self.log_fields())
        self._state = yield Propose(state)

    def call_hooks_steps(self, state: State[Any] | None = None) -> Stage:
        """Call the hooks of a state, by default of the one that holds, in their order; errors in them are logged."""
        hooks = self._hooks_of(state or self.state)
        if not hooks:
            return
        run = yield Look()
        given = run.state if run.state.type == (state or run.state).type else state
        for hook in hooks:
            try:
                yield Ask(hook, (self.spec, run, given))
            except (Exception, SystemExit):
                name = name_of(hook)
                log.exception("An error was encountered while running hook '%s'", name, extra=self.log_fields())

    def failed_state(self, error: Exception) -> State[Any]:
        """FAILED, with this exception; the traceback begins with the user's function."""
        hide_engine(error)
        if not isinstance(error, TimeoutError):
            return exception_to_failed_state(error, message="Task run encountered an exception")
        if error is self._overrun:
            message = f"Task run exceeded timeout of {self.seconds:g} second(s)"
        else:
            message = printable(f"Task run failed due to timeout: {error!r}")
        return Failed(name="TimedOut", message=message, data=error)

    def returned_state(self, value: Any) -> State[Any]:
        """The state that a returned value stands for."""
        try:
            state = return_value_to_state(value)
        except Exception as error:  # noqa: BLE001 - a value that is no outcome fails the run, it does not end the worker
            return exception_to_failed_state(error, message="Task run returned what cannot be its result:")
        if state.type in NOT_TO_BE_RETURNED:
            return Failed(message=f"Task returned a {state.type} state, which only the engine may set.")
        return state

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

    def prints(self) -> AbstractContextManager[None]:
        """Around the body, in its run's context: where its prints go."""
        return logged_prints() if self.spec.log_prints else nullcontext()

    # --- questions ----------------------------------------------------------------------------------------------------

    def _wakes_at(self) -> datetime | None:
        state = self.state
        return None if state.is_running() or state.is_final() else self.place.wakes_at(state)

    def _hooks_of(self, state: State[Any]) -> tuple[Callable[..., Any], ...]:
        name = HOOKS_OF.get(state.type)
        hooks: tuple[Callable[..., Any], ...] = getattr(self.spec, name) if name is not None else ()
        return hooks


def name_of(fn: Callable[..., Any]) -> str:
    """A callable's name for people."""
    return str(getattr(fn, "__name__", type(fn).__name__))


def hide_engine(error: BaseException) -> None:
    """Let the traceback begin with the user's function: the frames that called it say nothing about the error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("worker.engine."):
        trace = trace.tb_next
    if trace is not None:
        error.__traceback__ = trace
