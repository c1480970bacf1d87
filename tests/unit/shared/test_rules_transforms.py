"""What every accepted transition does to a run's counts, times and due time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import as_utc
from shared.rules import Facts, Kind, decide
from shared.rules_transforms import RunRecord, transformed
from shared.state_types import TERMINAL_STATES, StateType
from shared.states import (
    AwaitingRetry,
    Cancelled,
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
OWN, CLIENT, REAPER = Facts("attempt"), Facts("client"), Facts("housekeeping")
GIVEN_BACK = Facts("attempt", give_back=True)
KINDS = pytest.mark.parametrize("kind", ["task", "flow"])


def after(number: float) -> datetime:
    return AT + timedelta(seconds=number)


def moved(run: RunRecord, *steps: tuple[State[Any], Facts]) -> RunRecord:
    """The run after these moves: the first one at nine o'clock, one a second."""
    for number, (state, facts) in enumerate(steps, run.seq):
        run = transformed(run, state, facts, after(number))
    return run


def begun(**fields: Any) -> RunRecord:
    """A run in its first attempt since 09:00:01."""
    return moved(RunRecord(**fields), (Pending(), CLIENT), (Running(), OWN))


def counted(run: RunRecord) -> tuple[Any, ...]:
    return run.attempt, run.run_count, run.crashes, run.last_end


def state_of(run: RunRecord) -> State[Any]:
    assert run.state is not None
    return run.state


# --- times ------------------------------------------------------------------------------------------------------------


def test_a_run_that_succeeds_has_every_time_once() -> None:
    run = moved(begun(), (Completed(), OWN))
    assert (run.seq, run.expected_start, run.start_time, run.end_time, run.total_run_time) == (
        3,
        AT,
        after(1),
        after(2),
        1.0,
    )


def test_a_state_tells_its_place_in_the_history_and_its_attempt() -> None:
    states = [state_of(run) for run in (moved(RunRecord(), (Pending(), CLIENT)), begun())]
    assert [(state.timestamp, state.state_details.seq, state.state_details.attempt) for state in states] == [
        (AT, 1, None),
        (after(1), 2, 1),
    ]


@pytest.mark.parametrize("ago", [0, 0.000001, 3600])
def test_times_grow_strictly_although_the_clock_does_not(ago: float) -> None:
    run = transformed(begun(), Completed(), OWN, after(1 - ago))
    assert (state_of(run).timestamp, run.end_time) == (after(1.000001), after(1.000001))


def test_retries_keep_the_first_start_and_waits_between_attempts_are_no_run_time() -> None:
    waiting = AwaitingRetry(scheduled_time=after(4))
    run = moved(begun(), (waiting, OWN), (Pending(), REAPER), (Retrying(), OWN), (Failed(), OWN))
    assert (run.start_time, run.end_time, run.total_run_time) == (after(1), after(5), 2.0)


def test_time_while_cancelling_is_run_time() -> None:
    run = moved(begun(), (Cancelling(), CLIENT), (Cancelled(), OWN))
    assert run.total_run_time == 2.0


@pytest.mark.parametrize("end", [Completed, Failed, Crashed, Cancelled])
def test_a_run_that_ended_before_its_body_began_has_an_end_and_no_start(end: Any) -> None:
    run = moved(RunRecord(), (Pending(), CLIENT), (end(), CLIENT))
    assert (run.start_time, run.end_time, run.total_run_time) == (None, after(1), 0.0)


@pytest.mark.parametrize("state", [Pending(), Scheduled(scheduled_time=after(90))])
def test_an_operators_retry_clears_the_end_and_starts_the_counts_again(state: State[Any]) -> None:
    lost = moved(begun(), (Pending(), REAPER), (Running(), OWN), (Failed(), OWN))
    run = moved(lost, (state, CLIENT))
    assert (run.end_time, run.start_time, *counted(run)) == (None, after(1), 2, 0, 0, "retried")


# --- due times --------------------------------------------------------------------------------------------------------


def test_a_run_is_expected_at_the_time_of_its_first_state() -> None:
    due = after(90)
    first = moved(RunRecord(), (Scheduled(scheduled_time=due), CLIENT))
    later = moved(first, (Scheduled(scheduled_time=after(900)), CLIENT))
    assert (first.expected_start, later.expected_start) == (due, due)


def test_a_due_time_is_kept_by_the_pending_state_after_it_and_no_longer() -> None:
    due = after(90)
    with_due = StateDetails(scheduled_time=due)
    scheduled = moved(RunRecord(), (Scheduled(scheduled_time=due), CLIENT))
    late = moved(scheduled, (Late(scheduled_time=due), REAPER))
    pending = moved(late, (Pending(state_details=with_due), CLIENT))
    running = moved(pending, (Running(state_details=with_due), OWN))
    again = moved(running, (Pending(state_details=with_due), GIVEN_BACK))
    assert [state_of(run).state_details.scheduled_time for run in (scheduled, late, pending, running, again)] == [
        due,
        due,
        due,
        None,
        None,
    ]


# --- counts -----------------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], (1, 1, 0, "")),
        ([(Retrying(), OWN)], (2, 2, 0, "failed")),
        ([(AwaitingRetry(), OWN)], (1, 1, 0, "failed")),
        ([(AwaitingRetry(), OWN), (Pending(), REAPER), (Retrying(), OWN)], (2, 2, 0, "failed")),
        ([(Pending(), REAPER)], (1, 1, 1, "lost")),
        ([(Pending(), Facts("supervisor"))], (1, 1, 1, "lost")),
        ([(Pending(), GIVEN_BACK)], (1, 0, 0, "given_back")),
        ([(Pending(), GIVEN_BACK), (Running(), OWN)], (2, 1, 0, "given_back")),
        ([(Suspended(), OWN)], (1, 0, 0, "paused")),
        ([(Crashed(), REAPER)], (1, 1, 1, "")),
        ([(Crashed(), OWN)], (1, 1, 0, "")),
        ([(Completed(), OWN)], (1, 1, 0, "")),
        ([(Cancelling(), CLIENT), (Cancelled(), REAPER)], (1, 1, 0, "")),
    ],
)
def test_attempts_are_counted(kind: Kind, steps: list[Any], expected: tuple[Any, ...]) -> None:
    assert counted(moved(begun(kind=kind), *steps)) == expected


def test_a_task_that_pauses_ends_its_attempt_and_a_flow_that_pauses_in_its_process_does_not() -> None:
    paused, resumed = (Paused(), OWN), (Running(), OWN)
    task, flow = begun(), begun(kind="flow")
    assert [counted(moved(task, paused)), counted(moved(task, paused, resumed))] == [
        (1, 0, 0, "paused"),
        (2, 1, 0, "paused"),
    ]
    assert [counted(moved(flow, paused)), counted(moved(flow, paused, resumed))] == [(1, 1, 0, ""), (1, 1, 0, "")]


def test_a_flow_that_was_lost_while_it_was_paused_in_its_process_has_lost_its_attempt() -> None:
    assert counted(moved(begun(kind="flow"), (Paused(), OWN), (Pending(), REAPER))) == (1, 1, 1, "lost")


@pytest.mark.parametrize("state", [Paused(), Failed(), Cancelled(), Scheduled()])
def test_what_waits_is_moved_without_counting(state: State[Any]) -> None:
    waiting = moved(RunRecord(), (Pending(), CLIENT))
    assert counted(moved(waiting, (state, CLIENT))) == (0, 0, 0, "")


# --- pause keys -------------------------------------------------------------------------------------------------------


def test_used_pause_keys_are_recorded_and_forgotten_when_the_flow_is_tried_again() -> None:
    once = moved(begun(kind="flow"), (Paused(pause_key="a"), OWN), (Running(), OWN), (Suspended(pause_key="b"), OWN))
    resumed = moved(once, (Scheduled(name="Resuming"), CLIENT), (Pending(), REAPER), (Running(), OWN))
    lost = moved(resumed, (Pending(), REAPER), (Running(), OWN))
    failed = [moved(lost, (state, OWN)).pause_keys for state in (Retrying(), AwaitingRetry())]
    ended = moved(lost, (Failed(), OWN), (Pending(), CLIENT))
    used = frozenset("ab")
    assert ([run.pause_keys for run in (once, resumed, lost, ended)], failed) == ([used] * 4, [frozenset()] * 2)


# --- any life ---------------------------------------------------------------------------------------------------------

proposals = st.lists(
    st.tuples(
        st.builds(
            State,
            type=st.sampled_from(list(StateType)),
            name=st.sampled_from([None, "Cached", "Suspended", "Late"]),
            state_details=st.builds(StateDetails, pause_key=st.sampled_from([None, "a"])),
        ),
        st.builds(
            Facts,
            proposer=st.sampled_from(["attempt", "client", "housekeeping"]),
            held=st.booleans(),
            delay=st.sampled_from([0.0, 1.0]),
            give_back=st.booleans(),
        ),
        st.sampled_from([0.0, 0.5, 100.0]),
    ),
    max_size=30,
)


@given(st.sampled_from(["task", "flow"]), st.integers(0, 3), proposals)
def test_whatever_is_proposed_a_life_is_told_in_order(kind: Kind, retries: int, steps: list[Any]) -> None:
    run, at, lives = RunRecord(kind=kind, retries=retries), AT, list[RunRecord]()
    for state, facts, passed in [(Pending(), CLIENT, 0.0), *steps]:
        at += timedelta(seconds=passed)
        verdict = decide(run, state, facts, at)
        if verdict.state is not None:
            run = transformed(run, verdict.state, facts, at)
            lives.append(run)
    times = [state_of(life).timestamp for life in lives]
    assert [life.seq for life in lives] == list(range(1, len(lives) + 1))
    assert times == sorted(set(times))
    assert all(state_of(life).type not in TERMINAL_STATES for life in lives[:-1])
    assert all(life.crashes <= life.attempt and 0 <= life.run_count <= life.attempt for life in lives)
    assert all((life.end_time is not None) == state_of(life).is_final() for life in lives)
    assert all((life.start_time is None) == (life.attempt == 0) for life in lives)
    assert 0 <= run.total_run_time <= (times[-1] - AT).total_seconds()
