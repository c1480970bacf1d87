"""What bodies return and raise, and how it comes back to another process."""

from collections.abc import Iterator

import pytest
import redis

from orchestrator import Orchestrator, Task
from shared import keys
from shared.errors import (
    InvalidValue,
    RemoteTraceback,
    ResultNotSerialisable,
    ResultTooLarge,
    TaskNotRegistered,
    TaskRunFailed,
    allow_exceptions,
)
from shared.state_types import StateType
from tests.end_to_end import bodies
from tests.support.fleets import Fleet, starts, told
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def lives_on(resident: Fleet, baton: Orchestrator, client: "redis.Redis") -> Iterator[None]:
    """Whatever a body did, the workers are the same afterwards, and work."""
    eventually(lambda: resident.is_up(client))
    before = resident.workers(client)
    yield
    assert baton.submit(bodies.add, {"x": 1, "y": 1}).result(timeout=10) == 2
    assert resident.workers(client) == before


@pytest.mark.parametrize(
    ("task", "parameters", "value"),
    [
        (bodies.add, {"x": 1, "y": 0.5}, 1.5),
        (bodies.numbers, {"end": 3}, [0, 1, 2]),
        (bodies.anumbers, {"end": 3}, [0, 1, 2]),
        (bodies.give_bytes, {"size": 200_000}, b"x" * 200_000),
        (bodies.sum_of, {"end": 4}, 5),
    ],
    ids=["value", "generator", "async generator", "above the inline limit", "of a run that it submitted"],
)
def test_a_value_comes_back(
    baton: Orchestrator, task: Task[..., object], parameters: dict[str, object], value: object
) -> None:
    assert baton.submit(task, parameters).result(timeout=20) == value


def test_an_async_function_knows_its_run(baton: Orchestrator) -> None:
    future = baton.submit(bodies.anap, {"seconds": 0.01})
    assert future.result(timeout=20) == future.run_id


def test_a_body_is_told_about_its_run(baton: Orchestrator, client: "redis.Redis") -> None:
    future = baton.submit(bodies.seen)
    told_to_it = future.result(timeout=20)
    token = int(client.hget(keys.job(future.run_id), "token"))
    assert told_to_it == {
        "run_id": future.run_id,
        "task": "tests.end_to_end.bodies.seen",
        "attempt": 1,
        "fence": token,
    }


@pytest.mark.parametrize(
    ("task", "parameters", "kind"),
    [(bodies.give_lock, {}, ResultNotSerialisable), (bodies.give_bytes, {"size": 2_000_000}, ResultTooLarge)],
    ids=["a lock", "two megabytes"],
)
def test_a_value_that_cannot_be_stored_fails_the_run_once(
    resident: Fleet,
    baton: Orchestrator,
    task: Task[..., object],
    parameters: dict[str, int],
    kind: type[Exception],
) -> None:
    future = baton.submit(task.with_options(retries=3), parameters)
    with pytest.raises(kind):
        future.result(timeout=20)
    (name, message) = told(baton, future.run_id)[-1]
    assert name == "Failed"
    assert message.startswith(f"Task run's result could not be stored: {kind.__name__}: ")
    assert starts(resident.body_log(), future.run_id) == 1


@pytest.mark.parametrize(
    ("task", "kind", "text"),
    [
        (bodies.fail, ValueError, "a text"),
        (bodies.refuse_value, InvalidValue, "not this one"),
        (bodies.raise_known, bodies.Known, "everybody knows me"),
        (bodies.raise_unknown, TaskRunFailed, "Unknown: nobody knows me"),
    ],
    ids=["builtin", "Baton's own", "registered", "unknown"],
)
def test_an_exception_comes_back_with_the_line_that_raised_it(
    baton: Orchestrator, task: Task[..., object], kind: type[Exception], text: str
) -> None:
    allow_exceptions(bodies.Known)
    future = baton.submit(task, {"text": text} if task is bodies.fail else {})
    with pytest.raises(kind) as caught:
        future.result(timeout=20)
    trace = str(caught.value.__cause__)
    frames = [line for line in trace.splitlines() if line.startswith("  File ")]
    assert (type(caught.value), str(caught.value)) == (kind, text)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert len(frames) == 1
    assert "bodies.py" in frames[0]
    assert f"in {task.__name__}" in frames[0]
    assert "    raise " in trace


def test_a_task_that_no_worker_knows_fails_the_run(baton: Orchestrator) -> None:
    future = baton.submit("no.such.task", {"x": 1})
    state = future.wait(20)
    assert (state.type, state.name) == (StateType.FAILED, "UnknownTask")
    assert "Task 'no.such.task' is not registered" in state.message
    assert "tests.end_to_end.bodies.add" in state.message
    with pytest.raises(TaskNotRegistered):
        future.result()
    assert [name for name, _ in told(baton, future.run_id)] == ["Pending", "UnknownTask"]
