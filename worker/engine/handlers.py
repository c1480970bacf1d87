"""A task's state handlers: they shape what is proposed, the rules decide on it. Tasks without any never come here."""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

from shared.errors import ENDRUN, BatonSignal, TransitionRefused
from shared.states import Failed, State
from shared.texts import printable
from worker.engine.steps import Ask, Propose, Step, Steps

Handler = Callable[[Any, State[Any] | None, State[Any]], Any]


def handled(steps: Steps, spec: Any, handlers: Sequence[Handler], present: Callable[[], State[Any] | None]) -> Steps:
    """The same steps, each proposal made of what the handlers made of it."""
    move: Callable[[], Step] = partial(next, steps)
    while True:
        try:
            step = move()
        except StopIteration as end:
            result: State[Any] = end.value
            return result
        try:
            if isinstance(step, Propose):
                move = partial(steps.send, (yield from _proposed(step, spec, handlers, present())))
            else:
                move = partial(steps.send, (yield step))
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as error:  # noqa: BLE001 - it belongs to the step that it struck in
            move = partial(steps.throw, error)


def _proposed(
    step: Propose, spec: Any, handlers: Sequence[Handler], old: State[Any] | None
) -> Generator[Step, Any, State[Any]]:
    """The state that holds once what the handlers made of this proposal is proposed."""
    shaped = yield from _shaped(step.state, spec, handlers, old)
    if shaped is step.state:
        state: State[Any] = yield step
        return state
    # What fails before the body has begun is not tried again: on the fleet the run is RUNNING by then, here it is not.
    retriable = False if step.state.is_running() else step.retriable
    try:
        state = yield Propose(shaped, retriable)
    except TransitionRefused as error:  # a handler's wish
        state = yield Propose(Failed(message=printable(str(error))), retriable=False)
    return state


def _shaped(
    new: State[Any], spec: Any, handlers: Sequence[Handler], old: State[Any] | None
) -> Generator[Step, Any, State[Any]]:
    """What the handlers make of a state, one after the other; None keeps it, a signal with a state ends the chain."""
    for handler in handlers:
        try:
            answer = yield Ask(handler, (spec, old, new))
        except ENDRUN as end:
            state: State[Any] = end.state
            return state
        except BatonSignal:
            raise
        except Exception as error:  # noqa: BLE001 - a handler is user code: it is this run that fails by it
            return Failed(message=printable(f"Unexpected error while calling state handlers: {error!r}"), data=error)
        new = answer if isinstance(answer, State) else new
    return new
