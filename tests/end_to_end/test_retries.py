"""Failures, retries and time limits, told by the histories that they leave."""

import pytest
import redis

from orchestrator import Orchestrator, Task
from shared import keys
from tests.end_to_end import bodies
from tests.support.fleets import told

pytestmark = pytest.mark.usefixtures("resident")
AGAIN = "Task run encountered an exception ValueError: again"
NOT_YET = "Task run encountered an exception ConnectionError: not yet"
OVER = "Task run exceeded timeout of 0.2 second(s)"


def ended(baton: Orchestrator, task: Task[..., object], **parameters: object) -> str:
    """The id of a run that has ended."""
    future = baton.submit(task, parameters)
    assert future.wait(20) is not None
    return future.run_id


def test_retries_without_a_delay_follow_each_other_in_place(baton: Orchestrator) -> None:
    run_id = ended(baton, bodies.always_fails)
    states = baton.history(run_id)
    assert told(baton, run_id) == [
        ("Pending", None),
        ("Running", None),
        ("Retrying", AGAIN),
        ("Retrying", AGAIN),
        ("Failed", AGAIN),
    ]
    assert [state.state_details.attempt for state in states] == [None, 1, 2, 3, 3]
    assert len({state.state_details.worker for state in states[1:]}) == 1
    assert baton.get_run(run_id).run_count == 3


def test_retries_with_a_delay_leave_the_worker_meanwhile(baton: Orchestrator) -> None:
    run_id = ended(baton, bodies.fails_until, attempt=3)
    assert told(baton, run_id) == [
        ("Pending", None),
        ("Running", None),
        ("AwaitingRetry", NOT_YET),
        ("Pending", None),
        ("Retrying", None),
        ("AwaitingRetry", NOT_YET),
        ("Pending", None),
        ("Retrying", None),
        ("Completed", None),
    ]
    states = baton.history(run_id)
    for awaiting, pending in ((states[2], states[3]), (states[5], states[6])):
        assert pending.timestamp >= awaiting.state_details.scheduled_time
        delay = (awaiting.state_details.scheduled_time - awaiting.timestamp).total_seconds()
        assert delay == pytest.approx(0.2, abs=0.001)


def test_a_time_limit_given_at_submit_holds_for_that_run(baton: Orchestrator) -> None:
    hasty = bodies.nap.with_options(timeout_seconds=0.1, retries=1, retry_delay_seconds=0)
    run_id = ended(baton, hasty, seconds=30)
    over = "Task run exceeded timeout of 0.1 second(s)"
    assert told(baton, run_id)[1:] == [("Running", None), ("Retrying", over), ("TimedOut", over)]


def test_a_body_can_ask_to_be_run_again_later(baton: Orchestrator) -> None:
    run_id = ended(baton, bodies.later, seconds=0.5)
    names = [name for name, _ in told(baton, run_id)]
    assert names == ["Pending", "Running", "Scheduled", "Pending", "Retrying", "Completed"]
    asked, due = baton.history(run_id)[2:4]
    assert (due.timestamp - asked.timestamp).total_seconds() >= 0.3


def test_what_with_options_says_of_a_result_reaches_the_worker(baton: Orchestrator, client: "redis.Redis") -> None:
    dropping = bodies.add.with_options(persist_result=False)
    ids = [ended(baton, task, x=1, y=2) for task in (bodies.add, dropping)]
    assert [client.exists(keys.run_part(run_id, "result")) for run_id in ids] == [1, 0]
