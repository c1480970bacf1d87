"""The life of a task run as a generator of steps. No Redis, no clock, no event loop: whoever drives it does the work.

# Written once for sync, async and inline use. What a stage wants done it yields; what came of it is sent back.
"""

from collections.abc import Mapping
from typing import Any, Generic, ParamSpec, TypeVar

from shared.outcomes import exception_to_crashed_state, exception_to_failed_state, return_value_to_state
from shared.specs import TaskSpec
from shared.state_types import StateType
from shared.states import Failed, Running, State
from shared.texts import printable
from worker.engine.steps import Call, Overran, Propose, Steps

NOT_TO_BE_RETURNED = frozenset({StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED})
P = ParamSpec("P")
R = TypeVar("R")


class BaseTaskRunEngine(Generic[P, R]):
    """One run of a task, from its begin to the end of its last attempt in this process."""

    def __init__(self, spec: TaskSpec[P, R], parameters: Mapping[str, Any], seconds: float | None) -> None:
        self.spec = spec
        self.parameters = parameters
        self.seconds = seconds

    def steps(self) -> Steps:
        """Attempts, as long as the rules answer that the next one begins in place; the state that then holds."""
        state: State[Any] = yield Propose(Running())
        while state.is_running():
            state = yield from self.attempt()
        return state

    def attempt(self) -> Steps:
        """One attempt: the body, its outcome, and what the rules made of it."""
        try:
            args, kwargs = self.spec.binding.unbind(self.parameters)
            value = yield Call(self.spec.fn, args, kwargs, self.seconds)
        except Overran as overrun:
            outcome = self.handle_timeout(overrun.error)
        except TimeoutError as error:
            hide_engine(error)
            outcome = Failed(
                name="TimedOut", message=printable(f"Task run failed due to timeout: {error!r}"), data=error
            )
        except Exception as error:  # noqa: BLE001 - whatever the user's function raises is its outcome
            hide_engine(error)
            outcome = exception_to_failed_state(error, message="Task run encountered an exception")
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - an interrupt in the body is a crash of the run, not of the worker
            outcome = exception_to_crashed_state(error)
        else:
            outcome = self.handle_success(value)
        recorded: State[Any] = yield Propose(outcome)
        return recorded

    def handle_success(self, value: R) -> State[Any]:
        """The state that a returned value stands for."""
        try:
            state = return_value_to_state(value)
        except Exception as error:  # noqa: BLE001 - a value that is no outcome fails the run, it does not end the worker
            return exception_to_failed_state(error, message="Task run returned what cannot be its result:")
        if state.type in NOT_TO_BE_RETURNED:
            return Failed(message=f"Task returned a {state.type} state, which only the engine may set.")
        return state

    def handle_timeout(self, error: TimeoutError) -> State[Any]:
        """The state of an attempt that overran its own time limit."""
        hide_engine(error)
        message = f"Task run exceeded timeout of {self.seconds:g} second(s)"
        return Failed(name="TimedOut", message=message, data=error)


def hide_engine(error: BaseException) -> None:
    """Let the traceback begin with the user's function: the frames that called it say nothing about the error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("worker.engine."):
        trace = trace.tb_next
    if trace is not None:
        error.__traceback__ = trace
