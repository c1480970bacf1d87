"""What user code does once in each worker process: before its first run and after its last."""

import sys
from pathlib import Path

import pytest
import redis

from orchestrator import Orchestrator
from tests.support.fleets import SHORT, Fleet, Fleets, command
from tests.support.server import RedisServer
from tests.support.waiting import eventually

HOOKED = "tests.end_to_end.hooked"


def noted(workers: Fleet) -> dict[int, list[str]]:
    """What the hooks of each process wrote down, in order."""
    path = workers.folder / "hooks.txt"
    by_pid: dict[int, list[str]] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        pid, _, what = line.partition(" ")
        by_pid.setdefault(int(pid), []).append(what)
    return by_pid


def test_hooks_run_in_order_around_the_runs_of_each_process(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis"
) -> None:
    workers = fleet(module=HOOKED)
    (pid,) = workers.workers(client).values()
    assert baton.submit(f"{HOOKED}.opened_here", {}).result(timeout=10) is True
    assert workers.stop() == 0
    assert noted(workers) == {pid: ["open", "warm up", "run", "fail to close", "close"]}
    assert "the on_worker_stop hook tests.end_to_end.hooked.fail_to_close failed" in workers.said()
    assert "OSError: the pool is gone" in workers.said()


def test_a_process_that_is_replaced_closes_what_it_opened(fleet: Fleets, baton: Orchestrator) -> None:
    futures = baton.submit_many((f"{HOOKED}.opened_here", {}) for _ in range(3))
    workers = fleet.begin("--burst", module=HOOKED, given={"max_runs": 1})
    assert workers.process.wait(10) == 0
    assert [future.result(timeout=0) for future in futures] == [True] * 3
    whole, idle = ["open", "warm up", "run", "fail to close", "close"], ["open", "warm up", "fail to close", "close"]
    assert list(noted(workers).values()) == [whole, whole, whole, idle]


def test_a_process_whose_start_hook_fails_ends_and_another_tries_again(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    refuse = tmp_path / "refuse"
    refuse.touch()
    future = baton.submit(f"{HOOKED}.opened_here", {})
    workers = fleet.begin(module=HOOKED)
    eventually(lambda: len(noted(workers)) >= 3)
    assert set(map(tuple, noted(workers).values())) == {("refuse",)}
    assert "ConnectionRefusedError: the pool cannot be opened" in workers.said()
    assert "raised by the on_worker_start hook tests.end_to_end.hooked.open_pool" in workers.said()
    assert "exit status 70" in workers.said()
    refuse.unlink()
    assert future.result(timeout=10) is True
    assert workers.is_up(client)


def test_processes_that_work_are_not_replaced_by_such_that_cannot_start(
    fleet: Fleets, client: "redis.Redis", tmp_path: Path
) -> None:
    workers = fleet(module=HOOKED, concurrency=3, given={"max_age": 1.5}, **{**SHORT, "beat": 0.2})
    old = set(workers.workers(client).values())
    (tmp_path / "refuse").touch()
    eventually(lambda: [told for told in noted(workers).values() if "refuse" in told][3:])
    assert workers.said().count("is replaced after") == 1
    assert len(old & set(workers.children())) == 2


@pytest.mark.usefixtures("client")
def test_a_fleet_that_is_stopped_within_a_start_hook_ends_at_once(fleet: Fleets, tmp_path: Path) -> None:
    (tmp_path / "wait").touch()
    workers = fleet.begin(module=HOOKED)
    eventually(lambda: "workers on default" in workers.said() and workers.children())
    assert workers.stop(seconds=3) == 0
    assert noted(workers) == {}


THREADED = """
import threading
from time import sleep
from orchestrator import Orchestrator, on_worker_start, on_worker_stop, task

noted, tries = [], []

@on_worker_start
def open_pool():
    tries.append(threading.current_thread().name)
    if len(tries) == 1:
        raise ConnectionRefusedError("not yet")
    noted.append((threading.current_thread().name, "open"))

@on_worker_stop
def close_pool():
    noted.append((threading.current_thread().name, "close"))

@task
def where():
    return threading.current_thread().name

if __name__ == "__main__":
    with Orchestrator("memory:") as baton:
        assert where.submit().result(timeout=10).startswith("baton-thread-")
        while len(noted) < 2:
            sleep(0.01)
    names = {name for name, _ in noted}
    assert sorted(noted) == sorted((name, what) for name in names for what in ("open", "close")), noted
    assert (len(names), len(tries)) == (2, 3), (noted, tries)
"""


def test_hooks_run_once_in_each_worker_thread(server: RedisServer, tmp_path: Path) -> None:
    script = tmp_path / "threaded.py"
    script.write_text(THREADED)
    ended = command(Path(sys.executable), script, url=server.url)
    assert ended.returncode == 0, ended.stderr
