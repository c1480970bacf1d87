"""Triggers: when each is met and what each says, and runs that begin or end by them; no server."""

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import task
from shared.edges import Edge
from shared.errors import ENDRUN, UpstreamTaskError
from shared.ids import new_id
from shared.states import Cancelled, Completed, Failed, State
from worker import triggers
from worker.engine import run_task

SKIPPED = Completed(name="Skipped")


def states_of(*states: State[Any]) -> dict[Edge[str], State[Any]]:
    return {Edge(str(i), "run"): state for i, state in enumerate(states)}


def asked(trigger: Callable[..., bool], *states: State[Any]) -> bool | str | None:
    """What a trigger says; of the state that it ends the run with the message."""
    try:
        return trigger(states_of(*states))
    except ENDRUN as end:
        message: str | None = end.state.message
        return message


@pytest.mark.parametrize(
    ("trigger", "good", "mixed", "bad"),
    [
        (triggers.all_successful, True, "some of the upstream tasks failed.", "some of the upstream tasks failed."),
        (triggers.all_failed, "some of the upstream tasks succeeded.", "some of the upstream tasks succeeded.", True),
        (triggers.any_successful, True, True, "none of the upstream tasks succeeded."),
        (triggers.any_failed, "none of the upstream tasks failed.", True, True),
        (triggers.all_finished, True, True, True),
        (triggers.not_all_skipped, True, "some of the upstream tasks failed.", "some of the upstream tasks failed."),
        (triggers.some_failed(at_least=1, at_most=1), "thresholds were not met.", True, "thresholds were not met."),
        (triggers.some_failed(at_least=0.5), "thresholds were not met.", True, True),
        (triggers.some_successful(at_most=0.5), "thresholds were not met.", True, True),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_trigger_is_met_or_says_why_not(
    trigger: triggers.Trigger, good: bool | str, mixed: bool | str, bad: bool | str
) -> None:
    wanted = [text if text is True else f'Trigger was "{trigger.name}" but {text}' for text in (good, mixed, bad)]
    ends = [(Completed(), Completed()), (Completed(), Failed()), (Failed(), Cancelled())]
    assert [asked(trigger, *states) for states in ends] == wanted


def test_without_upstreams_every_trigger_is_met() -> None:
    assert [asked(trigger) for trigger in (triggers.all_failed, triggers.any_failed, triggers.not_all_skipped)] == [
        True
    ] * 3


def test_what_is_all_skipped_is_skipped() -> None:
    assert asked(triggers.not_all_skipped, SKIPPED, SKIPPED) == "All upstreams were skipped"
    assert asked(triggers.not_all_skipped, SKIPPED, Completed()) is True


def test_always_run_is_another_name() -> None:
    assert triggers.always_run is triggers.all_finished


# --- runs -------------------------------------------------------------------------------------------------------------


def ended(kind: Callable[..., State[Any]], **fields: Any) -> State[Any]:
    return kind(state_details={"task_run_id": new_id()}, **fields)


def told(trigger: Any, *upstreams: State[Any]) -> tuple[str, str | None]:
    """How a run with this trigger ends that waits for these."""

    @task(key=f"triggers.{new_id()}", trigger=trigger)
    def count(given: list[object]) -> int:
        return len(given)

    state = run_task(count, parameters={"given": list(upstreams)}, return_type="state")
    return state.name, state.message


def test_a_run_begins_when_its_trigger_is_met() -> None:
    failed = ended(Failed, message="no", data=ValueError("x"))
    assert told(triggers.any_failed, failed, ended(Completed, data=1)) == ("Completed", None)


def test_a_run_gets_the_exceptions_of_those_that_may_fail() -> None:
    @task(key="triggers.given", trigger=triggers.all_finished)
    def given(value: object) -> str:
        return type(value).__name__

    assert run_task(given, parameters={"value": ended(Failed, data=ValueError("x"))}) == "ValueError"


def test_a_run_fails_by_a_trigger_that_is_not_met() -> None:
    message = 'Trigger was "all_failed" but some of the upstream tasks succeeded.'
    assert told(triggers.all_failed, ended(Completed, data=1)) == ("TriggerFailed", message)


def test_the_default_trigger_names_the_run_that_did_not_complete() -> None:
    failed = ended(Failed, data=ValueError("x"))
    message = f"Upstream task run '{failed.state_details.task_run_id}' did not reach a 'COMPLETED' state."
    assert (told(None, failed), told(triggers.all_successful, failed)) == (("TriggerFailed", message),) * 2


def test_a_function_is_a_trigger_too() -> None:
    assert told(lambda _states: False, ended(Completed, data=1)) == ("TriggerFailed", "Trigger failed")


def test_a_trigger_that_raises_fails_its_run() -> None:
    def broken(_states: triggers.States) -> bool:
        raise ValueError("x")

    message = "Unexpected error while checking task trigger: ValueError('x')"
    assert told(broken, ended(Completed, data=1)) == ("TriggerFailed", message)


def test_what_waits_for_a_skipped_run_is_skipped_unless_it_says_otherwise() -> None:
    skipped = ended(Completed, name="Skipped", data=None)
    assert told(None, skipped) == ("Skipped", triggers.SKIPPED)
    assert (
        told(triggers.runs_after_skip(triggers.all_finished), ended(Completed, name="Skipped", data=1))[0]
        == "Completed"
    )


def test_a_function_under_which_a_run_begins_after_a_skip_says_no_in_the_usual_words() -> None:
    never = triggers.runs_after_skip(lambda _states: False)
    assert told(never, ended(Completed, name="Skipped")) == ("TriggerFailed", "Trigger failed")


def test_a_manual_run_pauses_until_it_is_resumed() -> None:
    @task(key="triggers.manual", trigger=triggers.manual_only)
    def manual(value: int) -> int:
        return value

    def run(**context: Any) -> State[Any]:
        parameters = {"value": ended(Completed, data=1)}
        state: State[Any] = run_task(manual, parameters=parameters, return_type="state", context=context)
        return state

    states = run(), run(resume=True)
    assert [(state.name, state.message) for state in states] == [
        ("Paused", 'Trigger function is "manual_only"'),
        ("Completed", None),
    ]


def test_a_failed_trigger_is_raised_as_the_error_of_the_upstream() -> None:
    @task(key="triggers.never", trigger=triggers.all_failed)
    def never(value: object) -> object:
        return value

    with pytest.raises(UpstreamTaskError, match="all_failed"):
        run_task(never, parameters={"value": ended(Completed, data=1)})


# --- state handlers ---------------------------------------------------------------------------------------------------


def handled(*handlers: Callable[..., Any]) -> tuple[str, str | None]:
    @task(key=f"handlers.{new_id()}", state_handlers=handlers)
    def one() -> int:
        return 1

    state = run_task(one, return_type="state")
    return state.name, state.message


def test_handlers_see_every_move_in_their_order() -> None:
    seen: list[tuple[str, str, str]] = []

    def first(_spec: object, old: State[Any], new: State[Any]) -> None:
        seen.append(("first", old.name, new.name))

    def second(_spec: object, old: State[Any], new: State[Any]) -> None:
        seen.append(("second", old.name, new.name))

    assert handled(first, second) == ("Completed", None)
    moves = [("Pending", "Running"), ("Running", "Completed")]
    assert seen == [(who, *move) for move in moves for who in ("first", "second")]


def test_what_a_handler_returns_is_proposed() -> None:
    def fails(_spec: object, _old: State[Any], new: State[Any]) -> State[Any]:
        return Failed(message="not good enough") if new.is_completed() else new

    assert handled(fails) == ("Failed", "not good enough")


def test_a_handler_that_raises_fails_the_run() -> None:
    def broken(_spec: object, _old: State[Any], new: State[Any]) -> None:
        if new.is_completed():
            raise ValueError("x")

    assert handled(broken) == ("Failed", "Unexpected error while calling state handlers: ValueError('x')")


def test_a_handler_ends_the_chain_with_a_state() -> None:
    def ends(_spec: object, _old: State[Any], new: State[Any]) -> None:
        if new.is_completed():
            raise ENDRUN(Cancelled(message="by hand"))

    def never(_spec: object, _old: State[Any], new: State[Any]) -> None:
        assert not new.is_completed()

    assert handled(ends, never) == ("Cancelled", "by hand")
