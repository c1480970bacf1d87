"""The members of the two engines, called one by one as a caller of their own may do it; no server."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator import task
from shared.errors import InvalidValue, MissingContextError
from shared.ids import new_id
from shared.runs import TaskRun
from shared.specs import TaskSpec
from shared.states import Completed, Failed, Running, State
from worker.context import current_tags, get_run_context
from worker.engine import AsyncTaskRunEngine, SyncTaskRunEngine
from worker.engine.recording import PrivateRecorder, record_with

Story = Callable[..., tuple[State[Any], list[str]]]


@pytest.fixture
def recorder() -> Iterator[PrivateRecorder]:
    """Keeps the runs of the test."""
    found = PrivateRecorder()
    before = record_with(lambda: found)
    yield found
    record_with(before)


@task(key="members.add", tags=["sums"])
def add(a: int, b: int = 2) -> int:
    return a + b


@task(key="members.fail")
def fail() -> None:
    raise ValueError("x")


def attempts_of(called: Any, **parameters: Any) -> SyncTaskRunEngine[..., Any]:
    """The engine of a run whose attempts were made one by one."""
    engine: SyncTaskRunEngine[..., Any] = SyncTaskRunEngine(called, parameters)
    with engine.start():
        while engine.is_running():
            with engine.setup_run_context(), engine.asset_context(), engine.run_context():
                engine.call_task_fn()
    return engine


async def aattempts_of(called: Any, **parameters: Any) -> AsyncTaskRunEngine[..., Any]:
    engine: AsyncTaskRunEngine[..., Any] = AsyncTaskRunEngine(called, parameters)
    async with engine.start():
        while engine.is_running():
            async with engine.setup_run_context(), engine.asset_context(), engine.run_context():
                await engine.call_task_fn()
    return engine


def driven(called: Any, **parameters: Any) -> list[Any]:
    """The engines of two runs: one driven here, one on an event loop."""
    return [attempts_of(called, **parameters), asyncio.run(aattempts_of(called, **parameters))]


def names_of(recorder: PrivateRecorder, engine: Any) -> list[str]:
    return [state.name for state in recorder.history(engine.task_run.id)]


def test_the_members_make_a_life_of_a_run(recorder: PrivateRecorder) -> None:
    engines = driven(add, a=1)
    assert [names_of(recorder, engine) for engine in engines] == [["Pending", "Running", "Completed"]] * 2
    assert [engine.state.result() for engine in engines] == [3, 3]
    assert (engines[0].result(), asyncio.run(engines[1].result())) == (3, 3)


def test_failed_attempts_are_made_again_and_hooks_are_called(recorder: PrivateRecorder) -> None:
    seen: list[str] = []

    def hook(_spec: TaskSpec[..., Any], _run: TaskRun, state: State[Any]) -> None:
        seen.append(state.name)

    hooked = fail.with_options(retries=1, on_running=[hook], on_failure=[hook])
    engines = driven(hooked)
    names = ["Pending", "Running", "Retrying", "Failed"]
    assert [names_of(recorder, engine) for engine in engines] == [names, names]
    assert seen == ["Running", "Retrying", "Failed"] * 2
    assert isinstance(engines[0].result(raise_on_failure=False), ValueError)


def test_an_interrupt_is_recorded_and_goes_on(recorder: PrivateRecorder) -> None:
    @task(key="members.interrupted")
    def interrupted() -> None:
        raise KeyboardInterrupt

    engine: SyncTaskRunEngine[..., Any] = SyncTaskRunEngine(interrupted, {})
    with pytest.raises(KeyboardInterrupt), engine.start(), engine.run_context():
        engine.call_task_fn()
    assert names_of(recorder, engine) == ["Pending", "Running", "Crashed"]


def test_what_has_no_run_yet_says_so() -> None:
    engine: SyncTaskRunEngine[..., Any] = SyncTaskRunEngine(add, {"a": 1})
    with pytest.raises(ValueError, match=r"^Task run is not set$"):
        _ = engine.state
    for name in ("ledger", "client", "task_run", "attempt", "token"):
        with pytest.raises(RuntimeError, match=r"^Engine has not started\.$"):
            getattr(engine, name)


def test_fields_say_what_is_run(recorder: PrivateRecorder) -> None:
    run_id = new_id()
    engine: SyncTaskRunEngine[..., Any] = SyncTaskRunEngine(add, {"a": 1}, wait_for=None, context={"tags": ["mine"]})
    with engine.initialize_run(run_id) as same:
        engine.begin_run()
        told = (same is engine, engine.task, engine.task_run.id, engine.task_run.tags, engine.attempt, engine.token)
        assert engine.logger.extra == {"run_id": run_id, "task": "members.add", "attempt": 1}
        with pytest.raises(RuntimeError, match="in this process alone"):
            _ = engine.ledger
    assert told == (True, add.spec, run_id, ("sums", "mine"), 1, 1)
    assert recorder.history(run_id)[0].name == "Pending"


def test_in_its_context_code_runs_as_in_the_body() -> None:
    engine: SyncTaskRunEngine[..., Any] = SyncTaskRunEngine(add, {"a": 1})
    with engine.start():
        with engine.setup_run_context():
            context = get_run_context()
            told = (context.run_id, context.spec, dict(context.parameters), context.tags, current_tags())
        with pytest.raises(MissingContextError):
            get_run_context()
    assert told == (engine.task_run.id, add.spec, {"a": 1, "b": 2}, ("sums",), ())


def test_states_are_proposed_and_forced(recorder: PrivateRecorder) -> None:
    engine: SyncTaskRunEngine[..., Any] = SyncTaskRunEngine(add, {"a": 1})
    with engine.start():
        ended = engine.set_state(Completed(data=1))
        forced = engine.set_state(Failed(message="by hand"), force=True)
        with pytest.raises(InvalidValue, match="only a process can be in that state"):
            engine.set_state(Running(), force=True)
    assert (ended.name, forced.name, names_of(recorder, engine)[-2:]) == (
        "Completed",
        "Failed",
        ["Completed", "Failed"],
    )


def test_states_are_proposed_and_forced_on_a_loop(recorder: PrivateRecorder) -> None:
    async def story() -> Any:
        engine: AsyncTaskRunEngine[..., Any] = AsyncTaskRunEngine(add, {"a": 1})
        async with engine.start():
            await engine.set_state(Completed(data=1))
            await engine.set_state(Failed(message="by hand"), force=True)
        return engine

    assert names_of(recorder, asyncio.run(story()))[-2:] == ["Completed", "Failed"]


def test_a_success_is_recorded_by_itself(recorder: PrivateRecorder) -> None:
    engine: SyncTaskRunEngine[..., Any] = SyncTaskRunEngine(add, {"a": 1})
    with engine.start():
        assert engine.handle_success(9) == 9
    assert (engine.result(), names_of(recorder, engine)[-1]) == (9, "Completed")


def test_the_time_of_an_end_is_noted_in_memory_once() -> None:
    engine: SyncTaskRunEngine[..., Any] = SyncTaskRunEngine(add, {"a": 1})
    with engine.start():
        state = Completed(data=1)
        engine.record_terminal_state_timing(state)
        noted = engine.task_run.end_time
        engine.record_terminal_state_timing(Completed(data=2))
        assert (noted, engine.task_run.end_time) == (state.timestamp, state.timestamp)


def test_the_last_words_tell_the_state(caplog: pytest.LogCaptureFixture) -> None:
    engine: SyncTaskRunEngine[..., Any] = SyncTaskRunEngine(add, {"a": 1})
    with caplog.at_level(logging.INFO, "baton.engine"), engine.start():
        engine.log_finished_message()
    assert caplog.messages[0].startswith("Finished in state Running")
