"""Doing what an engine asks for, in this thread. Decides nothing: proposals go to whoever knows the rules."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from functools import partial
from inspect import isasyncgen, iscoroutine, isgenerator
from itertools import islice
from typing import Any, ParamSpec, TypeVar

from shared.errors import TaskRunTimeoutError
from shared.outcomes import GENERATED_ITEMS
from shared.states import State
from worker.context import RunContext, run_context
from worker.engine.base import BaseTaskRunEngine
from worker.engine.steps import Call, Overran, Propose, Step, Steps
from worker.timeouts import timeout

P = ParamSpec("P")
R = TypeVar("R")


def drive(steps: Steps, perform: Callable[[Step], Any]) -> State[Any]:
    """Let `perform` do each step, and send back what came of it; the state that the steps end with."""
    move: Callable[[], Step] = partial(next, steps)
    while True:
        try:
            step = move()
        except StopIteration as end:
            state: State[Any] = end.value
            return state
        try:
            move = partial(steps.send, perform(step))
        except BaseException as error:  # noqa: BLE001 - also an interrupt belongs to the step that it struck in
            move = partial(steps.throw, error)


class SyncTaskRunEngine(BaseTaskRunEngine[P, R]):
    """Drives a run in the calling thread. An `async def` function runs on an event loop of its own."""

    def run(self, propose: Callable[[State[Any]], State[Any]], context: Callable[[], RunContext]) -> State[Any]:
        """Run to the end of the last attempt here.

        `propose` records a state and answers which one now holds; `context` tells the body about its attempt.
        """

        def perform(step: Step) -> Any:
            match step:
                case Propose(state):
                    return propose(state)
                case Call():
                    with run_context(context()):
                        return call(step)

        return drive(self.steps(), perform)


def call(step: Call) -> Any:
    """The function's value; of a generator the list of its values, read under the same time limit.

    Raises:
        Overran: it took longer than its time limit.
    """
    limit = None
    try:
        with timeout(step.seconds) as limit:
            return _value_of(step.fn(*step.args, **step.kwargs), step.seconds)
    except TaskRunTimeoutError as error:  # around the block: the alarm may strike while it is being turned off
        if error is limit:
            raise Overran(error) from error
        raise


def _value_of(returned: Any, seconds: float | None) -> Any:
    if iscoroutine(returned):
        return asyncio.run(_awaited(returned, seconds))
    # One more than a result may hold, so that whoever looks at the size finds it too large.
    if isgenerator(returned):
        return list(islice(returned, GENERATED_ITEMS + 1))
    if isasyncgen(returned):
        return asyncio.run(_awaited(_listed(returned), seconds))
    return returned


async def _awaited(coroutine: Coroutine[Any, Any, R], seconds: float | None) -> R:
    """The coroutine's value, under a time limit of the loop's own.

    The alarm alone is not enough: where it strikes in another task or in a callback of the loop, asyncio takes what it
    raises for theirs and goes on. In a thread there is no alarm at all.
    """
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            return await coroutine
    except TimeoutError as error:
        if scope.expired() and not isinstance(error, TaskRunTimeoutError):
            raise Overran(TaskRunTimeoutError(f"Scope timed out after {seconds:g} second(s).")) from error
        raise


async def _listed(generator: AsyncGenerator[Any, Any]) -> list[Any]:
    items: list[Any] = []
    async for item in generator:
        items.append(item)
        if len(items) > GENERATED_ITEMS:
            break
    return items
