"""Doing single steps in this thread: calling the user's function, reading a generator, waiting. Drives nothing."""

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine
from datetime import datetime
from inspect import isasyncgen, iscoroutine, isgenerator
from itertools import islice
from typing import Any, Final, TypeVar

from shared.clock import monotonic, now
from shared.errors import RunGone, TaskRunTimeoutError
from shared.outcomes import GENERATED_ITEMS
from shared.states import State
from shared.stepping import finished, raised_by_function
from worker.engine.place import Place
from worker.engine.steps import Call, Ended, Force, Item, Look, Overran, Propose, Rename, Settle, Step, Stream
from worker.inputs import Source
from worker.timeouts import Late, text_of_limit, timeout, within

R = TypeVar("R")
T = TypeVar("T")
LOOK_FOR_CANCEL: Final = 0.1
"""Seconds after which a wait looks whether somebody wants the run's end."""
LEAST: Final = 0.000_001


def asked(place: Place, step: Step) -> Any:
    """What only the place can answer."""
    answer: Any = None
    match step:
        case Propose(state, retriable):
            answer = place.propose(state, retriable)
        case Rename(name):
            place.rename(name)
        case Force(state):
            answer = place.force(state)
        case Settle():
            answer = place.settled()
        case Look():
            answer = place.task_run()
        case _:
            raise AssertionError(f"nobody does {step!r} here")
    return answer


def call(step: Call) -> Any:
    """The function's value; of a generator the list of its values, read under the same time limit.

    Raises:
        Overran: it took longer than its time limit.
    """
    limit = None
    try:
        with timeout(step.seconds) as limit:
            return _value_of(step.fn(*step.args, **step.kwargs), step.seconds)
    except (StopIteration, GeneratorExit) as error:
        raise raised_by_function(error) from error
    except TaskRunTimeoutError as error:  # around the block: the alarm may strike while it is being turned off
        if error is limit:
            raise Overran(error) from error
        raise


def advance(stream: Stream) -> Item | Ended:
    """The next item of a generator, within what is left of its time.

    Raises:
        Overran: that was not enough.
    """
    left = None if stream.seconds is None else stream.seconds - stream.spent
    if left is not None and left <= 0:  # it took no notice of its end
        raise Overran(TaskRunTimeoutError(text_of_limit(stream.seconds or 0.0)))
    began, limit = monotonic(), None
    try:
        with timeout(left, told=stream.seconds) as limit:
            return Item(next(stream.items))
    except StopIteration as end:
        return Ended(end.value)
    except GeneratorExit as error:
        raise raised_by_function(error) from error
    except TaskRunTimeoutError as error:
        if error is limit:
            raise Overran(error) from error
        raise
    finally:
        stream.spent += monotonic() - began


def sleep(until: datetime, place: Place) -> None:
    """Wait until this time, or until somebody wants the run's end."""
    while (left := (until - now()).total_seconds()) > 0 and not place.is_cancelled():
        time.sleep(min(left, LOOK_FOR_CANCEL))


def end_of(source: Source) -> State[Any] | None:
    """The final state of a run that was given as a future, or as that state; None if its record is gone."""
    if isinstance(source, State):
        return source
    try:
        return source.wait()
    except RunGone:
        return None


def answer_of(returned: Any) -> Any:
    """What a hook or a condition gives; that of a coroutine function is awaited, wherever this is called."""
    return finished(returned) if iscoroutine(returned) else returned


def _value_of(returned: Any, seconds: float | None) -> Any:
    if iscoroutine(returned):
        return asyncio.run(_awaited(returned, seconds))
    # One more than a result may hold, so that whoever looks at the size finds it too large.
    if isgenerator(returned):
        return list(islice(returned, GENERATED_ITEMS + 1))
    if isasyncgen(returned):
        return asyncio.run(_awaited(listed(returned), seconds))
    return returned


async def _awaited(coroutine: Coroutine[Any, Any, R], seconds: float | None) -> R:
    """The coroutine's value, under a time limit of the loop's own.

    The alarm alone is not enough: where it strikes in another task or in a callback of the loop, asyncio takes what it
    raises for theirs and goes on. In a thread there is no alarm at all.
    """
    try:
        return await within(seconds, coroutine)
    except Late as error:
        raise Overran(TaskRunTimeoutError(text_of_limit(seconds or 0.0))) from error


async def listed(generator: AsyncGenerator[Any, Any]) -> list[Any]:
    """The items of a generator, at most one more than a result may hold."""
    items: list[Any] = []
    async for item in generator:
        items.append(item)
        if len(items) > GENERATED_ITEMS:
            break
    return items
