"""Worker processes that are replaced by fresh ones: after so many runs, above their memory, when old, when idle."""

import re
from collections import Counter
from pathlib import Path

import pytest
import redis

from orchestrator import Orchestrator
from shared import keys
from tests.end_to_end.bodies import add, held, hoard, nap
from tests.support.fleets import SHORT, Fleets, is_alive, starts, told
from tests.support.waiting import eventually

QUICK = {**SHORT, "beat": 0.2}
PLAIN = ["Pending", "Running", "Completed"]


def worker_of(baton: Orchestrator, run_id: str) -> str | None:
    """Who began a run first."""
    return baton.history(run_id)[1].state_details.worker


def test_a_process_ends_after_its_runs_and_nothing_is_given_back(fleet: Fleets, baton: Orchestrator) -> None:
    futures = baton.submit_many((add, {"x": number, "y": 0}) for number in range(60))
    workers = fleet(given={"max_runs": 10}, busy_after=60)  # no batch is too long, which would give back too
    assert [future.result(timeout=10) for future in futures] == list(range(60))
    stories = {tuple(name for name, _ in told(baton, future.run_id)) for future in futures}
    runs = Counter(worker_of(baton, future.run_id) for future in futures)
    *full, _last = runs.values()
    assert stories == {tuple(PLAIN)}
    assert 9 <= min(full) <= max(full) <= 11
    assert "ERROR" not in workers.said()


def test_a_burst_goes_on_in_fresh_processes_until_nothing_is_left(fleet: Fleets, baton: Orchestrator) -> None:
    futures = baton.submit_many((add, {"x": number, "y": 0}) for number in range(7))
    workers = fleet.begin("--burst", given={"max_runs": 1})
    assert workers.process.wait(10) == 0
    assert [future.result(timeout=0) for future in futures] == list(range(7))
    assert len({worker_of(baton, future.run_id) for future in futures}) == 7


def test_a_process_above_its_memory_is_replaced(fleet: Fleets, baton: Orchestrator, client: "redis.Redis") -> None:
    workers = fleet(given={"max_memory_mb": 250}, **QUICK)
    (before,) = workers.workers(client)
    small = baton.submit(hoard, {"megabytes": 1}).result(timeout=10)
    large = baton.submit(hoard, {"megabytes": 400}).result(timeout=10)
    eventually(lambda: not is_alive(large))
    eventually(lambda: workers.is_up(client))
    assert small == large
    assert re.search(rf"worker {before} is replaced after 2 runs: it takes \d+ MB", workers.said())


@pytest.mark.usefixtures("client")
def test_a_memory_limit_that_every_process_is_born_above_is_refused(fleet: Fleets) -> None:
    refused = fleet.begin(given={"max_memory_mb": 10})
    assert refused.process.wait(10) == 78
    assert re.search(r"max_memory_mb is 10, and a worker takes \d+ MB before its first run", refused.said())


def test_of_processes_of_one_age_the_next_is_replaced_when_the_last_has_a_successor(
    fleet: Fleets, client: "redis.Redis"
) -> None:
    workers = fleet(given={"max_age": 0.5}, concurrency=4, **QUICK)
    old = list(workers.workers(client))
    eventually(lambda: all(client.hexists(keys.worker(name), "death") for name in old))
    rows = {name: client.hgetall(keys.worker(name)) for name in map(name_of, client.scan_iter(keys.worker("*")))}
    deaths = sorted(row["death"] for name, row in rows.items() if name in old)
    births = sorted(row["birth"] for name, row in rows.items() if name not in old)
    told = [moment for pair in zip(deaths, births, strict=False) for moment in pair]
    assert (len(told) >= 6, told) == (True, sorted(told))
    assert workers.stop() == 0


def name_of(key: str) -> str:
    return key.removeprefix(keys.WORKER)


def test_what_runs_in_a_process_that_is_replaced_is_finished(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    workers = fleet(given={"max_age": 0.5}, stop_grace=0.1, **QUICK)
    future = baton.submit(held, {"path": str(gate)})
    eventually(lambda: starts(fleet.body_log(), future.run_id) == 1)
    old = worker_of(baton, future.run_id)
    eventually(lambda: f"worker {old} is replaced" in workers.said())
    gate.touch()
    assert future.result(timeout=10) == str(gate)
    assert [name for name, _ in told(baton, future.run_id)] == PLAIN
    eventually(lambda: workers.is_up(client) and old not in workers.workers(client))


def test_a_process_that_has_been_idle_for_long_is_replaced_and_a_busy_one_is_not(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis"
) -> None:
    workers = fleet(given={"max_idle": 1}, **QUICK)
    (name,) = workers.workers(client)
    futures = baton.submit_many((nap, {"seconds": 0.1}) for _ in range(20))
    assert {future.wait(10).name for future in futures} == {"Completed"}
    assert {worker_of(baton, future.run_id) for future in futures} == {name}
    eventually(lambda: f"worker {name} is replaced after 20 runs: it has been idle for 1 s" in workers.said())
