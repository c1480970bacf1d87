"""Waiting for many runs at once: `as_completed`, `wait`, and the core that both share with lists of futures.

Written once: the core collects ends as they come, and is woken by whatever its user waits with, a threading or an
asyncio event.
"""

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

from orchestrator.futures import RunFuture, call_on, check_timeout, longest, read_open, warn_on_a_loop
from orchestrator.watch import End, Watch
from shared.clock import monotonic
from shared.errors import BatonError, Closed, InvalidCall, WaitTimeout
from shared.ledger import RunLedger
from shared.texts import shown
from worker.lending import lending

R = TypeVar("R")


class Gathering(Generic[R]):
    """The ends of some futures, in the order in which they come; those known already come first.

    A run that is gone counts as ended, and so does one whose record cannot be read. `wake` is called in any thread when
    there is something to take.
    """

    def __init__(self, futures: Iterable[RunFuture[R]], wake: Callable[[], object]) -> None:
        unique = list(dict.fromkeys(futures))
        self.total = self.left = len(unique)
        self._wake = wake
        self._ended: deque[RunFuture[R]] = deque()
        self._open: dict[str, RunFuture[R]] = {}
        for future in unique:  # each is asked once: it may become known at any moment
            if future.is_known():
                self._ended.append(future)
            else:
                self._open[future.run_id] = future
        self._closed: Closed | None = None
        self._entered: list[tuple[Watch, list[End]]] = []
        self._watched_in: int | None = None

    def watch(self) -> None:
        """Watch all that are open, at once; in the child of a fork once more, where nothing is watched yet.

        Raises:
            Closed: an Orchestrator of theirs is closed.
            WouldDeadlock: one of them cannot end while it is waited for here.
        """
        if self._watched_in == os.getpid():
            return
        self._watched_in, self._entered = os.getpid(), []
        by_watch: dict[Watch, list[str]] = {}
        for future in self._open.values():
            future.check_may_wait()
            by_watch.setdefault(future.watch_with()[0], []).append(future.run_id)
        for watch, run_ids in by_watch.items():
            self._entered.append((watch, watch.enter(run_ids, self._tell)))

    def end(self) -> None:
        """Watch none of them any more."""
        for watch, ends in self._entered:
            watch.leave(ends)
        self._entered = []

    def take(self) -> RunFuture[R] | None:
        """One that has ended and was not taken yet, or None.

        Raises:
            Closed: the Orchestrator of one of them was closed meanwhile.
        """
        if self._closed is not None:
            raise self._closed
        try:
            future = self._ended.popleft()
        except IndexError:
            return None
        self.left -= 1
        return future

    def open(self) -> list[tuple[RunLedger, str]]:
        """The runs that have not ended, each with the ledger where it is; asked in any thread."""
        return [(future.watch_with()[1], run_id) for run_id, future in list(self._open.items())]

    def look(self) -> None:
        """Read once all that are open, in one batch, instead of watching them."""
        found = dict(read_open(self._open.values()))
        for future in self._open.values():
            if future.is_known() or isinstance(found.get(future), BatonError):
                self._ended.append(future)

    def _tell(self, end: End) -> None:
        if isinstance(end.found, Closed):
            self._closed = end.found
        else:
            future = self._open.pop(end.run_id)
            future.learn(end.found)
            self._ended.append(future)
        self._wake()


class as_completed(Generic[R]):  # noqa: N801 - called like a function, as in the standard library
    """The futures, each as it ends, for `for` and `async for`. Duplicates are dropped; what is gone counts as ended.

    The time counts from the call; 0 still gives what has ended.

    Raises:
        InvalidCall: something else than a future is among them.
        InvalidValue: a negative time, or NaN.

    While it is read:
        WaitTimeout: the time is over, and some have not ended.
        WouldDeadlock, Closed, RedisUnavailable: as `RunFuture.wait`.
    """

    def __init__(self, futures: Iterable[RunFuture[R]], timeout: float | None = None) -> None:
        check_timeout(timeout)
        self._futures = list(futures)
        for future in self._futures:
            if not isinstance(future, RunFuture):
                raise InvalidCall(f"one can wait for futures only, got {shown(future)}")
        self._looks = timeout == 0
        self._until = None if timeout is None else monotonic() + timeout

    def __iter__(self) -> Iterator[RunFuture[R]]:
        woken = threading.Event()
        gathering = Gathering(self._futures, woken.set)
        try:
            if self._looks:
                gathering.look()
            while gathering.left:
                if not self._looks:
                    gathering.watch()
                woken.clear()
                if (future := gathering.take()) is not None:
                    yield future
                elif self._looks or not self._waited(woken, gathering):
                    raise self._too_late(gathering)
        finally:
            gathering.end()

    async def __aiter__(self) -> AsyncGenerator[RunFuture[R], None]:
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        gathering = Gathering(self._futures, lambda: call_on(loop, woken.set))
        try:
            if self._looks:
                await asyncio.to_thread(gathering.look)
            else:
                gathering.watch()
            while gathering.left:
                woken.clear()
                if (future := gathering.take()) is not None:
                    yield future
                    continue
                try:
                    with lending(gathering.open):
                        async with asyncio.timeout(0 if self._looks else self._seconds()):
                            await woken.wait()
                except TimeoutError:
                    raise self._too_late(gathering) from None
        finally:
            gathering.end()

    def _waited(self, woken: threading.Event, gathering: Gathering[R]) -> bool:
        warn_on_a_loop()
        with lending(gathering.open):
            return woken.wait(longest(self._seconds()))

    def _seconds(self) -> float | None:
        return None if self._until is None else max(0.0, self._until - monotonic())

    @staticmethod
    def _too_late(gathering: Gathering[R]) -> WaitTimeout:
        return WaitTimeout(f"{gathering.left} (of {gathering.total}) futures unfinished")


class DoneAndNotDoneFutures(NamedTuple):
    """The futures that have ended, and the others."""

    done: set[RunFuture[Any]]
    not_done: set[RunFuture[Any]]


def wait(futures: Iterable[RunFuture[Any]], timeout: float | None = None) -> DoneAndNotDoneFutures:
    """Wait until all have ended or the time, in seconds, is over. Never raises because time is over.

    Raises:
        InvalidCall, InvalidValue, WouldDeadlock, Closed, RedisUnavailable: as `as_completed`.
    """
    given = set(futures)
    done: set[RunFuture[Any]] = set()
    try:
        for future in as_completed(given, timeout):
            done.add(future)
    except WaitTimeout:
        pass
    return DoneAndNotDoneFutures(done, given - done)


async def wait_async(futures: Iterable[RunFuture[Any]], timeout: float | None = None) -> DoneAndNotDoneFutures:
    """The same as `wait`, without blocking the event loop."""
    given = set(futures)
    done: set[RunFuture[Any]] = set()
    try:
        async for future in as_completed(given, timeout):
            done.add(future)
    except WaitTimeout:
        pass
    return DoneAndNotDoneFutures(done, given - done)
