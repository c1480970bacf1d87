"""A fleet that is told to be quiet, to begin again, or to show what it does."""

import os
import re
import signal
from pathlib import Path

import redis

from orchestrator import Orchestrator
from shared import keys
from tests.end_to_end.bodies import add, held
from tests.support.fleets import Fleet, Fleets, seconds_after, server_time, starts, told
from tests.support.waiting import eventually

NOT_STARTED = "Not started: the worker is quiet."


def quiet(workers: Fleet, client: "redis.Redis") -> None:
    """SIGUSR1, and wait until each worker has been through a cycle since."""
    workers.process.send_signal(signal.SIGUSR1)
    eventually(lambda: "quiet, it begins nothing more" in workers.said())
    go_round(workers, client)


def go_round(workers: Fleet, client: "redis.Redis") -> None:
    """Wait until each worker has been through two more cycles."""
    before = cycles(workers, client)
    eventually(lambda: all(now >= then + 2 for now, then in zip(cycles(workers, client), before, strict=True)))


def cycles(workers: Fleet, client: "redis.Redis") -> list[int]:
    return [int(client.hget(keys.worker(name), "cycle")) for name in workers.workers(client)]


def test_a_quiet_fleet_reports_and_begins_nothing_until_it_is_told(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    workers = fleet(concurrency=2, idle_wait=0.2, beat=0.5)
    busy = baton.submit(held, {"path": str(gate)})
    eventually(lambda: starts(fleet.body_log(), busy.run_id) == 1)
    workers.process.send_signal(signal.SIGUSR1)
    eventually(lambda: "quiet, it begins nothing more" in workers.said())
    futures = baton.submit_many([(add, {"x": 1, "y": 1})] * 5)
    gate.touch()
    assert busy.result(timeout=10) == str(gate)
    go_round(workers, client)
    names = list(workers.workers(client))
    shown = eventually(lambda: {client.hget(keys.worker(name), "quiet") for name in names} == {"1"})
    assert (shown, client.llen(keys.queue("default"))) == (True, 5)

    told_at = server_time(client)
    workers.process.send_signal(signal.SIGUSR2)
    assert [future.result(timeout=10) for future in futures] == [2] * 5
    assert max(seconds_after(told_at, baton.history(future.run_id)[1]) for future in futures) <= 1
    assert list(workers.workers(client)) == names


def test_workers_that_wait_hear_of_either_signal_at_once(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis"
) -> None:
    workers = fleet(idle_wait=20)
    (before,) = cycles(workers, client)
    workers.process.send_signal(signal.SIGUSR1)
    eventually(lambda: cycles(workers, client) == [before + 1], 2)
    future = baton.submit(add, {"x": 1, "y": 1})
    workers.process.send_signal(signal.SIGUSR2)
    assert future.result(timeout=2) == 2


def test_what_was_begun_ahead_goes_back_when_a_fleet_is_quieted(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    workers, gate = fleet(busy_after=60, idle_wait=0.2), tmp_path / "gate"
    baton.submit_many((add, {"x": number, "y": 0}) for number in range(50))[-1].wait()
    (busy, *ahead) = baton.submit_many([(held, {"path": str(gate)}), *[(add, {"x": 1, "y": 1})] * 15])
    eventually(lambda: starts(fleet.body_log(), busy.run_id) == 1)
    workers.process.send_signal(signal.SIGUSR1)
    eventually(lambda: "quiet, it begins nothing more" in workers.said())
    gate.touch()
    busy.result(timeout=10)
    eventually(lambda: client.llen(keys.queue("default")) == 15)
    assert {told(baton, future.run_id)[-1] for future in ahead} == {("Pending", NOT_STARTED)}
    assert client.lrange(keys.queue("default"), 0, -1) == [future.run_id for future in ahead]


def test_a_process_that_is_born_into_a_quiet_fleet_is_quiet_and_such_a_fleet_ends_at_once(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis"
) -> None:
    workers = fleet(idle_wait=0.2)
    quiet(workers, client)
    ((name, pid),) = workers.workers(client).items()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: workers.workers(client) and name not in workers.workers(client))
    baton.submit(add, {"x": 1, "y": 1})
    go_round(workers, client)
    assert client.llen(keys.queue("default")) == 1
    assert workers.stop(seconds=2) == 0


def test_a_quiet_fleet_takes_no_wake_up_from_another(fleet: Fleets, baton: Orchestrator, client: "redis.Redis") -> None:
    quiet(fleet(concurrency=3, idle_wait=0.2), client)
    fleet(idle_wait=60, watchdog=130)
    for number in range(20):
        future = baton.submit(add, {"x": number, "y": 0})
        assert future.result(timeout=1) == number


def test_a_fleet_shows_its_stacks_and_its_runs_and_goes_on(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    workers = fleet(concurrency=2)
    future = baton.submit(held, {"path": str(gate)})
    eventually(lambda: starts(fleet.body_log(), future.run_id) == 1)
    before = workers.workers(client)
    busy = client.hget(keys.job(future.run_id), "worker_name")
    (idle,) = before.keys() - {busy}
    workers.process.send_signal(signal.SIGQUIT)
    said = eventually(lambda: len(re.findall(r"Current thread", workers.said())) == 3 and workers.said())

    parts = re.split(r"\n\S+ \S+ WARNING +baton.fleet: ", said)
    of_fleet, _, *rest = parts
    of_busy, of_idle = sorted(rest, key=lambda part: busy not in part)
    assert re.search(r'fleet\.py", line \d+ in _pause', of_fleet)
    assert of_busy.startswith(f"worker {busy} (pid {before[busy]}): in run {future.run_id} for ")
    assert re.search(r'bodies\.py", line \d+ in held', of_busy)
    assert of_idle.startswith(f"worker {idle} (pid {before[idle]}): in no run")
    assert re.search(r'loop\.py", line \d+ in _wait', of_idle)
    assert "flusher.py" in of_busy
    gate.touch()
    assert future.result(timeout=10) == str(gate)
    assert workers.workers(client) == before
