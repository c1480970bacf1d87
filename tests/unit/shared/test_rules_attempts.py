"""The rules about the ends of attempts and the names of the next ones: what each answers, with its exact reason."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.clock import as_utc
from shared.rules import Facts, Kind, Proposer, Verdict, decide
from shared.rules_facts import LastEnd
from shared.rules_transforms import RunRecord
from shared.state_types import StateType
from shared.states import (
    Crashed,
    Failed,
    Paused,
    Pending,
    Running,
    Scheduled,
    State,
    StateDetails,
    Suspended,
)

AT = as_utc(datetime(2026, 11, 20, 9, tzinfo=UTC))
OWN, FLEET = Facts("attempt"), Facts("supervisor")
KINDS = pytest.mark.parametrize("kind", ["task", "flow"])


def judged(state: State[Any] | None, proposed: State[Any], facts: Facts, **run: Any) -> Verdict:
    return decide(RunRecord(state=state, **run), proposed, facts, AT)


def stored(verdict: Verdict) -> tuple[Any, ...]:
    """What is stored by a verdict, as far as readers see it."""
    state = verdict.state
    assert state is not None
    return verdict.kind, state.type, state.name, state.message


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


# --- lost attempts ----------------------------------------------------------------------------------------------------

WHY = "killed by signal 9, perhaps out of memory"
LOST = f"Attempt 2 was lost: {WHY}."


def lost(state: State[Any], proposer: Proposer = "housekeeping", *, facts: Any = (), **run: Any) -> Verdict:
    found = Facts(proposer, why=WHY, **dict(facts))
    return judged(state, Crashed(message="Died."), found, **{"attempt": 2, "run_count": 2, **run})


@KINDS
@pytest.mark.parametrize("proposer", ["housekeeping", "supervisor"])
@pytest.mark.parametrize("crashes", [0, 1])
def test_a_lost_attempt_is_followed_by_another_one(kind: Kind, proposer: Proposer, crashes: int) -> None:
    verdict = lost(Running(), proposer, kind=kind, crashes=crashes)
    assert (stored(verdict), verdict.reason) == (("REJECT", StateType.PENDING, "Pending", LOST), LOST)


@pytest.mark.parametrize(
    "run",
    [
        {"crashes": 2},
        {"crashes": 7},
        {"crashes": 4, "crash_budget": 5},
        {"on_crash": "fail"},
        {"facts": {"inline": True}},
    ],
)
def test_a_lost_attempt_ends_the_run_where_the_budget_is_spent(run: dict[str, Any]) -> None:
    verdict = lost(Running(), **run)
    assert (stored(verdict), verdict.reason) == (("ACCEPT", StateType.CRASHED, "Crashed", LOST), LOST)


def test_a_flow_that_was_lost_while_it_was_paused_in_its_process_is_queued_again() -> None:
    held = lost(Paused(), kind="flow", facts={"held": True})
    unheld = lost(Suspended(), kind="flow")
    assert (stored(held), stored(unheld)) == (
        ("REJECT", StateType.PENDING, "Pending", LOST),
        ("ACCEPT", StateType.CRASHED, "Crashed", "Died."),
    )


@pytest.mark.parametrize("proposer", ["attempt", "client"])
def test_a_crash_that_is_reported_ends_the_run(proposer: Proposer) -> None:
    assert stored(lost(Running(), proposer)) == ("ACCEPT", StateType.CRASHED, "Crashed", "Died.")


# --- failures ---------------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize(
    ("run_count", "crashes", "retries", "is_retried"),
    [(1, 0, 0, False), (1, 0, 1, True), (2, 0, 1, False), (3, 2, 1, True), (4, 2, 1, False), (3, 0, 3, True)],
)
def test_a_failure_is_retried_while_tries_are_left_and_losses_use_up_none(
    kind: Kind, run_count: int, crashes: int, retries: int, is_retried: bool
) -> None:
    verdict = judged(Running(), Failed(), OWN, kind=kind, run_count=run_count, crashes=crashes, retries=retries)
    assert (verdict.kind, verdict.reason) == (("REJECT", "Retrying") if is_retried else ("ACCEPT", ""))


def test_a_retry_without_delay_begins_in_place_and_keeps_what_failed() -> None:
    error = ValueError("x")
    verdict = judged(Running(), Failed(message="m", data=error), OWN, retries=1)
    assert verdict.state is not None
    assert (*stored(verdict), verdict.state.data) == ("REJECT", StateType.RUNNING, "Retrying", "m", error)


@pytest.mark.parametrize(
    ("delay", "due"),
    [(30, AT + seconds(30)), (0.5, AT + seconds(0.5)), (1e300, datetime.max.replace(tzinfo=UTC))],
)
def test_a_retry_with_a_delay_waits_for_its_time_and_keeps_what_failed(delay: float, due: datetime) -> None:
    error = ValueError("x")
    verdict = judged(Running(), Failed(message="m", data=error), Facts("attempt", delay=delay), retries=1)
    assert verdict.state is not None
    assert (*stored(verdict), verdict.state.data, verdict.state.state_details.scheduled_time) == (
        "REJECT",
        StateType.SCHEDULED,
        "AwaitingRetry",
        "m",
        error,
        due,
    )


def test_a_body_that_was_killed_is_tried_again_from_the_queue() -> None:
    verdict = judged(Running(), Failed(name="TimedOut", message="m"), FLEET, retries=1)
    assert verdict.state is not None
    assert (*stored(verdict), verdict.state.state_details.scheduled_time) == (
        "REJECT",
        StateType.SCHEDULED,
        "AwaitingRetry",
        "m",
        AT,
    )


@pytest.mark.parametrize(
    ("failed", "facts"),
    [(Failed(), Facts("attempt", retriable=False)), (Failed(state_details=StateDetails(retriable=False)), OWN)],
)
def test_what_is_out_of_the_question_is_not_retried(failed: State[Any], facts: Facts) -> None:
    assert judged(Running(), failed, facts, retries=5) == Verdict("ACCEPT", failed)


@pytest.mark.parametrize(
    ("state", "proposed"),
    [(Running(), Crashed()), (Pending(), Failed()), (Scheduled(), Failed()), (Paused(), Failed())],
)
def test_only_failures_of_running_attempts_are_retried(state: State[Any], proposed: State[Any]) -> None:
    assert judged(state, proposed, OWN, retries=5) == Verdict("ACCEPT", proposed)


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last_end", "name"),
    [
        ("failed", "Retrying"),
        ("lost", "Rerunning"),
        ("given_back", "Rerunning"),
        ("paused", "Rerunning"),
        ("retried", "Rerunning"),
    ],
)
@pytest.mark.parametrize("state", [Pending(), Scheduled(scheduled_time=AT), Paused()])
def test_a_start_that_is_not_the_first_is_named_after_what_came_before(
    state: State[Any], last_end: LastEnd, name: str
) -> None:
    verdict = judged(state, Running(message="m"), OWN, attempt=1, last_end=last_end)
    assert stored(verdict) == ("ACCEPT", StateType.RUNNING, name, "m")


def test_an_attempt_that_begins_the_next_one_in_place_is_retrying() -> None:
    verdict = judged(Running(), Running(), OWN, attempt=1, last_end="given_back")
    assert stored(verdict) == ("ACCEPT", StateType.RUNNING, "Retrying", None)


@pytest.mark.parametrize(
    ("kind", "state", "attempt"), [("task", Pending(), 0), ("flow", Pending(), 0), ("flow", Paused(), 2)]
)
def test_a_first_start_and_one_that_goes_on_keep_their_name(kind: Kind, state: State[Any], attempt: int) -> None:
    running = Running(name="Mine")
    verdict = judged(state, running, OWN, kind=kind, attempt=attempt, last_end="failed")
    assert verdict == Verdict("ACCEPT", running)
