"""Doing what an engine asks for, on an event loop. The same steps as in `drivers.py`; decides nothing either."""

import asyncio
import signal
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from contextvars import copy_context
from functools import partial
from inspect import isasyncgen, iscoroutine
from typing import Any, ParamSpec, Self, TypeVar
from uuid import UUID

from shared.clock import monotonic
from shared.errors import TaskRunTimeoutError, TerminationSignal
from shared.ledger import RunLedger
from shared.states import State
from shared.stepping import Do, adrive, raised_by_function
from shared.transactions import Transaction, inside
from worker.context import RunContext, in_body, run_context
from worker.engine.aperforming import aend_of, asleep, closed, in_thread
from worker.engine.base import BaseTaskRunEngine
from worker.engine.beginning import Dependencies
from worker.engine.gathering import agathered
from worker.engine.inline import InlineRun
from worker.engine.performing import LEAST, LOOK_FOR_CANCEL, advance, asked, call, listed
from worker.engine.place import Place
from worker.engine.recording import current_recorder
from worker.engine.steps import (
    Abandoned,
    Ask,
    Call,
    Close,
    Emit,
    Ended,
    Gather,
    Item,
    Next,
    Open,
    Overran,
    Sleep,
    Step,
    Stream,
    Take,
)
from worker.run_transactions import RunTransaction
from worker.timeouts import Late, text_of_limit, within

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class AsyncTaskRunEngine(BaseTaskRunEngine[P, R]):
    """Drives a run on the running event loop. A plain function runs in a thread."""

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
            except GeneratorExit as error:
                move = partial(steps.throw, Abandoned() if isinstance(step, Emit) else raised_by_function(error))
            except BaseException as error:  # noqa: BLE001 - as in `adrive`
                move = partial(steps.throw, error)

    async def perform(self, step: Step) -> Any:
        """Do one step; what comes of it."""
        place = self.place
        answer: Any = None
        match step:
            case Call():
                about = in_body(self.around_body(place))
                with run_context(about), self.prints(), self.in_transaction(), place.guard(about.fence, step.seconds):
                    answer = await self._call(step)
            case Next(stream):
                about = self.around_body(place)
                with place.guard(about.fence, stream.seconds):
                    answer = await self._advance(stream, about)
            case Ask(fn, args):
                with run_context(place.context(self.parameters)):
                    answer = fn(*args)
                    answer = await answer if iscoroutine(answer) else answer
            case Open(fn, args, kwargs):
                answer = fn(*args, **kwargs)
            case Close(stream):
                await closed(stream, place.context(self.parameters))
            case Sleep(until):
                await asleep(until, place)
            case Do():
                answer = await self._do(place, step)
            case Gather():
                about = place.context(self.parameters)
                with run_context(about), place.guard(about.fence, None):
                    async with _watched(place):
                        answer = await agathered(about.run_id, step)
            case _:
                answer = await self._ask_place(place, step)
        return answer

    async def _do(self, place: Place, step: Do) -> Any:
        about = self.around_body(place)
        with run_context(about):
            if step.kind != "wait":
                return await self._do_soon(step)
            with place.guard(about.fence, None):
                return await self._limited(None, None, step.acall())

    async def _do_soon(self, step: Do) -> Any:
        """A call of a store, or of a hook."""
        return await step.acall()

    # --- the stages, one by one ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def initialize_run(
        self, task_run_id: str | UUID | None = None, dependencies: Dependencies | None = None
    ) -> AsyncIterator[Self]:
        """The same as of the other engine, without waiting for a server on the event loop."""
        recorder = current_recorder()
        begin = partial(self._begun, recorder, task_run_id, dependencies)
        place = await _begun_aside(begin) if recorder.blocks else begin()
        try:
            yield self
        finally:
            if recorder.blocks:
                await asyncio.to_thread(place.release)
            else:
                place.release()

    @asynccontextmanager
    async def start(
        self, task_run_id: str | UUID | None = None, dependencies: Dependencies | None = None
    ) -> AsyncIterator[None]:
        """The same as of the other engine."""
        async with self.initialize_run(task_run_id, dependencies):
            had_ended = self.state.is_final()
            await adrive(self.start_steps(), self.perform)
            try:
                yield
            finally:
                if not had_ended:
                    await adrive(self.finish_steps(), self.perform)

    @asynccontextmanager
    async def setup_run_context(self, client: RunLedger | None = None) -> AsyncIterator[None]:  # noqa: ARG002 - as it is known
        """Make the run that of the code in the block: its context, its tags, and where its prints go."""
        with run_context(self.around_body(self.place)), self.prints():
            yield

    @asynccontextmanager
    async def run_context(self) -> AsyncIterator[None]:
        """Make an outcome of what is raised in the block; an interrupt is recorded and goes on."""
        try:
            yield
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever the user's function raises is its outcome
            await adrive(self.error_steps(error), self.perform)
        if self.crash is not None:
            raise self.crash

    def asset_context(self) -> AbstractAsyncContextManager[None]:
        """Nothing: a place for subclasses."""
        return nullcontext()

    @asynccontextmanager
    async def transaction_context(self) -> AsyncIterator[RunTransaction]:
        """The same as of the other engine."""
        transaction = await adrive(self.open_transaction_steps(), self.perform)
        try:
            with inside(transaction):
                yield transaction
        except BaseException:
            await adrive(transaction.undo_steps(), self.perform)
            raise
        finally:
            self.transaction = None

    async def call_task_fn(self, transaction: RunTransaction | None = None) -> Any:
        """One call of the function, within its time limit; its value, whose outcome is recorded.

        With a transaction that has found a cached value, that one: the function is not called.

        Raises:
            Whatever the function raised, in the form that `run_context` knows.
        """
        if transaction is not None and transaction.found is not None:
            await adrive(self.cached_steps(transaction.found, transaction.key), self.perform)
            return transaction.found.result
        return await self.handle_success(await adrive(self.call_task_fn_steps(), self.perform), transaction)

    async def handle_success(self, result: Any, transaction: RunTransaction | None = None) -> Any:
        """Record what the function returned, or what the rules make of it, and commit its transaction; the value."""
        if transaction is None:
            await adrive(self.handle_success_steps(result), self.perform)
        else:
            await adrive(self.commit_steps(result, transaction), self.perform)
        return result

    async def _arolled_back(self, txn: Transaction) -> None:
        await asyncio.to_thread(self.handle_rollback, txn)

    @property
    def _rollback_hook(self) -> Callable[[Transaction], Any]:
        """The same as of the other engine, without waiting for a server on the event loop."""
        return self._arolled_back

    async def begin_run(self) -> None:
        """Ask for RUNNING, and wait for it as long as the run is to wait here."""
        await adrive(self.begin_run_steps(), self.perform)

    async def wait_until_ready(self) -> None:
        """Wait for as long as the run is to wait here."""
        await adrive(self.wait_until_ready_steps(), self.perform)

    async def set_state(self, state: State[Any], force: bool = False) -> State[Any]:
        """Propose a state, or write it without asking the rules; the one that now holds.

        Raises:
            Fenced: the run is another's now.
        """
        await adrive(self.set_state_steps(state, force=force), self.perform)
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
        if isinstance(step, Take):
            sources = step.inputs.sources
            ends = await asyncio.gather(*(aend_of(source) for source in sources.values()))
            # Reading a result may take another round trip, wherever the run itself is recorded.
            return await self._aside(partial(place.taken, step.inputs, dict(zip(sources, ends, strict=True))))
        return await self._aside(partial(asked, place, step)) if place.blocks else asked(place, step)

    async def _aside(self, ask: Callable[[], Any]) -> Any:
        """What this answers, asked where it may wait for a server."""
        return await asyncio.to_thread(ask)

    async def _call(self, step: Call) -> Any:
        if not self.spec.isasync:
            return await in_thread(call, step)
        returned = step.fn(*step.args, **step.kwargs)
        work = listed(returned) if isasyncgen(returned) else returned
        return await self._limited(step.seconds, step.seconds, work)

    async def _advance(self, stream: Stream, about: RunContext) -> Item | Ended:
        if not isasyncgen(stream.items):
            stream.context = stream.context or copy_context()
            return await asyncio.to_thread(stream.context.run, self._advance_here, stream, about)
        with run_context(about), self.prints(), self.in_transaction():
            return await self._awaited_item(stream)

    def _advance_here(self, stream: Stream, about: RunContext) -> Item | Ended:
        with run_context(about), self.prints(), self.in_transaction():
            return advance(stream)

    async def _awaited_item(self, stream: Stream) -> Item | Ended:
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
    body, was_struck = asyncio.current_task(), False

    def strike() -> None:
        nonlocal was_struck
        was_struck = True
        if body is not None:
            body.cancel()

    watcher = asyncio.create_task(_look_out(place, strike)) if place.watched else None
    try:
        with place.struck_by(strike):
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
        if watcher is not None:
            watcher.cancel()


async def _look_out(place: Place, strike: Callable[[], None]) -> None:
    while not place.is_cancelled():  # noqa: ASYNC110 - set by any thread, so that no event of a loop can stand for it
        await asyncio.sleep(LOOK_FOR_CANCEL)
    strike()


async def _begun_aside(begin: Callable[[], InlineRun]) -> InlineRun:
    """What this begins, in a thread; where nobody waits for it any more, it is left again there."""
    lock, made, is_left = threading.Lock(), list[InlineRun](), False

    def work() -> InlineRun:
        place = begin()
        with lock:
            made.append(place)
        if is_left:
            place.release()
        return place

    try:
        return await asyncio.to_thread(work)
    except asyncio.CancelledError:
        with lock:
            is_left = True
        if made:
            await asyncio.to_thread(made[0].release)
        raise
