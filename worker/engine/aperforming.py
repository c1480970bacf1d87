"""Doing single steps on an event loop: waiting, closing a generator, calling what blocks. Drives nothing."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from inspect import isasyncgen
from typing import Any, TypeVar

from shared.clock import now
from shared.errors import RunGone
from shared.states import State
from shared.stepping import raised_by_function
from worker.context import RunContext, run_context
from worker.engine.performing import LOOK_FOR_CANCEL
from worker.engine.place import Place
from worker.engine.steps import Stream
from worker.inputs import Source

T = TypeVar("T")


async def asleep(until: datetime, place: Place) -> None:
    """Wait until this time, or until somebody wants the run's end."""
    while (left := (until - now()).total_seconds()) > 0 and not place.is_cancelled():  # noqa: ASYNC110 - set by any thread, so that no event of a loop can stand for it
        await asyncio.sleep(min(left, LOOK_FOR_CANCEL))


async def aend_of(source: Source) -> State[Any] | None:
    """The final state of a run that was given as a future, or as that state; None if its record is gone."""
    if isinstance(source, State):
        return source
    try:
        return await source.wait_async()
    except RunGone:
        return None


async def closed(stream: Stream, about: RunContext) -> None:
    """Close the generator of this run before its end."""
    if isasyncgen(stream.items):
        with run_context(about):
            await stream.items.aclose()
    elif stream.context is not None:
        stream.context.run(_close, stream, about)


def _close(stream: Stream, about: RunContext) -> None:
    with run_context(about):
        stream.items.close()


async def in_thread(fn: Callable[..., T], *args: Any) -> T:
    """What this gives, called in a thread with the context that holds here."""
    return await asyncio.to_thread(_called, fn, args)


def _called(fn: Callable[..., T], args: Sequence[Any]) -> T:
    try:
        return fn(*args)
    except StopIteration as error:
        raise raised_by_function(error) from error  # no future of asyncio takes it as it is
