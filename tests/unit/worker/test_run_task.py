"""Tasks that are run right here, tracked and without a server; on an event loop, and as generators too."""

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import worker.engine
from orchestrator import Orchestrator, task
from shared.annotations import allow_failure, quote
from shared.errors import (
    CancelledRun,
    FailedRun,
    InvalidCall,
    InvalidValue,
    ParameterBindError,
    PausedRun,
    TaskRunTimeoutError,
    TransitionRefused,
    UpstreamTaskError,
)
from shared.ids import new_id
from shared.runs import TaskRun
from shared.state_types import StateType
from shared.states import Cancelled, Completed, Crashed, Failed, Paused, Pending, Running, State
from worker.context import current_tags, get_run_context, tags
from worker.engine import (
    AsyncTaskRunEngine,
    SyncTaskRunEngine,
    run_generator_task_async,
    run_generator_task_sync,
    run_task,
    run_task_async,
    run_task_sync,
)
from worker.engine.inline import InlineRun
from worker.engine.recording import PrivateRecorder

X = "Task run encountered an exception ValueError: x"


@task(key="here.add")
def add(a: int, b: int = 2) -> int:
    return a + b


@task(key="here.afetch")
async def afetch(a: int) -> int:
    await asyncio.sleep(0)
    return a + 1


@task(key="here.fail")
def fail() -> None:
    raise ValueError("x")


@task(key="here.nap")
async def nap(seconds: float) -> None:
    await asyncio.sleep(seconds)


@task(key="here.numbers")
def numbers(end: int) -> Iterator[int]:
    yield from range(end)


@task(key="here.anumbers")
async def anumbers(end: int) -> AsyncIterator[int]:
    for number in range(end):
        await asyncio.sleep(0)
        yield number


def run_of(state: State[Any], **fields: Any) -> TaskRun:
    return TaskRun(id=new_id(), task="here.add", name="add", queue="default", state=state, **fields)


def state_of_run(kind: Callable[..., State[Any]], **fields: Any) -> State[Any]:
    """A final state that says which run it is of, as a future gives it."""
    return kind(state_details={"task_run_id": new_id()}, **fields)


def hooked(fn: Callable[..., Any], **options: Any) -> tuple[Any, list[tuple[TaskRun, State[Any]]]]:
    """A task of this function, and what its hooks are given."""
    seen: list[tuple[TaskRun, State[Any]]] = []
    hooks = [lambda _spec, run, state: seen.append((run, state))]
    named = dict.fromkeys(("on_running", "on_completion", "on_failure", "on_crashed", "on_cancellation"), hooks)
    return task(key=f"here.{new_id()}", **named, **options)(fn), seen


# --- values, states, failures -----------------------------------------------------------------------------------------


def test_a_value_comes_back_and_no_server_is_needed() -> None:
    assert (run_task(add, parameters={"a": 1}), run_task_sync(add.spec, parameters={"a": 1, "b": 5})) == (3, 6)


def test_a_state_comes_back_where_that_is_asked_for() -> None:
    completed = run_task(add, parameters={"a": 1}, return_type="state")
    failed = run_task(fail, return_type="state")
    assert (completed.name, completed.result(), failed.name, failed.message) == ("Completed", 3, "Failed", X)


def test_another_return_type_is_refused_at_the_call() -> None:
    with pytest.raises(InvalidValue, match="'return_type' must be 'result' or 'state', got 'value'"):
        run_task_sync(add, parameters={"a": 1}, return_type="value")  # type: ignore[arg-type]


def test_a_failure_is_raised_with_the_line_that_raised_it() -> None:
    with pytest.raises(ValueError, match=r"^x$") as caught:
        run_task(fail)
    assert caught.traceback[-1].name == "fail"


@pytest.mark.parametrize(
    ("returned", "kind", "text"),
    [
        (Failed(message="manual"), FailedRun, "manual"),
        (Cancelled(), CancelledRun, "Run cancelled."),
        (Paused(), PausedRun, "Run is paused, its result is not available."),
    ],
    ids=["failed", "cancelled", "paused"],
)
def test_a_failure_that_was_returned_is_never_handed_back_as_a_value(
    returned: State[Any], kind: type[Exception], text: str
) -> None:
    body, _ = hooked(lambda: returned)
    with pytest.raises(kind) as caught:
        run_task(body)
    assert str(caught.value) == text


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
@pytest.mark.parametrize("return_type", ["result", "state"])
def test_an_interrupt_is_recorded_and_raised_again(interrupt: type[BaseException], return_type: Any) -> None:
    def body() -> None:
        raise interrupt

    interrupted, seen = hooked(body, retries=3)
    with pytest.raises(interrupt):
        run_task(interrupted, return_type=return_type)
    assert [state.name for _, state in seen] == ["Running", "Crashed"]


def test_a_wrong_call_raises_before_there_is_a_run() -> None:
    body, seen = hooked(lambda a: a)
    with pytest.raises(ParameterBindError):
        run_task(body, parameters={"b": 1})
    assert seen == []


def test_a_run_here_knows_the_run_that_it_was_begun_in() -> None:
    inner, seen = hooked(lambda: get_run_context().run_id)
    outer, _ = hooked(lambda: (get_run_context().run_id, run_task(inner)))
    outer_id, inner_id = run_task(outer)
    assert {(run.id, run.parent) for run, _ in seen} == {(inner_id, outer_id)}


def test_times_and_counts_are_those_of_the_attempts() -> None:
    body, seen = hooked(lambda: 1 / 0, retries=1, retry_delay_seconds=0.05)
    run_task(body, return_type="state")
    first, last = seen[0][0], seen[-1][0]
    assert (first.run_count, last.run_count, last.attempt) == (1, 2, 2)
    assert first.start_time == last.start_time
    assert first.end_time is None
    assert last.end_time == last.state.timestamp
    assert last.start_time is not None
    # Without the wait between the attempts, however long these took.
    assert 0 < last.total_run_time <= (last.end_time - last.start_time).total_seconds() - 0.05


# --- which run --------------------------------------------------------------------------------------------------------


def test_the_id_of_a_run_can_be_given() -> None:
    body, seen = hooked(lambda: get_run_context().run_id)
    run_id = new_id()
    assert (run_task(body, task_run_id=run_id), {run.id for run, _ in seen}) == (run_id, {run_id})
    with pytest.raises(InvalidValue, match="not an id"):
        run_task(body, task_run_id="mine")


def test_a_run_that_waits_is_continued() -> None:
    body, seen = hooked(lambda: get_run_context().attempt)
    waiting = run_of(Pending(), seq=3, attempt=1, run_count=1)
    assert (run_task(body, task_run=waiting), seen[-1][0].seq, seen[-1][0].id) == (2, 5, waiting.id)


def test_a_run_that_has_ended_is_not_executed_again() -> None:
    done = run_of(Completed(data=7), seq=3, attempt=1)
    assert run_task(add, task_run=done, parameters={"a": 1}) == 7
    assert run_task(add, task_run=done, parameters={"a": 1}, return_type="state") is done.state
    with pytest.raises(FailedRun, match="no"):
        run_task(add, task_run=run_of(Failed(message="no"), seq=3), parameters={"a": 1})


def test_a_run_that_another_attempt_holds_is_refused() -> None:
    with pytest.raises(TransitionRefused, match="another process holds it"):
        run_task(add, task_run=run_of(Running(), seq=3, attempt=1), parameters={"a": 1})


# --- stage by stage ---------------------------------------------------------------------------------------------------


def staged(kind: Any, body: Any) -> Any:
    place = InlineRun(run_of(Pending(), max_retries=body.spec.retries), body.spec, PrivateRecorder())
    return kind(body.spec, {}, None, place)


def test_stages_can_be_driven_one_by_one_on_a_loop() -> None:
    body, seen = hooked(lambda: 1, retries=1, retry_condition_fn=lambda _spec, run, _state: run.run_count == 1)

    async def driven() -> tuple[Any, ...]:
        engine = staged(AsyncTaskRunEngine, body)
        await engine.begin_run()
        tried = (await engine.can_retry(ValueError("x")), await engine.handle_retry(Failed()), engine.state.name)
        ended = await engine.set_state(Completed(data=5))
        await engine.call_hooks(ended)
        return *tried, ended.name, await engine.result()

    assert asyncio.run(driven()) == (True, True, "Retrying", "Completed", 5)
    assert [state.name for _, state in seen] == ["Running", "Retrying", "Completed"]


def test_hooks_on_a_loop_of_an_engine_that_has_none_are_awaited_all_the_same() -> None:
    called: list[str] = []

    async def hook(*_: object) -> None:
        await asyncio.sleep(0)
        called.append(get_run_context().run_id)

    body = task(key="here.hooked", on_completion=[hook])(lambda: get_run_context().run_id)

    async def in_a_loop() -> object:
        return run_task_sync(body)

    assert [asyncio.run(in_a_loop())] == called


def test_stages_can_be_driven_one_by_one() -> None:
    body, seen = hooked(lambda: 1, retries=1)
    engine = staged(SyncTaskRunEngine, body)
    engine.begin_run()
    began = engine.state.name
    tried = (engine.can_retry(ValueError("x")), engine.handle_retry(ValueError("x")), engine.state.name)
    assert (began, tried, engine.set_state(Completed(data=5)).name) == (
        "Running",
        (True, True, "Retrying"),
        "Completed",
    )
    engine.call_hooks()
    assert (engine.result(), [state.name for _, state in seen]) == (5, ["Running", "Retrying", "Completed"])


@pytest.mark.parametrize(
    ("stage", "error", "name"),
    [
        ("handle_exception", ValueError("x"), "Failed"),
        ("handle_timeout", TimeoutError("x"), "TimedOut"),
        ("handle_crash", KeyboardInterrupt(), "Crashed"),
    ],
)
def test_each_failure_has_its_stage_on_both_engines(stage: str, error: BaseException, name: str) -> None:
    body, _ = hooked(lambda: 1)

    async def on_a_loop() -> Any:
        engine = staged(AsyncTaskRunEngine, body)
        await engine.begin_run()
        await engine.wait_until_ready()
        await getattr(engine, stage)(error)
        return engine.state.name, await engine.result(raise_on_failure=False)

    engine = staged(SyncTaskRunEngine, body)
    engine.begin_run()
    engine.wait_until_ready()
    getattr(engine, stage)(error)
    assert (engine.state.name, engine.result(raise_on_failure=False)) == (name, error)
    assert asyncio.run(on_a_loop()) == (name, error)


# --- inputs -----------------------------------------------------------------------------------------------------------


def test_states_and_futures_among_the_parameters_become_their_results() -> None:
    body, _ = hooked(lambda given: given)
    with Orchestrator("memory:"):
        given = {"future": add.submit(1), "states": [state_of_run(Completed, data=5)], "quoted": quote([1])}
        assert run_task(body, parameters={"given": given}) == {"future": 3, "states": [5], "quoted": [1]}


def test_what_is_waited_for_gives_no_value_and_has_to_complete() -> None:
    body, seen = hooked(lambda: "called")
    assert run_task(body, wait_for=[state_of_run(Completed, data=5), 3]) == "called"
    seen.clear()
    failed = state_of_run(Failed)
    told = f"Upstream task run '{failed.state_details.task_run_id}' did not reach a 'COMPLETED' state."
    with pytest.raises(UpstreamTaskError) as caught:
        run_task(body, wait_for=failed)
    assert (str(caught.value), [(state.name, state.message) for _, state in seen]) == (told, [("TriggerFailed", told)])
    (run,) = [run for run, _ in seen]
    assert (run.start_time, run.run_count, run.attempt) == (None, 0, 0)


@pytest.mark.parametrize("kind", [Failed, Crashed, Cancelled])
def test_a_failure_that_is_allowed_gives_its_exception(kind: Any) -> None:
    def text(given: object) -> str:
        return str(given)

    body, _ = hooked(text)
    assert run_task(body, parameters={"given": allow_failure(state_of_run(kind, message="so"))}) == "so"


def test_a_result_that_cannot_be_had_fails_the_run_before_its_body() -> None:
    body, seen = hooked(lambda given: given, retries=3)
    state = run_task(body, parameters={"given": state_of_run(Completed)}, return_type="state")
    assert state.message.startswith("Failed to resolve inputs in parameter 'given'.")
    assert [state.name for _, state in seen] == ["Failed"]


def test_a_state_that_is_not_final_cannot_be_waited_for() -> None:
    with pytest.raises(InvalidValue, match="pass the run's future"):
        run_task(add, parameters={"a": state_of_run(Pending)})


# --- on an event loop -------------------------------------------------------------------------------------------------


def test_the_kind_of_a_task_decides_how_it_is_run() -> None:
    async def both() -> tuple[Any, Any]:
        return await run_task(afetch, parameters={"a": 1}), await run_task_async(add, parameters={"a": 1})

    assert asyncio.run(both()) == (2, 3)
    assert run_task_sync(afetch, parameters={"a": 1}) == 2


def test_a_plain_function_runs_in_a_thread_and_knows_its_run() -> None:
    body, _ = hooked(lambda: (threading.current_thread() is threading.main_thread(), get_run_context().attempt))
    assert asyncio.run(run_task_async(body)) == (False, 1)


def test_many_runs_wait_side_by_side() -> None:
    async def all_of_them() -> None:
        await asyncio.gather(*(run_task_async(nap, parameters={"seconds": 0.2}) for _ in range(50)))

    before = time.monotonic()
    asyncio.run(all_of_them())
    assert time.monotonic() - before < 5


def test_an_async_task_is_not_run_where_its_loop_would_stand_still() -> None:
    async def wrong() -> None:
        run_task_sync(afetch, parameters={"a": 1})

    with pytest.raises(InvalidCall, match="await run_task_async"):
        asyncio.run(wrong())


def test_a_limit_ends_the_body_at_its_next_await() -> None:
    waiting, seen = hooked(nap.spec.fn, timeout_seconds=0.05, retries=1)
    with pytest.raises(TaskRunTimeoutError, match=r"^Scope timed out after 0\.05 second\(s\)\.$"):
        asyncio.run(run_task_async(waiting, parameters={"seconds": 30}))
    assert [state.name for _, state in seen] == ["Running", "Retrying", "TimedOut"]


def test_a_call_that_blocks_in_its_thread_is_told_at_its_end_that_it_was_late() -> None:
    late, seen = hooked(lambda: time.sleep(0.05), timeout_seconds=0.01)
    state = asyncio.run(run_task_async(late, return_type="state"))
    assert isinstance(state, State)
    assert (state.name, state.message) == ("TimedOut", "Task run exceeded timeout of 0.01 second(s)")
    assert str(seen[-1][1].data) == "Scope timed out after 0.01 second(s)."


def test_a_timeout_error_of_the_bodys_own_is_told_apart() -> None:
    async def body() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(30)

    own, _ = hooked(body, timeout_seconds=20)
    state = asyncio.run(run_task_async(own, return_type="state"))
    assert isinstance(state, State)
    assert (state.name, state.message) == ("TimedOut", "Task run failed due to timeout: TimeoutError()")


def test_a_body_whose_end_is_wanted_is_cancelled_and_has_neither_crashed_nor_timed_out() -> None:
    event = threading.Event()
    ends: list[str] = []

    async def body() -> None:
        event.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ends.append("told")
            raise

    wanted, seen = hooked(body, timeout_seconds=20, retries=3)
    state = asyncio.run(run_task_async(wanted, return_type="state", context={"cancel_event": event}))
    assert isinstance(state, State)
    assert (state.type, state.message, ends) == (StateType.CANCELLED, "Cancelled while running.", ["told"])
    assert [state.name for _, state in seen] == ["Running", "Cancelled"]


def test_a_foreign_cancelling_is_a_crash_and_raised_again() -> None:
    sleepy, seen = hooked(nap.spec.fn, retries=3)

    async def outer() -> None:
        running = asyncio.create_task(run_task_async(sleepy, parameters={"seconds": 30}, return_type="state"))
        await asyncio.sleep(0.05)
        running.cancel()
        await running

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(outer())
    assert [(state.name, state.message) for _, state in seen] == [
        ("Running", None),
        ("Crashed", "Execution was cancelled by the runtime environment."),
    ]


def test_a_wait_for_the_next_attempt_leaves_the_loop_to_others() -> None:
    flaky, seen = hooked(lambda: 1 / (get_run_context().attempt - 1), retries=1, retry_delay_seconds=0.1)

    async def beside() -> tuple[Any, int]:
        turns = 0
        running = asyncio.create_task(run_task_async(flaky))
        while not running.done():
            turns += 1
            await asyncio.sleep(0.01)
        return await running, turns

    value, turns = asyncio.run(beside())
    assert (value, turns > 3) == (1, True)
    assert [state.name for _, state in seen] == ["Running", "Retrying", "Completed"]


# --- generators -------------------------------------------------------------------------------------------------------


def test_items_come_as_they_are_made_and_the_returned_value_is_the_result() -> None:
    made: list[int] = []

    def body() -> Iterator[int]:
        for number in range(3):
            made.append(number)
            yield number
        return "done"

    generator, seen = hooked(body)
    items = run_task(generator)
    assert (next(items), made) == (0, [0])
    with pytest.raises(StopIteration) as end:
        [next(items) for _ in range(3)]
    assert (end.value.value, made) == ("done", [0, 1, 2])
    assert [(state.name, state.data and state.result()) for _, state in seen] == [
        ("Running", None),
        ("Completed", "done"),
    ]


def test_items_come_on_the_loop_too() -> None:
    async def read(items: Any) -> list[int]:
        return [item async for item in items]

    assert asyncio.run(read(run_task(anumbers, parameters={"end": 3}))) == [0, 1, 2]
    assert asyncio.run(read(run_generator_task_async(numbers, parameters={"end": 3}))) == [0, 1, 2]


@pytest.mark.parametrize("is_closed", [False, True], ids=["read", "closed"])
def test_on_a_loop_a_block_in_a_plain_generator_spans_its_items(
    is_closed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[str, ...]] = []

    @task(key="run_task.spanning", log_prints=True)
    def body() -> Iterator[int]:
        try:
            with tags("inside"):
                yield 1
                seen.append(current_tags())
                yield 2
            seen.append(current_tags())
        finally:
            seen.append((get_run_context().task,))
            print("no end of a line", end="")  # noqa: T201 - what is tested

    async def read() -> list[int]:
        items, found = run_generator_task_async(body), list[int]()
        async for item in items:
            found.append(item)
            if is_closed:
                await items.aclose()
        return found

    end = ("run_task.spanning",)
    wanted = ([1], [end]) if is_closed else ([1, 2], [("inside",), (), end])
    with caplog.at_level("INFO"):
        assert (asyncio.run(read()), seen) == wanted
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    assert is_closed or "no end of a line" in caplog.messages


@pytest.mark.parametrize("run", [run_generator_task_sync, run_generator_task_async])
def test_generators_have_results_only(run: Any) -> None:
    with pytest.raises(InvalidValue, match="The return_type for a generator task must be 'result'"):
        run(numbers, parameters={"end": 3}, return_type="state")


def test_an_error_is_raised_after_its_state_is_recorded_and_a_retry_begins_anew() -> None:
    def body() -> Iterator[int]:
        yield get_run_context().attempt
        raise ValueError("x")

    generator, seen = hooked(body, retries=1)
    items = run_task(generator)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match=r"^x$"):
        next(items)
    assert [state.name for _, state in seen] == ["Running", "Retrying", "Failed"]


def test_a_consumer_that_leaves_early_completes_the_run() -> None:
    left: list[str] = []

    def body() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            left.append("closed")

    generator, seen = hooked(body)
    items = run_task(generator)
    assert next(items) == 1
    items.close()
    assert (left, seen[-1][1].name, seen[-1][1].message) == (["closed"], "Completed", "Closed by the consumer.")


def test_a_consumer_that_leaves_an_async_generator_early_completes_the_run() -> None:
    left: list[str] = []

    async def body() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            left.append("closed")

    generator, seen = hooked(body)

    async def leave() -> None:
        items = run_task(generator)
        await anext(items)
        await items.aclose()

    asyncio.run(leave())
    assert (left, seen[-1][1].name, seen[-1][1].message) == (["closed"], "Completed", "Closed by the consumer.")


def test_a_generator_that_raises_while_it_is_closed_has_completed_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def body() -> Iterator[int]:
        try:
            yield 1
        finally:
            raise LookupError("on the way out")

    generator, seen = hooked(body, retries=3)
    items = run_task(generator)
    next(items)
    items.close()
    assert [state.name for _, state in seen] == ["Running", "Completed"]
    assert "on the way out" in caplog.text


def test_the_limit_is_for_the_generator_and_not_for_its_consumer() -> None:
    def body() -> Iterator[int]:
        yield 1
        yield 2
        time.sleep(30)

    generator, seen = hooked(body, timeout_seconds=0.1)
    items = run_task(generator)
    next(items)
    time.sleep(0.15)
    assert next(items) == 2
    with pytest.raises(TaskRunTimeoutError, match=r"after 0\.1 second"):
        next(items)
    assert seen[-1][1].message == "Task run exceeded timeout of 0.1 second(s)"


def test_a_generator_that_takes_no_notice_of_its_limit_is_not_asked_again() -> None:
    def body() -> Iterator[int]:
        with suppress(TimeoutError):
            time.sleep(30)
        yield 1
        yield 2

    generator, seen = hooked(body, timeout_seconds=0.05)
    items, before = run_task(generator), signal.getsignal(signal.SIGALRM)
    assert next(items) == 1
    with pytest.raises(TaskRunTimeoutError, match=r"after 0\.05 second"):
        next(items)
    told = seen[-1][1].message
    assert (told, signal.getsignal(signal.SIGALRM)) == ("Task run exceeded timeout of 0.05 second(s)", before)


def test_an_async_generator_has_a_limit_too() -> None:
    async def body() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(30)
        yield 2

    generator, _ = hooked(body, timeout_seconds=0.05)

    async def read() -> None:
        async for _ in run_task(generator):
            pass

    with pytest.raises(TaskRunTimeoutError, match=r"after 0\.05 second"):
        asyncio.run(read())


def test_the_public_names_of_the_engine_are_sorted_and_exact() -> None:
    public = [name for name, value in vars(worker.engine).items() if not name.startswith("_") and not _is_module(value)]
    assert worker.engine.__all__ == sorted(public)


def _is_module(value: object) -> bool:
    return type(value).__name__ == "module"
