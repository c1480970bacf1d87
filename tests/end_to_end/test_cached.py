"""Cached results, commits and rollbacks of runs on real fleets, and of runs beside them."""

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import redis

from orchestrator import Orchestrator, Task, task
from tests.end_to_end import cached_bodies as bodies
from tests.support.fleets import SHORT, Fleet, Fleets, told
from tests.support.waiting import eventually
from worker.engine import run_task

MODULE = "tests.end_to_end.cached_bodies"


def called(client: "redis.Redis") -> list[str]:
    found: list[str] = client.lrange("test:called", 0, -1)
    return found


def locks(client: "redis.Redis") -> list[str]:
    return [*client.keys("baton:limit:lock:*"), *client.keys("baton:slots:*")]


@pytest.fixture(params=[(), ("--async-slots", "4")], ids=["one run", "one loop"])
def one(fleet: Fleets, request: pytest.FixtureRequest) -> Fleet:
    """A fleet of one worker: with one run at a time, or with several on an event loop."""
    return fleet(*request.param, module=MODULE)


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize("what", [bodies.cached, bodies.acached], ids=["plain", "async"])
def test_equal_inputs_are_computed_once_and_the_copy_names_its_maker(
    what: Task[..., Any], baton: Orchestrator, client: "redis.Redis"
) -> None:
    first = what.submit(a=1)
    first.result(10)
    again, other = what.submit(a=1), what.submit(a=2)
    states = [future.wait(10) for future in (first, again, other)]
    assert [(state.name, state.result()) for state in states if state] == [
        ("Completed", [1]),
        ("Cached", [1]),
        ("Completed", [2]),
    ]
    assert [name for name, _ in told(baton, again.run_id)] == ["Pending", "Running", "Cached"]
    details = baton.get_run(again.run_id).state.state_details
    name = what.spec.name
    assert (details.cached_from, called(client)) == (first.run_id, [f"{name} 1", f"{name} 2"])


@pytest.mark.usefixtures("one")
@pytest.mark.usefixtures("baton")
def test_options_of_one_submit_hold_for_it(client: "redis.Redis") -> None:
    variants = [
        bodies.cached,
        bodies.cached.with_options(refresh_cache=True),
        bodies.cached,
        bodies.cached.with_options(persist_result=False),
        bodies.cached.with_options(result_storage_key="shared-{parameters[a]}", cache_expiration=60),
    ]
    names = []
    for variant in variants:
        state = variant.submit(a=1).wait(10)
        assert state is not None
        names.append(state.name)
    assert (names, len(called(client))) == (["Completed", "Completed", "Cached", "Completed", "Completed"], 4)
    assert client.ttl("baton:result:shared-1") == pytest.approx(60, abs=10)
    assert run_task(bodies.cached.with_options(result_storage_key="shared-1"), parameters={"a": 7}) == [1]


def test_caching_is_turned_off_by_a_setting(fleet: Fleets, baton: Orchestrator, client: "redis.Redis") -> None:
    fleet(module=MODULE, disable_caching="1")
    names = [baton.submit(bodies.cached, {"a": 1}).wait(10) for _ in range(2)]
    assert ([state.name for state in names if state], client.keys("baton:result:*")) == (["Completed"] * 2, [])


@pytest.mark.usefixtures("one")
def test_generators_are_never_read_from_the_cache(baton: Orchestrator, client: "redis.Redis") -> None:
    futures = [baton.submit(bodies.generated, {"a": 2}) for _ in range(2)]
    assert ([future.result(10) for future in futures], called(client)) == ([[0, 1]] * 2, ["generated 2"] * 2)


@pytest.mark.usefixtures("one")
def test_a_run_in_a_body_and_one_here_read_what_a_fleet_has_cached(baton: Orchestrator, client: "redis.Redis") -> None:
    values = [baton.submit(bodies.nests, {"a": 1}).result(10), bodies.cached.submit(1).result(10)]
    values.append(run_task(bodies.cached, parameters={"a": 1}))
    assert (values, called(client)) == ([[1]] * 3, ["cached 1"])


@pytest.mark.usefixtures("one")
def test_a_run_in_a_body_does_not_wait_for_the_lock_that_the_run_around_it_has(baton: Orchestrator) -> None:
    assert bodies.shares_within.submit().result(10) == 2
    assert baton.submit(bodies.shares, {}).result(10) == 2


@pytest.mark.usefixtures("one")
def test_commits_and_rollbacks_of_attempts(baton: Orchestrator, client: "redis.Redis") -> None:
    failing = baton.submit(bodies.steps, {"fails": True})
    assert failing.result(10) == 5
    assert called(client) == ["body", "step undone", "body", "commit"]
    client.delete("test:called")
    refusing = baton.submit(bodies.refuses_to_commit, {})
    assert refusing.result(10) == 5
    assert (called(client), eventually(lambda: baton.get_run(refusing.run_id).rolled_back)) == (["undone"], True)


def test_threads_of_this_process_cache_as_fleets_do() -> None:
    calls: list[int] = []

    @task(key="cached.in_threads", cache_policy=bodies.ALONE)
    def makes(a: int) -> int:
        calls.append(a)
        return a

    with Orchestrator("memory:") as baton:
        futures = [baton.submit(makes, {"a": 1}) for _ in range(6)]
        names = Counter(state.name for future in futures if (state := future.wait(10)))
    assert (names, calls) == ({"Completed": 1, "Cached": 5}, [1])


@pytest.mark.parametrize("how", [{"concurrency": 2}, {"options": ("--async-slots", "4")}], ids=["two", "one loop"])
def test_a_run_that_waits_for_the_lock_of_its_key_is_cancelled_at_once(
    how: dict[str, Any], fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    fleet(*how.get("options", ()), module=MODULE, concurrency=how.get("concurrency", 1))
    go_on = tmp_path / "go on"
    holder = baton.submit(bodies.alone, {"wait_for_file": str(go_on)})
    eventually(lambda: called(client))
    waiting = baton.submit(bodies.alone, {"wait_for_file": str(go_on)})
    eventually(lambda: sum(client.zcard(key) for key in client.keys("baton:limit:lock:*:waiters")) == 1)
    baton.cancel(waiting.run_id)
    ended = waiting.wait(5)
    go_on.touch()
    assert ended is not None
    assert (ended.name, holder.wait(10).name, len(called(client))) == ("Cancelled", "Completed", 1)  # type: ignore[union-attr] # in time
    assert eventually(lambda: not locks(client))


def test_of_fifty_equal_runs_in_eight_processes_one_is_computed_though_its_process_is_killed(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    fleets = [fleet(module=MODULE, concurrency=4, **SHORT) for _ in range(2)]
    go_on = tmp_path / "go on"
    futures = baton.submit_many([(bodies.alone, {"wait_for_file": str(go_on)})] * 50)
    (first,) = eventually(lambda: called(client))
    # All eight are at it: one in the body, the others at its lock.
    eventually(lambda: sum(client.zcard(key) for key in client.keys("baton:limit:lock:*:waiters")) == 7)
    holder = int(first.split()[1])
    assert holder in [child for each in fleets for child in each.children()]
    os.kill(holder, signal.SIGKILL)
    second = eventually(lambda: called(client)[1:], 20)
    go_on.touch()
    results = set(futures.result(40))
    names = Counter(state.name for state in futures.get_states())
    assert (names, results, called(client)) == (
        {"Completed": 1, "Cached": 49},
        {int(second[0].split()[1])},
        [first, *second],
    )
    assert eventually(lambda: not locks(client))
