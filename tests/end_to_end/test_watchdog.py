"""A worker process that hangs outside of a body is replaced; one whose body lasts is left alone."""

import os
import re
import signal
from pathlib import Path

import redis

from orchestrator import Orchestrator
from tests.end_to_end.bodies import add, held
from tests.support.fleets import HASTY, Fleets, is_alive, starts, told
from tests.support.waiting import eventually


def test_a_process_that_hangs_is_killed_and_replaced_while_a_long_body_goes_on(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    workers = fleet(concurrency=2, **HASTY)
    long = baton.submit(held, {"path": str(gate)})
    eventually(lambda: starts(fleet.body_log(), long.run_id) == 1)
    before = workers.workers(client)
    busy = baton.history(long.run_id)[1].state_details.worker
    (idle,) = before.keys() - {busy}
    os.kill(before[idle], signal.SIGSTOP)
    eventually(lambda: not is_alive(before[idle]))
    eventually(lambda: workers.is_up(client))
    assert re.search(rf"worker {idle} is killed: its worker stood still for 4.4 s", workers.said())
    assert baton.submit(add, {"x": 1, "y": 1}).result(timeout=10) == 2
    gate.touch()
    assert long.result(timeout=10) == str(gate)
    assert [name for name, _ in told(baton, long.run_id)] == ["Pending", "Running", "Completed"]
    assert workers.workers(client)[busy] == before[busy]
