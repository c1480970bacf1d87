"""Fleets whose bodies wait for other runs: they stop, are quiet, lose processes, or reach their bound."""

import os
import signal
from pathlib import Path

import pytest
import redis

from orchestrator import Orchestrator
from shared import keys
from shared.state_types import StateType
from tests.end_to_end import nesting
from tests.support.fleets import SHORT, Fleets, command, is_alive, starts
from tests.support.nested import MODULE, children_of, in_its_body, most_children, whole_tree, worker_of
from tests.support.server import RedisServer
from tests.support.waiting import eventually


def test_without_lending_a_full_fleet_stands_still(fleet: Fleets, baton: Orchestrator, client: "redis.Redis") -> None:
    workers = fleet(failpoints="lending=off", **MODULE)
    future = baton.submit(nesting.doubled, {"x": 1})
    eventually(lambda: children_of(client, future.run_id))
    (child,) = children_of(client, future.run_id)
    assert (future.wait(1), baton.get_run(child).state.type) == (None, StateType.PENDING)
    assert len(workers.children()) == 1


def test_what_is_parked_says_so(fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path) -> None:
    workers, gate = fleet(**SHORT, **MODULE), tmp_path / "gate"
    parent = baton.submit(nesting.held_doubled, {"path": str(gate), "x": 1})
    child = in_its_body(fleet, client, parent)
    names = [worker_of(client, run_id) for run_id in (parent.run_id, child)]

    def told() -> list[list[str]]:
        return [client.hmget(keys.worker(str(name)), "slots", "parked") for name in names]

    assert eventually(lambda: told() == [["1", "1"], ["0", "0"]])
    gate.touch()
    assert (parent.result(timeout=10), eventually(lambda: told()[0] == ["1", "0"])) == (2, True)
    assert len(workers.workers(client)) >= 1


def test_a_fleet_has_no_more_than_fifty_processes_for_a_slot(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis"
) -> None:
    workers = fleet(**MODULE)
    future = baton.submit(nesting.endless)
    with most_children(workers) as most:
        eventually(lambda: "no more are started" in workers.said(), 20)
        eventually(lambda: client.hget(keys.COUNTS, "PENDING") == "1")
    assert (most, len(whole_tree(client, future.run_id))) == ([50], 51)


def test_a_parked_worker_that_is_killed_is_replaced_and_its_run_waits_anew(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    workers, gate = fleet(**MODULE), tmp_path / "gate"
    parent = baton.submit(nesting.held_doubled, {"path": str(gate), "x": 1})
    in_its_body(fleet, client, parent)
    os.kill(workers.pid_of(client, parent.run_id), signal.SIGKILL)
    eventually(lambda: starts(fleet.body_log(), parent.run_id) == 2)
    gate.touch()
    assert parent.result(timeout=20) == 2
    eventually(lambda: len(workers.children()) == 1)


def test_an_extra_worker_that_is_killed_is_replaced_and_its_run_begun_again(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    workers, gate = fleet(**MODULE), tmp_path / "gate"
    parent = baton.submit(nesting.held_doubled, {"path": str(gate), "x": 1})
    child = in_its_body(fleet, client, parent)
    pid = workers.pid_of(client, child)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: starts(fleet.body_log(), child) == 2)
    gate.touch()
    assert (parent.result(timeout=20), starts(fleet.body_log(), parent.run_id), is_alive(pid)) == (2, 1, False)
    eventually(lambda: len(workers.children()) == 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=["stops", "is quiet"])
def test_what_is_parked_comes_to_its_end_in_a_fleet_that(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path, number: int
) -> None:
    workers, gate = fleet(stop_grace=20, **MODULE), tmp_path / "gate"
    parent = baton.submit(nesting.held_doubled, {"path": str(gate), "x": 1})
    child = in_its_body(fleet, client, parent)
    extra = workers.pid_of(client, child)
    workers.process.send_signal(number)
    eventually(lambda: "fleet" in workers.said() and ("stopping" in workers.said() or "quiet" in workers.said()))
    other = baton.submit(nesting.double, {"x": 7})
    os.kill(extra, signal.SIGKILL)  # what it has begun has to be begun again, by an extra that is born only now
    eventually(lambda: starts(fleet.body_log(), child) == 2)
    gate.touch()
    assert (parent.result(timeout=10), other.get_state().type) == (2, StateType.PENDING)
    if number == signal.SIGTERM:
        assert workers.process.wait(10) == 0
    else:
        eventually(lambda: len(workers.children()) == 1)


def test_a_burst_ends_when_all_is_done_and_not_before(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", server: RedisServer
) -> None:
    futures = baton.submit_many([(nesting.nested, {"depth": depth % 4}) for depth in range(20)])
    workers = fleet.begin("--burst", concurrency=2, **MODULE)
    assert workers.process.wait(30) == 0
    assert [future.result(0) for future in futures] == [depth % 4 for depth in range(20)]
    diagnosis = command("baton", "doctor", url=server.url)
    assert (diagnosis.returncode, client.zcard(keys.LEASES)) == (0, 0), diagnosis.stdout


def test_a_fleet_that_is_killed_leaves_its_nested_runs_to_another(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", server: RedisServer
) -> None:
    well, doomed = fleet(**MODULE, **SHORT), fleet(**MODULE, **SHORT)
    futures = baton.submit_many([(nesting.nested, {"depth": 3}) for _ in range(30)])
    eventually(lambda: client.zcard(keys.FINISHED + "default") > 20)
    doomed.kill()
    assert futures.result(timeout=40) == [3] * 30
    eventually(lambda: len(well.workers(client)) == 1)
    diagnosis = command("baton", "doctor", url=server.url)
    assert diagnosis.returncode == 0, diagnosis.stdout
