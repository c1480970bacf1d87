"""The life of a task run as a generator of steps: no Redis, no clock, nothing doubled."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared.errors import MissingContextError, TaskRunTimeoutError
from shared.results import ResultRecord
from shared.specs import describe
from shared.state_types import StateType
from shared.states import (
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Completed,
    Failed,
    Paused,
    Pending,
    Retrying,
    Running,
    State,
)
from worker.context import RunContext, get_run_context
from worker.engine.base import BaseTaskRunEngine
from worker.engine.drivers import SyncTaskRunEngine, drive
from worker.engine.steps import Call, Overran, Propose, Step

CONTEXT = RunContext("run-1", "shop.add", 1, 17)


def add(a: int, b: int = 2) -> int:
    return a + b


def engine_for(fn: Callable[..., Any], seconds: float | None = None, **parameters: Any) -> SyncTaskRunEngine[..., Any]:
    return SyncTaskRunEngine(describe(fn, key="k"), parameters, seconds)


def accept(state: State[Any]) -> State[Any]:
    return state


def run(fn: Callable[..., Any], seconds: float | None = None, **parameters: Any) -> State[Any]:
    return engine_for(fn, seconds, **parameters).run(accept, lambda: CONTEXT)


def value_of(state: State[Any]) -> Any:
    assert isinstance(state.data, ResultRecord)
    return state.data.result


def test_it_asks_for_running_calls_the_function_and_asks_for_its_outcome() -> None:
    steps = engine_for(add, a=1).steps()
    first = next(steps)
    second = steps.send(Running())
    third = steps.send(3)
    assert isinstance(first, Propose)
    assert isinstance(third, Propose)
    assert (first.state.name, second, third.state.name) == ("Running", Call(add, (), {"a": 1}, None), "Completed")
    with pytest.raises(StopIteration) as end:
        steps.send(third.state)
    assert end.value.value is third.state


@pytest.mark.parametrize("answer", [Cancelled(), Paused(), Completed(), Cancelling()])
def test_a_run_that_may_not_start_never_calls_its_function(answer: State[Any]) -> None:
    steps = engine_for(add, a=1).steps()
    next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send(answer)
    assert end.value.value is answer


def test_an_answer_of_retrying_calls_the_function_again() -> None:
    calls: list[int] = []
    answers = iter([Running(), Retrying(), Retrying(), Failed()])

    def fail() -> None:
        calls.append(1)
        raise ValueError("x")

    state = engine_for(fail).run(lambda _state: next(answers), lambda: CONTEXT)
    assert (state.type, len(calls)) == (StateType.FAILED, 3)


def test_a_retry_at_a_later_time_ends_this_part_of_the_life() -> None:
    waiting = AwaitingRetry()
    answers = iter([Running(), waiting])

    def fail() -> None:
        raise ValueError("x")

    assert engine_for(fail).run(lambda _state: next(answers), lambda: CONTEXT) is waiting


def test_a_value_completes_the_run() -> None:
    state = run(add, a=1, b=5)
    assert (state.type, value_of(state)) == (StateType.COMPLETED, 6)


def test_an_exception_fails_it_and_the_traceback_begins_with_the_function() -> None:
    def fail() -> None:
        raise ValueError("x")

    state = run(fail)
    assert (state.type, state.message) == (StateType.FAILED, "Task run encountered an exception ValueError: x")
    assert state.data.__traceback__.tb_frame.f_code.co_name == "fail"


def test_parameters_that_do_not_fit_fail_it_without_a_call() -> None:
    state = run(add, c=1)
    assert (state.type, state.is_failed()) == (StateType.FAILED, True)
    assert "ParameterBindError: Error binding parameters for function 'add'" in (state.message or "")


@pytest.mark.parametrize(
    ("interrupt", "message"),
    [
        (KeyboardInterrupt(), "Execution was aborted by an interrupt signal."),
        (SystemExit(3), "Execution was aborted by Python system exit call."),
        (asyncio.CancelledError(), "Execution was cancelled by the runtime environment."),
    ],
)
def test_an_interrupt_in_the_body_crashes_the_run_and_not_the_worker(interrupt: BaseException, message: str) -> None:
    def interrupted() -> None:
        raise interrupt

    state = run(interrupted)
    assert (state.type, state.message) == (StateType.CRASHED, message)


def test_a_body_that_raises_stop_iteration_fails_like_any_other() -> None:
    def stop() -> None:
        raise StopIteration("x")

    assert run(stop).is_failed()


def test_a_blocking_call_is_interrupted_when_its_time_is_over() -> None:
    def block() -> None:
        time.sleep(30)

    before = time.monotonic()
    state = run(block, seconds=0.05)
    assert (state.name, state.message) == ("TimedOut", "Task run exceeded timeout of 0.05 second(s)")
    assert isinstance(state.data, TaskRunTimeoutError)
    assert str(state.data) == "Scope timed out after 0.05 second(s)."
    assert time.monotonic() - before < 10


def test_a_timeout_error_of_the_bodys_own_is_told_apart() -> None:
    def fail() -> None:
        raise TimeoutError("mine")

    state = run(fail, seconds=5)
    assert (state.name, state.message) == ("TimedOut", "Task run failed due to timeout: TimeoutError('mine')")


def test_another_runs_timeout_that_reaches_the_body_is_the_bodys_own() -> None:
    def fail() -> None:
        raise TaskRunTimeoutError("Scope timed out after 9 second(s).")

    assert run(fail, seconds=5).message == (
        "Task run failed due to timeout: TaskRunTimeoutError('Scope timed out after 9 second(s).')"
    )


def test_the_timer_is_off_after_the_body() -> None:
    run(add, seconds=5, a=1)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_an_async_function_runs_to_its_value() -> None:
    async def fetch(a: int) -> int:
        await asyncio.sleep(0)
        return a + 1

    assert value_of(run(fetch, a=1)) == 2


def test_an_async_function_is_interrupted_when_its_time_is_over() -> None:
    async def wait() -> None:
        await asyncio.sleep(30)

    assert run(wait, seconds=0.05).name == "TimedOut"


def test_a_generator_is_read_to_its_end() -> None:
    def numbers(n: int) -> Iterator[int]:
        yield from range(n)

    assert value_of(run(numbers, n=3)) == [0, 1, 2]


def test_an_error_in_a_generator_is_the_bodys_own() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("x")

    assert run(broken).message == "Task run encountered an exception ValueError: x"


def test_a_generator_is_read_under_the_time_limit() -> None:
    def slow() -> Iterator[int]:
        while True:
            time.sleep(0.01)
            yield 1

    assert run(slow, seconds=0.05).name == "TimedOut"


@pytest.mark.parametrize("made", [Pending(), Running(), Cancelling(), Paused()])
def test_states_that_only_the_engine_may_set_fail_the_run_that_returns_them(made: State[Any]) -> None:
    state = run(lambda: made)
    assert (state.type, state.message) == (
        StateType.FAILED,
        f"Task returned a {made.type} state, which only the engine may set.",
    )


@pytest.mark.parametrize("made", [Completed(), Failed(message="manual"), Cancelled()])
def test_a_returned_final_state_is_the_outcome(made: State[Any]) -> None:
    state = run(lambda: made)
    assert (state.type, state.message) == (made.type, made.message)


def test_the_body_can_ask_for_its_run_and_nobody_else_can() -> None:
    state = run(lambda: get_run_context().attempt)
    assert value_of(state) == 1
    with pytest.raises(MissingContextError):
        get_run_context()


def test_a_closed_generator_of_steps_ends_without_an_outcome() -> None:
    steps = engine_for(add, a=1).steps()
    next(steps)
    steps.send(Running())
    steps.close()


def test_an_error_of_the_driver_is_raised_at_the_step_and_comes_out() -> None:
    class LedgerIsGone(Exception): ...

    def perform(step: Step) -> Any:
        if isinstance(step, Propose) and step.state.is_running():
            return step.state
        if isinstance(step, Call):
            return step.fn(*step.args, **step.kwargs)
        raise LedgerIsGone

    with pytest.raises(LedgerIsGone):
        drive(engine_for(add, a=1).steps(), perform)


def test_overrun_carries_the_error_that_the_reader_gets() -> None:
    engine: BaseTaskRunEngine[..., Any] = engine_for(add, 3, a=1)
    steps = engine.steps()
    next(steps)
    steps.send(Running())
    error = TaskRunTimeoutError("Scope timed out after 3 second(s).")
    proposal = steps.throw(Overran(error))
    assert isinstance(proposal, Propose)
    assert (proposal.state.name, proposal.state.data) == ("TimedOut", error)
