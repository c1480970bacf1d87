"""Bodies that wait for other runs lend their worker slot to them, and to nobody else: on one fleet of one worker."""

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import redis

from orchestrator import Orchestrator, task
from shared import keys
from tests.end_to_end import nesting
from tests.end_to_end.bodies import add
from tests.support.fleets import Fleet, Fleets
from tests.support.nested import MODULE, children_of, in_its_body, most_children, whole_tree, worker_of
from tests.support.server import RedisServer
from tests.support.waiting import eventually
from worker import threads


@pytest.fixture(scope="module")
def one_slot(module_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One fleet of one worker for all tests of this module."""
    with module_server.client() as client:
        fleets = Fleets(module_server.url, client, tmp_path_factory.mktemp("one-slot"))
        try:
            yield fleets(**MODULE)
        finally:
            fleets.clear_away()


def test_two_hundred_runs_wait_for_a_child_each_on_one_slot(one_slot: Fleet, baton: Orchestrator) -> None:
    with most_children(one_slot) as most:
        futures = baton.submit_many([(nesting.doubled, {"x": x}) for x in range(200)])
        results = futures.result(timeout=40)
    assert (results, 2 <= most[0] <= 3) == ([2 * x for x in range(200)], True)


def test_ten_runs_inside_each_other_have_ten_workers_more(
    one_slot: Fleet, baton: Orchestrator, client: "redis.Redis"
) -> None:
    future = baton.submit(nesting.nested, {"depth": 10})
    assert future.result(timeout=20) == 10
    tree = whole_tree(client, future.run_id)
    assert (len(tree), len({worker_of(client, run_id) for run_id in tree})) == (11, 11)
    eventually(lambda: len(one_slot.children()) == 1)


@pytest.mark.parametrize("way", nesting.WAYS)
@pytest.mark.usefixtures("one_slot")
def test_every_way_to_wait_lends_the_slot(baton: Orchestrator, way: str) -> None:
    assert baton.submit(nesting.doubled_by, {"way": way}).result(timeout=20) == [2, 4, 6]


@pytest.mark.usefixtures("one_slot")
def test_a_coroutine_that_waits_lends_the_slot(baton: Orchestrator) -> None:
    assert baton.submit(nesting.adoubled, {"x": 4}).result(timeout=20) == 8


@pytest.mark.usefixtures("one_slot")
def test_what_is_awaited_is_awaited_through_a_retry_with_a_delay(baton: Orchestrator) -> None:
    assert baton.submit(nesting.doubled_at_last, {"x": 4}).result(timeout=20) == 8


@pytest.mark.usefixtures("one_slot")
def test_what_an_awaited_run_needs_is_awaited_too_and_each_follows_at_once(baton: Orchestrator) -> None:
    began = time.monotonic()
    assert baton.submit(nesting.doubled_in_turn, {"x": 1, "times": 10}).result(timeout=20) == 1024
    assert time.monotonic() - began < 2


def test_twenty_runs_that_one_waits_for_take_one_worker_more(one_slot: Fleet, baton: Orchestrator) -> None:
    eventually(lambda: len(one_slot.children()) == 1)
    with most_children(one_slot) as most:
        results = baton.submit(nesting.doubles, {"number": 20}).result(timeout=20)
    assert (results, most) == ([2 * x for x in range(20)], [2])


@pytest.mark.usefixtures("one_slot")
def test_what_an_extra_worker_has_begun_ahead_is_not_given_back_whenever_the_body_goes_on(
    baton: Orchestrator, client: "redis.Redis"
) -> None:
    parent = baton.submit(nesting.doubles_one_by_one, {"number": 60})
    assert parent.result(timeout=20) == [2 * x for x in range(60)]
    messages = [state.message for run_id in children_of(client, parent.run_id) for state in baton.history(run_id)]
    # A few may go back with a batch that lasted too long, on a busy machine.
    assert messages.count("Not started: the worker is quiet.") < 10


@pytest.mark.usefixtures("one_slot")
def test_a_hint_that_is_lost_is_left_again(baton: Orchestrator, client: "redis.Redis", tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    parent = baton.submit(nesting.doubled_from, {"path": str(gate), "x": 1})
    eventually(lambda: parent.get_state().is_running())
    baton.pause_queue("default")
    gate.touch()
    eventually(lambda: client.delete(keys.awaited("default")))
    baton.resume_queue("default")
    assert parent.result(timeout=10) == 2


def test_an_extra_worker_begins_nothing_that_nobody_waits_for(
    one_slot: Fleet, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    parent = baton.submit(nesting.held_doubled, {"path": str(gate), "x": 1})
    child = in_its_body(one_slot, client, parent)
    others = baton.submit_many([(nesting.double, {"x": x}) for x in range(5)])
    # The extra ends its run, and finds the parent's second wish and those five.
    gate.touch()
    assert (parent.result(timeout=20), others.result(timeout=20)) == (2, [2 * x for x in range(5)])
    workers = [worker_of(client, future.run_id) for future in (parent, *others)]
    assert (set(workers), worker_of(client, child) in workers) == ({workers[0]}, False)
    eventually(lambda: len(one_slot.children()) == 1)


@pytest.mark.usefixtures("one_slot")
def test_an_extra_worker_that_has_nothing_to_do_waits_for_what_is_awaited(
    baton: Orchestrator, client: "redis.Redis"
) -> None:
    parent = baton.submit(nesting.doubled_at_last, {"x": 1})
    eventually(lambda: any(client.hget(keys.job(id_), "attempt") == "1" for id_ in children_of(client, parent.run_id)))
    others = baton.submit_many([(nesting.double, {"x": x}) for x in range(5)])
    assert (parent.result(timeout=20), others.result(timeout=20)) == (2, [2 * x for x in range(5)])
    workers = {worker_of(client, future.run_id) for future in (parent, *others)}
    (child,) = children_of(client, parent.run_id)
    assert (len(workers), worker_of(client, child) in workers) == (1, False)


def test_a_thread_that_a_body_left_behind_lends_no_slot(one_slot: Fleet, baton: Orchestrator, tmp_path: Path) -> None:
    eventually(lambda: len(one_slot.children()) == 1)
    gate = tmp_path / "gate"
    pid = baton.submit(nesting.left_behind, {"path": str(gate)}).result(timeout=10)
    gate.touch()
    assert baton.submit(nesting.double, {"x": 1}).result(timeout=10) == 2
    eventually(lambda: one_slot.children() == [pid])


@pytest.mark.parametrize("task", [nesting.held_doubled, nesting.doubled_too_late], ids=["cancel", "time limit"])
def test_a_parked_body_is_ended_as_any_other(
    one_slot: Fleet, baton: Orchestrator, client: "redis.Redis", tmp_path: Path, task: Any
) -> None:
    gate = tmp_path / "gate"
    is_cancelled = task is nesting.held_doubled
    parent = baton.submit(task, {"path": str(gate), "x": 1} if is_cancelled else {"path": str(gate)})
    child = in_its_body(one_slot, client, parent)
    if is_cancelled:
        parent.cancel()
    name = parent.wait(10).name
    gate.touch()
    assert (name, baton.future(child).wait(10).is_final()) == ("Cancelled" if is_cancelled else "TimedOut", True)
    eventually(lambda: len(one_slot.children()) == 1)


def test_threads_of_an_orchestrator_in_memory_lend_their_slots_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BODY_LOG", str(tmp_path))
    with Orchestrator("memory:") as baton:
        one, many = baton.submit(nesting.nested, {"depth": 10}), baton.submit_many([(nesting.doubled, {"x": 1})] * 20)
        assert (one.result(timeout=30), many.result(timeout=30)) == (10, [2] * 20)
        eventually(lambda: sum("thread-" in thread.name for thread in threading.enumerate()) == 2)


def test_an_orchestrator_in_memory_has_no_thread_more_without_nested_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BODY_LOG", str(tmp_path))
    with Orchestrator("memory:") as baton:
        assert baton.submit_many([(add, {"x": 1, "y": x}) for x in range(50)]).result(timeout=10)[-1] == 50
        assert sum("thread-" in thread.name for thread in threading.enumerate()) == 2


def test_in_memory_no_line_of_the_fleet_is_executed_where_a_time_limit_may_strike() -> None:
    seen: list[str] = []

    def look(frame: FrameType, _event: str, _argument: Any) -> None:
        if frame.f_code.co_filename == threads.__file__:
            seen.append(frame.f_code.co_name)

    @task(key="lending.needed")
    def needed() -> int:
        return 1

    @task(key="lending.waits")
    def waits() -> int:
        sys.setprofile(look)
        try:
            return sum(future.result(20) for future in [needed.submit() for _ in range(3)])
        finally:
            sys.setprofile(None)

    with Orchestrator("memory:"):  # of two workers: two bodies that wait leave none
        assert ([future.result(20) for future in [waits.submit(), waits.submit()]], seen) == ([3, 3], [])
