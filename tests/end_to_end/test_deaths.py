"""A worker process dies with a run that may start only once."""

import os
import signal
from pathlib import Path

import redis

from orchestrator import Orchestrator
from tests.end_to_end.bodies import held_once
from tests.support.fleets import Fleets, stage, starts
from tests.support.waiting import eventually


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
