"""What is set for one fleet: its name, its labels, its grace, the order of its queues, its modules."""

import signal
from pathlib import Path

import pytest
import redis

from orchestrator import Orchestrator
from shared import keys
from tests.end_to_end.bodies import add, held
from tests.support.fleets import BODIES, SHORT, Fleets, starts, told
from tests.support.server import RedisServer
from tests.support.waiting import eventually


def test_a_fleet_shows_its_name_and_its_labels(fleet: Fleets, client: "redis.Redis") -> None:
    workers = fleet(given={"name": "mail.eu-1", "labels": ["gpu=1", "zone=eu/a"]}, concurrency=2)
    rows = [client.hmget(keys.worker(name), "fleet", "labels") for name in workers.workers(client)]
    assert rows == [["mail.eu-1", "gpu=1,zone=eu/a"]] * 2


def test_fleets_of_one_name_are_told_apart(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    futures = baton.submit_many([(held, {"path": str(gate)}), (held, {"path": str(gate)})])
    first, second = fleet(given={"name": "twin"}, **SHORT), fleet.begin(given={"name": "twin"}, **SHORT)
    eventually(lambda: [starts(fleet.body_log(), future.run_id) for future in futures] == [1, 1])
    doomed, kept = (client.hget(keys.job(future.run_id), "worker_name") for future in futures)
    first.kill()
    eventually(lambda: client.zscore(keys.LEASES, doomed) is None)
    gate.touch()
    assert [future.result(timeout=10) for future in futures] == [str(gate)] * 2
    lost = ("Pending", f"Attempt 1 was lost: the lease of {doomed} ended.")
    assert (told(baton, futures[0].run_id)[2], len(told(baton, futures[1].run_id))) == (lost, 3)
    assert list(second.workers(client)) == [kept]


def test_a_cancel_reaches_the_right_one_of_two_fleets_of_one_name(
    fleet: Fleets, baton: Orchestrator, tmp_path: Path
) -> None:
    futures = baton.submit_many([(held, {"path": str(tmp_path / "gate")})] * 2)
    fleet(given={"name": "twin"})
    fleet.begin(given={"name": "twin"})
    eventually(lambda: [starts(fleet.body_log(), future.run_id) for future in futures] == [1, 1])
    for future in futures:
        baton.cancel(future.run_id)
    assert [future.wait(5).name for future in futures] == ["Cancelled"] * 2


def test_the_grace_of_a_fleet_wins_over_the_setting(fleet: Fleets, baton: Orchestrator, tmp_path: Path) -> None:
    workers = fleet(given={"grace": 0.2}, stop_grace=60)
    future = baton.submit(held, {"path": str(tmp_path / "gate")})
    eventually(lambda: starts(fleet.body_log(), future.run_id) == 1)
    assert workers.stop(seconds=5) == 0
    assert told(baton, future.run_id)[-1] == ("Pending", "Given back: the worker stopped.")


@pytest.mark.parametrize(
    ("order", "begun"),
    [("strict", ["a"] * 6 + ["b"] * 6 + ["c"] * 6), ("round-robin", ["a", "b", "c"] * 6)],
)
def test_queues_are_served_by_priority_or_in_turn(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", order: str, begun: list[str]
) -> None:
    futures = [baton.submit(add, {"x": 1, "y": 1}, queue=queue) for queue in "abc" for _ in range(6)]
    where = {future.run_id: queue for future, queue in zip(futures, "a" * 6 + "b" * 6 + "c" * 6, strict=True)}
    fleet("-q", "a", "-q", "b", "-q", "c", given={"order": order}, begin_ahead=1)
    assert [future.result(timeout=10) for future in futures] == [2] * 18
    times = {run_id: client.hget(keys.job(run_id), "started_at") for run_id in where}
    assert [where[run_id] for run_id in sorted(times, key=times.__getitem__)] == begun


def test_the_tasks_of_several_modules_are_served(fleet: Fleets, baton: Orchestrator) -> None:
    fleet("-m", "tests.end_to_end.hooked", module=BODIES)
    hooked = baton.submit("tests.end_to_end.hooked.opened_here", {})
    plain = baton.submit(add, {"x": 1, "y": 1})
    assert (hooked.result(timeout=10), plain.result(timeout=10)) == (True, 2)


def test_a_redis_that_drops_keys_is_refused_unless_that_is_allowed(
    fleet: Fleets, client: "redis.Redis", server: RedisServer
) -> None:
    client.config_set("maxmemory", "100mb")
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        refused = fleet.begin(given={})
        assert refused.process.wait(10) == 78
        assert f"Redis at 127.0.0.1:{server.port}/0 may drop keys (maxmemory-policy allkeys-lru)" in refused.said()
        assert "Traceback" not in refused.said()
        assert fleet(given={"allow_eviction": True}).stop() == 0
    finally:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "0")


@pytest.mark.usefixtures("client")
def test_modules_without_a_task_and_a_wrong_number_of_workers_are_refused(fleet: Fleets) -> None:
    nothing = fleet.begin(given={}, module="json")
    crowd = fleet.begin(given={}, concurrency=1001)
    assert (nothing.process.wait(10), crowd.process.wait(10)) == (78, 2)
    assert "no task is registered by json" in nothing.said()
    assert "concurrency is 1001: a fleet has 1 to 1000 workers" in crowd.said()


def test_a_second_signal_counts_also_with_a_grace(fleet: Fleets, baton: Orchestrator, tmp_path: Path) -> None:
    workers = fleet(given={"grace": 60})
    future = baton.submit(held, {"path": str(tmp_path / "gate")})
    eventually(lambda: starts(fleet.body_log(), future.run_id) == 1)
    workers.process.terminate()
    eventually(lambda: "has 60 s to finish" in workers.said())
    workers.process.send_signal(signal.SIGHUP)
    assert workers.process.wait(5) == 0
