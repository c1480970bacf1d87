"""The producer's handle on a run. Reads nothing by itself: it asks the ledger, or waits with the watch."""

import asyncio
import logging
import math
import threading
import warnings
from collections.abc import Callable, Generator
from typing import Any, Generic, Literal, NoReturn, TypeVar, overload

from orchestrator.call_text import call_repr
from orchestrator.watch import End, Watch
from shared.errors import BatonError, InvalidCall, InvalidValue, RunGone, WaitTimeout, WouldDeadlock
from shared.ledger import RunLedger
from shared.runs import BaseRunFuture, FlowRun, TaskRun
from shared.states import State
from worker.context import current_run_id

__all__ = ["RunFuture", "call_repr", "check_timeout"]

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
        self._run: TaskRun | None = None
        self._gone: BatonError | None = None
        self._callbacks: list[tuple[Callback, asyncio.AbstractEventLoop | None]] = []
        self._callback_lock = threading.Lock()

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
        return self._run.name if self._run is not None else self._name or self._run_id

    @property
    def task_run(self) -> TaskRun:
        """The run's record as last read; read now if it never was.

        Raises:
            RunGone: there is no such run, or no longer.
        """
        return self._run if self._run is not None else self._read()

    def get_state(self) -> State[R]:
        """The present state, final or not: one round trip, or none once it is final.

        Raises:
            RunGone: there is no such run, or no longer.
        """
        if self._gone is not None:
            raise self._gone
        run = self._run
        return run.state if run is not None and run.state.is_final() else self._read().state

    async def aget_state(self) -> State[R]:
        """The same as `get_state`, without blocking the event loop."""
        return self.get_state() if self.is_known() else await asyncio.to_thread(self.get_state)

    def done(self) -> bool:
        """True when the run has ended or is gone: if that is known, or if one read finds it."""
        try:
            return self.get_state().is_final()
        except RunGone:
            return True

    # --- waiting ------------------------------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> State[R] | None:
        """The final state, or None when `timeout` seconds are over; 0 looks once, None waits for ever.

        Raises:
            RunGone: there is no such run, or no longer.
            WouldDeadlock: it is the run that this code is part of.
            Closed: the Orchestrator was closed meanwhile.
            InvalidValue: a negative time, or NaN.
        """
        self._check(timeout)
        if timeout == 0 or self.is_known():
            return self._look()
        _warn_on_a_loop()
        known = threading.Event()
        end = self._watch.enter(self._run_id, known.set)
        try:
            return self._take(end) if known.wait(timeout) else None
        finally:
            self._watch.leave([end])

    async def wait_async(self, timeout: float | None = None) -> State[R] | None:
        """The same as `wait`, without blocking the event loop."""
        self._check(timeout)
        if timeout == 0 or self.is_known():
            return self._look() if self.is_known() else await asyncio.to_thread(self._look)
        loop = asyncio.get_running_loop()
        known = asyncio.Event()
        end = self._watch.enter(self._run_id, lambda: loop.call_soon_threadsafe(known.set))
        try:
            async with asyncio.timeout(timeout):
                await known.wait()
            return self._take(end)
        except TimeoutError:
            return None
        finally:
            self._watch.leave([end])

    @overload
    def result(self, timeout: float | None = None, raise_on_failure: Literal[True] = True) -> R: ...
    @overload
    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R | BaseException: ...
    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R | BaseException:
        """Wait, then what the run returned; a failure's exception is raised, or with `raise_on_failure=False` returned.

        Raises:
            WaitTimeout: the run has not ended within `timeout` seconds.
            RunGone: there is no such run, or no longer.
            MissingResult: the result was not kept, or is no longer.
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

    # --- callbacks ----------------------------------------------------------------------------------------------------

    def add_done_callback(self, fn: Callback) -> None:
        """Call `fn(future)` once when the run has ended or is gone; any number, in the order of registration.

        If that is so already it is called now, in this thread. Otherwise later: on the event loop that runs in this
        thread, or if none does, in the thread that hears of the end. What it raises is logged. A future with a callback
        stays alive until then.
        """
        if not self.is_known():
            self.done()
        loop = _running_loop()
        with self._callback_lock:
            if not self.is_known():
                self._callbacks.append((fn, loop))
                if len(self._callbacks) == 1:
                    self._end = self._watch.enter(self._run_id, self._tell_callbacks)
                return
        _call_back(fn, self)

    def _tell_callbacks(self) -> None:
        """In the thread that hears of the end."""
        with self._callback_lock:
            if not self.is_known():
                self.learn(self._end.run or self._end.error)
            callbacks, self._callbacks = self._callbacks, []
        for fn, loop in callbacks:
            if loop is None:
                _call_back(fn, self)
            else:
                loop.call_soon_threadsafe(_call_back, fn, self)

    # --- the rest -----------------------------------------------------------------------------------------------------

    def is_known(self) -> bool:
        """True if the end is known here, or that the run is gone. No I/O."""
        return self._gone is not None or (self._run is not None and self._run.state.is_final())

    def learn(self, run: TaskRun | BatonError | None) -> None:
        """Take over what was read of this run: its record, the error of reading it, or None if it is gone."""
        if isinstance(run, TaskRun):
            self._run = run
        elif run is None or isinstance(run, RunGone):
            self._gone = run or RunGone(f"Run {self._run_id} is no longer in Redis.")

    def watch_with(self) -> tuple[Watch, RunLedger]:
        """What several futures of one Orchestrator are waited for and read with."""
        return self._watch, self._ledger

    def _take(self, end: End) -> State[R]:
        self.learn(end.run or end.error)
        if end.run is None:
            raise end.error or RunGone()
        return end.run.state

    def _look(self) -> State[R] | None:
        """The final state, if one read finds it."""
        state = self.get_state()
        return state if state.is_final() else None

    def _read(self) -> TaskRun:
        try:
            self._run = self._ledger.get(self._run_id)
        except RunGone as error:
            self._gone = error
            raise
        return self._run

    def _check(self, timeout: float | None) -> None:
        check_timeout(timeout)
        if current_run_id() == self._run_id:
            raise WouldDeadlock(f"run {self._run_id} would wait for its own end")

    def _too_late(self, timeout: float | None) -> WaitTimeout:
        kind = "Flow" if isinstance(self._run, FlowRun) else "Task"
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
    """
    if timeout is not None and (timeout < 0 or math.isnan(timeout)):
        raise InvalidValue(f"'timeout' must be a non-negative number, got {timeout}")


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


def _warn_on_a_loop() -> None:
    """Once a process: waiting in the thread of an event loop works, but nothing else on that loop goes on meanwhile."""
    if not _warned.is_set() and _running_loop() is not None:
        _warned.set()
        warnings.warn(
            "waiting for a future in the thread of a running event loop holds up that loop; write `await future`",
            UserWarning,
            stacklevel=4,
        )
