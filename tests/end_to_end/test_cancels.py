"""Runs that somebody cancels, and bodies that ignore their time limit: how soon they end, and as what."""

from pathlib import Path
from typing import Any

import pytest
import redis

from orchestrator import Orchestrator
from shared import keys
from shared.errors import CancelledRun, TaskRunTimeoutError, TransitionRefused
from tests.end_to_end.bodies import (
    add,
    anap,
    deaf,
    deaf_to_time,
    deaf_to_time_once,
    held,
    looks_for_itself,
    nap,
    sum_of_held,
)
from tests.support.fleets import Fleets, seconds_after, server_time, starts, told
from tests.support.waiting import eventually

CANCELLED = ("Cancelled", "Cancelled while running.")
QUICK = {"cancel_grace": 0.5, "timeout_grace": 0.5}


def in_its_body(fleet: Fleets, baton: Orchestrator, task: Any, **parameters: Any) -> str:
    """The id of a run whose body has begun."""
    future = baton.submit(task, parameters)
    eventually(lambda: starts(fleet.body_log(), future.run_id) == 1)
    return future.run_id


@pytest.mark.parametrize("task", [nap, anap, looks_for_itself])
def test_a_body_is_ended_within_a_second_and_its_worker_lives_on(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", task: Any
) -> None:
    workers = fleet()
    run_id = in_its_body(fleet, baton, task, seconds=60)
    (pid,) = workers.children()
    asked_at = server_time(client)
    assert baton.cancel(run_id).name in ("Cancelling", "Cancelled")  # it may be quick
    state = baton.future(run_id).wait(10)
    assert state is not None
    assert seconds_after(asked_at, state) <= 1
    assert told(baton, run_id)[2:] == [("Cancelling", None), (state.name, state.message)]
    assert baton.submit(add, {"x": 1, "y": 1}).result(10) == 2
    assert workers.children() == [pid]
    with pytest.raises(CancelledRun):
        baton.future(run_id).result()


def test_what_was_interrupted_says_so_and_what_ended_by_itself_is_named(fleet: Fleets, baton: Orchestrator) -> None:
    fleet()
    interrupted = in_its_body(fleet, baton, nap, seconds=60)
    baton.cancel(interrupted)
    baton.future(interrupted).wait(10)
    ended = in_its_body(fleet, baton, looks_for_itself, seconds=60)
    baton.cancel(ended)
    baton.future(ended).wait(10)
    assert told(baton, interrupted)[-1] == CANCELLED
    assert told(baton, ended)[-1] == (
        "Cancelled",
        "Cancelled while running; its outcome Completed was not recorded.",
    )


def test_a_deaf_body_is_killed_after_the_grace_and_its_run_is_cancelled_not_crashed(
    fleet: Fleets, baton: Orchestrator
) -> None:
    workers = fleet(**QUICK)
    run_id = in_its_body(fleet, baton, deaf, seconds=60)
    (pid,) = workers.children()
    baton.cancel(run_id)
    state = baton.future(run_id).wait(10)
    assert state is not None
    assert (state.name, baton.get_run(run_id).crashes) == ("Cancelled", 0)
    assert baton.submit(add, {"x": 1, "y": 1}).result(10) == 2
    assert workers.children() != [pid]


def test_a_run_that_waits_is_cancelled_at_once_and_never_begins(
    fleet: Fleets, baton: Orchestrator, tmp_path: Path
) -> None:
    fleet()
    gate = tmp_path / "gate"
    in_its_body(fleet, baton, held, path=str(gate))
    waiting = baton.submit(add, {"x": 1, "y": 1})
    assert baton.cancel(waiting.run_id, "not needed any more").message == "not needed any more"
    gate.touch()
    assert baton.submit(add, {"x": 2, "y": 2}).result(10) == 4
    assert [name for name, _ in told(baton, waiting.run_id)] == ["Pending", "Cancelled"]
    done = baton.submit(add, {"x": 1, "y": 1})
    done.wait(10)
    with pytest.raises(TransitionRefused):
        baton.cancel(done.run_id)


def test_runs_that_a_cancelled_run_submitted_are_cancelled_too(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    fleet(concurrency=2)
    run_id = in_its_body(fleet, baton, sum_of_held, path=str(tmp_path / "gate"), number=3)
    children = eventually(lambda: ids if len(ids := client.smembers(keys.run_part(run_id, "children"))) == 3 else None)
    baton.cancel(run_id)
    states = [baton.future(child).wait(10) for child in [run_id, *children]]
    assert [state and state.name for state in states] == ["Cancelled"] * 4


def test_a_body_that_ignores_its_time_limit_is_killed_and_has_timed_out(fleet: Fleets, baton: Orchestrator) -> None:
    fleet(**QUICK)
    run_id = in_its_body(fleet, baton, deaf_to_time, seconds=60)
    state = baton.future(run_id).wait(10)
    assert state is not None
    assert (state.name, state.message) == ("TimedOut", "Task run exceeded timeout of 0.3 second(s)")
    assert baton.get_run(run_id).crashes == 0
    with pytest.raises(TaskRunTimeoutError):
        baton.future(run_id).result()


def test_what_timed_out_so_is_retried_like_any_failure(fleet: Fleets, baton: Orchestrator) -> None:
    fleet(**QUICK)
    run_id = in_its_body(fleet, baton, deaf_to_time_once)
    assert baton.future(run_id).result(15) == 2
    names = [name for name, _ in told(baton, run_id)]
    assert names == ["Pending", "Running", "AwaitingRetry", "Pending", "Retrying", "Completed"]
