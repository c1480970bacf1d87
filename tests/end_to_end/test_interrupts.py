"""Bodies that end their process, and bodies that only try to."""

import pytest
import redis

from orchestrator import Orchestrator, Task
from tests.end_to_end.bodies import add, exit_once, exit_python, interrupt, segfault_once
from tests.support.fleets import Fleet, told
from tests.support.waiting import eventually


@pytest.mark.parametrize(
    ("task", "parameters", "cause"),
    [
        (exit_once, {"code": 0}, "exit without a report"),
        (exit_once, {"code": 3}, "exit status 3"),
        (segfault_once, {}, "killed by signal 11"),
    ],
    ids=["exit 0", "exit 3", "segfault"],
)
@pytest.mark.usefixtures("resident")
def test_a_body_that_ends_its_process_is_run_again(
    baton: Orchestrator, task: Task[..., object], parameters: dict[str, int], cause: str
) -> None:
    future = baton.submit(task, parameters)
    assert future.result(timeout=10) == 2
    assert told(baton, future.run_id)[2:4] == [("Pending", f"Attempt 1 was lost: {cause}."), ("Rerunning", None)]


@pytest.mark.parametrize(
    ("task", "parameters", "message"),
    [
        (exit_python, {"code": 0}, "Execution was aborted by Python system exit call."),
        (exit_python, {"code": 7}, "Execution was aborted by Python system exit call."),
        (interrupt, {}, "Execution was aborted by an interrupt signal."),
    ],
    ids=["exit 0", "exit 7", "interrupt"],
)
def test_an_interrupt_in_a_body_crashes_the_run_and_the_worker_lives_on(
    resident: Fleet,
    baton: Orchestrator,
    client: "redis.Redis",
    task: Task[..., object],
    parameters: dict[str, int],
    message: str,
) -> None:
    eventually(lambda: resident.is_up(client))
    before = resident.workers(client)
    future = baton.submit(task, parameters)
    future.wait(10)
    assert told(baton, future.run_id) == [("Pending", None), ("Running", None), ("Crashed", message)]
    assert baton.submit(add, {"x": 1, "y": 1}).result(timeout=10) == 2
    assert resident.workers(client) == before
