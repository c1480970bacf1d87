"""What decides on the fleet whether a run begins and how it ends: triggers, skips, handlers, a task's own limit."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator import Orchestrator
from tests.end_to_end.inline_bodies import (
    alone,
    by_hand,
    doubles_until,
    dreams,
    fails,
    hopes,
    mourns,
    plus_one,
    repairs,
    skips,
    waits_for_leave,
)
from tests.support.fleets import Fleets, told
from tests.support.waiting import eventually
from worker.engine import run_task


@pytest.fixture(autouse=True)
def _fleet(fleet: Fleets) -> None:
    fleet(module="tests.end_to_end.inline_bodies", concurrency=3)


def end_of(future: Any) -> tuple[str, str | None]:
    state = future.wait(20)
    return state.name, state.message


@pytest.mark.usefixtures("baton")
def test_a_run_begins_by_its_own_trigger_and_gets_the_exception() -> None:
    assert repairs.submit(fails.submit()).result(20) == "ValueError"


def test_a_run_whose_trigger_is_not_met_fails_without_a_start(baton: Orchestrator) -> None:
    future = mourns.submit(plus_one.submit(1))
    message = 'Trigger was "all_failed" but some of the upstream tasks succeeded.'
    assert (end_of(future), baton.get_run(future.run_id).start_time) == (("TriggerFailed", message), None)


def test_a_manual_run_pauses_until_somebody_resumes_it(baton: Orchestrator) -> None:
    future = by_hand.submit(plus_one.submit(1))
    eventually(lambda: future.get_state().is_paused())
    baton.resume(future.run_id)
    assert (future.result(20), [name for name, _ in told(baton, future.run_id)]) == (
        2,
        ["Pending", "Paused", "Pending", "Running", "Completed"],
    )


def test_a_loop_stays_in_its_attempt(baton: Orchestrator) -> None:
    future = doubles_until.submit(20)
    assert (future.result(20), baton.get_run(future.run_id).attempt) == (32, 1)


def test_what_waits_for_a_skipped_run_is_skipped(baton: Orchestrator) -> None:
    future = plus_one.submit(skips.submit())
    name, message = end_of(future)
    assert (name, str(message).startswith("Upstream task was skipped")) == ("Skipped", True)
    assert [name for name, _ in told(baton, future.run_id)] == ["Pending", "Skipped"]


def test_what_a_handler_makes_of_a_state_is_recorded(baton: Orchestrator) -> None:
    future = hopes.submit()
    assert (end_of(future), [name for name, _ in told(baton, future.run_id)]) == (
        ("Failed", "not good enough"),
        ["Pending", "Running", "Failed"],
    )


@pytest.mark.usefixtures("baton")
def test_what_a_handler_wants_against_the_rules_fails_the_run_and_not_its_worker() -> None:
    ends = [end_of(dreams.submit(plus_one.submit(1))) for _ in range(2)]
    assert ends == [("Failed", "Only a running attempt can complete a run.")] * 2


def test_what_a_handler_does_not_let_begin_is_not_called_nor_tried_again(baton: Orchestrator, tmp_path: Path) -> None:
    file = tmp_path / "called"
    future = waits_for_leave.submit(str(file))
    here = run_task(waits_for_leave, parameters={"file": str(file)}, return_type="state")
    message = "Unexpected error while calling state handlers: ValueError('not today')"
    assert [end_of(future), (here.name, here.message)] == [("Failed", message)] * 2
    assert ([name for name, _ in told(baton, future.run_id)], file.exists()) == (
        ["Pending", "Running", "Failed"],
        False,
    )


def test_runs_of_a_limited_task_are_alone(baton: Orchestrator, tmp_path: Path) -> None:
    folder = tmp_path / "alone"
    folder.mkdir()
    futures = [alone.submit(str(folder)) for _ in range(6)]
    assert [future.result(20) for future in futures] == [0] * 6
    assert baton.get_run(futures[0].run_id).tags == ()
