"""Running a task in this process, tracked: `run_task` and its four variants. Builds the run, drives its engine."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, TypeVar
from uuid import UUID

from shared.errors import InvalidCall, InvalidValue
from shared.ids import as_id, new_id
from shared.naming import default_name
from shared.options import check_options
from shared.runs import RunInput, TaskRun
from shared.specs import TaskLike, TaskSpec
from shared.states import Pending, State
from worker.context import current_tags, inherited
from worker.engine.adrivers import AsyncTaskRunEngine
from worker.engine.drivers import SyncTaskRunEngine
from worker.engine.inline import InlineRun
from worker.engine.recording import Recorder, current_recorder
from worker.inputs import Inputs, inputs_of, named_inputs

P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E", SyncTaskRunEngine[..., Any], AsyncTaskRunEngine[..., Any])
Dependencies = dict[str, set[RunInput]]
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
            `traceparent`; and `cancel_event`, with an `is_set` that says when to end.

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
    wanted = _Wanted(task.spec, task_run_id, task_run, parameters, wait_for, dependencies, context)
    with wanted.engine(SyncTaskRunEngine) as engine:
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
    wanted = _Wanted(task.spec, task_run_id, task_run, parameters, wait_for, dependencies, context)
    async with wanted.aengine(AsyncTaskRunEngine) as engine:
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
    wanted = _Wanted(task.spec, task_run_id, task_run, parameters, wait_for, dependencies, context)

    def items() -> Generator[Any, None, Any]:
        with wanted.engine(SyncTaskRunEngine) as engine:
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
    wanted = _Wanted(task.spec, task_run_id, task_run, parameters, wait_for, dependencies, context)

    async def items() -> AsyncGenerator[Any, None]:
        async with wanted.aengine(AsyncTaskRunEngine) as engine:
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


@dataclass(frozen=True)
class _Wanted:
    """What an entry point was called with."""

    spec: TaskSpec[..., Any]
    task_run_id: str | UUID | None
    task_run: TaskRun | None
    parameters: dict[str, Any] | None
    wait_for: Any
    dependencies: Dependencies | None
    context: dict[str, Any] | None

    @contextmanager
    def engine(self, kind: type[E]) -> Iterator[E]:
        """An engine with its run, which this process holds for the length of the block."""
        place, inputs = self._begun(current_recorder())
        try:
            yield self._engine_at(kind, place, inputs)
        finally:
            place.release()

    @asynccontextmanager
    async def aengine(self, kind: type[E]) -> AsyncIterator[E]:
        """The same as `engine`, without waiting for a server on the event loop."""
        recorder = current_recorder()
        if not recorder.blocks:
            with self.engine(kind) as engine:
                yield engine
            return
        place, inputs = await asyncio.to_thread(self._begun, recorder)
        try:
            yield self._engine_at(kind, place, inputs)
        finally:
            await asyncio.to_thread(place.release)

    def _begun(self, recorder: Recorder) -> tuple[InlineRun, Inputs]:
        args, kwargs = self.spec.binding.unbind(self.parameters or {})
        inputs = inputs_of(self.spec.binding.bind(args, kwargs), self.wait_for)
        run = self.task_run or self._run_of(recorder, inputs)
        named = named_inputs(inputs, self.dependencies or {}, run.parent)
        return InlineRun(run, self.spec, recorder, (self.context or {}).get("cancel_event"), named), inputs

    def _run_of(self, recorder: Recorder, inputs: Inputs) -> TaskRun:
        """A run that is not recorded yet; under an id that is known already the run of that id."""
        spec, context = self.spec, self.context or {}
        run_id = new_id() if self.task_run_id is None else as_id(self.task_run_id)
        known = recorder.find(run_id) if self.task_run_id is not None else None
        if known is not None:
            return known
        handed_down = inherited()
        flow = context.get("flow_run_id") or handed_down.get("flow")
        return TaskRun(
            id=run_id,
            task=spec.key,
            name=default_name(spec.name, run_id, in_flow=flow is not None),
            queue=spec.queue,
            state=Pending(),
            parent=context.get("parent_run") or handed_down.get("parent"),
            flow=flow,
            tags=tuple(
                dict.fromkeys(
                    (*spec.tags, *current_tags(), *check_options({"tags": context.get("tags")}).get("tags", ()))
                )
            ),
            parameters=inputs.parameters,
            correlation=context.get("correlation_id") or handed_down.get("correlation"),
            traceparent=context.get("traceparent") or handed_down.get("traceparent"),
        )

    def _engine_at(self, kind: type[E], place: InlineRun, inputs: Inputs) -> E:
        needed = inputs if inputs.sources else None
        return kind(self.spec, inputs.parameters, self.spec.timeout_seconds, place, needed)


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
