"""The producer's handle on a run. Reads nothing by itself: it asks the ledger, or waits with the watch."""

import asyncio
import contextlib
import logging
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from typing import Any, Generic, Literal, NoReturn, TypeVar, overload

from orchestrator.acting import cancelled
from orchestrator.call_text import call_repr
from orchestrator.watch import End, Watch, as_found
from shared.errors import (
    BadEnvelope,
    BatonError,
    Closed,
    InvalidCall,
    InvalidValue,
    RedisUnavailable,
    RunGone,
    WaitTimeout,
    WouldDeadlock,
)
from shared.ledger import RunLedger
from shared.runs import BaseRunFuture, FlowRun, TaskRun
from shared.states import State
from worker.context import current_run_id
from worker.lending import lending

__all__ = ["RunFuture", "call_on", "call_repr", "check_timeout", "longest", "read_open", "warn_on_a_loop"]

R = TypeVar("R")
Callback = Callable[["RunFuture[Any]"], object]
log = logging.getLogger("baton.futures")


class RunFuture(BaseRunFuture[R], Generic[R]):
    """One accepted run, of a task or a flow. Does no I/O until asked, and none once the end is known.

    Any number of threads and event loops may use it at once. Equal are futures of the same run.
    """

    def __init__(self, run_id: str, ledger: RunLedger, watch: Watch, name: str | None = None) -> None:
        self._run_id = run_id
        self._ledger = ledger
        self._watch = watch
        self._name = name
        self._seen: TaskRun | None = None
        # The first one counts. Appending is atomic: of several threads that learn of the end, the first decides.
        self._ends: list[TaskRun | RunGone] = []

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._run_id

    @property
    def task_run_id(self) -> str:
        """The run's id."""
        return self._run_id

    @property
    def name(self) -> str:
        """The run's name, or its id while the name is unknown."""
        run = self._last_read()
        return run.name if run is not None else self._name or self._run_id

    @property
    def task_run(self) -> TaskRun:
        """The run's record as last read; read now if it never was.

        Raises:
            RunGone: there is no such run, or no longer.
            BadEnvelope: what is stored there cannot be read.
            RedisUnavailable: no answer.
            Closed: the Orchestrator was closed before it was read.
        """
        return self._last_read() or self._ended() or self._read()

    def get_state(self) -> State[R]:
        """The present state, final or not: one round trip, or none once it is final.

        Raises:
            As `task_run`.
        """
        return (self._ended() or self._read()).state

    async def aget_state(self) -> State[R]:
        """The same as `get_state`, without blocking the event loop."""
        return self.get_state() if self.is_known() else await asyncio.to_thread(self.get_state)

    def done(self) -> bool:
        """True when the run has ended or is gone: if that is known, or if one read finds it.

        Raises:
            As `task_run`, but for RunGone.
        """
        with contextlib.suppress(RunGone):
            self.get_state()
        return self.is_known()

    # --- waiting ------------------------------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> State[R] | None:
        """The final state, or None when `timeout` seconds are over; 0 looks once, None waits for ever.

        Raises:
            RunGone: there is no such run, or no longer.
            BadEnvelope: what is stored there cannot be read.
            WouldDeadlock: it is the run that this code is part of, or a callback waits in the thread that calls it.
            Closed: the Orchestrator was closed meanwhile.
            RedisUnavailable: no answer to the one look; a wait goes on until there is one.
            InvalidValue: a negative time, or NaN.
        """
        check_timeout(timeout)
        if timeout == 0 or self.is_known():
            return self._look()
        self.check_may_wait()
        warn_on_a_loop()
        told = threading.Event()
        (end,) = self._watch.enter([self._run_id], lambda _: told.set())
        try:
            with lending(self._awaited):
                is_told = told.wait(longest(timeout))
            return self._taken(end.found).state if is_told else None
        finally:
            self._watch.leave([end])

    async def wait_async(self, timeout: float | None = None) -> State[R] | None:
        """The same as `wait`, without blocking the event loop."""
        check_timeout(timeout)
        if timeout == 0 or self.is_known():
            return self._look() if self.is_known() else await asyncio.to_thread(self._look)
        self.check_may_wait()
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        (end,) = self._watch.enter([self._run_id], lambda _: call_on(loop, told.set))
        try:
            with lending(self._awaited):
                async with asyncio.timeout(timeout):
                    await told.wait()
        except TimeoutError:
            return None
        finally:
            self._watch.leave([end])
        return self._taken(end.found).state

    @overload
    def result(self, timeout: float | None = None, raise_on_failure: Literal[True] = True) -> R: ...
    @overload
    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R | BaseException: ...
    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R | BaseException:
        """Wait, then what the run returned; a failure's exception is raised, or with `raise_on_failure=False` returned.

        What is larger than the setting `inline_limit` is read from Redis by each call; anything else is here already.

        Raises:
            WaitTimeout: the run has not ended within `timeout` seconds.
            MissingResult: the result was not kept, or is no longer.
            RunGone, BadEnvelope, WouldDeadlock, Closed, RedisUnavailable, InvalidValue: as `wait`.
        """
        state = self.wait(timeout)
        if state is None:
            raise self._too_late(timeout)
        return state.result(raise_on_failure)

    @overload
    async def aresult(self, timeout: float | None = None, raise_on_failure: Literal[True] = True) -> R: ...
    @overload
    async def aresult(self, timeout: float | None = None, raise_on_failure: bool = True) -> R | BaseException: ...
    async def aresult(self, timeout: float | None = None, raise_on_failure: bool = True) -> R | BaseException:
        """The same as `result`, without blocking the event loop."""
        state = await self.wait_async(timeout)
        if state is None:
            raise self._too_late(timeout)
        return await state.aresult(raise_on_failure)

    def __await__(self) -> Generator[Any, None, R]:
        return self.aresult().__await__()

    def cancel(self, message: str = "") -> State[R]:
        """Cancel the run: one that waits at once; one that runs is CANCELLING until its process has ended it.

        Returns:
            The state that now holds.

        Raises:
            TransitionRefused: it has ended otherwise.
            RunGone: there is no such run, or no longer.
        """
        return cancelled(self._ledger, self._run_id, message)

    async def acancel(self, message: str = "") -> State[R]:
        """The same as `cancel`, without blocking the event loop."""
        return await asyncio.to_thread(self.cancel, message)

    def add_done_callback(self, fn: Callback) -> None:
        """Call `fn(future)` once when the run has ended or is gone; any number, in the order of registration.

        If one read finds that it is so already, `fn` is called now, in this thread. Otherwise later: on the event loop
        that runs in this thread, or if none does (or that one is closed by then) in the thread that hears of all ends:
        there it may not wait for other runs, and what takes long keeps others waiting. What it raises is logged. A
        future with a callback stays alive until then, and a callback that was not called when the Orchestrator is
        closed is never called.

        Raises:
            Closed: the Orchestrator is closed, and the end is not known.
        """
        with contextlib.suppress(RedisUnavailable, BadEnvelope):
            if self.done():
                _call_back(fn, self)
                return
        self._watch.enter([self._run_id], partial(self._tell_callback, fn, _running_loop()))

    def _tell_callback(self, fn: Callback, loop: asyncio.AbstractEventLoop | None, end: End) -> None:
        """In the thread that hears of the end."""
        if isinstance(end.found, Closed):
            return
        self.learn(end.found)
        if loop is None or not call_on(loop, _call_back, fn, self):
            _call_back(fn, self)

    # --- what is known ------------------------------------------------------------------------------------------------

    def is_known(self) -> bool:
        """True if the end is known here, or that the run is gone. No I/O."""
        return bool(self._ends)

    def learn(self, found: TaskRun | BatonError | None) -> None:
        """Take over what was read of this run. What is known of its end already stays as it is."""
        if isinstance(found, RunGone) or (isinstance(found, TaskRun) and found.state.is_final()):
            if not self._ends:
                self._ends.append(found)
        elif isinstance(found, TaskRun):
            self._seen = found

    def watch_with(self) -> tuple[Watch, RunLedger]:
        """What several futures of one Orchestrator are waited for and read with."""
        return self._watch, self._ledger

    def check_may_wait(self) -> None:
        """Refuse to wait for what cannot come while somebody waits for it here.

        Raises:
            WouldDeadlock: it is the run that this code is part of, or this is the thread that hears of all ends.
        """
        if current_run_id() == self._run_id:
            raise WouldDeadlock(f"run {self._run_id} would wait for its own end")
        self._watch.check_thread()

    def _awaited(self) -> Iterator[tuple[RunLedger, str]]:
        yield self._ledger, self._run_id

    def _ended(self) -> TaskRun | None:
        """The final record, if the end is known.

        Raises:
            RunGone: it is known that there is no such run.
        """
        end = self._ends[0] if self._ends else None
        if isinstance(end, RunGone):
            raise RunGone(str(end))  # a new one, since each of those who raise it adds to it
        return end

    def _last_read(self) -> TaskRun | None:
        end = self._ends[0] if self._ends else None
        return end if isinstance(end, TaskRun) else self._seen

    def _read(self) -> TaskRun:
        self._watch.check_open()
        return self._taken(as_found(self._run_id, self._ledger.get_many([self._run_id])[self._run_id]))

    def _taken(self, found: TaskRun | BatonError | None) -> TaskRun:
        """The record that was found, or the final one if that is known; the error where there is none, raised."""
        self.learn(found)
        run = self._ended() or found
        if isinstance(run, TaskRun):
            return run
        raise run or Closed()

    def _look(self) -> State[R] | None:
        """The final state, if one read finds it."""
        state = self.get_state()
        return state if state.is_final() else None

    def _too_late(self, timeout: float | None) -> WaitTimeout:
        kind = "Flow" if isinstance(self._seen, FlowRun) else "Task"
        return WaitTimeout(f"{kind} run {self._run_id} did not complete within {timeout} seconds")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunFuture) and other.run_id == self._run_id

    def __hash__(self) -> int:
        return hash(self._run_id)

    def __repr__(self) -> str:
        return f"RunFuture({self.name!r})"

    def __bool__(self) -> bool:
        warnings.warn(
            "A 'RunFuture' from a task call was cast to a boolean; did you mean to check the result of the task "
            "instead? e.g. `if my_task.submit().result(): ...`",
            UserWarning,
            stacklevel=2,
        )
        return True

    def __reduce__(self) -> NoReturn:
        raise InvalidCall(f"{self!r} cannot be pickled: send its run_id, and make a future of it with `future(run_id)`")


def check_timeout(timeout: float | None) -> None:
    """Refuse what is no time to wait.

    Raises:
        InvalidValue: a negative number, or NaN.
        InvalidCall: no number.
    """
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float)):
        raise InvalidCall(f"'timeout' must be a number of seconds, got {type(timeout).__name__}")
    if timeout is not None and not timeout >= 0:  # as every comparison with NaN, this one is false
        raise InvalidValue(f"'timeout' must be a non-negative number, got {timeout}")


def longest(timeout: float | None) -> float | None:
    """The time as locks take it, who know no more than centuries."""
    return None if timeout is None else min(timeout, threading.TIMEOUT_MAX)


def read_open(futures: Iterable[RunFuture[Any]]) -> Iterator[tuple[RunFuture[Any], TaskRun | BatonError]]:
    """Read once all of these whose end is not known, in batches; each future, which has learned of it, and what it is.

    Raises:
        RedisUnavailable: no answer.
        Closed: one of their Orchestrators is closed.
    """
    by_ledger: dict[RunLedger, dict[str, list[RunFuture[Any]]]] = {}
    for future in futures:
        if not future.is_known():
            watch, ledger = future.watch_with()
            watch.check_open()
            by_ledger.setdefault(ledger, {}).setdefault(future.run_id, []).append(future)
    for ledger, of_run in by_ledger.items():
        for run_id, run in ledger.get_many(of_run).items():
            for future in of_run[run_id]:
                found = as_found(run_id, run)
                future.learn(found)
                yield future, found


def call_on(loop: asyncio.AbstractEventLoop, fn: Callable[..., object], *args: Any) -> bool:
    """Have a loop call this, from any thread; False if the loop is closed, and so nobody on it waits any more."""
    try:
        loop.call_soon_threadsafe(fn, *args)
    except RuntimeError:
        return False
    return True


def _call_back(fn: Callback, future: RunFuture[Any]) -> None:
    try:
        fn(future)
    except Exception:
        name = getattr(fn, "__qualname__", type(fn).__name__)
        log.exception("run %s: an error in the callback '%s'", future.run_id, name)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_warned = threading.Event()


def warn_on_a_loop() -> None:
    """Once a process: waiting in the thread of an event loop works, but nothing else on that loop goes on meanwhile."""
    if not _warned.is_set() and _running_loop() is not None:
        _warned.set()
        warnings.warn(
            "waiting for a future in the thread of a running event loop holds up that loop; write `await future`",
            UserWarning,
            stacklevel=3,
        )
