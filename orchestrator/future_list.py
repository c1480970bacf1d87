"""Lists of futures, as `submit_many` returns them: waited for, read and gathered as one."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator
from contextlib import aclosing
from typing import Any, Literal, TypeVar, overload

from orchestrator.acting import actor
from orchestrator.futures import RunFuture, read_open
from orchestrator.gathering import DoneAndNotDoneFutures, as_completed, wait, wait_async
from shared.errors import BatonError, WaitTimeout
from shared.ledger import RunLedger
from shared.runs import BaseRunFutureList
from shared.states import State
from shared.texts import printable

R = TypeVar("R")


class RunFutureList(BaseRunFutureList[RunFuture[R]]):
    """Futures in the order of their submits; otherwise a plain list."""

    @overload
    def result(self, timeout: float | None = None, raise_on_failure: Literal[True] = True) -> list[R]: ...
    @overload
    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[R | BaseException]: ...
    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:
        """The results in the order of the list. The first failure in time is raised at once, while others still run.

        Raises:
            WaitTimeout: some have not ended within `timeout` seconds; one limit for all.
            RunGone, MissingResult: as `RunFuture.result`.
        """
        results: dict[RunFuture[R], Any] = {}
        for future in _each(self, timeout):
            results[future] = future.result(None, raise_on_failure)
        return [results[future] for future in self]

    @overload
    async def aresult(self, timeout: float | None = None, raise_on_failure: Literal[True] = True) -> list[R]: ...
    @overload
    async def aresult(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[R | BaseException]: ...
    async def aresult(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:
        """The same as `result`, without blocking the event loop."""
        results: dict[RunFuture[R], Any] = {}
        async with aclosing(_aeach(self, timeout)) as ended:
            async for future in ended:
                results[future] = await future.aresult(None, raise_on_failure)
        return [results[future] for future in self]

    def __await__(self) -> Generator[Any, None, list[R]]:
        return self.aresult().__await__()

    def wait(self, timeout: float | None = None) -> DoneAndNotDoneFutures:
        """As `orchestrator.wait` of all of them."""
        return wait(self, timeout)

    async def wait_async(self, timeout: float | None = None) -> DoneAndNotDoneFutures:
        """The same as `wait`, without blocking the event loop."""
        return await wait_async(self, timeout)

    def get_states(self) -> list[State[R]]:
        """The present states in the order of the list, all read in one batch.

        Raises:
            RunGone: one of the runs is not there, or no longer.
            BadEnvelope: what is stored of one cannot be read.
            RedisUnavailable, Closed: as `RunFuture.get_state`.
        """
        states = {}
        for future, found in read_open(self):
            if isinstance(found, BatonError):
                raise found
            states[future] = found.state
        return [states[future] if future in states else future.get_state() for future in self]

    async def aget_states(self) -> list[State[R]]:
        """The same as `get_states`, without blocking the event loop."""
        return await asyncio.to_thread(self.get_states)

    def cancel(self, message: str = "") -> list[State[R]]:
        """Cancel all that have not ended, 500 a round trip; the states that then hold, in the order of the list.

        Raises:
            As `get_states`.
        """
        ledgers: dict[RunLedger, list[str]] = {}
        for future in dict.fromkeys(self):
            ledgers.setdefault(future.watch_with()[1], []).append(future.run_id)
        for ledger, run_ids in ledgers.items():
            ledger.cancel(run_ids, actor=actor(), message=printable(message))
        return self.get_states()

    async def acancel(self, message: str = "") -> list[State[R]]:
        """The same as `cancel`, without blocking the event loop."""
        return await asyncio.to_thread(self.cancel, message)


def _each(futures: Iterable[RunFuture[R]], timeout: float | None) -> Iterator[RunFuture[R]]:
    try:
        yield from as_completed(futures, timeout)
    except WaitTimeout:
        raise _too_late(timeout) from None


async def _aeach(futures: Iterable[RunFuture[R]], timeout: float | None) -> AsyncGenerator[RunFuture[R], None]:
    try:
        async with aclosing(aiter(as_completed(futures, timeout))) as ended:
            async for future in ended:
                yield future
    except WaitTimeout:
        raise _too_late(timeout) from None


def _too_late(timeout: float | None) -> WaitTimeout:
    return WaitTimeout(f"Timed out waiting for all futures to complete within {timeout} seconds")
