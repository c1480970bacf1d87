"""Cancelling: at once where nobody holds the run, by its process where one does, and whatever it submitted with it."""

from collections.abc import Callable

import pytest

from shared.commands import Claim, Seat
from shared.ids import new_id
from shared.steering import Steered
from shared.upkeep import Death, Ended, Pulse
from tests.support import places
from tests.support.invariants import faults
from tests.support.ledgers import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PAUSED_IN_PLACE,
    RUNNING,
    Outcome,
    Store,
    counts,
    ended,
    fields_of,
    held_by,
    keyspace,
    lifetimes_of,
    new_run,
    one_begun,
    one_submitted,
    queued,
    report,
    reported,
    retry_in,
    rows_of,
    seated,
    state_of,
    submitted,
    suspended_for,
    told_by,
)
from tests.support.waiting import eventually

IS_CANCELLED = Steered("OK", 0, "CANCELLED", "Cancelled")
IS_CANCELLING = Steered("OK", 0, "CANCELLING", "Cancelling")


def cancelled(store: Store, *run_ids: str) -> list[Steered]:
    return store.ledger.cancel(run_ids, actor="alice", message="No more.")


# --- runs that nobody holds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [*places.UNHELD, places.handed_out])
def test_what_has_not_begun_or_waits_is_cancelled_at_once(store: Store, made: Callable[[Store], str]) -> None:
    run_id = made(store)
    answers = cancelled(store, run_id)
    after = keyspace(store)
    answers += cancelled(store, run_id)
    assert (answers, keyspace(store)) == ([IS_CANCELLED] * 2, after)
    assert told_by(rows_of(store, run_id)[-1:], "type", "name", "message", "actor") == [
        ("CANCELLED", "Cancelled", "No more.", "alice")
    ]
    assert (lifetimes_of(store, run_id), faults(store)) == ({store.settings.retention_cancelled}, [])


def test_a_cancelled_run_that_lay_in_a_queue_is_never_begun(store: Store) -> None:
    first, second = submitted(store.ledger, 2)
    cancelled(store, first)
    assert (one_begun(store.ledger, seated(store.ledger)).run_id, queued(store)) == (second, [])


def test_whoever_was_handed_a_run_before_its_start_hears_that_it_has_ended(store: Store) -> None:
    run_id = places.handed_out(store)
    token = fields_of(store, run_id)["token"]
    cancelled(store, run_id)
    assert store.ledger.propose(run_id, RUNNING, "start", token=token, worker="w1").tag == "TERMINAL"
    assert faults(store) == []


# --- runs that a process holds ----------------------------------------------------------------------------------------


def test_a_running_run_is_its_processs_to_end(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    answers = cancelled(store, claim.run_id)
    after = keyspace(store)
    answers += cancelled(store, claim.run_id)
    assert (answers, keyspace(store), faults(store)) == ([IS_CANCELLING] * 2, after, [])
    beats = [store.ledger.beat([Pulse("w1", ["q"], {})]).to_cancel for _ in range(2)]
    assert beats == [[Ended("w1", claim.run_id, claim.token)]] * 2
    assert reported(store.ledger, seat, report(claim, CANCELLED)) == ["OK"]
    assert (state_of(store, claim.run_id)[0], store.client.zcard("baton:deadlines"), counts(store)) == (
        "CANCELLED",
        0,
        {},
    )
    assert faults(store) == []


@pytest.mark.parametrize("outcome", [COMPLETED, FAILED, retry_in(0), suspended_for(0)])
def test_whatever_its_body_still_returned_it_ends_cancelled(store: Store, outcome: Outcome) -> None:
    seat, claim = held_by(store.ledger)
    cancelled(store, claim.run_id)
    verdicts = reported(store.ledger, seat, report(claim, outcome))
    assert (verdicts, state_of(store, claim.run_id)[0]) == (["CANCELLED"], "CANCELLED")
    assert (lifetimes_of(store, claim.run_id), faults(store)) == ({store.settings.retention_cancelled}, [])


def test_a_flow_that_is_paused_in_its_process_is_its_processs_to_end(store: Store) -> None:
    seat, claim = held_by(store.ledger, fields={"kind": "flow", "ties": "1"})
    store.ledger.propose(claim.run_id, PAUSED_IN_PLACE, "pause", token=claim.token, worker="w1")
    answers = cancelled(store, claim.run_id)
    assert (answers, state_of(store, claim.run_id), faults(store)) == (
        [IS_CANCELLING],
        ("CANCELLING", "Cancelling", None),
        [],
    )
    assert reported(store.ledger, seat, report(claim, CANCELLED)) == ["OK"]
    assert faults(store) == []


def test_the_fleet_of_its_process_is_told_at_once(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.ledger.beat([Pulse("w1", ["q"], {"fleet": "f1"}, is_new=True)])
    one_begun(store.ledger, Seat("w1", ["q"]))
    with store.client.pubsub() as channel:
        channel.subscribe("baton:fleet:f1")
        eventually(lambda: channel.get_message(timeout=1))
        cancelled(store, run_id)
        told = eventually(lambda: channel.get_message(ignore_subscribe_messages=True, timeout=1))
    assert (told["type"], told["data"]) == ("message", "w1")


@pytest.mark.parametrize(("kind", "word"), [("task", "Task"), ("flow", "Flow")])
def test_a_process_that_does_not_end_it_in_time_is_fenced(store: Store, kind: str, word: str) -> None:
    seat, claim = held_by(store.ledger, fields={"kind": kind, "ties": "1"})
    cancelled(store, claim.run_id)
    early = store.ledger.expire()
    store.client.zincrby("baton:deadlines", -301, claim.run_id)
    answers = [store.ledger.expire(), store.ledger.expire()]
    assert (early, answers, reported(store.ledger, seat, report(claim))) == (0, [1, 0], ["FENCED"])
    message = f"{word} run cancellation timed out; marked this {kind} run as Cancelled."
    assert told_by(rows_of(store, claim.run_id)[-1:], "type", "message") == [("CANCELLED", message)]
    assert faults(store) == []


@pytest.mark.parametrize("way", ["reap", "give back"])
def test_a_process_that_lets_it_go_ends_it(store: Store, way: str) -> None:
    _, claim = held_by(store.ledger)
    cancelled(store, claim.run_id)
    if way == "reap":
        store.ledger.reap([Death("w1", "killed by signal 9")])
    else:
        store.ledger.give_back("w1", [(claim.run_id, claim.token)], "Stop.")
    assert (state_of(store, claim.run_id)[0], queued(store), faults(store)) == ("CANCELLED", [], [])


# --- what cannot be cancelled -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outcome", "tag"), [(COMPLETED, "TERMINAL"), (FAILED, "TERMINAL"), (CANCELLED, "OK")])
def test_what_has_ended_stays_as_it_is(store: Store, outcome: Outcome, tag: str) -> None:
    run_id = one_submitted(store.ledger)
    ended(store.ledger, seated(store.ledger), run_id, outcome)
    before = keyspace(store)
    answers = cancelled(store, run_id)
    assert (answers, keyspace(store)) == ([Steered(tag, 0, outcome.state_type, outcome.state_name)], before)


def test_what_is_unknown_or_unreadable_keeps_the_others_from_nothing(store: Store) -> None:
    first, broken, last = submitted(store.ledger, 3)
    store.client.hset(f"rq:job:{broken}", "seq", "x")
    answers = cancelled(store, first, new_id(), broken, last)
    assert answers == [IS_CANCELLED, Steered("GONE"), Steered("BROKEN"), IS_CANCELLED]


def test_many_are_cancelled_in_the_order_in_which_they_were_named(store: Store) -> None:
    ids = submitted(store.ledger, 501)
    assert cancelled(store, *ids) == [IS_CANCELLED] * 501
    assert (counts(store), cancelled(store), faults(store)) == ({}, [], [])


# --- children ---------------------------------------------------------------------------------------------------------


def child_of(store: Store, parent: str) -> str:
    return one_submitted(store.ledger, fields={"parent": parent})


def told_why(store: Store, run_id: str) -> tuple[object, ...]:
    return told_by(rows_of(store, run_id), "type", "message")[-1]


ORPHANED = "The parent flow run was cancelled."


def test_children_and_grandchildren_are_cancelled_with_it(store: Store) -> None:
    seat, parent = held_by(store.ledger)
    waiting, later = child_of(store, parent.run_id), child_of(store, parent.run_id)
    running = one_begun(store.ledger, seat)
    grandchild = child_of(store, running.run_id)
    assert running.run_id == waiting
    cancelled(store, parent.run_id)
    while store.ledger.go_on():
        pass
    assert [told_why(store, run_id) for run_id in (waiting, later, grandchild)] == [
        ("CANCELLING", ORPHANED),
        ("CANCELLED", ORPHANED),
        ("CANCELLED", ORPHANED),
    ]
    assert faults(store) == []


def test_children_of_a_run_that_nobody_holds_are_cancelled_too(store: Store) -> None:
    seat, parent = held_by(store.ledger)
    child = child_of(store, parent.run_id)
    reported(store.ledger, seat, report(parent, suspended_for(0)))
    cancelled(store, parent.run_id)
    store.ledger.go_on(10)
    assert (told_why(store, child), faults(store)) == (("CANCELLED", ORPHANED), [])


def test_children_that_have_ended_stay_as_they_are(store: Store) -> None:
    seat, parent = held_by(store.ledger)
    child = child_of(store, parent.run_id)
    ended(store.ledger, seat, child)
    cancelled(store, parent.run_id)
    before = fields_of(store, child)
    assert (store.ledger.go_on(10), fields_of(store, child)) == (0, before)


def test_more_children_than_one_call_cancels_are_left_to_continuations(store: Store) -> None:
    _, parent = held_by(store.ledger)
    submitted(store.ledger, 1300, fields={"parent": parent.run_id})
    cancelled(store, parent.run_id)
    calls = 1
    while store.ledger.go_on():
        calls += 1
    assert (counts(store), calls < 20, faults(store)) == ({"CANCELLING": 1}, True, [])


@pytest.mark.parametrize("has_ended", [False, True])
def test_what_is_submitted_under_a_cancelled_run_is_cancelled_at_once(store: Store, has_ended: bool) -> None:
    seat, parent = held_by(store.ledger)
    cancelled(store, parent.run_id)
    if has_ended:
        reported(store.ledger, seat, report(parent, CANCELLED))
    ties = [("idem", "k"), ("digest", "d"), ("within", 60), ("up", one_submitted(store.ledger))]
    runs = [new_run(fields={"parent": parent.run_id}, ties=given) for given in (ties, [])]
    assert store.ledger.submit(runs) == ["OK", "OK"]
    assert [told_why(store, run.id) for run in runs] == [("CANCELLED", ORPHANED)] * 2
    assert faults(store) == []


def test_runs_of_a_cancelled_flow_that_wait_in_a_queue_are_not_begun(store: Store) -> None:
    seat, flow = held_by(store.ledger, fields={"kind": "flow", "ties": "1"})
    child = one_submitted(store.ledger, fields={"flow": flow.run_id, "ties": "1"})
    cancelled(store, flow.run_id)
    assert (store.ledger.cycle(seat, [], 1).claims, told_why(store, child)) == ([], ("CANCELLED", ORPHANED))
    assert faults(store) == []


def test_runs_that_depend_on_a_cancelled_one_are_queued_to_find_that(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    run_id = one_submitted(store.ledger, ties=[("up", upstream)])
    cancelled(store, upstream)
    claim: Claim = one_begun(store.ledger, seated(store.ledger))
    assert (claim.run_id, claim.state, faults(store)) == (run_id, "PENDING", [])
