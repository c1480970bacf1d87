"""A worker process dies: its run is lost once, said in words, and the fleet goes on."""

import os
import signal
from pathlib import Path

import redis

from orchestrator import Orchestrator
from shared import keys
from shared.state_types import StateType
from tests.end_to_end.bodies import add, held, held_once, poison, poison_fleet
from tests.support.fleets import Fleets, seconds_after, server_time, stage, starts, told
from tests.support.waiting import eventually


def test_a_child_that_is_killed_in_a_body_is_noticed_at_once_and_replaced(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    workers, gate = fleet(), tmp_path / "gate"
    future = baton.submit(held, {"path": str(gate)})
    eventually(lambda: starts(fleet.body_log(), future.run_id) == 1)
    before, killed_at = workers.workers(client), server_time(client)
    os.kill(workers.pid_of(client, future.run_id), signal.SIGKILL)
    eventually(lambda: starts(fleet.body_log(), future.run_id) == 2)
    gate.touch()

    assert future.result(timeout=10) == str(gate)
    assert told(baton, future.run_id) == [
        ("Pending", None),
        ("Running", None),
        ("Pending", "Attempt 1 was lost: killed by signal 9, perhaps out of memory."),
        ("Rerunning", None),
        ("Completed", None),
    ]
    assert seconds_after(killed_at, baton.history(future.run_id)[2]) <= 1
    assert (len(before), len(workers.workers(client))) == (1, 1)
    assert not before.keys() & workers.workers(client).keys()
    assert future.task_run.crashes == 1


def test_a_poisonous_run_alone_ends_crashed(fleet: Fleets, baton: Orchestrator, client: "redis.Redis") -> None:
    calls = [(add, {"x": number, "y": 0}) for number in range(201)]
    calls[100] = (poison, {})
    futures = baton.submit_many(calls)
    fleet(concurrency=2)
    ends = [future.wait(30) for future in futures]

    bad = futures[100]
    crashed = [future for future, end in zip(futures, ends, strict=True) if not end.is_completed()]
    lost = "Attempt {} was lost: killed by signal 9, perhaps out of memory."
    assert (crashed, ends[100].type, ends[100].message) == ([bad], StateType.CRASHED, lost.format(3))
    assert [message for name, message in told(baton, bad.run_id) if message] == [lost.format(n) for n in (1, 2, 3)]
    assert starts(fleet.body_log(), bad.run_id) == 3
    assert {future.task_run.crashes for future in futures if future != bad} == {0}
    (entry,) = client.xrange(keys.QUARANTINE)
    assert (entry[1]["run"], entry[1]["reason"]) == (bad.run_id, "crashed")


def test_a_run_that_kills_its_fleet_each_time_ends_crashed_and_takes_no_neighbour_with_it(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis"
) -> None:
    calls = [(add, {"x": number, "y": 0}) for number in range(20)]
    calls[10] = (poison_fleet, {})
    futures = baton.submit_many(calls)
    bad = futures.pop(10)
    hasty = {"lease": 1, "beat": 0.3, "reap": 0.3, "future_sweep": 1}
    codes = [fleet.begin(busy_after=60, **hasty).process.wait(10) for _ in range(3)]
    fleet(**hasty)
    end = bad.wait(10)
    assert codes == [-signal.SIGKILL] * 3
    assert (end and end.type, starts(fleet.body_log(), bad.run_id)) == (StateType.CRASHED, 3)
    assert {future.wait(10).type for future in futures} == {StateType.COMPLETED}
    (entry,) = client.xrange(keys.QUARANTINE)
    assert (entry[1]["run"], entry[1]["reason"]) == (bad.run_id, "crashed")


def test_a_run_that_may_start_once_is_not_run_again(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    workers = fleet()
    future = baton.submit(held_once, {"path": str(tmp_path / "gate")})
    eventually(lambda: starts(fleet.body_log(), future.run_id) == 1)
    os.kill(workers.pid_of(client, future.run_id), signal.SIGKILL)
    assert future.wait(10).is_crashed()
    assert eventually(lambda: workers.is_up(client))
    assert starts(fleet.body_log(), future.run_id) == 1


def test_a_run_that_may_start_once_is_not_run_again_when_its_outcome_was_not_reported(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with stage(tmp_path, appendonly="yes") as on:
        workers = on.fleet()
        future = on.baton.submit(held_once, {"path": str(gate)})
        pid = workers.pid_of(on.client, future.run_id)
        eventually(lambda: starts(on.fleet.body_log(), future.run_id) == 1)
        on.server.stop(signal.SIGKILL)
        gate.touch()
        eventually(lambda: [entry.what for entry in on.fleet.body_log()[future.run_id]] == ["start", "end"])
        os.kill(pid, signal.SIGKILL)
        on.server.start()
        assert future.wait(20).is_crashed()
        assert starts(on.fleet.body_log(), future.run_id) == 1


def test_a_process_that_dies_between_begin_and_body_costs_an_attempt_and_starts_no_body(
    fleet: Fleets, baton: Orchestrator
) -> None:
    workers = fleet(failpoints="engine.before_body=kill@2")
    first, second = (baton.submit(add, {"x": number, "y": 0}) for number in range(2))
    assert (first.result(20), second.result(20)) == (0, 1)
    names = [name for name, _ in told(baton, second.run_id)]
    assert names == ["Pending", "Running", "Pending", "Rerunning", "Completed"]
    assert (starts(workers.body_log(), second.run_id), baton.get_run(second.run_id).crashes) == (1, 1)
