"""Tasks for the tests of runs that a process executes itself, and of what a body hands down and says."""

import time
from pathlib import Path

from orchestrator import get_run_context, get_run_logger, set_progress, task
from shared.ids import new_id
from shared.states import Completed, Failed, State
from worker.engine import run_task, run_task_async
from worker.signals import LOOP
from worker.triggers import all_failed, any_failed, manual_only


@task
def plus_one(x: int) -> int:
    return x + 1


@task
def adds(values: list[int], more: int = 0, *, count: bool = False) -> int:
    """The sum of it all, or how many there are."""
    return len(values) if count else sum(values) + more


@task
def opens(path: str) -> int:
    """Waits until there is this file."""
    while not Path(path).exists():
        time.sleep(0.01)
    return 1


@task
def naps(seconds: float) -> None:
    time.sleep(seconds)


@task
def runs_another_here(x: int) -> list[object]:
    """The id of a run that is executed in this body, and its value."""
    run_id = new_id()
    return [run_id, run_task(plus_one, task_run_id=run_id, parameters={"x": x})]


@task
async def awaits_another_here(x: int) -> list[object]:
    """The same, on an event loop."""
    run_id = new_id()
    return [run_id, await run_task_async(plus_one, task_run_id=run_id, parameters={"x": x})]


@task(log_prints=True, task_run_name="says {what}")
def says(what: str, wait_for_file: str = "") -> None:
    """Logs, prints and tells its progress; then waits until there is this file."""
    get_run_logger().info("logged %s", what)
    print("printed", what)  # noqa: T201 - what is tested
    set_progress(0.5, "halfway")
    while wait_for_file and not Path(wait_for_file).exists():
        time.sleep(0.01)


@task(retries=1)
def says_twice() -> None:
    get_run_logger().warning("again")
    raise ValueError("x")


@task
def fails() -> None:
    raise ValueError("x")


@task(trigger=any_failed)
def repairs(broken: object) -> str:
    return type(broken).__name__


@task(trigger=all_failed)
def mourns(found: object) -> object:
    return found


@task(trigger=manual_only)
def by_hand(value: int) -> int:
    return value


@task
def doubles_until(most: int) -> int:
    """Twice what it gave before, until that is enough: calls itself in a loop."""
    value = 2 * (get_run_context().task_loop_result or 1)
    if value < most:
        raise LOOP(result=value)
    return int(value)


@task
def skips() -> State[None]:
    return Completed(name="Skipped", data=None)


def cautious(_spec: object, _old: State[object], new: State[object]) -> State[object]:
    """Takes no result for good."""
    return Failed(message="not good enough") if new.is_completed() else new


@task(state_handlers=[cautious])
def hopes() -> int:
    return 1


def hasty(_spec: object, old: State[object], _new: State[object]) -> State[object] | None:
    """Takes a run for done before it has begun."""
    return Completed(data=1) if old.is_pending() else None


@task(state_handlers=[hasty])
def dreams(value: object) -> object:
    return value


def doubtful(_spec: object, _old: State[object], new: State[object]) -> None:
    """Lets nothing begin."""
    if new.is_running():
        raise ValueError("not today")


@task(state_handlers=[doubtful], retries=1)
def waits_for_leave(file: str) -> None:
    Path(file).touch()


@task(limit=1)
def alone(folder: str) -> int:
    """How many other runs of this task there were in its time."""
    mine = Path(folder, get_run_context().run_id)
    mine.touch()
    time.sleep(0.05)
    others = len(list(Path(folder).iterdir())) - 1
    mine.unlink()
    return others
