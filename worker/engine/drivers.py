"""Doing what an engine asks for, in this thread. Decides nothing: proposals go to whoever knows the rules."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime
from functools import partial
from inspect import isasyncgen, iscoroutine, isgenerator
from itertools import islice
from typing import Any, Final, ParamSpec, TypeVar

from shared.clock import monotonic, now
from shared.errors import RunGone, TaskRunTimeoutError
from shared.outcomes import GENERATED_ITEMS
from shared.states import State
from worker.context import run_context
from worker.engine.base import BaseTaskRunEngine
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
from worker.timeouts import Late, text_of_limit, timeout, within

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
LOOK_FOR_CANCEL: Final = 0.1
"""Seconds after which a wait looks whether somebody wants the run's end."""
LEAST: Final = 0.000_001


def drive(steps: Generator[Step, Any, T], perform: Callable[[Step], Any]) -> T:
    """Let `perform` do each step, and send back what came of it; what the steps end with."""
    move: Callable[[], Step] = partial(next, steps)
    while True:
        try:
            step = move()
        except StopIteration as end:
            result: T = end.value
            return result
        try:
            move = partial(steps.send, perform(step))
        except GeneratorExit as error:
            # Thrown in as it is, the steps would take it for their own end, and the worker's loop would end with them.
            raised = RuntimeError("the function raised GeneratorExit")
            raised.__cause__ = error
            move = partial(steps.throw, raised)
        except BaseException as error:  # noqa: BLE001 - also an interrupt belongs to the step that it struck in
            move = partial(steps.throw, error)


class SyncTaskRunEngine(BaseTaskRunEngine[P, R]):
    """Drives a run in the calling thread. An `async def` function runs on an event loop of its own."""

    def run(self) -> State[Any]:
        """Run to the end of the last attempt here; the state that then holds."""
        return drive(self.steps(), self.perform)

    def end(self, outcome: State[Any]) -> State[Any]:
        """End a run whose body cannot be called; the state that then holds."""
        return drive(self.end_steps(outcome), self.perform)

    def stream(self) -> Generator[Any, None, None]:
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
                    move = partial(steps.send, self.perform(step))
            except GeneratorExit:
                move = partial(steps.throw, Abandoned())
            except BaseException as error:  # noqa: BLE001 - as in `drive`
                move = partial(steps.throw, error)

    def perform(self, step: Step) -> Any:
        """Do one step; what comes of it."""
        place = self._place or self.place
        if isinstance(step, Propose):  # with the next one all that most runs ask for
            return place.propose(step.state, step.retriable)
        if isinstance(step, Call):
            about = place.context(self.parameters)
            with run_context(about), place.guard(about.fence, step.seconds):
                if not self.spec.log_prints:
                    return call(step)
                with self.prints():
                    return call(step)
        return self._perform_other(place, step)

    # --- the stages, one by one ---------------------------------------------------------------------------------------

    def begin_run(self) -> None:
        """Ask for RUNNING, and wait for it as long as the run is to wait here."""
        drive(self.begin_run_steps(), self.perform)

    def wait_until_ready(self) -> None:
        """Wait for as long as the run is to wait here."""
        drive(self.wait_until_ready_steps(), self.perform)

    def set_state(self, state: State[Any]) -> State[Any]:
        """Propose a state; the one that now holds."""
        drive(self.set_state_steps(state), self.perform)
        return self.state

    def can_retry(self, exc_or_state: Exception | State[Any]) -> bool:
        """What the task's condition says of this failure; True where there is none."""
        return drive(self.can_retry_steps(exc_or_state), self.perform)

    def handle_exception(self, exc: Exception) -> None:
        """Record what the function raised, or what the rules make of it."""
        drive(self.handle_exception_steps(exc), self.perform)

    def handle_timeout(self, exc: TimeoutError) -> None:
        """Record that the time was over, or what the rules make of it."""
        drive(self.handle_timeout_steps(exc), self.perform)

    def handle_retry(self, exc_or_state: Exception | State[Any]) -> bool:
        """Record a failure, or what the rules make of it; True if the run is tried again."""
        return drive(self.handle_retry_steps(exc_or_state), self.perform)

    def handle_crash(self, exc: BaseException) -> None:
        """Record that the run was interrupted."""
        drive(self.handle_crash_steps(exc), self.perform)

    def call_hooks(self, state: State[Any] | None = None) -> None:
        """Call the hooks of a state, by default of the one that holds."""
        drive(self.call_hooks_steps(state), self.perform)

    def result(self, raise_on_failure: bool = True) -> Any:
        """As `State.result`, of the state that holds."""
        return self.state.result(raise_on_failure)

    # --- what they share ----------------------------------------------------------------------------------------------

    def _perform_other(self, place: Place, step: Step) -> Any:
        answer: Any = None
        match step:
            case Next(stream):
                about = place.context(self.parameters)
                with run_context(about), place.guard(about.fence, stream.seconds), self.prints():
                    answer = advance(stream)
            case Ask(fn, args):
                with run_context(place.context(self.parameters)), place.around_hook():
                    answer = answer_of(fn(*args))
            case Open(fn, args, kwargs):
                answer = fn(*args, **kwargs)
            case Close(stream):
                with run_context(place.context(self.parameters)):
                    stream.items.close()
            case Sleep(until):
                sleep(until, place)
            case Take(inputs):
                answer = place.taken(inputs, {run_id: end_of(source) for run_id, source in inputs.sources.items()})
            case Rename(name):
                place.rename(name)
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
    except TaskRunTimeoutError as error:  # around the block: the alarm may strike while it is being turned off
        if error is limit:
            raise Overran(error) from error
        raise


def advance(stream: Stream) -> Item | Ended:
    """The next item of a generator, within what is left of its time.

    Raises:
        Overran: that was not enough.
    """
    left = None if stream.seconds is None else max(stream.seconds - stream.spent, LEAST)
    began, limit = monotonic(), None
    try:
        with timeout(left, told=stream.seconds) as limit:
            return Item(next(stream.items))
    except StopIteration as end:
        return Ended(end.value)
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
    return _finished(returned) if iscoroutine(returned) else returned


def _finished(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # A loop runs in this thread, and waits for us: it could not go on with another task.
    with ThreadPoolExecutor(1) as other:
        return other.submit(copy_context().run, asyncio.run, coroutine).result()


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
