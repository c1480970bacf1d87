"""The rules of task runs alone, one by one: what each answers, with its exact reason."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.clock import as_utc
from shared.errors import UpstreamTaskError
from shared.results import ResultRecord, ResultRecordMetadata
from shared.rules import Facts, Upstream, Verdict, decide
from shared.rules_transforms import RunRecord
from shared.state_types import StateType
from shared.states import (
    Cancelled,
    Cancelling,
    Completed,
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
SOON, PAST = AT + timedelta(seconds=90), AT - timedelta(seconds=90)
FLOW = "01a1f879-5eda-7005-8876-23ab1bc095ff"
STARTS = [Pending(), Scheduled(scheduled_time=PAST), Paused()]


def started(state: State[Any], running: State[Any] | None = None, run: Any = (), **facts: Any) -> Verdict:
    """The verdict on the start of a task's run."""
    record = RunRecord(state=state, flow=FLOW, **dict(run))
    return decide(record, running or Running(), Facts("attempt", **facts), AT)


def stored(verdict: Verdict) -> tuple[Any, ...]:
    """What is stored by a verdict, as far as readers see it."""
    state = verdict.state
    assert state is not None
    return verdict.kind, state.type, state.name, state.message


# --- the flow ---------------------------------------------------------------------------------------------------------

IS_PAUSED = f"The flow is paused, new tasks can execute after resuming flow run: {FLOW}."
WAS_CANCELLED = "The parent flow run was cancelled."
IS_OVER = "The enclosing flow must be running to begin task execution."


@pytest.mark.parametrize("flow", [Paused(pause_expiration_time=SOON), Suspended(pause_expiration_time=SOON)])
@pytest.mark.parametrize("state", [Pending(), Scheduled(scheduled_time=PAST)])
def test_a_task_of_a_paused_flow_is_paused_as_long_as_the_flow(state: State[Any], flow: State[Any]) -> None:
    verdict = started(state, flow_state=flow)
    assert verdict.state is not None
    assert (*stored(verdict), verdict.reason, verdict.state.state_details.pause_timeout) == (
        "REJECT",
        StateType.PAUSED,
        "Paused",
        IS_PAUSED,
        IS_PAUSED,
        SOON,
    )


def test_a_task_that_is_paused_with_its_flow_stays_so() -> None:
    assert started(Paused(), flow_state=Paused()) == Verdict("REJECT", None, IS_PAUSED)


@pytest.mark.parametrize(
    ("flow", "reason"),
    [
        (Cancelling(), WAS_CANCELLED),
        (Cancelled(), WAS_CANCELLED),
        (Completed(), IS_OVER),
        (Failed(), IS_OVER),
        (Crashed(), IS_OVER),
    ],
)
@pytest.mark.parametrize("state", [*STARTS, Running()])
def test_a_task_of_a_flow_that_is_over_is_cancelled(state: State[Any], flow: State[Any], reason: str) -> None:
    verdict = started(state, flow_state=flow)
    assert (stored(verdict), verdict.reason) == (("REJECT", StateType.CANCELLED, "Cancelled", reason), reason)


@pytest.mark.parametrize("flow", [Completed(), Failed(), Crashed()])
def test_a_task_that_was_left_on_purpose_outlives_the_end_of_its_flow(flow: State[Any]) -> None:
    assert started(Pending(), run={"outlives_flow": True}, flow_state=flow).kind == "ACCEPT"


@pytest.mark.parametrize("flow", [Cancelling(), Cancelled()])
def test_a_task_that_was_left_on_purpose_is_cancelled_with_its_flow(flow: State[Any]) -> None:
    assert started(Pending(), run={"outlives_flow": True}, flow_state=flow).reason == WAS_CANCELLED


@pytest.mark.parametrize("flow", [None, Pending(), Scheduled(), Running()])
@pytest.mark.parametrize("state", STARTS)
def test_a_task_of_a_living_flow_or_of_none_starts(state: State[Any], flow: State[Any] | None) -> None:
    assert started(state, flow_state=flow).kind == "ACCEPT"


def test_a_flow_within_a_flow_is_no_task() -> None:
    verdict = decide(RunRecord(kind="flow", state=Pending()), Running(), Facts("attempt", flow_state=Paused()), AT)
    assert verdict.kind == "ACCEPT"


# --- upstreams --------------------------------------------------------------------------------------------------------

DONE, NOT_DONE = Upstream("u1", Completed()), "Upstream task run 'u2' did not reach a 'COMPLETED' state."


@pytest.mark.parametrize(
    ("others", "number"),
    [
        ([Running()], 1),
        ([Pending(), Failed()], 1),
        ([Pending(), Scheduled(), Running(), Paused(), Cancelling()], 5),
        ([None, Running()], 1),
    ],
)
@pytest.mark.parametrize("trigger_met", [None, True, False])
def test_a_run_waits_until_its_upstreams_are_final(
    others: list[State[Any] | None], number: int, trigger_met: bool | None
) -> None:
    upstreams = [DONE, *(Upstream("u2", state) for state in others)]
    verdict = started(Pending(), upstreams=upstreams, trigger_met=trigger_met)
    assert verdict == Verdict("WAIT", None, f"Upstream runs are not finished: {number}")


@pytest.mark.parametrize(
    ("upstreams", "trigger_met", "why", "reason"),
    [
        ([DONE, Upstream("u2", Failed()), Upstream("u3", Crashed())], None, "", NOT_DONE),
        ([DONE, Upstream("u2", Crashed())], None, "", NOT_DONE),
        ([DONE, Upstream("u2", Cancelled())], None, "", NOT_DONE),
        ([Upstream("u1", None), Upstream("u2", Failed())], None, "", NOT_DONE),
        ([DONE], False, "", "Trigger failed"),
        ([DONE], False, 'Trigger was "all_failed" but some succeeded.', 'Trigger was "all_failed" but some succeeded.'),
        ([DONE, Upstream("u2", None)], None, "", "Upstream task run 'u2' is gone."),
        ([DONE, Upstream("u2", None)], True, "", "Upstream task run 'u2' is gone."),
        ([DONE, Upstream("u2", None, allow_failure=True)], None, "", "Upstream task run 'u2' is gone."),
    ],
)
@pytest.mark.parametrize("state", [Pending(), Scheduled(scheduled_time=PAST)])
def test_a_run_whose_trigger_is_not_met_fails_and_says_why(
    state: State[Any], upstreams: list[Upstream], trigger_met: bool | None, why: str, reason: str
) -> None:
    verdict = started(state, run={"retries": 5}, upstreams=upstreams, trigger_met=trigger_met, why=why)
    assert verdict.state is not None
    assert (*stored(verdict), verdict.reason, type(verdict.state.data), str(verdict.state.data)) == (
        "REJECT",
        StateType.FAILED,
        "TriggerFailed",
        reason,
        reason,
        UpstreamTaskError,
        reason,
    )


@pytest.mark.parametrize(
    ("upstreams", "trigger_met"),
    [
        ([], None),
        ([DONE, Upstream("u2", Completed(name="Skipped"))], None),
        ([Upstream("u2", state, allow_failure=True) for state in (Failed(), Crashed(), Cancelled())], None),
        ([Upstream("u2", Failed())], True),
    ],
)
def test_a_run_whose_trigger_is_met_starts(upstreams: list[Upstream], trigger_met: bool | None) -> None:
    assert started(Pending(), upstreams=upstreams, trigger_met=trigger_met).kind == "ACCEPT"


def test_the_next_attempt_asks_no_upstream_again() -> None:
    assert started(Running(), upstreams=[Upstream("u2", Failed())]).kind == "ACCEPT"


# --- the cache --------------------------------------------------------------------------------------------------------


def asking(**details: Any) -> State[Any]:
    return Running(state_details=StateDetails(cache_key="k", **details))


def cached(state: State[Any], expiration: datetime | None = None) -> State[Any]:
    return state.copy(update={"state_details": {"cache_expiration": expiration, "task_run_id": "maker", "seq": 3}})


RECORD = ResultRecord(ResultRecordMetadata(storage_key="k", run_id="maker"), 42)


@pytest.mark.parametrize("expiration", [None, SOON])
@pytest.mark.parametrize("state", [*STARTS, Running()])
def test_a_cached_result_ends_the_run_with_a_fresh_copy(state: State[Any], expiration: datetime | None) -> None:
    asked = asking(transition_id="t", refresh_cache=False)
    found = cached(Completed(data=RECORD), expiration)
    verdict = started(state, asked, cache=found)
    copy = verdict.state
    assert copy is not None
    assert (verdict.reason, copy.id == found.id, copy.data is RECORD) == ("Retrieved state from cache", False, True)
    assert (verdict.kind, copy.name, copy.timestamp, copy.state_details) == (
        "REJECT",
        "Cached",
        AT,
        StateDetails(task_run_id="maker", cache_key="k", cache_expiration=expiration, transition_id="t"),
    )


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (Running(), cached(Completed(data=RECORD))),
        (asking(refresh_cache=True), cached(Completed(data=RECORD))),
        (asking(), None),
        (asking(), cached(Completed(data=RECORD), AT)),
        (asking(), cached(Completed(data=RECORD), PAST)),
        (asking(), cached(Failed())),
        (asking(), cached(Crashed())),
        (asking(), cached(Cancelled())),
        (asking(), cached(Running())),
    ],
)
def test_without_a_living_result_of_a_completed_run_the_body_is_called(
    asked: State[Any], found: State[Any] | None
) -> None:
    assert started(Pending(), asked, cache=found) == Verdict("ACCEPT", asked)


def test_a_flow_reads_no_cache() -> None:
    asked = asking()
    verdict = decide(RunRecord(kind="flow", state=Pending()), asked, Facts("attempt", cache=Completed()), AT)
    assert verdict == Verdict("ACCEPT", asked)
