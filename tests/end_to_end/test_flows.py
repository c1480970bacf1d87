"""Flows on the fleet: their runs, what a second attempt takes over, what is left at their end, and their cancel."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Orchestrator
from shared.runs import TaskRun
from shared.states import State
from tests.end_to_end.flow_bodies import (
    dies_once,
    leaves,
    leaves_alone,
    leaves_cancelled,
    naps,
    sums,
    sums_of_sums,
    tries_twice,
)
from tests.support.fleets import Fleet, Fleets, in_thread, starts
from tests.support.server import RedisServer
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def workers(module_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One fleet for all tests of the module: flows wait in their slots."""
    with module_server.client() as client:
        fleets = Fleets(module_server.url, client, tmp_path_factory.mktemp("workers"))
        try:
            yield fleets(module="tests.end_to_end.flow_bodies", concurrency=4)
        finally:
            fleets.clear_away()


def children(baton: Orchestrator, run_id: str) -> list[TaskRun]:
    """The runs that this one submitted, oldest first."""
    return [baton.get_run(child) for child in sorted(baton.children.ids(run_id))]


def the_child(baton: Orchestrator, run_id: str) -> TaskRun:
    """The one run that this one has submitted."""
    (child,) = eventually(lambda: children(baton, run_id))
    return child


def is_running(baton: Orchestrator, run_id: str) -> bool:
    return baton.get_run(run_id).state.is_running()


def end_of(baton: Orchestrator, run_id: str) -> State[Any]:
    state = baton.future(run_id).wait(20)
    assert state is not None
    return state


@pytest.mark.usefixtures("workers")
def test_flows_submit_flows(baton: Orchestrator) -> None:
    future = sums_of_sums.submit([[1, 2], [3]])
    assert future.result(20) == [3, 3]
    inner = children(baton, future.run_id)
    assert [(run.kind, run.flow, run.name) for run in inner] == [
        ("flow", future.run_id, f"sums-{run.id[-3:]}") for run in inner
    ]
    assert {run.flow for run in children(baton, inner[0].id)} == {inner[0].id}


@pytest.mark.usefixtures("workers")
def test_a_flow_that_is_called_here_has_its_runs_on_the_fleet(baton: Orchestrator) -> None:
    assert sums([1, 2]) == 3
    (run,) = baton.find_runs(task=sums.spec.key, limit=1).runs
    is_here = [str(one.worker).startswith("inline-") for one in (run, *children(baton, run.id))]
    assert (run.kind, is_here) == ("flow", [True, False, False])


@pytest.mark.usefixtures("workers")
def test_a_second_attempt_takes_over_what_has_a_result(baton: Orchestrator) -> None:
    future = tries_twice.submit()
    again = future.result(20)
    ids = [run.id for run in children(baton, future.run_id)]
    first, failed, second, anew = ids
    assert (again, future.get_state().message) == ([first, anew, second], "2 of 4 task runs did not complete.")
    assert {baton.get_run(run_id).state.name for run_id in (failed, anew)} == {"Failed"}


def test_an_attempt_after_a_lost_one_takes_over_what_still_runs(
    workers: Fleet, baton: Orchestrator, tmp_path: Path
) -> None:
    future = dies_once.submit(str(tmp_path / "end"))
    child = future.result(20)
    assert [run.id for run in children(baton, future.run_id)] == [child]
    assert (future.task_run.attempt, starts(workers.body_log(), child)) == (2, 1)


# --- what is left at the end ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("workers")
def test_a_flow_waits_for_what_it_has_not_waited_for(baton: Orchestrator, tmp_path: Path) -> None:
    path = tmp_path / "end"
    future = leaves.submit(str(path))
    child = the_child(baton, future.run_id)
    eventually(lambda: is_running(baton, child.id))
    assert future.wait(0.3) is None
    path.touch()
    assert (future.result(20), baton.get_run(child.id).state.name) == (child.id, "Completed")


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize(
    ("flow", "given", "ended"),
    [
        (leaves, {"fail": True}, ("Failed", "Flow run encountered an exception ValueError: no")),
        (leaves_cancelled, {}, ("Completed", "1 of 1 task runs did not complete.")),
    ],
    ids=["after an exception", "if that is asked for"],
)
def test_a_flow_cancels_what_it_leaves(
    baton: Orchestrator, tmp_path: Path, flow: Any, given: dict[str, Any], ended: tuple[str, str]
) -> None:
    future = baton.submit(flow, {"path": str(tmp_path / "end"), **given})
    state = end_of(baton, future.run_id)
    assert (state.name, state.message) == ended
    assert end_of(baton, the_child(baton, future.run_id).id).name == "Cancelled"


@pytest.mark.usefixtures("workers")
def test_what_is_left_on_purpose_goes_on(baton: Orchestrator, tmp_path: Path) -> None:
    path = tmp_path / "end"
    child = leaves_alone.submit(str(path)).result(20)
    assert not baton.get_run(child).state.is_final()
    path.touch()
    assert end_of(baton, child).name == "Completed"


# --- cancel -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("workers")
def test_a_cancel_reaches_grandchildren(baton: Orchestrator) -> None:
    future = naps.submit(1, below=1)
    below = eventually(lambda: [run for run in children(baton, future.run_id) if run.kind == "flow"])[0]
    grandchild = the_child(baton, below.id)
    eventually(lambda: is_running(baton, grandchild.id))
    baton.cancel(future.run_id)
    assert {end_of(baton, run_id).name for run_id in (future.run_id, below.id, grandchild.id)} == {"Cancelled"}


@pytest.mark.usefixtures("workers")
def test_a_flow_that_is_executed_here_is_ended_by_a_cancel_while_it_waits_for_its_runs(
    baton: Orchestrator, tmp_path: Path
) -> None:
    state = in_thread(lambda: leaves(str(tmp_path / "end"), return_state=True))
    (run,) = eventually(lambda: baton.find_runs(task=leaves.spec.key, state="RUNNING").runs)
    child = the_child(baton, run.id)
    baton.cancel(run.id)
    assert (state().name, end_of(baton, child.id).name) == ("Cancelled", "Cancelled")
