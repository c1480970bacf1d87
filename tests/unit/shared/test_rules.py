"""The rules of a run's state."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.rules import ALLOWED, RULES, Facts, Verdict, decide
from shared.state_types import TERMINAL_STATES, StateType
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

AT = datetime(2026, 11, 20, 9, tzinfo=UTC)
MAKERS = {
    StateType.SCHEDULED: Scheduled,
    StateType.PENDING: Pending,
    StateType.RUNNING: Running,
    StateType.COMPLETED: Completed,
    StateType.FAILED: Failed,
    StateType.CANCELLED: Cancelled,
    StateType.CRASHED: Crashed,
    StateType.PAUSED: Paused,
    StateType.CANCELLING: Cancelling,
}


@dataclass
class Run:
    """A run as the rules see it."""

    state: State[Any] | None
    run_count: int = 1
    crashes: int = 0
    retries: int = 0


def attempt(**facts: Any) -> Facts:
    return Facts("attempt", **facts)


@pytest.mark.parametrize("state", sorted(TERMINAL_STATES))
@pytest.mark.parametrize("proposed", StateType)
def test_a_terminal_state_absorbs_every_proposal(state: StateType, proposed: StateType) -> None:
    verdict = decide(Run(MAKERS[state]()), MAKERS[proposed](), attempt(), AT)
    assert verdict == Verdict("ABORT", None, f"Run is already in terminal state {state}.")


@pytest.mark.parametrize("proposed", StateType)
def test_a_cancelling_run_can_only_become_cancelled(proposed: StateType) -> None:
    verdict = decide(Run(Cancelling()), MAKERS[proposed](name="Given"), attempt(), AT)
    stored = verdict.state.type if verdict.state else None
    expected = {StateType.CANCELLED: ("ACCEPT", StateType.CANCELLED)}
    nothing = {StateType.RUNNING, StateType.CANCELLING}
    assert (verdict.kind, stored) == expected.get(
        proposed, ("REJECT", None if proposed in nothing else StateType.CANCELLED)
    )


def test_what_a_cancelling_body_returned_is_named_and_not_recorded() -> None:
    verdict = decide(Run(Cancelling()), Completed(name="Cached"), attempt(), AT)
    assert verdict.state is not None
    assert verdict.state.message == verdict.reason == "Cancelled while running; its outcome Cached was not recorded."


@pytest.mark.parametrize("proposed", StateType)
def test_a_run_begins_by_waiting(proposed: StateType) -> None:
    verdict = decide(Run(None), MAKERS[proposed](), Facts("client"), AT)
    if proposed in (StateType.SCHEDULED, StateType.PENDING):
        assert verdict.kind == "ACCEPT"
    else:
        assert verdict == Verdict("ABORT", None, f"A run begins as SCHEDULED or PENDING, not {proposed}.")


@pytest.mark.parametrize(("present", "proposed"), [(Pending, Pending), (Paused, Paused), (Running, Running)])
def test_the_same_state_again_changes_nothing(present: Any, proposed: Any) -> None:
    state = proposed()
    assert decide(Run(present()), state, Facts("client"), AT) == Verdict(
        "REJECT", None, f"The run is already {state.type}."
    )


def test_an_attempt_may_begin_the_next_one_in_place() -> None:
    retrying = Retrying()
    assert decide(Run(Running()), retrying, attempt(), AT) == Verdict("ACCEPT", retrying)


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        (attempt(), "ABORT"),
        (Facts("client"), "ABORT"),
        (attempt(given_back=True), "ACCEPT"),
        (Facts("housekeeping"), "ACCEPT"),
    ],
)
def test_a_started_run_returns_to_its_queue_only_when_its_attempt_is_over(facts: Facts, kind: str) -> None:
    assert decide(Run(Running()), Pending(), facts, AT).kind == kind


@pytest.mark.parametrize(
    ("run_count", "crashes", "retries", "is_retried"),
    [(1, 0, 0, False), (1, 0, 1, True), (2, 0, 1, False), (3, 2, 1, True), (4, 2, 1, False), (3, 0, 3, True)],
)
def test_a_failure_is_retried_while_tries_are_left_and_losses_use_up_none(
    run_count: int, crashes: int, retries: int, is_retried: bool
) -> None:
    verdict = decide(Run(Running(), run_count, crashes, retries), Failed(), attempt(), AT)
    assert verdict.kind == ("REJECT" if is_retried else "ACCEPT")


def test_a_retry_without_delay_begins_in_place_and_keeps_what_failed() -> None:
    error = ValueError("x")
    verdict = decide(Run(Running(), retries=1), Failed(message="m", data=error), attempt(), AT)
    state = verdict.state
    assert state is not None
    assert (state.type, state.name, state.message, state.data) == (StateType.RUNNING, "Retrying", "m", error)


def test_a_retry_with_a_delay_waits_for_its_time() -> None:
    verdict = decide(Run(Running(), retries=1), Failed(message="m"), attempt(delay=30), AT)
    state = verdict.state
    assert state is not None
    assert (state.name, state.state_details.scheduled_time) == ("AwaitingRetry", AT + timedelta(seconds=30))


def test_what_the_condition_refused_is_not_retried() -> None:
    failed = Failed()
    assert decide(Run(Running(), retries=5), failed, attempt(retriable=False), AT) == Verdict("ACCEPT", failed)


def test_only_failures_of_running_attempts_are_retried() -> None:
    verdicts = [
        decide(Run(Running(), retries=5), Crashed(), attempt(), AT).kind,
        decide(Run(Pending(), retries=5), Failed(), Facts("client"), AT).kind,
        decide(Run(AwaitingRetry(), retries=5), Failed(), Facts("client"), AT).kind,
    ]
    assert verdicts == ["ACCEPT", "ACCEPT", "ACCEPT"]


def test_a_move_outside_of_the_table_is_refused_with_both_ends() -> None:
    verdict = decide(Run(Pending()), Cancelling(), Facts("client"), AT)
    assert verdict == Verdict("ABORT", None, "A run cannot go from PENDING to CANCELLING.")


facts = st.builds(
    Facts,
    st.sampled_from(["attempt", "client", "housekeeping", "supervisor"]),
    st.sampled_from([None, True, False]),
    st.floats(0, 1000),
    st.booleans(),
)
types = st.sampled_from(list(StateType))
runs = st.builds(
    lambda kind, run_count, crashes, retries: Run(kind and MAKERS[kind](), run_count, crashes, retries),
    st.none() | types,
    st.integers(0, 9),
    st.integers(0, 3),
    st.integers(0, 9),
)


@given(runs, types, facts)
def test_every_proposal_has_one_verdict_and_what_is_stored_is_allowed(run: Run, kind: StateType, found: Facts) -> None:
    proposed = MAKERS[kind]()
    verdict = decide(run, proposed, found, AT)
    again = decide(run, proposed, found, AT)
    assert (verdict.kind, verdict.reason) == (again.kind, again.reason)
    source = run.state.type if run.state else None
    if verdict.kind == "ACCEPT":
        assert verdict.state is proposed
    if verdict.state is not None:
        assert verdict.state.type in ALLOWED[source]


def test_no_path_leads_out_of_a_terminal_state() -> None:
    assert {state: ALLOWED[state] for state in TERMINAL_STATES} == dict.fromkeys(TERMINAL_STATES, frozenset())


def test_each_rule_says_what_it_rules() -> None:
    assert [rule.__name__ for rule in RULES if not (rule.__doc__ or "").strip()] == []
