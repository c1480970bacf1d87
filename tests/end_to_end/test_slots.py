"""`concurrency` and `rate_limit` in bodies, in plain processes, in threads and on event loops."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import pytest
import redis

from orchestrator import Orchestrator, arate_limit, concurrency, rate_limit
from shared.errors import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    ConfigError,
    InvalidCall,
    InvalidValue,
)
from shared.settings import Settings
from shared.upkeep import Death
from tests.end_to_end.slot_bodies import ahold, arated, hold, rated
from tests.support.fleets import ROOT, SHORT, Fleets, environment, server_time
from tests.support.server import RedisServer
from tests.support.waiting import eventually

SLOTS = "tests.end_to_end.slot_bodies"


@pytest.fixture
def baton(server: RedisServer) -> Iterator[Orchestrator]:
    """A producer whose lease is short, on an empty server."""
    with Orchestrator(settings=Settings.load({}, redis_url=server.url, **SHORT)) as baton:
        yield baton


def holders(client: "redis.Redis", name: str = "db") -> list[str]:
    members: list[str] = client.zrange(f"baton:limit:{name}:holders", 0, -1)
    return members


def waiting(client: "redis.Redis", name: str = "db") -> int:
    number: int = client.zcard(f"baton:limit:{name}:waiters")
    return number


# --- blocks -----------------------------------------------------------------------------------------------------------


def test_a_block_holds_slots_and_gives_them_back(baton: Orchestrator, client: "redis.Redis") -> None:
    baton.set_limit("db", 3)
    with concurrency(["db", "free"], occupy=2) as block:
        inside = (len(holders(client)), block.is_lost())
    assert (inside, holders(client)) == ((2, False), [])


def test_an_async_block_holds_slots_and_gives_them_back(baton: Orchestrator, client: "redis.Redis") -> None:
    baton.set_limit("db", 1)

    async def story() -> list[int]:
        async with concurrency("db"):
            return [len(holders(client))]

    assert (asyncio.run(story()), holders(client)) == ([1], [])


def test_a_block_that_raises_gives_its_slots_back(baton: Orchestrator, client: "redis.Redis") -> None:
    baton.set_limit("db", 1)
    with pytest.raises(KeyError), concurrency("db"):
        raise KeyError("no")
    assert holders(client) == []


@pytest.mark.parametrize("seconds", [0, 0.1])
def test_who_waits_too_long_is_told_and_leaves_the_row(
    baton: Orchestrator, client: "redis.Redis", seconds: float
) -> None:
    baton.set_limit("db", 1)
    with concurrency("db"):
        with pytest.raises(TimeoutError, match=f"no 1 slot.s. of db within {seconds:g} second") as raised:
            concurrency("db", timeout_seconds=seconds).__enter__()
        left = waiting(client)
    assert (type(raised.value), left) == (AcquireConcurrencySlotTimeoutError, 0)


def test_an_async_waiter_that_is_cancelled_leaves_the_row(baton: Orchestrator, client: "redis.Redis") -> None:
    baton.set_limit("db", 1)

    async def wait() -> None:
        async with concurrency("db"):
            raise AssertionError

    async def story() -> None:
        async with concurrency("db"):
            waiter = asyncio.create_task(wait())
            await asyncio.to_thread(eventually, lambda: waiting(client) == 1)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            await asyncio.to_thread(eventually, lambda: waiting(client) == 0)

    asyncio.run(story())
    eventually(lambda: client.keys("baton:slots:*") == [])
    assert holders(client) == []


def test_a_hundred_tasks_of_a_loop_share_two_slots(baton: Orchestrator) -> None:
    baton.set_limit("db", 2)
    inside, most = set[int](), list[int]()

    async def one(number: int) -> None:
        async with concurrency("db"):
            inside.add(number)
            most.append(len(inside))
            await asyncio.sleep(0)
            inside.discard(number)

    async def story() -> None:
        await asyncio.gather(*map(one, range(100)))

    asyncio.run(story())
    assert (len(most), max(most) <= 2) == (100, True)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: concurrency("db", 3), r"Slots requested is greater than the limit \(db\)"),
        (lambda: concurrency("none", strict=True), "there is no limit 'none'"),
    ],
    ids=["more than there are", "no such limit"],
)
def test_what_will_never_be_is_refused(baton: Orchestrator, call: Callable[[], Any], text: str) -> None:
    baton.set_limit("db", 2)
    with pytest.raises(ConcurrencySlotAcquisitionError, match=text):
        call().__enter__()


@pytest.mark.parametrize("occupy", [0, -1, 1.5, True, 1001])
def test_an_odd_number_of_slots_is_refused(occupy: Any) -> None:
    with pytest.raises(InvalidValue, match="'occupy' must be a whole number from 1 to 1000"):
        concurrency("db", occupy)


@pytest.mark.parametrize(("name", "kind"), [("a b", InvalidValue), ("lock:a", InvalidValue), (5, InvalidCall)])
def test_what_is_no_name_of_a_limit_is_refused(name: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        concurrency([name])


def test_a_block_is_entered_once_at_a_time(baton: Orchestrator) -> None:
    baton.set_limit("db", 2)
    block = concurrency("db")
    for _ in range(2):
        with block, pytest.raises(InvalidCall, match="is entered already"):
            block.__enter__()


# --- loss -------------------------------------------------------------------------------------------------------------


def bury(baton: Orchestrator) -> None:
    """Somebody takes this process for dead."""
    name = baton.holds.leases.current().name
    baton._ledger.reap([Death(name, "a test")])
    baton.holds.leases.hasten()


def test_a_block_that_loses_its_slots_goes_on_unless_it_is_strict(baton: Orchestrator) -> None:
    baton.set_limit("db", 1)
    with concurrency("db") as block:
        bury(baton)
        eventually(block.is_lost)
    with concurrency("db") as block:
        assert not block.is_lost()


def _lose_them_and_sleep(baton: Orchestrator) -> None:
    with concurrency("db", strict=True):
        bury(baton)
        time.sleep(20)


def test_a_strict_block_that_loses_its_slots_is_ended(baton: Orchestrator) -> None:
    baton.set_limit("db", 1)
    began = time.monotonic()
    with pytest.raises(ConcurrencySlotAcquisitionError, match="the slots of db were lost"):
        _lose_them_and_sleep(baton)
    assert time.monotonic() - began < 10


def test_a_strict_async_block_that_loses_its_slots_is_ended(baton: Orchestrator) -> None:
    baton.set_limit("db", 1)

    async def story() -> None:
        async with concurrency("db", strict=True):
            await asyncio.to_thread(bury, baton)
            await asyncio.sleep(20)

    with pytest.raises(ConcurrencySlotAcquisitionError, match="the slots of db were lost"):
        asyncio.run(story())


def test_a_strict_block_in_a_thread_hears_of_the_loss_when_it_ends(baton: Orchestrator) -> None:
    baton.set_limit("db", 1)

    def story() -> str:
        with concurrency("db", strict=True) as block:
            bury(baton)
            eventually(block.is_lost)
        return "not reached"

    with ThreadPoolExecutor(1) as threads, pytest.raises(ConcurrencySlotAcquisitionError, match="were lost"):
        threads.submit(story).result(10)


# --- processes --------------------------------------------------------------------------------------------------------


@pytest.fixture
def program(server: RedisServer) -> Iterator[Callable[[int, float], "subprocess.Popen[bytes]"]]:
    """Starts processes that hold a slot of `db` so many times, for so many seconds each."""
    started: list[subprocess.Popen[bytes]] = []

    def start(number: int, seconds: float) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", SLOTS, str(number), str(seconds)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment(server.url, **SHORT))
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_three_processes_never_hold_more_slots_than_there_are(
    baton: Orchestrator, client: "redis.Redis", program: Callable[[int, float], "subprocess.Popen[bytes]"]
) -> None:
    baton.set_limit("db", 2)
    processes = [program(10, 0.005) for _ in range(3)]
    eventually(lambda: client.llen("test:ready") == 3)
    client.rpush("test:go", 1, 2, 3)
    codes = [process.wait(60) for process in processes]
    inside = [int(number) for number in client.lrange("test:inside", 0, -1)]
    assert (codes, len(inside), max(inside) <= 2, holders(client)) == ([0, 0, 0], 30, True, [])
    assert client.zrange("baton:leases", 0, -1) == []


def test_the_slot_of_a_process_that_was_killed_is_free_when_its_lease_is_over_without_any_fleet(
    baton: Orchestrator, client: "redis.Redis", program: Callable[[int, float], "subprocess.Popen[bytes]"]
) -> None:
    baton.set_limit("db", 1)
    client.rpush("test:go", 1)
    process = program(1, 60)
    eventually(lambda: holders(client))
    process.kill()
    with concurrency("db", timeout_seconds=15):
        (member,) = holders(client)
    assert f"-{os.getpid()}-" in member


def test_bodies_hold_slots_under_their_workers_lease(baton: Orchestrator, fleet: Fleets, client: "redis.Redis") -> None:
    workers = fleet(module=SLOTS, concurrency=3)
    baton.set_limit("db", 2)
    futures = [(hold if number % 2 else ahold).submit(["db"]) for number in range(12)]
    pids = {future.result(20) for future in futures}
    inside = [int(number) for number in client.lrange("test:inside", 0, -1)]
    assert (pids <= set(workers.children()), len(inside), max(inside) <= 2) == (True, 12, True)
    assert (holders(client), client.keys("baton:slots:*")) == ([], [])
    assert [name for name in client.zrange("baton:leases", 0, -1) if name.startswith("inline-")] == []


def test_the_slot_of_a_worker_that_was_killed_is_free_at_once(
    baton: Orchestrator, fleet: Fleets, client: "redis.Redis"
) -> None:
    workers = fleet(module=SLOTS, concurrency=2)
    baton.set_limit("db", 1)
    baton.submit(hold, {"names": ["db"], "seconds": 60})
    (pid,) = eventually(lambda: client.lrange("test:pids", 0, -1))
    second = baton.submit(hold, {"names": ["db"], "seconds": 0})
    eventually(lambda: waiting(client) == 1)
    os.kill(int(pid), signal.SIGKILL)
    assert (second.result(15) in workers.children(), int(pid) in workers.children()) == (True, False)


def test_runs_with_a_tag_and_bodies_share_a_limit(baton: Orchestrator, fleet: Fleets, client: "redis.Redis") -> None:
    fleet(module=SLOTS)
    baton.set_limit("tag:db", 1)
    with concurrency("tag:db"):
        waits = hold.with_options(tags=["db"]).submit([])
        eventually(lambda: waiting(client, "tag:db") == 1)
    assert waits.result(10) > 0


def test_a_waiter_begins_within_milliseconds_of_a_release(baton: Orchestrator, client: "redis.Redis") -> None:
    baton.set_limit("db", 1)
    released, gaps = 0.0, []
    begin = [threading.Barrier(2) for _ in range(20)]

    def wait() -> None:
        for barrier in begin:
            barrier.wait()
            with concurrency("db"):
                gaps.append(time.perf_counter() - released)

    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(wait)
        for barrier in begin:
            with concurrency("db"):
                barrier.wait()
                eventually(lambda: waiting(client) == 1)
                released = time.perf_counter()
        done.result(20)
    assert median(gaps) < 0.01


# --- rates ------------------------------------------------------------------------------------------------------------


def test_a_rate_is_kept_across_workers_to_the_fraction_of_a_second(
    baton: Orchestrator, fleet: Fleets, client: "redis.Redis"
) -> None:
    fleet(module=SLOTS, concurrency=2)
    baton.set_limit("api", 2, slot_decay_per_second=4)
    began = server_time(client)
    futures = [(rated if number % 2 else arated).submit("api") for number in range(10)]
    after = [at - began for at in sorted(future.result(20) for future in futures)]
    assert [at >= (number - 1) / 4 for number, at in enumerate(after)] == [True] * 10
    assert after[-1] <= 2 + 2  # what the last one had to wait, and what a busy machine takes


def test_who_would_wait_longer_than_it_may_is_told_at_once(baton: Orchestrator) -> None:
    baton.set_limit("api", 1, slot_decay_per_second=0.01)
    rate_limit("api")
    with pytest.raises(AcquireConcurrencySlotTimeoutError, match="the turn would be in"):
        rate_limit("api", timeout_seconds=5)
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        asyncio.run(arate_limit("api", timeout_seconds=5))


@pytest.mark.parametrize(
    ("name", "occupy", "strict", "kind"),
    [
        ("fixed", 1, False, ConfigError),
        ("api", 3, False, ConcurrencySlotAcquisitionError),
        ("none", 1, True, ConcurrencySlotAcquisitionError),
    ],
)
def test_a_rate_that_will_never_be_is_refused(
    baton: Orchestrator, name: str, occupy: int, *, strict: bool, kind: type[Exception]
) -> None:
    baton.set_limit("fixed", 1)
    baton.set_limit("api", 2, slot_decay_per_second=1)
    with pytest.raises(kind):
        rate_limit(name, occupy, strict=strict)


@pytest.mark.usefixtures("baton")
def test_names_without_a_limit_are_not_waited_for(client: "redis.Redis") -> None:
    rate_limit(["none", "neither"])
    assert client.keys("baton:rated:*") == []
