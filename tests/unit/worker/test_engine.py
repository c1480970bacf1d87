"""The life of a task run as a generator of steps: driven by hand, and in this thread. Nothing is doubled."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from shared.clock import now
from shared.errors import InvalidCall, MissingContextError, MissingResult, ParameterBindError, TaskRunTimeoutError
from shared.results import ResultRecord
from shared.runs import TaskRun
from shared.specs import TaskSpec, describe
from shared.state_types import StateType
from shared.states import (
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Completed,
    Crashed,
    Failed,
    Paused,
    Pending,
    Retrying,
    Running,
    Scheduled,
    State,
)
from shared.stepping import drive
from tests.support.engines import RUN_ID, engine_of, new_run
from worker.context import get_run_context
from worker.engine.base import BaseTaskRunEngine
from worker.engine.drivers import SyncTaskRunEngine
from worker.engine.inline import InlineRun
from worker.engine.recording import PrivateRecorder
from worker.engine.steps import Ask, Call, Look, Overran, Propose, Settle, Step


def add(a: int, b: int = 2) -> int:
    return a + b


def engine_for(
    fn: Callable[..., Any], seconds: float | None = None, recorder: PrivateRecorder | None = None, **parameters: Any
) -> SyncTaskRunEngine[..., Any]:
    return engine_of(describe(fn, key="k"), seconds, recorder, **parameters)


def run(fn: Callable[..., Any], seconds: float | None = None, **parameters: Any) -> State[Any]:
    return engine_for(fn, seconds, **parameters).run()


def history(fn: Callable[..., Any], parameters: dict[str, Any] | None = None, **options: Any) -> list[State[Any]]:
    """Every state of a run with these options."""
    recorder = PrivateRecorder()
    spec = describe(fn, key="k", **options)
    engine_of(spec, spec.timeout_seconds, recorder, **(parameters or {})).run()
    return recorder.history(RUN_ID)


def told(states: list[State[Any]]) -> list[tuple[str, str | None]]:
    return [(state.name, state.message) for state in states]


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
    steps = engine_for(add, a=1).steps()
    next(steps)
    steps.send(Running())
    steps.send(3)
    again = steps.send(Retrying())
    assert again == Call(add, (), {"a": 1}, None)


def test_a_retry_that_others_will_begin_ends_this_part_of_the_life() -> None:
    class Leaves(InlineRun):
        """As on a fleet: what waits leaves the process."""

        def wakes_at(self, _state: State[Any]) -> None:
            return None

    spec = describe(add, key="k")
    steps = BaseTaskRunEngine(spec, {"a": 1}, None, Leaves(new_run(spec), spec, PrivateRecorder())).steps()
    waiting = AwaitingRetry()
    next(steps)
    steps.send(Running())
    steps.throw(ValueError("x"))
    with pytest.raises(StopIteration) as end:
        steps.send(waiting)
    assert end.value.value is waiting


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


def test_no_retry_would_make_parameters_fit() -> None:
    states = history(add, {"c": 1}, retries=5)
    assert [state.name for state in states] == ["Pending", "Running", "Failed"]
    assert isinstance(states[-1].data, ParameterBindError)


def test_a_blocking_call_is_interrupted_when_its_time_is_over() -> None:
    def block() -> None:
        time.sleep(30)

    before = time.monotonic()
    state = run(block, seconds=0.05)
    assert (state.name, state.message) == ("TimedOut", "Task run exceeded timeout of 0.05 second(s)")
    assert isinstance(state.data, TaskRunTimeoutError)
    assert str(state.data) == "Scope timed out after 0.05 second(s)."
    assert time.monotonic() - before < 10


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


def test_a_generator_is_read_to_its_end() -> None:
    def numbers(n: int) -> Iterator[int]:
        yield from range(n)

    assert value_of(run(numbers, n=3)) == [0, 1, 2]


def test_a_generator_is_read_under_the_time_limit() -> None:
    def slow() -> Iterator[int]:
        while True:
            time.sleep(0.01)
            yield 1

    assert run(slow, seconds=0.05).name == "TimedOut"


@pytest.mark.parametrize("made", [Pending(), Running(), Cancelling()])
def test_states_that_only_the_engine_may_set_fail_the_run_that_returns_them(made: State[Any]) -> None:
    state = run(lambda: made)
    assert (state.type, state.message) == (
        StateType.FAILED,
        f"Task returned a {made.type} state, which only the engine may set.",
    )


def test_a_returned_pause_waits_to_be_resumed_but_not_one_of_a_group() -> None:
    found = [run(Paused), run(lambda: [Paused(), Completed()])]
    assert [state.type for state in found] == [StateType.PAUSED, StateType.FAILED]


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
    engine = engine_for(add, 3, a=1)
    steps = engine.steps()
    next(steps)
    steps.send(Running())
    error = TaskRunTimeoutError("Scope timed out after 3 second(s).")
    proposal = steps.throw(Overran(error))
    assert isinstance(proposal, Propose)
    assert (proposal.state.name, proposal.state.data) == ("TimedOut", error)


# --- histories --------------------------------------------------------------------------------------------------------

X = "Task run encountered an exception ValueError: x"


def fail() -> None:
    raise ValueError("x")


def test_retries_without_a_delay_follow_each_other_in_place() -> None:
    states = history(fail, retries=2)
    assert told(states) == [("Pending", None), ("Running", None), ("Retrying", X), ("Retrying", X), ("Failed", X)]
    assert [state.state_details.attempt for state in states] == [None, 1, 2, 3, 3]


def test_retries_with_a_delay_wait_here() -> None:
    states = history(fail, retries=2, retry_delay_seconds=[0.01, 0.02])
    names = ["Pending", "Running", "AwaitingRetry", "Retrying", "AwaitingRetry", "Retrying", "Failed"]
    assert [state.name for state in states] == names
    assert [states[i].message for i in (2, 4, 6)] == [X, X, X]
    for awaiting, retrying in ((states[2], states[3]), (states[4], states[5])):
        assert retrying.timestamp >= awaiting.state_details.scheduled_time


def test_times_grow_strictly() -> None:
    times = [state.timestamp for state in history(fail, retries=20)]
    assert sorted(set(times)) == times


def test_a_timeout_is_retried_and_each_attempt_has_its_own_time() -> None:
    states = history(lambda: time.sleep(30), retries=1, timeout_seconds=0.02)
    over = "Task run exceeded timeout of 0.02 second(s)"
    assert told(states) == [("Pending", None), ("Running", None), ("Retrying", over), ("TimedOut", over)]


@pytest.mark.parametrize(
    ("returned", "last"),
    [
        ([Completed(), Failed()], ("Failed", "1/2 states failed.")),
        (Cancelled(), ("Cancelled", None)),
        (Crashed(), ("Crashed", None)),
    ],
    ids=["some failed", "cancelled", "crashed"],
)
def test_returned_states_end_the_run_as_they_say(returned: Any, last: tuple[str, str | None]) -> None:
    assert told(history(lambda: returned))[1:] == [("Running", None), last]


def test_a_returned_scheduled_state_runs_it_again_then_without_any_retries() -> None:
    answers = iter([Scheduled(scheduled_time=now() + timedelta(seconds=0.02)), 5])
    states = history(lambda: next(answers))
    assert [state.name for state in states] == ["Pending", "Running", "Scheduled", "Retrying", "Completed"]
    assert value_of(states[-1]) == 5


def test_every_attempt_has_its_own_context_and_the_run_one_key() -> None:
    seen: list[tuple[int, int, str]] = []

    def body() -> None:
        context = get_run_context()
        seen.append((context.attempt, context.fence, context.idempotency_key))
        raise ValueError("x")

    history(body, retries=1)
    assert seen == [(1, 1, RUN_ID), (2, 2, RUN_ID)]


# --- retry conditions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "attempts"), [(True, 3), (False, 1), ("yes", 3), (None, 1)])
def test_a_condition_says_whether_a_failure_is_tried_again(answer: Any, attempts: int) -> None:
    asked: list[tuple[str, int, str | None, str]] = []

    def condition(spec: TaskSpec[..., Any], run: TaskRun, state: State[Any]) -> Any:
        asked.append((spec.name, run.run_count, state.message, type(state.data).__name__))
        return answer

    states = history(fail, retries=2, retry_condition_fn=condition)
    assert states[-1].state_details.attempt == attempts
    # After the last try nobody is asked any more.
    assert asked == [("fail", count, X, "ValueError") for count in range(1, min(attempts, 2) + 1)]


def test_a_condition_may_be_a_coroutine_function_or_an_object() -> None:
    class Condition:
        async def __call__(self, _spec: Any, run: TaskRun, _state: Any) -> bool:
            await asyncio.sleep(0)
            return run.run_count < 2

    assert history(fail, retries=5, retry_condition_fn=Condition())[-1].state_details.attempt == 2


def test_a_condition_that_raises_is_logged_and_means_no(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> bool:
        raise LookupError("no such condition")

    assert history(fail, retries=5, retry_condition_fn=broken)[-1].state_details.attempt == 1
    assert "An error was encountered while running retry condition 'broken'" in caplog.messages
    assert "no such condition" in caplog.text


def test_a_condition_is_asked_about_a_returned_failure_too() -> None:
    states = history(lambda: Failed(message="manual"), retries=5, retry_condition_fn=lambda *_: False)
    assert [state.name for state in states] == ["Pending", "Running", "Failed"]


def test_the_log_says_when_no_retries_are_left(caplog: pytest.LogCaptureFixture) -> None:
    history(fail, retries=1)
    assert caplog.messages == [f"{X} - Retries are exhausted", f"Finished in state Failed({X!r})"]


# --- hooks ------------------------------------------------------------------------------------------------------------

Seen = list[tuple[str, str, int]]


def recorder_of(seen: Seen, label: str) -> Callable[..., None]:
    def hook(_spec: TaskSpec[..., Any], run: TaskRun, state: State[Any]) -> None:
        assert run.state is state
        seen.append((label, state.name, run.run_count))

    return hook


def hooks_into(seen: Seen) -> dict[str, Any]:
    options = ("on_running", "on_completion", "on_failure", "on_crashed", "on_cancellation")
    return {option: [recorder_of(seen, option)] for option in options}


def test_hooks_of_the_states_that_a_run_enters_are_called_once_each() -> None:
    seen: Seen = []
    history(add, {"a": 1}, **hooks_into(seen))
    assert seen == [("on_running", "Running", 1), ("on_completion", "Completed", 1)]


@pytest.mark.parametrize("delay", [0, 0.01])
def test_failure_hooks_wait_for_the_last_failure_and_running_hooks_for_no_attempt(delay: float) -> None:
    seen: Seen = []
    history(fail, retries=2, retry_delay_seconds=delay, **hooks_into(seen))
    running = [("on_running", name, count) for count, name in enumerate(["Running", "Retrying", "Retrying"], 1)]
    assert seen == [*running, ("on_failure", "Failed", 3)]


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (Completed(name="Cached"), ("on_completion", "Cached", 1)),
        (Failed(name="TimedOut"), ("on_failure", "TimedOut", 1)),
        (Crashed(), ("on_crashed", "Crashed", 1)),
        (Cancelled(), ("on_cancellation", "Cancelled", 1)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_hooks_go_by_the_type_of_a_state(returned: State[Any], expected: tuple[str, str, int]) -> None:
    seen: Seen = []
    history(lambda: returned, **hooks_into(seen))
    assert seen[1:] == [expected]


def test_hooks_are_called_in_their_order_and_none_stops_the_next(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []

    def broken(*_: object) -> None:
        calls.append("broken")
        raise LookupError("no such hook")

    def leaves(*_: object) -> None:
        calls.append("leaves")
        raise SystemExit(1)

    async def late(*_: object) -> None:
        await asyncio.sleep(0)
        calls.append(f"late in {get_run_context().run_id}")

    states = history(add, {"a": 1}, on_completion=[broken, leaves, late])
    assert (calls, states[-1].name) == (["broken", "leaves", f"late in {RUN_ID}"], "Completed")
    errors = [f"An error was encountered while running hook '{name}'" for name in ("broken", "leaves")]
    assert caplog.messages == errors
    assert "no such hook" in caplog.text


def test_an_end_is_settled_before_its_hooks_and_the_settled_one_counts() -> None:
    spec = describe(add, key="k", on_completion=[print], on_cancellation=[hide := recorder_of([], "on_cancellation")])
    place = InlineRun(new_run(spec), spec, PrivateRecorder())
    steps = SyncTaskRunEngine(spec, {"a": 1}, None, place).steps()
    next(steps)
    steps.send(Running())
    proposal = steps.send(3)
    assert isinstance(proposal, Propose)
    assert steps.send(proposal.state) == Settle()
    cancelled = Cancelled()
    assert steps.send(cancelled) == Look()
    assert steps.send(place.run.with_state(cancelled)) == Ask(hide, (spec, place.run.with_state(cancelled), cancelled))


@pytest.mark.parametrize("option", ["on_running", "on_failure"])
def test_without_hooks_for_its_states_a_run_asks_for_nothing_more(option: str) -> None:
    spec = describe(add, key="k", **{option: [print]})
    asked: list[str] = []
    engine = engine_of(spec, a=1)

    def perform(step: Step) -> Any:
        asked.append(type(step).__name__)
        return None if isinstance(step, Ask) else engine.perform(step)

    drive(engine.steps(), perform)
    more = ["Look", "Ask"] if option == "on_running" else []
    assert asked == ["Propose", *more, "Call", "Propose"]


# --- crashes and cancelling -------------------------------------------------------------------------------------------


def test_a_crash_is_not_retried_and_said_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    message = "Execution was aborted by an interrupt signal."
    states = history(interrupted, retries=5)
    assert told(states) == [("Pending", None), ("Running", None), ("Crashed", message)]
    assert caplog.messages == [f"Crash detected! {message}", f"Finished in state Crashed({message!r})"]


def test_an_interrupt_while_a_run_waits_is_its_crash_too() -> None:
    steps = engine_for(add, a=1).steps()
    next(steps)
    steps.send(Running())
    steps.throw(ValueError("x"))
    proposal = steps.throw(KeyboardInterrupt())
    assert isinstance(proposal, Propose)
    assert proposal.state.type is StateType.CRASHED


def test_an_interrupt_after_the_end_changes_nothing() -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    recorder = PrivateRecorder()
    with pytest.raises(KeyboardInterrupt):
        engine_of(describe(add, key="k", on_completion=[stop]), None, recorder, a=1).run()
    assert recorder.history(RUN_ID)[-1].name == "Completed"


class Wanted:
    """Becomes set when it is asked for the nth time."""

    def __init__(self, times: int) -> None:
        self.times = times

    def is_set(self) -> bool:
        self.times -= 1
        return self.times <= 0


def cancelled(fn: Callable[..., Any], event: Any, **options: Any) -> list[tuple[str, str | None]]:
    recorder = PrivateRecorder()
    spec = describe(fn, key="k", **options)
    SyncTaskRunEngine(spec, {}, None, InlineRun(new_run(spec), spec, recorder, event)).run()
    return told(recorder.history(RUN_ID))


def test_a_run_whose_end_was_wanted_before_never_begins() -> None:
    assert cancelled(fail, Wanted(1)) == [("Pending", None), ("Cancelled", None)]


def test_a_run_whose_end_is_wanted_before_its_body_never_calls_it() -> None:
    assert cancelled(fail, Wanted(2))[1:] == [
        ("Running", None),
        ("Cancelling", None),
        ("Cancelled", "Cancelled while running."),
    ]


def test_a_body_can_look_for_itself_and_its_outcome_is_named() -> None:
    event = Wanted(1000)

    def body() -> int:
        event.times = 0
        return 5 if get_run_context().cancelled else 0

    assert cancelled(body, event)[1:] == [
        ("Running", None),
        ("Cancelling", None),
        ("Cancelled", "Cancelled while running; its outcome Completed was not recorded."),
    ]


def test_a_failure_whose_end_was_wanted_is_not_said_to_be_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "baton.engine")
    event = Wanted(1000)

    def body() -> None:
        event.times = 0
        raise ValueError("x")

    last = ("Cancelled", "Cancelled while running; its outcome Failed was not recorded.")
    assert cancelled(body, event, retries=3)[-1] == last
    assert caplog.messages == [f"Finished in state Cancelled({last[1]!r})"]


def test_a_wait_for_the_next_attempt_ends_when_the_runs_end_is_wanted() -> None:
    event = Wanted(1000)

    def body() -> None:
        event.times = 6
        raise ValueError("x")

    before = time.monotonic()
    names = [name for name, _ in cancelled(body, event, retries=1, retry_delay_seconds=60)]
    assert names == ["Pending", "Running", "AwaitingRetry", "Cancelled"]
    assert time.monotonic() - before < 10


# --- names and log ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("add {a} and {b}", "add 1 and 2"),
        (lambda: "made", "made"),
        (lambda parameters: f"of {sorted(parameters)}", "of ['a', 'b']"),
    ],
    ids=["text", "function", "function of parameters"],
)
def test_a_run_gets_its_name_before_it_begins(name: Any, expected: str) -> None:
    seen: list[str] = []
    history(add, {"a": 1}, task_run_name=name, on_running=[lambda _spec, run, _state: seen.append(run.name)])
    assert seen == [expected]


def test_a_name_that_is_no_text_fails_the_run_before_its_body() -> None:
    def number() -> int:
        return 5

    states = history(fail, task_run_name=number, retries=3)
    told_so = f"Callable {number} for 'task_run_name' returned type int but a string is required."
    assert [state.name for state in states] == ["Pending", "Failed"]
    assert isinstance(states[-1].data, InvalidCall)
    assert str(states[-1].data) == told_so


def test_a_name_that_cannot_be_made_fails_the_run_before_its_body() -> None:
    states = history(add, {"a": 1}, task_run_name="{colour}")
    assert told(states)[1:] == [("Failed", "The name of the task run could not be made: KeyError: 'colour'")]


@pytest.mark.parametrize(
    ("returned", "level"),
    [(5, "INFO"), (Cancelled(), "WARNING"), (Failed(), "ERROR"), (Crashed(), "ERROR")],
    ids=str,
)
def test_the_end_is_logged_at_the_level_that_it_deserves(
    returned: Any, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "baton.engine")
    state = run(lambda: returned)
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == (level, f"Finished in state {state}")
    assert (vars(record)["run_id"], vars(record)["task"], vars(record)["attempt"]) == (RUN_ID, "k", 1)


# --- before and after -------------------------------------------------------------------------------------------------


def test_an_engine_without_a_run_says_so() -> None:
    engine: SyncTaskRunEngine[..., Any] = SyncTaskRunEngine(describe(add, key="k"), {})
    with pytest.raises(ValueError, match="Task run is not set"):
        _ = engine.state
    with pytest.raises(RuntimeError, match=r"Engine has not started\."):
        _ = engine.place


def test_a_run_without_an_end_has_no_result() -> None:
    engine = engine_for(add, a=1)
    assert (engine.is_running(), engine.is_cancelled()) == (False, False)
    engine.run()
    assert engine.state.result() == 3
    with pytest.raises(MissingResult):
        Completed().result()
