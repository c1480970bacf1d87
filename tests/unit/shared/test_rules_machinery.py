"""How the rules are asked, and what holds of every verdict whatever is asked."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import as_utc
from shared.rules import ALLOWED, Facts, Limit, Rule, RunLike, Upstream, Verdict, decide, indexed
from shared.rules_facts import moves
from shared.rules_transforms import RunRecord
from shared.state_types import StateType
from shared.states import AwaitingRetry, Cancelling, Completed, Failed, Late, Pending, Running, State, StateDetails

AT = as_utc(datetime(2026, 11, 20, 9, tzinfo=UTC))
SOON, PAST = AT + timedelta(seconds=90), AT - timedelta(seconds=90)


# --- the machinery ----------------------------------------------------------------------------------------------------

ENDS = moves({StateType.RUNNING}, StateType.COMPLETED)


def _says_nothing(_run: RunLike, _proposed: State[Any], _facts: Facts, _at: datetime) -> Verdict | None:
    return None


def _renames(_run: RunLike, proposed: State[Any], _facts: Facts, _at: datetime) -> Verdict | None:
    return Verdict("ACCEPT", proposed.copy(update={"name": "Renamed"}), "renamed")


def _refuses_by_name(_run: RunLike, proposed: State[Any], _facts: Facts, _at: datetime) -> Verdict | None:
    return Verdict("ABORT", reason=f"{proposed.name} is refused")


def _replaces(_run: RunLike, _proposed: State[Any], _facts: Facts, _at: datetime) -> Verdict | None:
    return Verdict("REJECT", Failed(message="instead"), "replaced")


def _replaces_by_none_of_the_table(_run: RunLike, _proposed: State[Any], _facts: Facts, _at: datetime) -> Verdict:
    return Verdict("REJECT", Running())


def _accepts_another_type(_run: RunLike, _proposed: State[Any], _facts: Facts, _at: datetime) -> Verdict:
    return Verdict("ACCEPT", Failed())


def _raises(_run: RunLike, _proposed: State[Any], _facts: Facts, _at: datetime) -> Verdict:
    raise ZeroDivisionError("no")


def asked(*rules: Rule, run: RunRecord | None = None, proposed: State[Any] | None = None) -> Verdict:
    """The verdict of these rules on a running run that wants to complete, unless another case is given."""
    present, wanted = run or RunRecord(state=Running()), proposed or Completed(name="Given")
    return decide(present, wanted, Facts("attempt"), AT, indexed(rules))


def test_the_first_rule_that_does_more_than_accept_ends_the_matter() -> None:
    verdict = asked(Rule(_says_nothing, ENDS), Rule(_replaces, ENDS), Rule(_refuses_by_name, ENDS))
    assert (verdict.kind, verdict.state and verdict.state.message, verdict.reason) == ("REJECT", "instead", "replaced")


def test_a_renamed_proposal_meets_the_later_rules() -> None:
    assert asked(Rule(_renames, ENDS), Rule(_refuses_by_name, ENDS)) == Verdict("ABORT", None, "Renamed is refused")


def test_a_renamed_proposal_is_what_is_accepted_in_the_end() -> None:
    verdict = asked(Rule(_renames, ENDS), Rule(_says_nothing, ENDS))
    assert (verdict.kind, verdict.state and verdict.state.name, verdict.reason) == ("ACCEPT", "Renamed", "renamed")


def test_a_rule_is_asked_about_its_moves_and_kinds_only() -> None:
    completed, failed = Completed(), Failed()
    verdicts = [
        asked(Rule(_refuses_by_name, ENDS), proposed=failed),
        asked(Rule(_refuses_by_name, ENDS, kinds=("flow",)), proposed=completed),
        asked(Rule(_refuses_by_name, moves({None}, StateType.COMPLETED)), proposed=completed),
    ]
    assert verdicts == [Verdict("ACCEPT", failed), Verdict("ACCEPT", completed), Verdict("ACCEPT", completed)]


@pytest.mark.parametrize(
    ("state", "proposed", "reason"),
    [
        (Pending(), Cancelling(), "A run cannot go from PENDING to CANCELLING."),
        (None, Completed(), "A run cannot go from nothing to COMPLETED."),
    ],
)
def test_where_no_rule_speaks_the_table_has_the_last_word(
    state: State[Any] | None, proposed: State[Any], reason: str
) -> None:
    assert asked(run=RunRecord(state=state), proposed=proposed) == Verdict("ABORT", None, reason)


def test_a_rule_that_raises_stores_nothing_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "baton.rules"), pytest.raises(ZeroDivisionError, match="no"):
        asked(Rule(_raises, ENDS), Rule(_renames, ENDS))
    assert [record.getMessage() for record in caplog.records] == ["Aborting orchestration due to error in _raises: no"]


@pytest.mark.parametrize(
    ("rule", "run", "proposed", "complaint"),
    [
        (_accepts_another_type, Running(), Completed(), "COMPLETED was accepted as FAILED"),
        (_replaces_by_none_of_the_table, Cancelling(), Completed(), "replaced by RUNNING, which is no move"),
    ],
)
def test_a_rule_that_breaks_the_law_of_verdicts_is_a_defect(
    rule: Any, run: State[Any], proposed: State[Any], complaint: str
) -> None:
    everywhere = moves(StateType, *StateType)
    with pytest.raises(AssertionError, match=complaint):
        asked(Rule(rule, everywhere), run=RunRecord(state=run), proposed=proposed)


# --- whatever is asked ------------------------------------------------------------------------------------------------

times = st.sampled_from([None, PAST, AT, SOON])
names = st.sampled_from([None, "Scheduled", "Late", "Cached", "Skipped", "Retrying", "Suspended", "Mine"])
details = st.builds(
    StateDetails,
    scheduled_time=times,
    cache_key=st.sampled_from([None, "k"]),
    cache_expiration=times,
    refresh_cache=st.sampled_from([None, True, False]),
    pause_timeout=times,
    pause_reschedule=st.booleans(),
    pause_key=st.sampled_from([None, "a", "b"]),
    retriable=st.sampled_from([None, True, False]),
    transition_id=st.sampled_from([None, "t", "u"]),
)
states = st.builds(State, type=st.sampled_from(list(StateType)), name=names, state_details=details)
maybe_states = st.none() | states
counts = st.integers(0, 4)
runs = st.builds(
    RunRecord,
    kind=st.sampled_from(["task", "flow"]),
    state=maybe_states,
    attempt=counts,
    run_count=counts,
    crashes=counts,
    crash_budget=st.integers(1, 3),
    retries=counts,
    on_crash=st.sampled_from(["retry", "fail"]),
    last_end=st.sampled_from(["", "failed", "lost", "given_back", "paused", "retried"]),
    flow=st.sampled_from([None, "f"]),
    outlives_flow=st.booleans(),
    pause_keys=st.frozensets(st.sampled_from(["a", "b"])),
)
facts = st.builds(
    Facts,
    proposer=st.sampled_from(["attempt", "client", "housekeeping", "supervisor"]),
    inline=st.booleans(),
    held=st.booleans(),
    flow_state=maybe_states,
    upstreams=st.lists(st.builds(Upstream, st.sampled_from("uvw"), maybe_states, st.booleans()), max_size=3),
    trigger_met=st.sampled_from([None, True, False]),
    limits=st.lists(st.builds(Limit, st.sampled_from(["tag:a", "task:b"]), counts, counts, st.booleans()), max_size=2),
    cache=maybe_states,
    retriable=st.sampled_from([None, True, False]),
    delay=st.sampled_from([0.0, 0.5, 30.0, 1e300]),
    give_back=st.booleans(),
    why=st.sampled_from(["", "killed by signal 9"]),
)


def told(verdict: Verdict) -> tuple[Any, ...]:
    """All of a verdict, in values that compare."""
    state = verdict.state
    fields = state and (state.id, state.type, state.name, state.timestamp, state.message, state.state_details)
    return verdict.kind, fields, repr(state and state.data), verdict.reason, verdict.seconds


@given(runs, states, facts)
def test_every_proposal_has_one_verdict_and_what_is_stored_is_allowed(
    run: RunRecord, proposed: State[Any], found: Facts
) -> None:
    verdict = decide(run, proposed, found, AT)
    assert told(verdict) == told(decide(run, proposed, found, AT))
    assert (verdict.kind == "ACCEPT") <= (verdict.state is not None and verdict.state.type is proposed.type)
    assert (verdict.kind in ("WAIT", "ABORT")) <= (verdict.state is None)
    assert verdict.kind == "ACCEPT" or verdict.reason
    assert verdict.seconds is None or (verdict.kind == "WAIT" and verdict.seconds >= 1)
    if verdict.state is not None:
        assert verdict.state.type in ALLOWED[run.kind][run.state and run.state.type]


@given(runs, states, facts)
def test_what_is_stored_instead_would_have_been_accepted_too(
    run: RunRecord, proposed: State[Any], found: Facts
) -> None:
    kinds, verdict = [], decide(run, proposed, found, AT)
    while verdict.kind == "REJECT" and verdict.state is not None:
        kinds.append(verdict.state.type)
        assert len(kinds) <= 2, f"rules replace each other's states for ever: {kinds}"
        verdict = decide(run, verdict.state, found, AT)
    assert not kinds or verdict.kind in ("ACCEPT", "WAIT")


@given(runs, facts, states)
def test_a_run_that_has_ended_stays_as_it_is(run: RunRecord, found: Facts, proposed: State[Any]) -> None:
    verdict = decide(run, proposed, found, AT)
    if run.state is not None and run.state.is_final():
        assert (verdict.kind, verdict.state) in (("ABORT", None), ("REJECT", None))


def test_a_state_that_is_read_back_without_its_time_is_due() -> None:
    row = State.from_orm_without_result({"type": "SCHEDULED", "name": "AwaitingRetry", "time": AT})
    assert decide(RunRecord(state=row), Running(), Facts("attempt"), AT).kind == "ACCEPT"


def test_a_late_run_starts_like_any_other() -> None:
    states = [Late(scheduled_time=PAST), AwaitingRetry(scheduled_time=AT)]
    kinds = [decide(RunRecord(state=state), Running(), Facts("attempt"), AT).kind for state in states]
    assert kinds == ["ACCEPT", "ACCEPT"]
