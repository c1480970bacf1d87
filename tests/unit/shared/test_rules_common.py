"""The rules about moves, due times and limits that tasks and flows share: what each answers, with its exact reason."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.clock import as_utc
from shared.rules import Facts, Kind, Limit, Verdict, decide
from shared.rules_transforms import RunRecord
from shared.state_types import TERMINAL_STATES, StateType
from shared.states import (
    AwaitingConcurrencySlot,
    Cancelling,
    Completed,
    Crashed,
    Failed,
    Late,
    Paused,
    Pending,
    Retrying,
    Running,
    Scheduled,
    State,
    StateDetails,
    Suspended,
)

AT = as_utc(datetime(2026, 11, 20, 9, tzinfo=UTC))
OWN, CLIENT, REAPER, FLEET = Facts("attempt"), Facts("client"), Facts("housekeeping"), Facts("supervisor")
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


# --- repeated, terminal -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [Running, Completed, Cancelling])
def test_the_same_transition_is_made_once(state: Any) -> None:
    same = StateDetails(transition_id="t1")
    verdict = judged(state(state_details=same), Completed(state_details=same), OWN)
    assert verdict == Verdict("REJECT", None, "This run has already made this state transition.")


def test_another_transition_to_the_same_state_is_judged() -> None:
    state = Running(state_details=StateDetails(transition_id="t1"))
    proposed = Completed(state_details=StateDetails(transition_id="t2"))
    assert judged(state, proposed, OWN) == Verdict("ACCEPT", proposed)


def test_what_is_stored_instead_of_a_proposal_has_made_its_transition() -> None:
    proposed = Failed(state_details=StateDetails(transition_id="t1"))
    first = judged(Running(), proposed, Facts("attempt", delay=30), retries=1, run_count=1)
    again = judged(first.state, proposed, Facts("attempt", delay=30), retries=1, run_count=1)
    assert (first.state and first.state.name, again) == (
        "AwaitingRetry",
        Verdict("REJECT", None, "This run has already made this state transition."),
    )


@pytest.mark.parametrize("state", sorted(TERMINAL_STATES))
@pytest.mark.parametrize("proposed", StateType)
def test_a_terminal_state_absorbs_every_proposal(state: StateType, proposed: StateType) -> None:
    verdict = judged(State(type=state), State(type=proposed), OWN)
    assert verdict == Verdict("ABORT", None, f"Run is already in terminal state {state}.")


# --- cancelling -------------------------------------------------------------------------------------------------------

ENDS_CANCELLED = "Cannot transition runs that are cancelling to a state other than Cancelled."


@pytest.mark.parametrize("proposed", [Running(), Retrying(), Cancelling()])
def test_a_cancelling_run_stays_cancelling_where_nothing_ended(proposed: State[Any]) -> None:
    assert judged(Cancelling(), proposed, OWN) == Verdict("REJECT", None, ENDS_CANCELLED)


@pytest.mark.parametrize(
    ("proposed", "facts", "message"),
    [
        (Completed(name="Cached"), OWN, "Cancelled while running; its outcome Cached was not recorded."),
        (Failed(), OWN, "Cancelled while running; its outcome Failed was not recorded."),
        (Scheduled(), OWN, "Cancelled while running; its outcome Scheduled was not recorded."),
        (Pending(), Facts("attempt", give_back=True), "Cancelled while running."),
        (Crashed(), REAPER, "Cancelled while running."),
        (Failed(), FLEET, "Cancelled while running."),
    ],
)
def test_a_cancelling_run_ends_cancelled_and_names_the_outcome_of_its_body(
    proposed: State[Any], facts: Facts, message: str
) -> None:
    verdict = judged(Cancelling(), proposed, facts)
    assert (stored(verdict), verdict.reason) == (
        ("REJECT", StateType.CANCELLED, "Cancelled", message),
        ENDS_CANCELLED,
    )


@KINDS
@pytest.mark.parametrize("state", [Scheduled(), Pending(), Paused(), Suspended()])
def test_what_waits_is_cancelled_at_once_with_the_text_of_who_asked(kind: Kind, state: State[Any]) -> None:
    verdict = judged(state, Cancelling(message="No longer needed."), CLIENT, kind=kind)
    assert (stored(verdict), verdict.reason) == (
        ("REJECT", StateType.CANCELLED, "Cancelled", "No longer needed."),
        "The run is not running; it was cancelled at once.",
    )


# --- begin, again, back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proposed", sorted(set(StateType) - {StateType.SCHEDULED, StateType.PENDING}))
def test_a_run_begins_by_waiting(proposed: StateType) -> None:
    verdict = judged(None, State(type=proposed), CLIENT)
    assert verdict == Verdict("ABORT", None, f"A run begins as SCHEDULED or PENDING, not {proposed}.")


@KINDS
@pytest.mark.parametrize("make", [Pending, Paused, Running])
def test_the_same_state_again_changes_nothing(kind: Kind, make: Any) -> None:
    again = make()
    assert judged(make(), again, CLIENT, kind=kind) == Verdict("REJECT", None, f"The run is already {again.type}.")


@pytest.mark.parametrize("facts", [OWN, CLIENT])
def test_a_started_run_returns_to_its_queue_only_when_its_attempt_is_over(facts: Facts) -> None:
    reason = "A started run returns to its queue only when its attempt is lost or given back."
    flow_paused = judged(Paused(), Pending(), facts, kind="flow")
    assert [judged(Running(), Pending(), facts), flow_paused] == [Verdict("ABORT", None, reason)] * 2


@pytest.mark.parametrize("facts", [OWN, CLIENT, REAPER])
@pytest.mark.parametrize("state", [Scheduled(), Pending(), Paused()])
def test_only_a_running_attempt_completes_a_run(state: State[Any], facts: Facts) -> None:
    verdict = judged(state, Completed(name="Mine"), facts)
    assert verdict == Verdict("ABORT", None, "Only a running attempt can complete a run.")


@pytest.mark.parametrize("state", [Paused(), Suspended()])
def test_a_flow_that_ends_although_it_was_paused_from_outside_has_ended(state: State[Any]) -> None:
    completed = Completed()
    assert judged(state, completed, OWN, kind="flow") == Verdict("ACCEPT", completed)


# --- due times --------------------------------------------------------------------------------------------------------

NOT_LATE = Verdict("REJECT", None, "Only an overdue run named Scheduled is marked late.")


def test_an_overdue_run_is_marked_late() -> None:
    late = Late(scheduled_time=AT)
    assert judged(Scheduled(scheduled_time=AT - seconds(15)), late, REAPER) == Verdict("ACCEPT", late)


@pytest.mark.parametrize(
    "state",
    [
        None,
        Scheduled(scheduled_time=AT),
        Scheduled(scheduled_time=AT + seconds(1)),
        Late(scheduled_time=AT - seconds(15)),
        AwaitingConcurrencySlot(scheduled_time=AT - seconds(15)),
        Pending(state_details=StateDetails(scheduled_time=AT - seconds(15))),
        Running(name="Scheduled"),
    ],
)
def test_nothing_else_is_marked_late(state: State[Any] | None) -> None:
    assert judged(state, Late(), REAPER) == NOT_LATE


@pytest.mark.parametrize("given", [None, AT + seconds(5)])
def test_a_run_that_is_queued_keeps_its_due_time(given: datetime | None) -> None:
    due = AT + seconds(90)
    proposed = Pending(state_details=StateDetails(scheduled_time=given, actor="alice"))
    verdict = judged(Scheduled(scheduled_time=due), proposed, CLIENT)
    assert verdict == Verdict(
        "ACCEPT",
        proposed.copy(
            update={
                "timestamp": proposed.timestamp,
                "state_details": {"scheduled_time": given or due, "actor": "alice"},
            }
        ),
    )


@pytest.mark.parametrize(
    ("ahead", "wait"), [(0.000001, 1), (1, 1), (1.000001, 2), (59.5, 60), (86_400, 86_400), (86_400.25, 86_401)]
)
@pytest.mark.parametrize("make", [Scheduled, Pending])
def test_a_wait_is_rounded_up_to_whole_seconds(make: Any, ahead: float, wait: int) -> None:
    state = make(state_details=StateDetails(scheduled_time=AT + seconds(ahead)))
    assert judged(state, Running(), OWN) == Verdict("WAIT", None, "Scheduled time is in the future", wait)


@pytest.mark.parametrize("ago", [0, 0.000001, 90])
def test_what_is_due_waits_no_more(ago: float) -> None:
    running = Running()
    assert judged(Scheduled(scheduled_time=AT - seconds(ago)), running, OWN) == Verdict("ACCEPT", running)


# --- limits -----------------------------------------------------------------------------------------------------------

FREE, FULL, SHUT = Limit("tag:etl", 2, 1), Limit("tag:db", 2, 2), Limit("tag:api", 0, 0)
REACHED = "Concurrency limit reached for tags: db"
IS_ZERO = 'The concurrency limit on tag "api" is 0: no run starts until it is raised.'


@KINDS
@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ([FREE, FULL], REACHED),
        ([Limit("tag:db", 1, 4)], REACHED),
        ([FULL, Limit("task:shop.add", 1, 1)], "Concurrency limit reached for tags: db, task:shop.add"),
        ([SHUT], IS_ZERO),
        ([FULL, SHUT], IS_ZERO),
    ],
)
def test_a_run_without_a_slot_waits_for_one(kind: Kind, limits: list[Limit], reason: str) -> None:
    fleet = judged(Pending(), Running(), Facts("attempt", limits=limits), kind=kind)
    inline = judged(Pending(), Running(), Facts("attempt", inline=True, limits=limits), kind=kind)
    assert (stored(fleet), fleet.reason, inline) == (
        ("REJECT", StateType.SCHEDULED, "AwaitingConcurrencySlot", reason),
        reason,
        Verdict("WAIT", None, reason),
    )


@KINDS
@pytest.mark.parametrize("limits", [[], [FREE], [FULL._replace(holds=True)], [FREE, SHUT._replace(holds=True)]])
def test_a_run_that_has_its_slots_starts(kind: Kind, limits: list[Limit]) -> None:
    running = Running()
    assert judged(Pending(), running, Facts("attempt", limits=limits), kind=kind) == Verdict("ACCEPT", running)


@pytest.mark.parametrize(("slots", "kind"), [(1, "REJECT"), (2, "ACCEPT"), (0, "REJECT")])
def test_a_limit_that_was_raised_lets_runs_start_and_one_that_was_lowered_does_not(slots: int, kind: str) -> None:
    waiting = AwaitingConcurrencySlot(scheduled_time=AT - seconds(1))
    assert judged(waiting, Running(), Facts("attempt", limits=[Limit("tag:db", slots, 1)])).kind == kind


@pytest.mark.parametrize(
    ("state", "since"), [(Pending(), AT), (AwaitingConcurrencySlot(scheduled_time=AT - seconds(9)), AT - seconds(9))]
)
def test_who_finds_another_limit_full_keeps_the_time_since_when_it_waits(state: State[Any], since: datetime) -> None:
    verdict = judged(state, Running(), Facts("attempt", limits=[FULL]))
    assert verdict.state is not None
    assert verdict.state.state_details.scheduled_time == since


def test_a_flow_that_goes_on_in_its_process_waits_there_for_a_slot() -> None:
    verdict = judged(Paused(), Running(), Facts("attempt", held=True, limits=[FULL]), kind="flow")
    assert verdict == Verdict("WAIT", None, REACHED)
