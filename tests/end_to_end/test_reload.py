"""`baton worker --reload`: new code is worked with after a change, and nothing that runs is lost for it."""

import sys
from pathlib import Path

import pytest

from orchestrator import Orchestrator
from tests.support.fleets import Fleet, Fleets, command, is_alive
from tests.support.server import RedisServer
from tests.support.waiting import eventually

pytest.importorskip("watchfiles")

SHOP = """
import time
from pathlib import Path
from orchestrator import task
from shop.prices import PRICE

@task
def price():
    return PRICE

@task
def held(path):
    while not Path(path).exists():
        time.sleep(0.005)
    return PRICE
"""
HIDDEN = """
import sys
sys.modules["watchfiles"] = None
from orchestrator.cli import main
main(["worker", "-m", "shop.tasks", "--reload"])
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A package with a task, which says what a module of its own says."""
    folder = tmp_path / "project" / "shop"
    folder.mkdir(parents=True)
    for name, text in {"__init__": "", "tasks": SHOP, "prices": "PRICE = 1\n"}.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def reloading(fleet: Fleets, shop: Path) -> Fleet:
    return fleet.begin("--reload", module="shop.tasks", cwd=shop.parent)


def processes_of(workers: Fleet) -> list[int]:
    """The watching process, the fleet's supervisor, its workers."""
    (supervisor,) = workers.children()
    return [
        workers.pid,
        supervisor,
        *map(int, Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()),
    ]


def test_a_change_lets_what_runs_finish_and_what_comes_next_have_the_new_code(
    fleet: Fleets, baton: Orchestrator, shop: Path, tmp_path: Path
) -> None:
    workers, gate = reloading(fleet, shop), tmp_path / "gate"
    assert baton.submit("shop.tasks.price", {}).result(20) == 1
    running = baton.submit("shop.tasks.held", {"path": str(gate)})
    eventually(lambda: running.get_state().is_running())
    (shop / "prices.py").write_text("PRICE = 22\n")
    eventually(lambda: f"changed: {shop / 'prices.py'}" in workers.said())
    following = baton.submit("shop.tasks.price", {})
    gate.touch()
    assert (running.result(20), following.result(20)) == (1, 22)
    assert [state.name for state in baton.history(running.run_id)] == ["Pending", "Running", "Completed"]
    assert workers.stop() == 0


def test_code_that_does_not_import_is_told_and_the_next_change_is_tried(
    fleet: Fleets, baton: Orchestrator, shop: Path
) -> None:
    (shop / "prices.py").write_text("PRICE = (\n")
    workers = reloading(fleet, shop)
    eventually(lambda: "it is tried again after the next change" in workers.said(), 20)
    assert "SyntaxError: '(' was never closed" in workers.said()
    (shop / "prices.py").write_text("PRICE = 3\n")
    assert baton.submit("shop.tasks.price", {}).result(20) == 3


def test_a_stop_reaches_a_fleet_that_could_not_start(fleet: Fleets, shop: Path) -> None:
    (shop / "prices.py").write_text("PRICE = (\n")
    workers = reloading(fleet, shop)
    eventually(lambda: "it is tried again after the next change" in workers.said(), 20)
    assert workers.stop() == 78


def test_the_fleet_ends_with_the_process_that_watches(fleet: Fleets, baton: Orchestrator, shop: Path) -> None:
    workers = reloading(fleet, shop)
    assert baton.submit("shop.tasks.price", {}).result(20) == 1
    processes = processes_of(workers)
    workers.process.kill()
    workers.process.wait(10)
    eventually(lambda: not any(is_alive(pid) for pid in processes))
    assert len(processes) == 3


def test_a_missing_library_is_named_with_how_to_get_it(server: RedisServer, shop: Path) -> None:
    ended = command(Path(sys.executable), "-c", HIDDEN, url=server.url, cwd=shop.parent)
    assert (ended.returncode, ended.stderr) == (
        78,
        "baton: --reload needs the library watchfiles: pip install 'baton[reload]'\n",
    )


def test_only_a_fleet_that_stays_is_reloaded(server: RedisServer, shop: Path) -> None:
    ended = command("baton", "worker", "-m", "shop.tasks", "--reload", "--burst", url=server.url, cwd=shop.parent)
    assert (ended.returncode, "goes with neither --check nor --burst" in ended.stderr) == (2, True)
