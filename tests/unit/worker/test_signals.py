"""Signals: the state that each stands for, raised in a task, a trigger or a handler; no server."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import get_run_context, task
from shared.errors import ENDRUN, FailedRun
from shared.ids import new_id
from shared.states import Completed, State
from worker import signals, triggers
from worker.engine import run_task

ENDS = [
    (lambda: signals.FAIL("no"), ("FAILED", "Failed", "no")),
    (lambda: signals.TRIGGERFAIL("no"), ("FAILED", "TriggerFailed", "no")),
    (lambda: signals.VALIDATIONFAIL("no"), ("FAILED", "ValidationFailed", "no")),
    (lambda: signals.SUCCESS("yes", data=3), ("COMPLETED", "Completed", "yes")),
    (lambda: signals.SKIP("not now"), ("COMPLETED", "Skipped", "not now")),
    (lambda: signals.PAUSE("look first"), ("PAUSED", "Paused", "look first")),
    (lambda: ENDRUN(Completed(message="by hand")), ("COMPLETED", "Completed", "by hand")),
]
EACH = pytest.mark.parametrize(("signal", "end"), ENDS, ids=[f"{end[1]}-{end[2]}" for _, end in ENDS])


def told(state: State[Any]) -> tuple[str, str, str | None]:
    return state.type.value, state.name, state.message


@EACH
def test_a_signal_in_a_task_ends_its_run(signal: Callable[[], ENDRUN], end: tuple[str, str, str]) -> None:
    @task(key=f"signals.{new_id()}")
    def raises() -> None:
        raise signal()

    assert told(run_task(raises, return_type="state")) == end


@EACH
def test_a_signal_in_a_coroutine_ends_its_run(signal: Callable[[], ENDRUN], end: tuple[str, str, str]) -> None:
    @task(key=f"signals.{new_id()}")
    async def raises() -> None:
        raise signal()

    async def run() -> State[Any]:
        state: State[Any] = await run_task(raises, return_type="state")
        return state

    assert told(asyncio.run(run())) == end


@EACH
def test_a_signal_in_a_trigger_ends_the_run_before_its_begin(
    signal: Callable[[], ENDRUN], end: tuple[str, str, str]
) -> None:
    def trigger(_states: triggers.States) -> bool:
        raise signal()

    @task(key=f"signals.{new_id()}", trigger=trigger)
    def never(_value: object) -> None:
        raise AssertionError

    upstream = Completed(data=1, state_details={"task_run_id": new_id()})
    if end[1] == "Completed":
        end = ("FAILED", "TriggerFailed", "A trigger cannot make a run Completed.")
    assert told(run_task(never, parameters={"_value": upstream}, return_type="state")) == end


@EACH
def test_a_signal_in_a_handler_is_what_is_proposed(signal: Callable[[], ENDRUN], end: tuple[str, str, str]) -> None:
    def handler(_spec: object, _old: State[Any], new: State[Any]) -> None:
        if new.is_completed():
            raise signal()

    @task(key=f"signals.{new_id()}", state_handlers=[handler])
    def one() -> int:
        return 1

    assert told(run_task(one, return_type="state")) == end


def test_what_a_handler_wants_against_the_rules_fails_the_run() -> None:
    @task(key=f"signals.{new_id()}", retries=1, state_handlers=[lambda _spec, _old, _new: Completed(data=1)])
    def never() -> None:
        raise AssertionError

    refused = "Only a running attempt can complete a run."
    assert told(run_task(never, return_type="state")) == ("FAILED", "Failed", refused)


def test_a_failure_that_was_raised_is_tried_again_and_one_of_a_trigger_is_not() -> None:
    tries: list[type[signals.Signal]] = []

    def run(signal: type[signals.Signal]) -> State[Any]:
        @task(key=f"signals.{new_id()}", retries=2)
        def raises() -> None:
            tries.append(signal)
            raise signal("no")

        state: State[Any] = run_task(raises, return_type="state")
        return state

    assert [run(each).name for each in (signals.FAIL, signals.TRIGGERFAIL)] == ["Failed", "TriggerFailed"]
    assert tries == [signals.FAIL] * 3 + [signals.TRIGGERFAIL]


def test_retry_runs_again_whatever_the_task_says() -> None:
    tries: list[int] = []

    @task(key="signals.again")
    def again() -> int:
        tries.append(get_run_context().attempt)
        if len(tries) < 3:
            raise signals.RETRY("once more")
        return len(tries)

    assert (run_task(again), tries) == (3, [1, 2, 3])


def test_the_result_of_a_success_is_the_runs() -> None:
    @task(key="signals.success")
    def success() -> int:
        raise signals.SUCCESS(data=5)

    assert run_task(success) == 5


def test_no_except_exception_in_a_body_swallows_a_signal() -> None:
    @task(key="signals.swallowed")
    def careless() -> int:
        try:
            raise signals.FAIL("no")  # noqa: TRY301 - what is tested
        except Exception:  # noqa: BLE001 - what is tested
            return 1

    with pytest.raises(FailedRun, match="no"):
        run_task(careless)


# --- loops ------------------------------------------------------------------------------------------------------------


def test_a_loop_calls_the_function_again_in_the_same_attempt() -> None:
    seen: list[tuple[int, int, object]] = []

    @task(key="signals.loop")
    def counts() -> object:
        about = get_run_context()
        seen.append((about.attempt, about.task_loop_count, about.task_loop_result))
        if about.task_loop_count < 3:
            raise signals.LOOP(result=about.task_loop_count * 10)
        return about.task_loop_result

    assert (run_task(counts), seen) == (20, [(1, 1, None), (1, 2, 10), (1, 3, 20)])


def test_a_retry_in_a_loop_goes_on_at_the_call_that_failed() -> None:
    seen: list[tuple[int, int]] = []

    @task(key="signals.loop.retry", retries=1)
    def counts() -> str:
        about = get_run_context()
        seen.append((about.attempt, about.task_loop_count))
        if about.task_loop_count == 1:
            raise signals.LOOP
        if about.attempt == 1:
            raise ValueError("x")
        return "done"

    assert (run_task(counts), seen) == ("done", [(1, 1), (1, 2), (2, 2)])
