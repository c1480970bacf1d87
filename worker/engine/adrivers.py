"""Doing what an engine asks for, on an event loop. The same steps as in `drivers.py`; decides nothing either."""

import asyncio
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from inspect import isasyncgen, iscoroutine
from typing import Any, ParamSpec, TypeVar

from shared.clock import monotonic, now
from shared.errors import RunGone, TaskRunTimeoutError, TerminationSignal
from shared.states import State
from worker.context import run_context
from worker.engine.base import BaseTaskRunEngine
from worker.engine.drivers import LEAST, LOOK_FOR_CANCEL, advance, call, listed
from worker.engine.place import Place
from worker.engine.steps import (
    Abandoned,
    Ask,
    Call,
    Close,
    Emit,
    Ended,
    Item,
    Look,
    Next,
    Open,
    Overran,
    Propose,
    Rename,
    Settle,
    Sleep,
    Step,
    Stream,
    Take,
)
from worker.inputs import Source
from worker.timeouts import Late, text_of_limit, within

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


async def adrive(steps: Generator[Step, Any, T], perform: Callable[[Step], Awaitable[Any]]) -> T:
    """Let `perform` do each step, and send back what came of it; what the steps end with."""
    move: Callable[[], Step] = partial(next, steps)
    while True:
        try:
            step = move()
        except StopIteration as end:
            result: T = end.value
            return result
        try:
            move = partial(steps.send, await perform(step))
        except BaseException as error:  # noqa: BLE001 - also an interrupt belongs to the step that it struck in
            move = partial(steps.throw, error)


class AsyncTaskRunEngine(BaseTaskRunEngine[P, R]):
    """Drives a run on the running event loop. A plain function runs in a thread, where nothing can interrupt it."""

    async def run(self) -> State[Any]:
        """Run to the end of the last attempt here; the state that then holds."""
        return await adrive(self.steps(), self.perform)

    async def stream(self) -> AsyncGenerator[Any, None]:
        """Run a generator task, and yield its items as they come. Closed early, it ends the run."""
        steps = self.steps()
        move: Callable[[], Step] = partial(next, steps)
        while True:
            try:
                step = move()
            except StopIteration:
                return
            try:
                if isinstance(step, Emit):
                    yield step.value
                    move = partial(steps.send, None)
                else:
                    move = partial(steps.send, await self.perform(step))
            except GeneratorExit:
                move = partial(steps.throw, Abandoned())
            except BaseException as error:  # noqa: BLE001 - as in `adrive`
                move = partial(steps.throw, error)

    async def perform(self, step: Step) -> Any:
        """Do one step; what comes of it."""
        place = self.place
        answer: Any = None
        match step:
            case Call():
                about = place.context(self.parameters)
                with run_context(about), place.guard(about.fence, step.seconds), self.prints():
                    answer = await self._call(step)
            case Next(stream):
                about = place.context(self.parameters)
                with run_context(about), place.guard(about.fence, stream.seconds), self.prints():
                    answer = await self._advance(stream)
            case Ask(fn, args):
                with run_context(place.context(self.parameters)):
                    answer = fn(*args)
                    answer = await answer if iscoroutine(answer) else answer
            case Open(fn, args, kwargs):
                answer = fn(*args, **kwargs)
            case Close(stream):
                with run_context(place.context(self.parameters)):
                    await _closed(stream)
            case Sleep(until):
                await asleep(until, place)
            case _:
                answer = await self._ask_place(place, step)
        return answer

    # --- the stages, one by one ---------------------------------------------------------------------------------------

    async def begin_run(self) -> None:
        """Ask for RUNNING, and wait for it as long as the run is to wait here."""
        await adrive(self.begin_run_steps(), self.perform)

    async def wait_until_ready(self) -> None:
        """Wait for as long as the run is to wait here."""
        await adrive(self.wait_until_ready_steps(), self.perform)

    async def set_state(self, state: State[Any]) -> State[Any]:
        """Propose a state; the one that now holds."""
        await adrive(self.set_state_steps(state), self.perform)
        return self.state

    async def can_retry(self, exc_or_state: Exception | State[Any]) -> bool:
        """What the task's condition says of this failure; True where there is none."""
        return await adrive(self.can_retry_steps(exc_or_state), self.perform)

    async def handle_exception(self, exc: Exception) -> None:
        """Record what the function raised, or what the rules make of it."""
        await adrive(self.handle_exception_steps(exc), self.perform)

    async def handle_timeout(self, exc: TimeoutError) -> None:
        """Record that the time was over, or what the rules make of it."""
        await adrive(self.handle_timeout_steps(exc), self.perform)

    async def handle_retry(self, exc_or_state: Exception | State[Any]) -> bool:
        """Record a failure, or what the rules make of it; True if the run is tried again."""
        return await adrive(self.handle_retry_steps(exc_or_state), self.perform)

    async def handle_crash(self, exc: BaseException) -> None:
        """Record that the run was interrupted."""
        await adrive(self.handle_crash_steps(exc), self.perform)

    async def call_hooks(self, state: State[Any] | None = None) -> None:
        """Call the hooks of a state, by default of the one that holds."""
        await adrive(self.call_hooks_steps(state), self.perform)

    async def result(self, raise_on_failure: bool = True) -> Any:
        """As `State.aresult`, of the state that holds."""
        return await self.state.aresult(raise_on_failure)

    # --- what they share ----------------------------------------------------------------------------------------------

    async def _ask_place(self, place: Place, step: Step) -> Any:
        match step:
            case Propose(state, retriable):
                ask: Callable[[], Any] = partial(place.propose, state, retriable)
            case Rename(name):
                ask = partial(place.rename, name)
            case Settle():
                ask = place.settled
            case Look():
                ask = place.task_run
            case Take(inputs):
                ends = await asyncio.gather(*(aend_of(source) for source in inputs.sources.values()))
                ask = partial(place.taken, inputs, dict(zip(inputs.sources, ends, strict=True)))
                # Reading a result may take another round trip, wherever the run itself is recorded.
                return await asyncio.to_thread(ask)
            case _:
                raise AssertionError(f"nobody does {step!r} here")
        return await asyncio.to_thread(ask) if place.blocks else ask()

    async def _call(self, step: Call) -> Any:
        if not self.spec.isasync:
            return await asyncio.to_thread(call, step)
        returned = step.fn(*step.args, **step.kwargs)
        work = listed(returned) if isasyncgen(returned) else returned
        return await self._limited(step.seconds, step.seconds, work)

    async def _advance(self, stream: Stream) -> Item | Ended:
        if not isasyncgen(stream.items):
            return await asyncio.to_thread(advance, stream)
        left = None if stream.seconds is None else max(stream.seconds - stream.spent, LEAST)
        began = monotonic()
        try:
            return Item(await self._limited(left, stream.seconds, anext(stream.items)))
        except StopAsyncIteration:
            return Ended()
        finally:
            stream.spent += monotonic() - began

    async def _limited(self, seconds: float | None, told: float | None, work: Awaitable[T]) -> T:
        """What this gives, unless its time is over or somebody wants the run's end before."""
        try:
            async with _watched(self.place):
                return await within(seconds, work)
        except Late as error:
            raise Overran(TaskRunTimeoutError(text_of_limit(told or 0.0))) from error


@asynccontextmanager
async def _watched(place: Place) -> AsyncIterator[None]:
    """Let the code in the block be ended at its next await, told apart from a cancelling by others.

    Raises:
        TerminationSignal: it was.
    """
    if not place.watched:
        yield
        return
    body, was_struck = asyncio.current_task(), False

    async def watch() -> None:
        nonlocal was_struck
        while not place.is_cancelled():  # noqa: ASYNC110 - set by any thread, so that no event of a loop can stand for it
            await asyncio.sleep(LOOK_FOR_CANCEL)
        was_struck = True
        if body is not None:
            body.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not was_struck or body is None:
            raise
        body.uncancel()
        raise TerminationSignal(signal.SIGTERM) from None
    else:
        if was_struck and body is not None:
            body.uncancel()  # the body took no notice
    finally:
        watcher.cancel()


async def asleep(until: datetime, place: Place) -> None:
    """Wait until this time, or until somebody wants the run's end."""
    while (left := (until - now()).total_seconds()) > 0 and not place.is_cancelled():  # noqa: ASYNC110 - as above
        await asyncio.sleep(min(left, LOOK_FOR_CANCEL))


async def aend_of(source: Source) -> State[Any] | None:
    """The final state of a run that was given as a future, or as that state; None if its record is gone."""
    if isinstance(source, State):
        return source
    try:
        return await source.wait_async()
    except RunGone:
        return None


async def _closed(stream: Stream) -> None:
    if isasyncgen(stream.items):
        await stream.items.aclose()
    else:
        stream.items.close()
