"""Where inline runs are recorded: by whom an Orchestrator would say, else privately."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import get_run_context, task
from shared.errors import RunGone, UnfinishedRun
from shared.ids import new_id
from shared.runs import RunInput, TaskRun
from shared.specs import TaskSpec
from shared.states import Completed, State
from worker.engine import run_task, run_task_async
from worker.engine.recording import Moved, PrivateRecorder, record_with


class Remote(PrivateRecorder):
    """Behaves as one that has a server: its calls may not be made on an event loop, and others promote what is due."""

    blocks = True
    longest_wait = 60.0

    def __init__(self) -> None:
        super().__init__()
        self.callers: set[str] = set()
        self.released: list[str] = []

    def take(self, run: TaskRun, spec: TaskSpec[..., Any], inputs: Any) -> TaskRun:
        self.callers.add(threading.current_thread().name)
        return super().take(run, spec, inputs)

    def move(self, run_id: str, proposed: State[Any], facts: Any, cached: bytes = b"") -> Moved:
        self.callers.add(threading.current_thread().name)
        return super().move(run_id, proposed, facts, cached)

    def release(self, run_id: str) -> None:
        self.callers.add(threading.current_thread().name)
        self.released.append(run_id)


@pytest.fixture
def remote() -> Iterator[Remote]:
    recorder = Remote()
    before = record_with(lambda: recorder)
    yield recorder
    record_with(before)


@task(key="recorders.own_id")
def own_id() -> str:
    return get_run_context().run_id


@task(key="recorders.fail", retries=1, retry_delay_seconds=61)
def fail() -> None:
    raise ValueError("x")


@task(key="recorders.take")
def take(given: object) -> object:
    return given


def test_a_run_is_recorded_and_let_go_of(remote: Remote) -> None:
    run_id = run_task(own_id)
    assert [state.name for state in remote.history(run_id)] == ["Pending", "Running", "Completed"]
    assert remote.released == [run_id]


def test_a_run_is_let_go_of_whatever_happens(remote: Remote) -> None:
    @task(key="recorders.interrupted")
    def interrupted() -> None:
        raise KeyboardInterrupt

    run_id = new_id()
    with pytest.raises(KeyboardInterrupt):
        run_task(interrupted, task_run_id=run_id)
    assert (remote.history(run_id)[-1].name, remote.released) == ("Crashed", [run_id])


def test_an_id_that_is_known_continues_its_run(remote: Remote) -> None:
    run_id = run_task(own_id)
    assert run_task(own_id, task_run_id=run_id) == run_id
    assert len(remote.history(run_id)) == 3


def test_a_wait_of_more_than_a_minute_is_left_to_others(remote: Remote) -> None:
    run_id = new_id()
    state = run_task(fail, task_run_id=run_id, return_type="state")
    assert (state.name, remote.released) == ("AwaitingRetry", [run_id])
    with pytest.raises(UnfinishedRun, match=r"^Run is in SCHEDULED state, its result is not available\.$"):
        run_task(fail)


def test_a_server_is_not_asked_on_the_event_loop(remote: Remote) -> None:
    hooks: list[str] = []

    @task(key="recorders.ahooked", task_run_name="called so")
    async def ahooked() -> int:
        return 5

    @ahooked.on_completion
    async def hook(_spec: TaskSpec[..., Any], run: TaskRun, _state: State[Any]) -> None:
        await asyncio.sleep(0)
        hooks.append(run.name)

    run_id = new_id()
    assert asyncio.run(run_task_async(ahooked, task_run_id=run_id)) == 5
    assert (hooks, remote.history(run_id)[-1].name) == (["called so"], "Completed")
    assert (threading.main_thread().name in remote.callers, len(remote.callers) > 0) == (False, True)


def test_inputs_are_recorded(remote: Remote) -> None:
    upstream, other = new_id(), new_id()
    given = Completed(data=7, state_details={"task_run_id": upstream})
    run_id = new_id()
    value = run_task(
        take,
        task_run_id=run_id,
        parameters={"given": given},
        wait_for=given,
        dependencies={"given": {RunInput("task", other)}},
    )
    assert value == 7
    assert remote.inputs(run_id) == {"given": (upstream, other), "wait_for": (upstream,)}


def test_on_an_event_loop_inputs_are_waited_for_too() -> None:
    given = Completed(data=7, state_details={"task_run_id": new_id()})
    assert asyncio.run(run_task_async(take, parameters={"given": given})) == 7


def test_a_private_record_knows_its_own_runs_only() -> None:
    with pytest.raises(RunGone):
        PrivateRecorder().history(new_id())
    assert PrivateRecorder().find(new_id()) is None
