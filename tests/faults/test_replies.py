"""Replies that are lost: of a submit, a begin, an end. Whoever repeats hears the same, and nothing is doubled."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from orchestrator import Orchestrator
from shared import keys
from shared.settings import Settings
from tests.end_to_end.bodies import add, held
from tests.support.fleets import SHORT, Fleets, starts, told
from tests.support.proxy import Proxy, proxy_to
from tests.support.server import RedisServer
from tests.support.waiting import eventually

QUICK = {**SHORT, "socket_timeout": 0.5}


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with proxy_to(server.port) as proxy:
        yield proxy


@pytest.fixture
def behind(proxy: Proxy, client: "redis.Redis", tmp_path: Path) -> Iterator[Fleets]:
    """Fleets that reach Redis through the proxy."""
    fleets = Fleets(proxy.url, client, tmp_path)
    yield fleets
    fleets.clear_away()


def test_a_submit_whose_reply_is_lost_makes_one_run(proxy: Proxy, client: "redis.Redis") -> None:
    with Orchestrator(settings=Settings.load({}, redis_url=proxy.url)) as baton:
        baton.submit(add, {"x": 0, "y": 0})  # what comes before the first submit is not what is meant here
        lost = proxy.lose_reply(b"shop-mark")
        future = baton.submit(add, {"x": 1, "y": 1}, idempotency_key="shop-mark")
    assert (lost.is_set(), client.llen(keys.queue("default"))) == (True, 2)
    assert client.lrange(keys.queue("default"), 0, -1)[-1] == future.run_id


def test_a_begin_whose_reply_is_lost_is_repeated_and_its_body_starts_once(
    proxy: Proxy, behind: Fleets, baton: Orchestrator, client: "redis.Redis"
) -> None:
    behind(**QUICK)
    (worker,) = client.zrange(keys.LEASES, 0, -1)
    client.set(keys.SUSPENDED, 1)  # so that the next cycle is the one that begins the run
    future = baton.submit(add, {"x": 1, "y": 1})
    lost = proxy.lose_reply(f"rq:worker:{worker}".encode())
    client.delete(keys.SUSPENDED)
    client.rpush(keys.wake("default"), 1)
    assert future.result(20) == 2
    run = baton.get_run(future.run_id)
    assert lost.is_set()
    assert (run.attempt, run.crashes, starts(behind.body_log(), future.run_id)) == (1, 0, 1)


def test_an_end_whose_replies_are_lost_again_and_again_is_recorded_once(
    proxy: Proxy, behind: Fleets, baton: Orchestrator, tmp_path: Path
) -> None:
    behind(**QUICK)
    gate = tmp_path / "gate"
    future = baton.submit(held, {"path": str(gate)})
    eventually(lambda: starts(behind.body_log(), future.run_id) == 1)
    losses = [proxy.lose_reply(b"COMPLETED") for _ in range(3)]
    gate.touch()
    assert future.result(20) == str(gate)
    assert baton.submit(add, {"x": 1, "y": 1}).result(20) == 2
    assert all(lost.is_set() for lost in losses)
    assert [name for name, _ in told(baton, future.run_id)] == ["Pending", "Running", "Completed"]


def test_a_link_that_is_cut_within_requests_stores_nothing_by_halves(
    proxy: Proxy, behind: Fleets, baton: Orchestrator, client: "redis.Redis"
) -> None:
    behind(**QUICK)
    futures = baton.submit_many((add, {"x": number, "y": 0}) for number in range(3000))
    for ended in range(100, 3000, 400):
        eventually(lambda goal=ended: client.zcard(f"{keys.FINISHED}default") >= goal)
        proxy.cut()
    assert futures.result(30) == list(range(3000))
    assert {baton.get_run(future.run_id).crashes for future in futures} == {0}  # links were lost, and no process
    for future in futures:
        first, *tries, last = [name for name, _ in told(baton, future.run_id)]
        # Each time it was begun ahead and given back, or its report did not come through, one pair more.
        pairs = [["Running", "Pending"], *[["Rerunning", "Pending"]] * 9]
        begun = ["Rerunning"] if len(tries) > 1 else ["Running"]
        expected = [name for pair in pairs[: len(tries) // 2] for name in pair] + begun
        assert (first, tries, last) == ("Pending", expected, "Completed")


def test_scripts_that_are_flushed_under_load_are_loaded_again(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis"
) -> None:
    fleet()
    futures = baton.submit_many((add, {"x": number, "y": 0}) for number in range(500))
    while not futures[-1].done():
        client.script_flush()
    assert futures.result(30) == list(range(500))


def test_a_run_besides_the_occurrences_whose_reply_is_lost_is_one_run(proxy: Proxy, client: "redis.Redis") -> None:
    with Orchestrator(settings=Settings.load({}, redis_url=proxy.url)) as baton:
        baton.create_schedule(add, {"x": 1, "y": 1}, cron="0 0 1 1 *", id="yearly-mark")
        baton.run_schedule("yearly-mark")
        lost = proxy.lose_reply(b"EVALSHA")
        run_id = baton.run_schedule("yearly-mark")
    assert (lost.is_set(), client.llen(keys.queue("default"))) == (True, 2)
    assert client.lrange(keys.queue("default"), 0, -1)[-1] == run_id
