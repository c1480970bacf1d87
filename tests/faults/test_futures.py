"""Futures on a real server whose links break, fall silent or are cut, that comes back empty, and in processes that fork
or end."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from orchestrator import RunFuture, as_completed, wait
from shared import keys
from shared.errors import Closed, RunGone
from shared.states import Completed, Failed
from tests.support.desk import Desk, desk_on
from tests.support.fleets import command, in_thread
from tests.support.proxy import Proxy, proxy_to
from tests.support.server import RedisServer, free_port
from tests.support.waiting import eventually

SWEEP = 0.5
MANY = 3000


@contextmanager
def behind(proxy: Proxy, **settings: float) -> Iterator[Desk]:
    """A desk whose Orchestrator reaches Redis through the proxy; the test's own commands go there too."""
    with desk_on(proxy.url, **{"future_sweep": SWEEP, "socket_timeout": 0.5, **settings}) as desk:
        yield desk


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with proxy_to(server.port) as proxy:
        yield proxy


@pytest.fixture
def direct(server: RedisServer) -> Iterator["redis.Redis"]:
    with server.client() as client:
        yield client


@pytest.fixture
def near(server: RedisServer) -> Iterator[Desk]:
    """A desk that reaches the server directly, and does not sweep: it ends the runs of the one behind the proxy."""
    with desk_on(server.url, future_sweep=30) as desk:
        yield desk


def hearing(client: "redis.Redis") -> list[dict[str, str]]:
    """The connections that hear something."""
    return [row for row in client.client_list(_type="pubsub") if int(row["sub"])]


# --- links that break -------------------------------------------------------------------------------------------------


def test_connections_cut_again_and_again_while_results_arrive_lose_none(proxy: Proxy, near: Desk) -> None:
    with behind(proxy) as desk:
        futures = desk.submit(MANY)
        called: list[str] = []
        for future in futures[::10]:
            future.add_done_callback(lambda future: called.append(future.run_id))
        collecting = in_thread(lambda: list(as_completed(futures)))
        near.wait_until_heard(*futures)
        for start in range(0, MANY, MANY // 6):
            ending = in_thread(lambda start=start: end_some(near, futures[start : start + MANY // 6]))
            eventually(proxy.cut)
            ending()
        assert set(collecting(60)) == set(futures)
        assert [future.result(0) for future in futures] == [future.run_id for future in futures]
        eventually(lambda: len(called) == MANY // 10)
        assert set(called) == {future.run_id for future in futures[::10]}
    near.wait_until_unheard(*futures)


def end_some(near: Desk, futures: Sequence[RunFuture]) -> None:
    for start in range(0, len(futures), 50):
        some = futures[start : start + 50]
        near.end_all(some, lambda number, some=some: Completed(data=some[number].run_id))


def test_an_end_while_nothing_can_be_reached_is_found_afterwards(proxy: Proxy, near: Desk) -> None:
    with behind(proxy) as desk:
        future = desk.one()
        answers = [in_thread(future.result), in_thread(lambda: asyncio.run(future.aresult()))]
        near.wait_until_heard(future)
        with proxy.refuse():
            proxy.cut()
            near.end(future, Completed(data=3))
            near.wait_until_unheard(future)
        assert [answer() for answer in answers] == [3, 3]


def test_whoever_begins_to_wait_while_nothing_can_be_reached_keeps_its_patience(proxy: Proxy, near: Desk) -> None:
    with behind(proxy) as desk:
        impatient, patient = desk.submit(2)
        with proxy.refuse():
            proxy.cut()
            assert impatient.wait(0.2) is None
            answer = in_thread(patient.result)
            near.end(patient, Completed(data=3))
        assert answer() == 3


@pytest.mark.parametrize("marked", [True, None], ids=["what is heard", "everything"])
def test_a_half_open_link_delays_an_end_by_a_sweep_at_most_and_is_given_up(
    proxy: Proxy, near: Desk, direct: "redis.Redis", marked: bool | None
) -> None:
    with behind(proxy, ping=0.5, pong=0.5, producer_budget=0.5) as desk:
        future, later = desk.submit(2)
        answer, later_answer = in_thread(future.result), in_thread(later.result)
        near.wait_until_heard(future, later)
        (before,) = [row["id"] for row in hearing(direct)]
        with proxy.hold("to_client", marked=marked):
            near.end(future, Completed(data=3))
            if marked:
                assert answer() == 3
            eventually(lambda: before not in [row["id"] for row in hearing(direct)])
        assert answer() == 3
        near.end(later, Completed(data=4))
        assert later_answer() == 4


def test_many_ends_that_nobody_heard_of_are_found_by_sweeps(proxy: Proxy, near: Desk) -> None:
    with behind(proxy, ping=30) as desk:
        futures = desk.submit(100)
        answer = in_thread(futures.result)
        near.wait_until_heard(*futures)
        with proxy.hold("to_client", marked=True):
            near.end_all(futures, lambda number: Completed(data=number))
            assert answer() == list(range(100))


def test_without_the_right_to_subscribe_ends_are_found_by_sweeps(
    proxy: Proxy, near: Desk, direct: "redis.Redis"
) -> None:
    url = proxy.url.replace("//", "//reader:secret@")
    direct.acl_setuser("reader", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-subscribe"])
    try:
        (future,) = near.submit(1)
        with desk_on(url, future_sweep=SWEEP) as desk:
            answer = in_thread(desk.baton.future(future.run_id).result)
            near.end(future, Completed(data=3))
            assert answer() == 3
            gone = in_thread(desk.baton.future("never was").result)
            with pytest.raises(RunGone):
                gone()
    finally:
        direct.acl_deluser("reader")


def test_a_slow_subscriber_that_the_server_cut_reads_the_record(near: Desk, direct: "redis.Redis") -> None:
    limit = direct.config_get("client-output-buffer-limit")
    direct.config_set("client-output-buffer-limit", "pubsub 100000 0 0")
    cut_before = direct.info("stats").get("client_output_buffer_limit_disconnections", 0)
    try:
        future = near.one()
        answer = in_thread(future.result)
        near.wait_until_heard(future)
        (before,) = [row["id"] for row in hearing(direct)]
        with direct.pipeline() as pipe:
            pipe.publish(keys.state_channel(future.run_id), "x" * 1_000_000)
            pipe.execute()
        eventually(lambda: before not in [row["id"] for row in direct.client_list()])
        near.end(future, Completed(data=3))
        assert answer() == 3
        cut = direct.info("stats").get("client_output_buffer_limit_disconnections")
        assert cut is None or cut > cut_before
    finally:
        direct.config_set("client-output-buffer-limit", limit["client-output-buffer-limit"])


# --- a server that lost its data --------------------------------------------------------------------------------------


def test_a_server_that_comes_back_empty_has_lost_every_run(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    try:
        with desk_on(server.url, future_sweep=SWEEP) as desk:
            futures = desk.submit(20)
            called: list[object] = []
            futures[0].add_done_callback(called.append)
            answers = [
                in_thread(futures[0].result),
                in_thread(lambda: asyncio.run(futures[1].aresult())),
                in_thread(futures.result),
            ]
            collecting = in_thread(lambda: wait(futures))
            desk.wait_until_heard(*futures)
            server.restart()
            for answer in answers:
                with pytest.raises(RunGone):
                    answer()
            assert collecting() == (set(futures), set())
            eventually(lambda: called == [futures[0]])
    finally:
        server.stop()


def test_a_server_emptied_under_its_listeners_has_lost_every_run(near: Desk, server: RedisServer) -> None:
    with desk_on(server.url, future_sweep=SWEEP) as desk, server.client() as client:
        futures = desk.submit(20)
        answers = [in_thread(future.result) for future in futures]
        desk.wait_until_heard(*futures)
        client.flushall()
        for answer in answers:
            with pytest.raises(RunGone):
                answer()
        near.wait_until_unheard(*futures)


def test_a_server_that_is_away_for_good_leaves_a_close_possible(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    with desk_on(server.url, future_sweep=SWEEP, socket_timeout=0.5, producer_budget=0.5) as desk:
        future = desk.one()
        answer = in_thread(future.result)
        desk.wait_until_heard(future)
        server.stop()
        assert future.wait(0.2) is None
        desk.baton.close()
        with pytest.raises(Closed):
            answer()
    eventually(lambda: all(thread.name != "baton-subscriber" for thread in threading.enumerate()))


# --- what nobody should have to pay for -------------------------------------------------------------------------------


def test_a_resolved_future_costs_no_round_trip(proxy: Proxy, near: Desk) -> None:
    with behind(proxy, future_sweep=30, ping=30) as desk:
        futures = desk.submit(3)
        near.end_all(futures[:2], lambda number: Completed(data=number))
        near.end(futures[2], Failed(data=ValueError("x")))
        futures.wait()
        near.wait_until_unheard(*futures)
        before = proxy.round_trips
        first, _, failed = futures
        states = [first.get_state(), first.wait(), first.wait(0), asyncio.run(first.wait_async()), first.task_run.state]
        results = [first.result(), first.result(0), asyncio.run(first.aresult()), futures.result(None, False)[:2]]
        first.add_done_callback(lambda future: results.append(future.result()))
        with pytest.raises(ValueError, match="x"):
            failed.result()
        assert (set(as_completed(futures)), wait(futures, 0)) == (set(futures), (set(futures), set()))
        assert (len({id(state) for state in states}), results, first.done()) == (1, [0, 0, 0, [0, 1], 0], True)
        assert futures.get_states()[0] is states[0]
        assert proxy.round_trips == before


@pytest.mark.parametrize("name", ["Completed", "Cached", "TimedOut", "a name of one's own"])
def test_an_end_of_any_name_is_heard_at_the_same_cost(proxy: Proxy, near: Desk, name: str) -> None:
    with behind(proxy, future_sweep=30, ping=30) as desk:
        warm, future = desk.submit(2)
        near.end(warm, Completed())
        warm.wait()
        near.wait_until_unheard(warm)
        before = proxy.round_trips
        answer = in_thread(future.wait)
        near.wait_until_heard(future)
        eventually(lambda: proxy.round_trips >= before + 2)
        state = Failed(name=name, data=ValueError("x")) if name == "TimedOut" else Completed(name=name, data=3)
        near.end(future, state)
        assert answer().name == name
        near.wait_until_unheard(future)
        # Subscribe, look once that is confirmed, look when the end is heard, unsubscribe; if it ends before the first
        # look, that one is enough.
        assert proxy.round_trips - before in (3, 4)


def test_any_number_of_futures_is_heard_over_one_connection(near: Desk, direct: "redis.Redis") -> None:
    futures = near.submit(1000)
    answers = [in_thread(lambda: list(as_completed(futures))), in_thread(lambda: asyncio.run(gathered(futures)))]
    near.wait_until_heard(*futures)
    assert [int(row["sub"]) for row in hearing(direct)] == [1000]
    near.end_all(futures[:500], lambda number: Completed(data=number))
    near.end_all(futures[500:], lambda number: Completed(data=number))
    for answer in answers:
        assert len(answer()) == 1000
    eventually(lambda: hearing(direct) == [])


async def gathered(futures: Sequence[RunFuture]) -> list[object]:
    return await asyncio.gather(*futures)


def test_futures_that_are_dropped_leave_no_subscription(near: Desk, direct: "redis.Redis") -> None:
    futures = near.submit(50)
    stream = as_completed(futures)
    near.end(futures[7], Completed())
    reading = iter(stream)
    assert next(reading) == futures[7]
    assert hearing(direct) != []
    del futures, stream, reading
    eventually(lambda: hearing(direct) == [])


# --- processes that fork or end ---------------------------------------------------------------------------------------


def in_a_fork(work: Callable[[], bool]) -> int:
    """The exit code of a child of this process, 0 if this is true there. A child that hangs is ended by its alarm."""
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(20)
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_fork_while_futures_are_open_hears_for_itself_and_takes_nothing_from_its_parent(near: Desk) -> None:
    open_one, ends_in_child, *streamed = futures = near.submit(5)
    near.begin(futures[-1].run_id)
    called: list[str] = []
    open_one.add_done_callback(lambda _: called.append("in the parent"))
    near.end(streamed[0], Completed())
    stream = iter(as_completed(streamed))
    assert next(stream) == streamed[0]
    answer = in_thread(open_one.result)
    near.wait_until_heard(open_one, *streamed[1:])

    def work() -> bool:
        ends_in_child.add_done_callback(lambda _: called.append("in the child"))
        open_one.add_done_callback(lambda _: called.append("in the child too"))
        near.end_all([ends_in_child, streamed[2], streamed[1]], lambda number: Completed(data=number))
        rest = [ends_in_child.result(10), *sorted(future.result(0) for future in stream)]
        near.end(open_one, Completed(data=3))
        return open_one.result(10) == 3 and rest == [0, 1, 2] and is_called(called)

    assert in_a_fork(work) == 0
    assert (answer(), called) == (3, ["in the parent"])
    assert [future.result(0) for future in stream] == [1, 2]


def is_called(called: list[str]) -> bool:
    eventually(lambda: len(called) == 2)
    return called == ["in the child", "in the child too"]


EXITING = """
import sys, threading, asyncio
from orchestrator import Orchestrator, as_completed
baton = Orchestrator()
futures = baton.submit_many(("exit.never", {}) for _ in range(100))
for future in futures:
    future.add_done_callback(print)
stream = iter(as_completed(futures, 30))
threading.Thread(target=lambda: next(stream), daemon=True).start()
print(futures[0].wait(0.1))
print(asyncio.run(futures[1].wait_async(0.1)))
"""


@pytest.mark.parametrize("ending", ["", "sys.exit(0)", "baton.close()", "del baton, futures"])
def test_an_interpreter_with_open_futures_ends_at_once(server: RedisServer, direct: "redis.Redis", ending: str) -> None:
    told = command(sys.executable, "-c", f"{EXITING}\n{ending}", url=server.url, seconds=10)
    ours = "\n".join(line for line in told.stderr.splitlines() if "Closed" not in line)
    assert (told.stdout, told.returncode) == ("None\nNone\n", 0), told.stderr
    assert ending == "baton.close()" or ours == ""
    eventually(lambda: hearing(direct) == [])


def test_a_submit_to_nobody_leaves_nothing_to_wait_for() -> None:
    with desk_on(f"redis://127.0.0.1:{free_port()}/0", producer_budget=0.2) as desk:
        future = desk.baton.future("01a1f920-fbae-734a-b400-1a65d09d2208")
        assert future.wait(0.3) is None
