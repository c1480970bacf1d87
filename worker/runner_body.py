"""One attempt's body in a classic pipeline: what came of the function, as a state. Records nothing."""

from typing import Any

from shared.errors import ENDRUN, TerminationSignal
from shared.outcomes import exception_to_crashed_state
from shared.rules_facts import changed
from shared.states import Cancelled, State
from shared.stepping import drive
from shared.texts import printable
from worker.engine.drivers import SyncTaskRunEngine
from worker.engine.steps import Overran, Unbound
from worker.signals import LOOP


def body_outcome(engine: SyncTaskRunEngine[..., Any], *, raises: bool) -> tuple[State[Any], bool]:
    """What came of the function, and whether no other attempt would end otherwise. `raises` lets its errors through.

    A loop calls it again. An interrupt becomes CRASHED, and is left in the engine.
    """
    while True:
        try:
            value = drive(engine.call_task_fn_steps(), engine.perform)
        except GeneratorExit:
            raise
        except LOOP as loop:
            engine.looped, engine.loop_count = loop, engine.loop_count + 1
        except BaseException as error:
            if raises and isinstance(error, Exception):
                raise
            return _failure(engine, error), isinstance(error, Unbound)
        else:
            state = engine.returned_state(value)
            is_plain = state.is_completed() and state.message is None
            return (changed(state, message="Task run succeeded.") if is_plain else state), False


def _failure(engine: SyncTaskRunEngine[..., Any], error: BaseException) -> State[Any]:
    match error:
        case ENDRUN():
            return engine.returned_state(error.state)
        case Overran() | TimeoutError():
            state = engine.failed_state(error.error if isinstance(error, Overran) else error)
            return changed(state, message="Task timed out during execution.")
        case Unbound():
            return engine.failed_state(error.error)
        case Exception():
            message = printable(f"Error during execution of task: {error!r}")
            return changed(engine.failed_state(error), message=message)
        case TerminationSignal():
            return Cancelled(message="Cancelled while running.")
    engine.crash = error
    return exception_to_crashed_state(error)
