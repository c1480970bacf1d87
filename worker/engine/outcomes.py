"""What becomes of an attempt: the stages from what the function gave to the state that is recorded, and the hooks.

# Hooks are called after their state is recorded, and only then; where there are none, nothing is done for them.
"""

import logging
from collections.abc import Callable, Generator
from typing import Any, ParamSpec, TypeVar

from shared.errors import ENDRUN
from shared.outcomes import exception_to_crashed_state, exception_to_failed_state, return_value_to_state
from shared.rules_common import has_tries_left
from shared.specs import FlowSpec
from shared.state_types import StateType
from shared.states import Failed, State
from shared.texts import printable
from worker.engine.core import EngineCore
from worker.engine.steps import Ask, Force, Gather, Gathered, Look, Propose, Stage, Step
from worker.signals import LOOP

NOT_TO_BE_RETURNED = frozenset({StateType.PENDING, StateType.RUNNING, StateType.CANCELLING})
DRIVES = ("worker.engine.", "shared.stepping")
"""How the names of modules begin whose frames stand before the function's in every traceback."""
P = ParamSpec("P")
R = TypeVar("R")
log = logging.getLogger("baton.engine")


class OutcomeStages(EngineCore[P, R]):
    """The stages that end an attempt."""

    def set_state_steps(self, state: State[Any], *, force: bool = False) -> Stage:
        """Propose a state, or write it without asking the rules."""
        self._state = yield Force(state) if force else Propose(state)

    def gather_steps(self, value: Any, spec: FlowSpec[..., Any]) -> Generator[Step, Any, Any]:
        """The value of a flow once its runs are seen to: with states for futures."""
        gathered: Gathered = yield Gather(value, spec.unfinished)
        told = f"{gathered.incomplete} of {gathered.total} task runs did not complete."
        self._untold = told if gathered.incomplete else None
        return gathered.value

    def handle_success_steps(self, value: Any) -> Stage:
        """What a returned value stands for; a failure that was returned is one like any other."""
        state = self.returned_state(value)
        if state.is_failed():
            yield from self.handle_retry_steps(state)
        else:
            self._state = yield Propose(state)

    def handle_signal_steps(self, signal: ENDRUN) -> Stage:
        """The function ended by a signal: its state is the outcome. LOOP has it called again, the attempt goes on."""
        if isinstance(signal, LOOP) and not self.streams:
            self.looped, self.loop_count = signal, self.loop_count + 1
            return
        state = self.returned_state(signal.state)
        if state.name == "TriggerFailed":
            self._state = yield Propose(state, retriable=False)
        else:
            yield from self.handle_success_steps(state)

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
            return exception_to_failed_state(error, message=f"{self._noun} run encountered an exception")
        if error is self._overrun:
            message = f"{self._noun} run exceeded timeout of {self.seconds:g} second(s)"
        else:
            message = printable(f"{self._noun} run failed due to timeout: {error!r}")
        return Failed(name="TimedOut", message=message, data=error)

    def returned_state(self, value: Any) -> State[Any]:
        """The state that a returned value stands for."""
        try:
            state = return_value_to_state(value)
        except Exception as error:  # noqa: BLE001 - a value that is no outcome fails the run, it does not end the worker
            return exception_to_failed_state(error, message=f"{self._noun} run returned what cannot be its result:")
        if state.is_paused() and not isinstance(value, State):
            return Failed(message=state.message)  # of a group: no attempt of this run would change it
        if state.type in NOT_TO_BE_RETURNED:
            return Failed(message=f"{self._noun} returned a {state.type} state, which only the engine may set.")
        if (
            self._untold is not None
            and state.is_completed()
            and not (isinstance(value, State) and state.id == value.id)
        ):
            told = f"{state.message} {self._untold}" if state.message else self._untold
            return state.copy(update={"message": told})
        return state


def name_of(fn: Callable[..., Any]) -> str:
    """A callable's name for people."""
    return str(getattr(fn, "__name__", type(fn).__name__))


def hide_engine(error: BaseException) -> None:
    """Let the traceback begin with the user's function: the frames that called it say nothing about the error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(DRIVES):
        trace = trace.tb_next
    if trace is not None:
        error.__traceback__ = trace
