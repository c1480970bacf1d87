"""A fleet is stopped beyond its lease and goes on: what it held is another's by then."""

import os
import signal
from pathlib import Path

import redis

from orchestrator import Orchestrator
from shared import keys
from tests.end_to_end.bodies import held
from tests.support.fleets import SHORT, Fleets, command, send, starts, told
from tests.support.server import RedisServer
from tests.support.waiting import eventually


def record(client: "redis.Redis", run_id: str) -> tuple[object, ...]:
    """All that is stored of a run."""
    history, result = keys.run_part(run_id, "history"), keys.run_part(run_id, "result")
    return client.hgetall(keys.job(run_id)), client.lrange(history, 0, -1), client.dump(result)


def test_a_fleet_that_was_stopped_beyond_its_lease_changes_nothing_when_it_goes_on(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", server: RedisServer, tmp_path: Path
) -> None:
    ended, open_still = tmp_path / "ended", tmp_path / "open still"
    paused = fleet(concurrency=2, **SHORT)
    futures = baton.submit_many([(held, {"path": str(ended)}), (held, {"path": str(open_still)})])
    early, late = (future.run_id for future in futures)
    eventually(lambda: (starts(fleet.body_log(), early), starts(fleet.body_log(), late)) == (1, 1))
    before, stopped = paused.workers(client), paused.halt()

    fleet(concurrency=2, **SHORT)
    ended.touch()
    assert futures[0].result(timeout=20) == str(ended)
    eventually(lambda: starts(fleet.body_log(), late) == 2)
    recorded = record(client, early)
    send(signal.SIGCONT, stopped)
    eventually(lambda: paused.is_up(client))
    open_still.touch()
    assert futures[1].result(timeout=20) == str(open_still)

    for run_id in early, late:
        names, messages = zip(*told(baton, run_id), strict=True)
        worker = baton.history(run_id)[1].state_details.worker
        assert names == ("Pending", "Running", "Pending", "Rerunning", "Completed")
        assert messages == (None, None, f"Attempt 1 was lost: the lease of {worker} ended.", None, None)
        assert starts(fleet.body_log(), run_id) == 2
    assert record(client, early) == recorded
    assert not before.keys() & paused.workers(client).keys()
    assert all(name in paused.said() for name in before)
    assert "its lease is over" in paused.said()
    diagnosis = command("baton", "doctor", url=server.url)
    assert diagnosis.returncode == 0, diagnosis.stdout


def test_a_child_that_hangs_under_a_well_fleet_keeps_its_run(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    workers = fleet(**SHORT)
    future = baton.submit(held, {"path": str(gate)})
    eventually(lambda: starts(fleet.body_log(), future.run_id) == 1)
    ((name, pid),) = workers.workers(client).items()
    os.kill(pid, signal.SIGSTOP)
    lease = client.zscore(keys.LEASES, name)
    eventually(lambda: client.zscore(keys.LEASES, name) > lease + SHORT["lease"])
    os.kill(pid, signal.SIGCONT)
    gate.touch()
    assert future.result(timeout=10) == str(gate)
    assert [state for state, _ in told(baton, future.run_id)] == ["Pending", "Running", "Completed"]
