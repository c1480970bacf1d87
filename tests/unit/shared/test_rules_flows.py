"""The rules of flow runs alone, pausing and resuming: what each answers, with its exact reason."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.clock import as_utc
from shared.rules import Facts, Verdict, decide
from shared.rules_transforms import RunRecord
from shared.state_types import StateType
from shared.states import Cancelled, Completed, Failed, Paused, Pending, Running, Scheduled, State, Suspended

AT = as_utc(datetime(2026, 11, 20, 9, tzinfo=UTC))
SOON, PAST = AT + timedelta(seconds=90), AT - timedelta(seconds=90)
PAUSE, SUSPEND = pytest.param(Paused, "pause", id="pause"), pytest.param(Suspended, "suspend", id="suspend")
BOTH = pytest.mark.parametrize(("make", "verb"), [PAUSE, SUSPEND])


def judged(state: State[Any], proposed: State[Any], run: Any = (), **facts: Any) -> Verdict:
    """The verdict on what a flow's attempt proposes."""
    return decide(RunRecord(kind="flow", state=state, attempt=1, **dict(run)), proposed, Facts("attempt", **facts), AT)


@BOTH
@pytest.mark.parametrize("state", [Pending(), Scheduled(scheduled_time=PAST)])
def test_a_flow_that_does_not_run_cannot_be_paused(make: Any, verb: str, state: State[Any]) -> None:
    reason = f"Cannot {verb} flows that are not currently running."
    assert judged(state, make()) == Verdict("REJECT", None, reason)


@BOTH
@pytest.mark.parametrize("inline", [False, True])
def test_a_pause_fires_once_for_each_key(make: Any, verb: str, inline: bool) -> None:
    verdict = judged(Running(), make(pause_key="a"), {"pause_keys": {"a", "b"}}, inline=inline)
    assert verdict == Verdict("REJECT", None, f"This {verb} has already fired.")


@pytest.mark.parametrize("make", [Paused, Suspended])
def test_another_key_pauses_again(make: Any) -> None:
    proposed = make(pause_key="c")
    assert judged(Running(), proposed, {"pause_keys": {"a", "b"}}) == Verdict("ACCEPT", proposed)


@pytest.mark.parametrize("make", [Paused, Suspended])
def test_a_pause_without_a_key_has_one_of_its_own(make: Any) -> None:
    first, second = make(), make()
    keys = {state.state_details.pause_key for each in (first, second) if (state := judged(Running(), each).state)}
    again = judged(Running(), first).state
    assert (len(keys - {None}), again and again.state_details.pause_key in keys) == (2, True)


@pytest.mark.parametrize("proposed", [Suspended(), Paused(reschedule=True)])
def test_a_flow_that_runs_inline_has_no_queue_to_be_suspended_to(proposed: State[Any]) -> None:
    reason = "Cannot suspend a flow run that was not submitted to the fleet."
    assert judged(Running(), proposed, inline=True) == Verdict("ABORT", None, reason)


def test_a_flow_that_runs_inline_can_be_paused() -> None:
    paused = Paused(pause_key="a")
    assert judged(Running(), paused, inline=True) == Verdict("ACCEPT", paused)


@pytest.mark.parametrize("timeout", [AT, PAST])
@pytest.mark.parametrize("proposed", [Running(), Scheduled(name="Resuming")])
@pytest.mark.parametrize(
    ("make", "name"),
    [pytest.param(Paused, "paused", id="paused"), pytest.param(Suspended, "suspended", id="suspended")],
)
def test_a_flow_that_is_resumed_too_late_has_failed(
    make: Any, name: str, proposed: State[Any], timeout: datetime
) -> None:
    verdict = judged(make(pause_expiration_time=timeout), proposed)
    reason, state = f"The flow was {name} and never resumed.", verdict.state
    assert state is not None
    assert (verdict.kind, verdict.reason, state.type, state.name, state.message) == (
        "REJECT",
        reason,
        StateType.FAILED,
        "Failed",
        reason,
    )


@pytest.mark.parametrize("state", [Paused(), Paused(pause_expiration_time=SOON)])
def test_a_paused_flow_goes_on_in_its_process(state: State[Any]) -> None:
    running = Running()
    assert (judged(state, running), judged(state, Scheduled())) == (
        Verdict("ACCEPT", running),
        Verdict("ABORT", None, "A paused flow run is resumed in its process."),
    )


@pytest.mark.parametrize(
    "state", [Suspended(), Suspended(pause_expiration_time=SOON), Paused(reschedule=True), Paused(name="Suspended")]
)
def test_a_suspended_flow_goes_on_through_its_queue(state: State[Any]) -> None:
    scheduled = Scheduled(name="Resuming")
    assert (judged(state, scheduled), judged(state, Running())) == (
        Verdict("ACCEPT", scheduled),
        Verdict("ABORT", None, "A suspended flow run is resumed by scheduling it."),
    )


@pytest.mark.parametrize("make", [Paused, Suspended])
@pytest.mark.parametrize("proposed", [Completed(), Failed(), Cancelled()])
def test_a_flow_can_end_while_it_is_paused_also_after_the_time_out(make: Any, proposed: State[Any]) -> None:
    assert judged(make(pause_expiration_time=PAST), proposed) == Verdict("ACCEPT", proposed)


@pytest.mark.parametrize("proposed", [Running(), Scheduled()])
def test_a_paused_task_is_resumed_either_way_and_has_no_pause_keys(proposed: State[Any]) -> None:
    run = RunRecord(state=Paused(pause_expiration_time=PAST))
    paused = Paused(pause_key="a")
    again = RunRecord(state=Running(), pause_keys=frozenset("a"))
    verdicts = [decide(run, proposed, Facts("client"), AT), decide(again, paused, Facts("attempt", inline=True), AT)]
    assert verdicts == [Verdict("ACCEPT", proposed), Verdict("ACCEPT", paused)]
