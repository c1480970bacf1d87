"""A fleet is stopped beyond its lease and goes on: what it held is another's by then."""

import os
import signal
from pathlib import Path

import redis

from orchestrator import Orchestrator
from shared import keys
from tests.end_to_end.bodies import held
from tests.support.fleets import SHORT, Fleets, command, send, server_time, starts, told
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


def test_what_a_buried_child_still_finishes_is_kept_in_quarantine_and_the_second_attempt_wins(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", server: RedisServer, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    paused = fleet(**SHORT)
    future = baton.submit(held, {"path": str(gate)})
    eventually(lambda: starts(fleet.body_log(), future.run_id) == 1)
    ((name, pid),) = paused.workers(client).items()
    stopped = paused.halt()
    second = fleet(**SHORT)
    eventually(lambda: starts(fleet.body_log(), future.run_id) == 2)
    send(signal.SIGSTOP, [second.pid, *second.children()])  # so that the first attempt ends before the second does
    gate.touch()
    os.kill(pid, signal.SIGCONT)
    with redis.Redis(port=server.port) as plain:  # what is kept of a result is no text
        ((_, late),) = eventually(lambda: plain.xrange(keys.QUARANTINE))
    os.kill(second.pid, signal.SIGCONT)
    send(signal.SIGCONT, second.children())
    assert future.result(timeout=10) == str(gate)

    first, again = (entry for entry in fleet.body_log()[future.run_id] if entry.what == "start")
    kept = {field: late[field.encode()].decode() for field in ("reason", "run", "token", "worker", "name")}
    said = {"reason": "buried", "run": future.run_id, "token": str(first.token), "worker": name, "name": "Completed"}
    assert kept == said
    assert client.hget(keys.job(future.run_id), "token") == str(again.token)
    names = [state for state, _ in told(baton, future.run_id)]
    assert names == ["Pending", "Running", "Pending", "Rerunning", "Completed"]
    send(signal.SIGCONT, stopped)
    eventually(lambda: paused.is_up(client))
    assert name not in paused.workers(client)
    assert "its outcome Completed was not recorded: BURIED" in paused.said()
    diagnosis = command("baton", "doctor", url=server.url)
    assert diagnosis.returncode == 0, diagnosis.stdout


def test_what_a_child_finishes_after_its_lease_is_recorded_while_nobody_has_taken_it_away(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    workers = fleet(**SHORT)
    future = baton.submit(held, {"path": str(gate)})
    eventually(lambda: starts(fleet.body_log(), future.run_id) == 1)
    ((name, _),) = workers.workers(client).items()
    os.kill(workers.pid, signal.SIGSTOP)
    eventually(lambda: server_time(client) > client.zscore(keys.LEASES, name) + 0.2)
    gate.touch()
    assert future.result(timeout=10) == str(gate)
    assert [state for state, _ in told(baton, future.run_id)] == ["Pending", "Running", "Completed"]
    os.kill(workers.pid, signal.SIGCONT)
    eventually(lambda: workers.is_up(client) and name not in workers.workers(client))
    assert client.xlen(keys.QUARANTINE) == 0


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
