"""The locks of a store of results: they are those of its lock manager, under the store's own keys."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared.errors import ConfigError
from shared.isolation import IsolationLevel
from shared.result_storage import MemoryStorage
from shared.results import ResultStore
from shared.transactions import transaction
from tests.support.waiting import eventually

ME = "this process"


class LocksOfAThreadPool:
    """Locks within this process."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.holders: dict[str, str] = {}
        self.asked = threading.Event()

    def acquire_lock(self, key: str, holder: str | None = None, timeout: float | None = None) -> bool:
        with self.changed:
            self.asked.set()
            is_free = self.changed.wait_for(lambda: self.holders.get(key, holder or ME) == (holder or ME), timeout)
            if is_free:
                self.holders[key] = holder or ME
            return is_free

    def release_lock(self, key: str, holder: str | None = None) -> None:
        with self.changed:
            if self.holders.get(key) == (holder or ME):
                del self.holders[key]
                self.changed.notify_all()

    def is_locked(self, key: str) -> bool:
        return key in self.holders

    def is_lock_holder(self, key: str, holder: str | None = None) -> bool:
        return self.holders.get(key) == (holder or ME)

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: key not in self.holders, timeout)


@pytest.fixture
def locks() -> LocksOfAThreadPool:
    return LocksOfAThreadPool()


@pytest.fixture
def results(locks: LocksOfAThreadPool) -> ResultStore:
    return ResultStore(MemoryStorage(), "mine/", lock_manager=locks)


def test_a_lock_has_one_holder(results: ResultStore, locks: LocksOfAThreadPool) -> None:
    taken = [results.acquire_lock("k", "a"), results.acquire_lock("k", "b", 0), results.acquire_lock("k", "a", 0)]
    assert (taken, locks.holders) == ([True, False, True], {"mine/k": "a"})
    assert (results.is_locked("k"), results.is_lock_holder("k", "a"), results.is_lock_holder("k")) == (
        True,
        True,
        False,
    )
    assert results.wait_for_lock("k", 0) is False
    results.release_lock("k", "b")
    results.release_lock("k", "a")
    assert (results.is_locked("k"), results.wait_for_lock("k", 0)) == (False, True)


def test_the_twins_for_event_loops_do_the_same(results: ResultStore, locks: LocksOfAThreadPool) -> None:
    async def all_of_them() -> list[bool]:
        answers = [await results.aacquire_lock("k"), await results.aacquire_lock("k", "b", 0)]
        answers += [
            await results.ais_locked("k"),
            await results.ais_lock_holder("k"),
            await results.await_for_lock("k", 0),
        ]
        await results.arelease_lock("k")
        return [*answers, await results.await_for_lock("k", 0)]

    assert (asyncio.run(all_of_them()), locks.holders) == ([True, False, True, True, False, True], {})


def test_a_task_that_is_cancelled_while_it_waits_leaves_no_lock_behind(
    results: ResultStore, locks: LocksOfAThreadPool
) -> None:
    async def cancelled() -> bool:
        waiting = asyncio.create_task(results.aacquire_lock("k", "waiter"))
        await asyncio.to_thread(locks.asked.wait)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await results.arelease_lock("k", "first")
        return await results.aacquire_lock("k", "next", 10)

    results.acquire_lock("k", "first")
    locks.asked.clear()
    assert (asyncio.run(cancelled()), locks.holders) == (True, {"mine/k": "next"})


def test_a_loop_ends_although_one_waited_on_it_for_a_lock_that_nobody_frees(
    results: ResultStore, locks: LocksOfAThreadPool
) -> None:
    async def cancelled() -> None:
        waiting = asyncio.create_task(results.aacquire_lock("k", "waiter"))
        await asyncio.to_thread(locks.asked.wait)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    results.acquire_lock("k", "first")
    locks.asked.clear()
    asyncio.run(cancelled())
    assert locks.holders == {"mine/k": "first"}


def test_however_many_tasks_of_a_loop_wait_for_a_lock_whoever_has_it_goes_on(results: ResultStore) -> None:
    loop_threads = 2
    said: list[int] = []

    async def block(number: int) -> None:
        async with transaction("k", results, isolation_level=IsolationLevel.SERIALIZABLE, overwrite=True) as txn:
            txn.stage(number)
            said.append(number)

    async def all_of_them() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(loop_threads))
        await asyncio.wait_for(asyncio.gather(*map(block, range(5 * loop_threads))), 20)

    asyncio.run(all_of_them())
    assert (sorted(said), results.read("k").result, results.is_locked("k")) == ([*range(10)], said[-1], False)


def test_a_loop_ends_although_one_waited_on_it_until_nobody_has_a_lock(results: ResultStore) -> None:
    async def cancelled() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(results.await_for_lock("k"), 0.01)

    results.acquire_lock("k", "first")
    asyncio.run(cancelled())
    assert results.is_lock_holder("k", "first")


def test_a_task_that_is_cancelled_in_the_moment_it_has_the_lock_gives_it_back(
    results: ResultStore, locks: LocksOfAThreadPool
) -> None:
    async def cancelled() -> None:
        waiting = asyncio.create_task(results.aacquire_lock("k", "waiter"))
        await asyncio.sleep(0)  # the task goes as far as to its thread
        # The loop is held until the thread has the lock, so that its answer and the cancellation come together.
        eventually(lambda: results.is_lock_holder("k", "waiter"))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(cancelled())
    assert locks.holders == {}


ASKED: dict[str, Callable[[ResultStore], Any]] = {
    "acquire_lock": lambda results: results.acquire_lock("k"),
    "release_lock": lambda results: results.release_lock("k"),
    "is_locked": lambda results: results.is_locked("k"),
    "is_lock_holder": lambda results: results.is_lock_holder("k"),
    "wait_for_lock": lambda results: results.wait_for_lock("k"),
    "aacquire_lock": lambda results: asyncio.run(results.aacquire_lock("k")),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_a_store_without_locks_says_so(ask: Callable[[ResultStore], Any]) -> None:
    with pytest.raises(ConfigError, match=r"^This store has no locks: give it a lock_manager\.$"):
        ask(ResultStore(MemoryStorage()))
