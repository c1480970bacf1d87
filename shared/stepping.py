"""Steps that plain code and code on an event loop share: a generator asks for them, one of two drivers does them.

The drivers are those of every such generator, of engines too: what a step is, only whoever performs it knows.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Do:
    """Something to be done: by the first from plain code, by the second on an event loop.

    `kind` tells what it is: a call of a store, a wait of any length, or code of the user's, plain or a coroutine.
    """

    call: Callable[[], Any]
    acall: Callable[[], Any]
    kind: Literal["store", "wait", "hook", "ahook"] = "store"


Steps = Generator[Do, Any, T]


def called(function: Callable[..., Any], *arguments: Any) -> Do:
    """A call of the user's function, which may be `async`, or give something to be awaited."""

    def call() -> None:
        returned = function(*arguments)
        if inspect.isawaitable(returned):
            finished(returned)

    async def acall() -> None:
        returned = function(*arguments)
        if inspect.isawaitable(returned):
            await returned

    return Do(call, acall, "ahook" if inspect.iscoroutinefunction(function) else "hook")


def finished(awaitable: Awaitable[T]) -> T:
    """What this gives, awaited from plain code: here, or in another thread where an event loop runs here."""

    async def awaited() -> T:
        return await awaitable

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(awaited())
    # A loop runs in this thread, and waits for us: it could not go on with another task.
    with ThreadPoolExecutor(1) as other:
        return other.submit(copy_context().run, asyncio.run, awaited()).result()


def do(step: Do) -> Any:
    """Do it here."""
    return step.call()


async def ado(step: Do) -> Any:
    """Do it on this event loop."""
    return await step.acall()


def drive(steps: Generator[S, Any, T], perform: Callable[[S], Any]) -> T:
    """Let `perform` do each step, and send back what came of it; what the steps end with."""
    move: Callable[[], S] = partial(next, steps)
    while True:
        try:
            step = move()
        except StopIteration as end:
            result: T = end.value
            return result
        try:
            move = partial(steps.send, perform(step))
        except GeneratorExit as error:
            # Thrown in as it is, the steps would take it for their own end, and whoever drives them would end with it.
            raised = raised_by_function(error)
            raised.__cause__ = error
            move = partial(steps.throw, raised)
        except BaseException as error:  # noqa: BLE001 - also an interrupt belongs to the step that it struck in
            move = partial(steps.throw, error)


async def adrive(steps: Generator[S, Any, T], perform: Callable[[S], Awaitable[Any]]) -> T:
    """The same as `drive`, on this event loop."""
    move: Callable[[], S] = partial(next, steps)
    task = asyncio.current_task()
    while True:
        try:
            step = move()
        except StopIteration as end:
            result: T = end.value
            return result
        try:
            move = partial(steps.send, await perform(step))
        except GeneratorExit as error:
            if not _goes_on(task):
                raise  # this coroutine is closed: it may await nothing more
            raised = raised_by_function(error)
            raised.__cause__ = error
            move = partial(steps.throw, raised)
        except BaseException as error:  # noqa: BLE001 - as in `drive`
            move = partial(steps.throw, error)


def raised_by_function(error: BaseException) -> RuntimeError:
    """What stands for an exception that would mean something else to the generators and futures on its way."""
    return RuntimeError(f"the function raised {type(error).__name__}")


def _goes_on(task: "asyncio.Task[Any] | None") -> bool:
    """True if this task is executed at this moment, so that nobody can be closing its coroutine."""
    try:
        return task is not None and asyncio.current_task() is task
    except RuntimeError:
        return False
