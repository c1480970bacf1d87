"""Running a task in this process, tracked: `run_task` and its four variants. Builds the run, drives its engine."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from typing import Any, Literal, ParamSpec, TypeVar
from uuid import UUID

from shared.errors import InvalidCall, InvalidValue
from shared.runs import TaskRun
from shared.specs import TaskLike
from shared.states import State
from worker.engine.adrivers import AsyncTaskRunEngine
from worker.engine.beginning import Dependencies
from worker.engine.drivers import SyncTaskRunEngine

P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E", SyncTaskRunEngine[..., Any], AsyncTaskRunEngine[..., Any])
ReturnType = Literal["state", "result"]


def run_task(
    task: TaskLike[P, R],
    task_run_id: str | UUID | None = None,
    task_run: TaskRun | None = None,
    parameters: dict[str, Any] | None = None,
    wait_for: Any = None,
    return_type: ReturnType = "result",
    dependencies: Dependencies | None = None,
    context: dict[str, Any] | None = None,
) -> Any:
    """Run a task here and now, tracked. Of an `async def` function a coroutine is returned, of a generator a generator.

    Args:
        task: a `@task`.
        task_run_id: the id of the new run; one that is known already is continued.
        task_run: a run to be continued. If it has ended, nothing is executed.
        parameters: arguments by name. Futures and states among them become their results first.
        wait_for: a future or a state, or a collection of these, that have to end before.
        return_type: "result" for the value, or "state" for the last state, also of a failure. Generators: "result".
        dependencies: ids of runs by parameter, to be recorded as inputs; nothing is waited for because of it.
        context: what the run has from where it is asked for: `tags`, `flow_run_id`, `parent_run`, `correlation_id`,
            `traceparent`; `cancel_event`, with an `is_set` that says when to end; and `resume`, for a run that its
            trigger has paused.

    Raises:
        InvalidValue: no such `return_type`, or no id.
        ParameterBindError: the parameters do not fit the function.
        TransitionRefused: another process holds the run.
        UnfinishedRun, PausedRun: with "result", where the run is left to others, or paused.
        Exception: with "result", whatever the run ended with: what it raised, CancelledRun, UpstreamTaskError ...
        KeyboardInterrupt, SystemExit, CancelledError: whatever interrupted it, also with "state".
    """
    spec = task.spec
    run: Any
    if spec.isgenerator:
        run = run_generator_task_async if spec.isasync else run_generator_task_sync
    else:
        run = run_task_async if spec.isasync else run_task_sync
    return run(task, task_run_id, task_run, parameters, wait_for, return_type, dependencies, context)


def run_task_sync(
    task: TaskLike[P, R],
    task_run_id: str | UUID | None = None,
    task_run: TaskRun | None = None,
    parameters: dict[str, Any] | None = None,
    wait_for: Any = None,
    return_type: ReturnType = "result",
    dependencies: Dependencies | None = None,
    context: dict[str, Any] | None = None,
) -> R | State[Any] | None:
    """The same as `run_task`, in this thread; of a generator it gives the list of its items.

    Raises:
        InvalidCall: an `async def` function, where an event loop runs in this thread.
    """
    _check_return_type(return_type)
    if task.spec.isasync and _a_loop_runs():
        raise InvalidCall(f"an event loop runs here: write `await run_task_async(...)` for task '{task.spec.name}'")
    engine = SyncTaskRunEngine(task, parameters or {}, task_run=task_run, wait_for=wait_for, context=context)
    with engine.initialize_run(task_run_id, dependencies):
        answer: R | State[Any] = _answer(engine, _ended(engine) or engine.run(), return_type)
        return answer


async def run_task_async(
    task: TaskLike[P, R],
    task_run_id: str | UUID | None = None,
    task_run: TaskRun | None = None,
    parameters: dict[str, Any] | None = None,
    wait_for: Any = None,
    return_type: ReturnType = "result",
    dependencies: Dependencies | None = None,
    context: dict[str, Any] | None = None,
) -> R | State[Any] | None:
    """The same as `run_task`, without blocking the event loop; a plain function runs in a thread."""
    _check_return_type(return_type)
    engine = AsyncTaskRunEngine(task, parameters or {}, task_run=task_run, wait_for=wait_for, context=context)
    async with engine.initialize_run(task_run_id, dependencies):
        answer: R | State[Any] = _answer(engine, _ended(engine) or await engine.run(), return_type)
        return answer


def run_generator_task_sync(
    task: TaskLike[P, R],
    task_run_id: str | UUID | None = None,
    task_run: TaskRun | None = None,
    parameters: dict[str, Any] | None = None,
    wait_for: Any = None,
    return_type: ReturnType = "result",
    dependencies: Dependencies | None = None,
    context: dict[str, Any] | None = None,
) -> Generator[Any, None, Any]:
    """The items of a generator task as they come; what the generator returns is the run's result, and is returned.

    The run begins with the first item. A retry begins from the first item again. A failure is raised after its state
    is recorded. Who closes it early ends the run COMPLETED.
    """
    _check_is_result(return_type)
    engine = SyncTaskRunEngine(task, parameters or {}, task_run=task_run, wait_for=wait_for, context=context)

    def items() -> Generator[Any, None, Any]:
        with engine.initialize_run(task_run_id, dependencies):
            engine.streams = True
            if _ended(engine) is None:
                yield from engine.stream()
            return _answer(engine, engine.state, "result")

    return items()


def run_generator_task_async(
    task: TaskLike[P, R],
    task_run_id: str | UUID | None = None,
    task_run: TaskRun | None = None,
    parameters: dict[str, Any] | None = None,
    wait_for: Any = None,
    return_type: ReturnType = "result",
    dependencies: Dependencies | None = None,
    context: dict[str, Any] | None = None,
) -> AsyncGenerator[Any, None]:
    """The same as `run_generator_task_sync`, on the event loop."""
    _check_is_result(return_type)
    engine = AsyncTaskRunEngine(task, parameters or {}, task_run=task_run, wait_for=wait_for, context=context)

    async def items() -> AsyncGenerator[Any, None]:
        async with engine.initialize_run(task_run_id, dependencies):
            engine.streams = True
            if _ended(engine) is None:
                stream = engine.stream()
                try:
                    async for item in stream:
                        yield item
                finally:
                    await stream.aclose()  # a consumer that leaves early does not wait for a collector to find it
            _answer(engine, engine.state, "result")

    return items()


# --- what they share --------------------------------------------------------------------------------------------------


def _ended(engine: SyncTaskRunEngine[..., Any] | AsyncTaskRunEngine[..., Any]) -> State[Any] | None:
    """The state of a run that had ended before, or None."""
    return engine.state if engine.state.is_final() else None


def _answer(
    engine: SyncTaskRunEngine[..., Any] | AsyncTaskRunEngine[..., Any], state: State[Any], return_type: str
) -> Any:
    if engine.crash is not None:
        raise engine.crash
    return state if return_type == "state" else state.result()


def _check_return_type(return_type: str) -> None:
    if return_type not in ("result", "state"):
        raise InvalidValue(f"'return_type' must be 'result' or 'state', got {return_type!r}")


def _check_is_result(return_type: str) -> None:
    if return_type != "result":
        raise InvalidValue("The return_type for a generator task must be 'result'")


def _a_loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
