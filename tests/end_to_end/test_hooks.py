"""Hooks and retry conditions on the fleet: called in the worker, once the state that they are for is recorded."""

from pathlib import Path
from typing import Any

import pytest
import redis

from orchestrator import Orchestrator
from shared.states import Completed
from tests.end_to_end import bodies
from tests.support.fleets import Fleet, hooks_of, starts, told
from tests.support.waiting import eventually

AGAIN = "Task run encountered an exception ValueError: again"


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (bodies.hooked, [("on_running", "Running", 1), ("on_completion", "Completed", 1)]),
        (
            bodies.hooked_failure,
            [("on_running", "Running", 1), ("on_running", "Retrying", 2), ("on_failure", "Failed", 2)],
        ),
        (
            bodies.hooked_late_failure,
            [("on_running", "Running", 1), ("on_running", "Retrying", 2), ("on_failure", "Failed", 2)],
        ),
        (bodies.hooked_interrupt, [("on_running", "Running", 1), ("on_crashed", "Crashed", 1)]),
        (bodies.hooked_lock, [("on_running", "Running", 1), ("on_failure", "Failed", 1)]),
    ],
    ids=["completed", "failed", "failed late", "crashed", "unstorable"],
)
def test_hooks_are_called_once_their_state_is_recorded(
    resident: Fleet, baton: Orchestrator, task: Any, expected: list[tuple[str, str, int]]
) -> None:
    future = baton.submit(task)
    assert future.wait(20) is not None
    eventually(lambda: len(hooks_of(resident.folder, future.run_id)) == len(expected))
    assert hooks_of(resident.folder, future.run_id) == expected


def test_a_hook_that_fails_is_logged_and_its_worker_goes_on(resident: Fleet, baton: Orchestrator) -> None:
    assert baton.submit(bodies.hooked).result(20) == 5
    eventually(lambda: "An error was encountered while running hook 'and_more'" in resident.said())
    assert baton.submit(bodies.add, {"x": 1, "y": 1}).result(20) == 2


def test_a_hook_that_interrupts_does_not_end_its_worker(
    resident: Fleet, baton: Orchestrator, client: "redis.Redis"
) -> None:
    before = resident.workers(client)
    future = baton.submit(bodies.hooked_badly)
    assert future.result(20) == 5
    eventually(lambda: f"run {future.run_id}: a hook of its end was interrupted" in resident.said())
    assert baton.submit(bodies.add, {"x": 1, "y": 1}).result(20) == 2
    assert resident.workers(client) == before


def test_a_run_whose_upstream_failed_has_its_failure_hooks_called(resident: Fleet, baton: Orchestrator) -> None:
    future = bodies.hooked_after.submit(bodies.fail.submit("x"))
    state = future.wait(20)
    assert state is not None
    assert state.name == "TriggerFailed"
    eventually(lambda: hooks_of(resident.folder, future.run_id))
    assert hooks_of(resident.folder, future.run_id) == [("on_failure", "TriggerFailed", 0)]
    assert baton.get_run(future.run_id).start_time is None


def test_a_run_with_upstreams_has_its_hooks_called(resident: Fleet, baton: Orchestrator) -> None:
    future = bodies.hooked_after.submit(bodies.add.submit(1, 2))
    assert future.result(20) == 3
    eventually(lambda: len(hooks_of(resident.folder, future.run_id)) == 2)
    assert [kind for kind, _, _ in hooks_of(resident.folder, future.run_id)] == ["on_running", "on_completion"]
    assert baton.get_run(future.run_id).run_count == 1


def test_a_run_that_is_cancelled_in_its_body_has_its_cancellation_hooks_called(
    resident: Fleet, baton: Orchestrator
) -> None:
    future = baton.submit(bodies.hooked_nap, {"seconds": 60})
    eventually(lambda: starts(resident.body_log(), future.run_id) == 1)
    baton.cancel(future.run_id)
    future.wait(20)
    expected = [("on_running", "Running", 1), ("on_cancellation", "Cancelled", 1)]
    eventually(lambda: len(hooks_of(resident.folder, future.run_id)) == 2)
    assert hooks_of(resident.folder, future.run_id) == expected


def test_an_attempt_whose_outcome_is_not_recorded_calls_no_hooks(
    resident: Fleet, baton: Orchestrator, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    future = baton.submit(bodies.hooked_held, {"path": str(gate)})
    eventually(lambda: starts(resident.body_log(), future.run_id) == 1)
    baton.force(future.run_id, Completed(data="forced"), "it is known by now")
    gate.touch()
    eventually(lambda: f"run {future.run_id}: its outcome Completed was not recorded: FENCED" in resident.said())
    assert baton.submit(bodies.add, {"x": 1, "y": 1}).result(20) == 2
    assert hooks_of(resident.folder, future.run_id) == [("on_running", "Running", 1)]


@pytest.mark.usefixtures("resident")
def test_a_condition_decides_about_retries(baton: Orchestrator) -> None:
    futures = [baton.submit(bodies.fails_while_asked, {"text": text}) for text in ("again", "never")]
    for future in futures:
        assert future.wait(20) is not None
    names = [[name for name, _ in told(baton, future.run_id)] for future in futures]
    assert names == [
        ["Pending", "Running", "Retrying", "Retrying", "Failed"],
        ["Pending", "Running", "Failed"],
    ]
    assert told(baton, futures[0].run_id)[2:] == [("Retrying", AGAIN), ("Retrying", AGAIN), ("Failed", AGAIN)]
