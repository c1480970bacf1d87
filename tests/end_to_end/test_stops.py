"""A fleet that is told to stop: how it ends, how soon, and what becomes of what it had begun."""

import signal
from pathlib import Path

import pytest
import redis

from orchestrator import Orchestrator
from shared import keys
from shared.clock import parse_iso
from tests.end_to_end.bodies import add, held, seen
from tests.support.fleets import BODIES, Fleet, Fleets, command, seconds_after, server_time, stage, starts, told
from tests.support.server import RedisServer
from tests.support.waiting import eventually

GIVEN_BACK = "Given back: the worker stopped."
NOT_STARTED = "Not started: the worker stops."


def in_its_body(fleet: Fleets, baton: Orchestrator, gate: Path) -> str:
    """The id of a run that stays in its body until the gate is there."""
    future = baton.submit(held, {"path": str(gate)})
    eventually(lambda: starts(fleet.body_log(), future.run_id) == 1)
    return future.run_id


def seconds_to_leave(client: "redis.Redis", worker: str, asked_at: float) -> float:
    """How long after it was asked a worker took leave, by the server's clock."""
    return parse_iso(client.hget(keys.worker(worker), "death")).timestamp() - asked_at


def ask_to_stop(workers: Fleet) -> None:
    """SIGTERM, and wait until the children have been told."""
    workers.process.terminate()
    eventually(lambda: "stopping" in workers.said())


def test_an_idle_fleet_ends_within_a_second(fleet: Fleets, client: "redis.Redis") -> None:
    workers = fleet(concurrency=2)
    names, asked_at = list(workers.workers(client)), server_time(client)
    code = workers.stop()
    assert code == 0
    assert max(seconds_to_leave(client, name, asked_at) for name in names) <= 1
    assert client.zcard(keys.LEASES) == 0


def test_what_runs_is_finished_and_what_was_begun_ahead_goes_back(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    # A batch is never too long for this one, so that it still holds what it began ahead when it is told to stop.
    workers, gate = fleet(busy_after=60), tmp_path / "gate"
    baton.submit_many((add, {"x": number, "y": 0}) for number in range(50))[-1].wait()
    (busy, *ahead) = baton.submit_many([(held, {"path": str(gate)}), *[(add, {"x": 1, "y": 1})] * 20])
    eventually(lambda: starts(fleet.body_log(), busy.run_id) == 1)
    held_now = client.hlen(keys.held(*workers.workers(client)))
    ask_to_stop(workers)
    gate.touch()

    assert workers.process.wait(10) == 0
    assert baton.get_run(busy.run_id).state.is_completed()
    stories = [told(baton, future.run_id) for future in ahead]
    begun = [("Pending", None), ("Running", None), ("Pending", NOT_STARTED)]
    assert held_now == 16
    assert stories == [begun] * 15 + [[("Pending", None)]] * 5
    assert client.lrange(keys.queue("default"), 0, -1) == [future.run_id for future in ahead]
    assert {baton.get_run(future.run_id).run_count for future in ahead} == {0}


def test_a_body_that_outlasts_the_grace_is_run_by_another_fleet(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    first = fleet(stop_grace=1)
    run_id = in_its_body(fleet, baton, gate)
    asked_at = server_time(client)
    assert first.stop() == 0
    given_back = baton.history(run_id)[-1]
    assert (given_back.name, given_back.message) == ("Pending", GIVEN_BACK)
    assert 1 <= seconds_after(asked_at, given_back) <= 3

    gate.touch()
    fleet()
    assert baton.future(run_id).result(timeout=10) == str(gate)
    assert [name for name, _ in told(baton, run_id)] == ["Pending", "Running", "Pending", "Rerunning", "Completed"]
    run = baton.get_run(run_id)
    assert (run.run_count, run.crashes, run.attempt) == (1, 0, 2)


def test_a_fleet_that_cannot_reach_redis_ends_after_its_grace(tmp_path: Path) -> None:
    with stage(tmp_path) as on:
        workers = on.fleet(concurrency=2, stop_grace=1)
        on.server.stop(signal.SIGKILL)
        eventually(lambda: "did not answer" in workers.said())
        assert workers.stop(seconds=10) == 0


@pytest.mark.usefixtures("fleet")
def test_a_fleet_in_burst_ends_when_nothing_is_left(baton: Orchestrator, server: RedisServer) -> None:
    futures = baton.submit_many((seen, {}) for _ in range(100))
    ended = command("baton", "worker", "-m", BODIES, "--burst", "--concurrency", "2", url=server.url)
    assert ended.returncode == 0, ended.stderr
    assert [future.result(timeout=0)["run_id"] for future in futures] == [future.run_id for future in futures]
