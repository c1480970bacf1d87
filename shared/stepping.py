"""Steps that plain code and code on an event loop share: a generator asks for them, one of two drivers does them."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

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
            _finish(returned)

    async def acall() -> None:
        returned = function(*arguments)
        if inspect.isawaitable(returned):
            await returned

    return Do(call, acall, "ahook" if inspect.iscoroutinefunction(function) else "hook")


def _finish(awaitable: Awaitable[Any]) -> None:
    """Await this from plain code: here, or in another thread where an event loop runs here."""

    async def finished() -> None:
        await awaitable

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(finished())
    else:
        with ThreadPoolExecutor(1) as other:
            other.submit(copy_context().run, asyncio.run, finished()).result()


def drive(steps: Steps[T]) -> T:
    """Do these steps here; what they come to."""
    move: Callable[[], Do] = partial(next, steps)
    while True:
        try:
            step = move()
        except StopIteration as end:
            answer: T = end.value
            return answer
        try:
            move = partial(steps.send, step.call())
        except BaseException as error:  # noqa: BLE001 - it is raised where the step was asked for
            move = partial(steps.throw, error)


async def adrive(steps: Steps[T]) -> T:
    """Do these steps on this event loop; what they come to."""
    move: Callable[[], Do] = partial(next, steps)
    while True:
        try:
            step = move()
        except StopIteration as end:
            answer: T = end.value
            return answer
        try:
            move = partial(steps.send, await step.acall())
        except BaseException as error:  # noqa: BLE001 - it is raised where the step was asked for
            move = partial(steps.throw, error)
