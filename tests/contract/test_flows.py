"""Runs of a flow in Redis: which of them begin when the flow has ended, and which a flow that runs again takes over."""

import pytest

from shared.commands import NewRun, Outcome
from shared.runs import FlowRun
from tests.support.invariants import faults
from tests.support.ledgers import (
    CANCELLED,
    COMPLETED,
    FAILED,
    KEPT,
    Store,
    begun,
    ended,
    fields_of,
    new_run,
    one_begun,
    report,
    reported,
    rows_of,
    seated,
)

CRASHED = Outcome("CRASHED", "Crashed", "gone", retention=KEPT)
ENCLOSING = "The enclosing flow must be running to begin task execution."


def accepted(store: Store, **fields: str) -> str:
    """The id of a run that was accepted with these fields."""
    run = new_run(fields={**fields, "ties": "1"})
    assert store.ledger.submit([run]) == ["OK"]
    return run.id


def flow_that_ended(store: Store, outcome: Outcome) -> str:
    """A flow that has ended so."""
    flow = accepted(store, kind="flow")
    ended(store.ledger, seated(store.ledger, "w0"), flow, outcome)
    return flow


def last_row(store: Store, run_id: str) -> tuple[str, str | None]:
    row = rows_of(store, run_id)[-1]
    return row["name"], row.get("message")


# --- after the flow's end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [COMPLETED, FAILED, CRASHED], ids=lambda outcome: outcome.state_type)
def test_a_run_whose_flow_has_ended_does_not_begin(store: Store, outcome: Outcome) -> None:
    flow = flow_that_ended(store, outcome)
    child = accepted(store, flow=flow, parent=flow)
    assert store.ledger.cycle(seated(store.ledger), [], 1).claims == []
    assert (last_row(store, child), faults(store)) == (("Cancelled", ENCLOSING), [])


def test_one_that_was_left_on_purpose_begins_and_so_does_what_it_submits(store: Store) -> None:
    flow = flow_that_ended(store, COMPLETED)
    left = accepted(store, flow=flow, parent=flow, outlives_flow="1")
    below = accepted(store, flow=flow, parent=left)
    seat = seated(store.ledger)
    assert [claim.run_id for claim in begun(store.ledger, seat, 2)] == [left, below]
    assert faults(store) == []


def test_what_a_flow_submits_that_was_left_does_not_outlive_that_flow(store: Store) -> None:
    inner = accepted(store, kind="flow", outlives_flow="1")
    assert "outlives_flow" not in fields_of(store, accepted(store, flow=inner, parent=inner))


def test_a_flow_below_a_flow_that_has_ended_begins(store: Store) -> None:
    flow = flow_that_ended(store, FAILED)
    inner = accepted(store, kind="flow", flow=flow, parent=flow)
    assert one_begun(store.ledger, seated(store.ledger)).run_id == inner


def test_a_run_whose_flow_waits_for_its_next_attempt_begins(store: Store) -> None:
    flow = accepted(store, kind="flow")
    seat = seated(store.ledger)
    retry = Outcome("SCHEDULED", "AwaitingRetry", "no", retention=KEPT, delay=60)
    assert reported(store.ledger, seat, report(one_begun(store.ledger, seat), retry)) == ["OK"]
    child = accepted(store, flow=flow, parent=flow)
    assert one_begun(store.ledger, seat).run_id == child


def test_a_flow_whose_submitter_did_not_know_is_known_by_its_runs(store: Store) -> None:
    flow = accepted(store)
    accepted(store, flow=flow, parent=flow)
    assert (fields_of(store, flow)["kind"], type(store.ledger.get(flow)), faults(store)) == ("flow", FlowRun, [])


@pytest.mark.parametrize(
    ("outcome", "name", "message"),
    [
        (FAILED, "Cancelled", "The flow that submitted it ended."),
        (CRASHED, "Cancelled", "The flow that submitted it ended."),
        (CANCELLED, "Cancelled", "The parent flow run was cancelled."),
        (COMPLETED, "Pending", None),
    ],
    ids=lambda value: getattr(value, "state_type", None),
)
def test_what_a_flow_without_a_result_has_submitted_is_cancelled(
    store: Store, outcome: Outcome, name: str, message: str | None
) -> None:
    flow = accepted(store, kind="flow")
    child, left = (accepted(store, flow=flow, parent=flow, **more) for more in ({}, {"outlives_flow": "1"}))
    ended(store.ledger, seated(store.ledger), flow, outcome)
    store.ledger.go_on(5)
    assert last_row(store, child) == (name, message)
    assert last_row(store, left)[0] == ("Cancelled" if outcome is CANCELLED else "Pending")
    assert faults(store) == []


def test_what_a_task_that_failed_has_submitted_goes_on(store: Store) -> None:
    parent = accepted(store)
    child = accepted(store, parent=parent)
    ended(store.ledger, seated(store.ledger), parent, FAILED)
    store.ledger.go_on(5)
    assert last_row(store, child)[0] == "Pending"


# --- running again ----------------------------------------------------------------------------------------------------


def again() -> NewRun:
    return new_run(ties=[("idem", "flow:f:d:1"), ("digest", "d"), ("again", "1")])


@pytest.mark.parametrize(
    ("outcome", "is_same"),
    [(None, True), (COMPLETED, True), (FAILED, False), (CANCELLED, False), (CRASHED, False)],
    ids=["waiting", "COMPLETED", "FAILED", "CANCELLED", "CRASHED"],
)
def test_what_was_submitted_before_is_taken_over_unless_it_has_no_result(
    store: Store, outcome: Outcome | None, *, is_same: bool
) -> None:
    first, second, third = again(), again(), again()
    assert store.ledger.submit([first]) == ["OK"]
    if outcome is not None:
        ended(store.ledger, seated(store.ledger), first.id, outcome)
    holder = first.id if is_same else second.id
    assert store.ledger.submit([second]) == [f"SAME {first.id}" if is_same else "OK"]
    assert store.ledger.submit([third, second]) == [f"SAME {holder}", f"SAME {first.id}" if is_same else "EXISTS"]
    assert faults(store) == []


def test_one_that_runs_is_taken_over(store: Store) -> None:
    first = again()
    store.ledger.submit([first])
    one_begun(store.ledger, seated(store.ledger))
    assert store.ledger.submit([again()]) == [f"SAME {first.id}"]


def test_the_children_of_a_run_are_told(store: Store) -> None:
    flow = accepted(store, kind="flow")
    children = {accepted(store, flow=flow, parent=flow) for _ in range(3)}
    assert (set(store.ledger.children(flow)), store.ledger.children("nobody")) == (children, [])
