"""Many runs on one event loop, each as if it were alone."""

import time
from pathlib import Path
from typing import Any

import pytest
import redis

from orchestrator import Orchestrator
from shared.errors import TaskRunTimeoutError
from tests.end_to_end import async_bodies as bodies
from tests.support.async_fleets import HOOKED, MODULE, in_their_bodies, with_slots
from tests.support.fleets import Fleet, Fleets, seconds_after, server_time, told
from tests.support.server import RedisServer


@pytest.fixture(scope="module")
def crowd(module_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One process with 100 slots for all tests that leave it as it is."""
    with module_server.client() as client:
        fleets = Fleets(module_server.url, client, tmp_path_factory.mktemp("crowd"))
        try:
            yield with_slots(fleets, 100)
        finally:
            fleets.clear_away()


def test_a_hundred_runs_overlap_in_one_process(crowd: Fleet, baton: Orchestrator) -> None:
    futures = baton.submit_many((bodies.rest, {"seconds": 0.5}) for _ in range(100))
    pids = futures.result(timeout=10)
    entries = [entry for future in futures for entry in crowd.body_log()[future.run_id]]
    last_start = max(entry.at for entry in entries if entry.what == "start")
    first_end = min(entry.at for entry in entries if entry.what == "end")
    assert (set(pids), last_start < first_end) == (set(crowd.children()), True)


def test_each_run_has_its_own_context_log_and_prints(crowd: Fleet, baton: Orchestrator) -> None:
    futures = baton.submit_many((bodies.talk, {"number": number}) for number in range(20))
    contexts = futures.result(timeout=10)
    assert [(context[0], *context[1:3]) for context in contexts] == [
        (future.run_id, f"{MODULE}.talk", 1) for future in futures
    ]
    for number, future in enumerate(futures):
        mine = [line.partition(": ")[2] for line in crowd.said().splitlines() if future.run_id in line]
        lines = [f"{number} says {part}" for part in range(3)] + [f"{number} is done"]
        assert mine == [f"{line} (run {future.run_id})" for line in lines]


@pytest.mark.usefixtures("crowd")
def test_plain_functions_run_in_threads_with_their_context(baton: Orchestrator) -> None:
    began = time.monotonic()
    futures = baton.submit_many((bodies.in_thread, {"seconds": 0.3}) for _ in range(50))
    assert futures.result(timeout=10) == [[future.run_id, False] for future in futures]
    assert time.monotonic() - began < 5  # one after the other they take 15


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize(
    ("task", "parameters", "expected"),
    [
        (bodies.fails_until, {"attempt": 3}, 3),
        (bodies.fails_once, {}, 2),
        (bodies.anumbers, {"end": 3}, [0, 1, 2]),
        (bodies.numbers, {"end": 3}, [0, 1, 2]),
        (f"{HOOKED}.opened_here", {}, True),
        (f"{HOOKED}.hooked", {}, 1),
    ],
    ids=["retries", "a retry after a delay", "an async generator", "a generator", "start hooks", "hooks"],
)
def test_what_a_run_comes_to(baton: Orchestrator, task: Any, parameters: dict[str, Any], expected: object) -> None:
    assert baton.submit(task, parameters).result(timeout=10) == expected


@pytest.mark.parametrize(
    ("task", "state"),
    [
        (bodies.cancel_itself, ("Crashed", "Execution was cancelled by the runtime environment.")),
        (bodies.let_a_task_exit, ("Crashed", "Execution was aborted by Python system exit call.")),
        (
            bodies.raise_generator_exit,
            ("Failed", "Task run encountered an exception RuntimeError: the function raised GeneratorExit"),
        ),
        (
            bodies.stop_iteration,
            ("Failed", "Task run encountered an exception RuntimeError: the function raised StopIteration"),
        ),
    ],
    ids=["cancel", "exit in a task", "GeneratorExit", "StopIteration"],
)
def test_a_body_that_interrupts_ends_its_own_run_only(
    crowd: Fleet, baton: Orchestrator, tmp_path: Path, task: Any, state: tuple[str, str]
) -> None:
    before, gate = crowd.children(), tmp_path / "gate"
    neighbour = baton.submit(bodies.held, {"path": str(gate)})
    in_their_bodies(crowd, neighbour.run_id)
    future = baton.submit(task, {})
    future.wait(10)
    gate.touch()
    assert (told(baton, future.run_id)[-1], neighbour.result(timeout=10), crowd.children()) == (state, 1, before)


def test_the_time_limit_of_one_leaves_the_others(crowd: Fleet, baton: Orchestrator, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    neighbour = baton.submit(bodies.held, {"path": str(gate)})
    in_their_bodies(crowd, neighbour.run_id)
    late = baton.submit(bodies.oversleep, {})
    with pytest.raises(TaskRunTimeoutError):
        late.result(timeout=10)
    gate.touch()
    assert (told(baton, late.run_id)[-1], neighbour.result(timeout=10)) == (
        ("TimedOut", "Task run exceeded timeout of 0.3 second(s)"),
        1,
    )


@pytest.mark.usefixtures("crowd")
def test_a_plain_function_that_is_late_is_told_so_when_it_has_ended(baton: Orchestrator) -> None:
    future = baton.submit(bodies.oversleep_in_thread, {"seconds": 0.4})
    with pytest.raises(TaskRunTimeoutError, match=r"^Scope timed out after 0\.2 second\(s\)\.$"):
        future.result(timeout=10)


@pytest.mark.parametrize("task", [bodies.rest, bodies.look_for_itself], ids=["awaits", "looks for itself"])
def test_a_cancel_ends_one_within_a_second_and_leaves_the_others(
    crowd: Fleet, baton: Orchestrator, client: "redis.Redis", tmp_path: Path, task: Any
) -> None:
    before, gate = crowd.children(), tmp_path / "gate"
    neighbours = baton.submit_many((bodies.held, {"path": str(gate)}) for _ in range(30))
    future = baton.submit(task, {"seconds": 60} if task is bodies.rest else {})
    in_their_bodies(crowd, future.run_id, *(neighbour.run_id for neighbour in neighbours))
    asked_at = server_time(client)
    baton.cancel(future.run_id)
    state = future.wait(10)
    gate.touch()
    assert state is not None
    assert (state.name, seconds_after(asked_at, state) <= 1) == ("Cancelled", True)
    assert (neighbours.result(timeout=10), crowd.children()) == ([1] * 30, before)


def test_a_hundred_cancels_at_once_are_all_heeded(crowd: Fleet, baton: Orchestrator) -> None:
    futures = baton.submit_many((bodies.rest, {"seconds": 60}) for _ in range(100))
    in_their_bodies(crowd, *(future.run_id for future in futures))
    futures.cancel()
    assert [future.wait(10) and future.get_state().name for future in futures] == ["Cancelled"] * 100
