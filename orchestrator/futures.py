"""The producer's handle on a run. Reads nothing by itself: it asks the ledger, or waits with the watch."""

import asyncio
import threading
from collections.abc import Generator
from typing import Any, Generic, Literal, TypeVar, overload

from orchestrator.watch import End, Watch
from shared.errors import BatonError, InvalidValue, RunGone, WaitTimeout
from shared.ledger import RunLedger
from shared.runs import BaseRunFuture, FlowRun, TaskRun
from shared.states import State

R = TypeVar("R")


class RunFuture(BaseRunFuture[R], Generic[R]):
    """One accepted run. Used by any number of threads; does no I/O until asked, and none once the end is known."""

    def __init__(self, run_id: str, ledger: RunLedger, watch: Watch, name: str | None = None) -> None:
        self._run_id = run_id
        self._ledger = ledger
        self._watch = watch
        self._name = name
        self._run: TaskRun | None = None
        self._gone: BatonError | None = None

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
        run = self._run
        return run.state if run is not None and run.state.is_final() else self._read().state

    def done(self) -> bool:
        """True when the run has ended, or is gone."""
        if self._gone is not None:
            return True
        try:
            return self.get_state().is_final()
        except BatonError:
            return self._gone is not None

    def wait(self, timeout: float | None = None) -> State[R] | None:
        """The final state, or None when `timeout` seconds are over; 0 looks once, None waits for ever.

        Raises:
            RunGone: there is no such run, or no longer.
            Closed: the Orchestrator was closed meanwhile.
            InvalidValue: a negative time, or NaN.
        """
        _check(timeout)
        if timeout == 0 or self._is_known():
            return self._look()
        known = threading.Event()
        end = self._watch.enter(self._run_id, known.set)
        try:
            return self._take(end) if known.wait(timeout) else None
        finally:
            self._watch.leave(end)

    async def wait_async(self, timeout: float | None = None) -> State[R] | None:
        """The same as `wait`, without blocking the event loop."""
        _check(timeout)
        if timeout == 0 or self._is_known():
            return self._look() if self._is_known() else await asyncio.to_thread(self._look)
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
            self._watch.leave(end)

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
    async def aresult(
        self,
        timeout: float | None = None,
        raise_on_failure: bool = True,
    ) -> R | BaseException:
        """The same as `result`, without blocking the event loop."""
        state = await self.wait_async(timeout)
        if state is None:
            raise self._too_late(timeout)
        return await state.aresult(raise_on_failure)

    def __await__(self) -> Generator[Any, None, R]:
        return self.aresult().__await__()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunFuture) and other.run_id == self._run_id

    def __hash__(self) -> int:
        return hash(self._run_id)

    def __repr__(self) -> str:
        return f"RunFuture({self.name!r})"

    def _is_known(self) -> bool:
        return self._gone is not None or (self._run is not None and self._run.state.is_final())

    def _look(self) -> State[R] | None:
        """The final state, if one read finds it."""
        if self._gone is not None:
            raise self._gone
        state = self.get_state()
        return state if state.is_final() else None

    def _read(self) -> TaskRun:
        try:
            self._run = self._ledger.get(self._run_id)
        except RunGone as error:
            self._gone = error
            raise
        return self._run

    def _take(self, end: End) -> State[R]:
        if end.run is None:
            error = end.error or RunGone()
            if isinstance(error, RunGone):
                self._gone = error
            raise error
        self._run = end.run
        return end.run.state

    def _too_late(self, timeout: float | None) -> WaitTimeout:
        kind = "Flow" if isinstance(self._run, FlowRun) else "Task"
        return WaitTimeout(f"{kind} run {self._run_id} did not complete within {timeout} seconds")


def _check(timeout: float | None) -> None:
    if timeout is not None and not timeout >= 0:  # also refuses NaN
        raise InvalidValue(f"'timeout' must be a non-negative number, got {timeout}")
