"""Tasks for the tests of runs that a process executes itself, and of what a body hands down and says."""

import time

from orchestrator import task
from shared.ids import new_id
from worker.engine import run_task


@task
def plus_one(x: int) -> int:
    return x + 1


@task
def naps(seconds: float) -> None:
    time.sleep(seconds)


@task
def runs_another_here(x: int) -> list[object]:
    """The id of a run that is executed in this body, and its value."""
    run_id = new_id()
    return [run_id, run_task(plus_one, task_run_id=run_id, parameters={"x": x})]
