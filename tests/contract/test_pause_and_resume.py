"""Pauses: of runs, in their process and without one, and of whole queues."""

import pytest

from shared.commands import Claim, Seat
from shared.steering import Steered
from shared.upkeep import Death
from tests.support.invariants import faults
from tests.support.ledgers import (
    COMPLETED,
    KEPT,
    PAUSED_IN_PLACE,
    Store,
    counts,
    ended,
    fields_of,
    held_by,
    keyspace,
    lifetimes_of,
    one_begun,
    one_submitted,
    queued,
    report,
    reported,
    rows_of,
    seated,
    seq_of,
    state_of,
    submitted,
    suspended_for,
    tokens_lying,
    told_by,
)

FLOW = {"kind": "flow", "ties": "1"}
IS_QUEUED = ("PENDING", "Pending", None)


def resumed(store: Store, run_id: str, given: bytes = b"") -> Steered:
    return store.ledger.resume(run_id, seq_of(store, run_id), "go", actor="alice", given=given)


def suspended(store: Store, seconds: float = 0, **given: object) -> tuple[Seat, Claim]:
    """A run that left its process to wait for a resumption."""
    seat, claim = held_by(store.ledger, **given)
    assert reported(store.ledger, seat, report(claim, suspended_for(seconds))) == ["OK"]
    return seat, claim


def paused_in_place(store: Store) -> tuple[Seat, Claim]:
    """A flow that waits for a resumption in its process."""
    seat, claim = held_by(store.ledger, fields=FLOW)
    answer = store.ledger.propose(claim.run_id, PAUSED_IN_PLACE, "pause", token=claim.token, worker="w1")
    assert (answer.tag, answer.token) == ("OK", claim.token)
    return seat, claim


# --- runs without a process -------------------------------------------------------------------------------------------


def test_a_suspended_run_leaves_its_process_and_counts_no_attempt(store: Store) -> None:
    _, claim = suspended(store)
    fields = fields_of(store, claim.run_id)
    assert (state_of(store, claim.run_id), fields["status"], fields["run_count"]) == (
        ("PAUSED", "Suspended", None),
        "deferred",
        "0",
    )
    assert store.client.zrange("baton:paused", 0, -1, withscores=True) == [(claim.run_id, float("inf"))]
    assert (counts(store), int(fields["token"]) > int(claim.token), faults(store)) == ({"PAUSED": 1}, True, [])


def test_a_suspended_task_goes_on_as_a_new_attempt(store: Store) -> None:
    seat, claim = suspended(store)
    answer = resumed(store, claim.run_id)
    stored = keyspace(store)
    again = store.ledger.resume(claim.run_id, 0, "go", actor="alice")
    assert (again, keyspace(store), queued(store)) == (answer, stored, [claim.run_id])
    assert (answer, told_by(rows_of(store, claim.run_id)[-1:], "type", "actor")) == (
        Steered("OK", 4, "PENDING", "Pending"),
        [("PENDING", "alice")],
    )
    attempt = one_begun(store.ledger, seat)
    assert (attempt.attempt, attempt.run_count, state_of(store, claim.run_id)[1]) == (2, 1, "Rerunning")
    assert faults(store) == []


def test_a_suspended_flow_is_due_at_once(store: Store) -> None:
    _, claim = suspended(store, fields=FLOW)
    resumed(store, claim.run_id)
    before = state_of(store, claim.run_id)
    store.ledger.promote()
    assert (before, queued(store), faults(store)) == (("SCHEDULED", "Resuming", None), [claim.run_id], [])


def test_an_input_is_kept_with_the_run_as_long_as_that(store: Store) -> None:
    seat, claim = suspended(store)
    resumed(store, claim.run_id, given=b"yes")
    kept = store.client.get(f"baton:run:{claim.run_id}:input")
    ended(store.ledger, seat, claim.run_id)
    assert (kept, lifetimes_of(store, claim.run_id), faults(store)) == ("yes", {KEPT}, [])


def test_a_pause_has_an_end(store: Store) -> None:
    _, claim = suspended(store, seconds=KEPT)
    early = (store.ledger.expire(), state_of(store, claim.run_id)[0])
    store.client.zincrby("baton:paused", -KEPT - 1, claim.run_id)
    late = resumed(store, claim.run_id).tag
    assert (early, late, store.ledger.expire(), store.ledger.expire()) == ((0, "PAUSED"), "LATE", 1, 0)
    assert told_by(rows_of(store, claim.run_id)[-1:], "type", "message") == [
        ("FAILED", "The task was suspended and never resumed.")
    ]
    assert (lifetimes_of(store, claim.run_id), faults(store)) == ({store.settings.retention_failed}, [])


def test_a_run_that_was_suspended_while_it_waited_for_others_waits_for_them_again(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    run_id = one_submitted(store.ledger, ties=[("up", upstream)])
    store.ledger.propose(run_id, suspended_for(0), "hold", seq=1, actor="alice")
    paused = (state_of(store, run_id), faults(store))
    resumed(store, run_id)
    waits = state_of(store, run_id)
    ended(store.ledger, seated(store.ledger), upstream)
    assert (paused, waits) == ((("PAUSED", "Suspended", None), []), ("PENDING", "Pending", "deferred"))
    assert (queued(store), faults(store)) == ([run_id], [])


def test_a_run_that_was_suspended_before_it_began_still_has_to_begin_in_time(store: Store) -> None:
    run_id = one_submitted(store.ledger, ties=[("within", 60)])
    store.ledger.propose(run_id, suspended_for(KEPT), "hold", seq=1, actor="alice")
    store.client.zincrby("baton:deadlines", -61, run_id)
    store.ledger.expire()
    assert (state_of(store, run_id), faults(store)) == (("CANCELLED", "Expired", None), [])


# --- in their process -------------------------------------------------------------------------------------------------


def test_a_flow_that_pauses_stays_with_its_process_and_its_token(store: Store) -> None:
    seat, claim = paused_in_place(store)
    assert (state_of(store, claim.run_id), fields_of(store, claim.run_id)["status"], counts(store)) == (
        ("PAUSED", "Paused", "held"),
        "started",
        {"PAUSED": 1},
    )
    assert faults(store) == []
    assert reported(store.ledger, seat, report(claim)) == ["OK"]
    assert (state_of(store, claim.run_id)[0], faults(store)) == ("COMPLETED", [])


def test_a_paused_flow_goes_on_in_its_process(store: Store) -> None:
    seat, claim = paused_in_place(store)
    answer = resumed(store, claim.run_id, given=b"yes")
    stored = keyspace(store)
    again = store.ledger.resume(claim.run_id, 0, "go", actor="alice", given=b"yes")
    assert (again, keyspace(store), answer) == (answer, stored, Steered("OK", 4, "RUNNING", "Running"))
    assert (store.client.zcard("baton:deadlines"), faults(store)) == (0, [])
    assert reported(store.ledger, seat, report(claim)) == ["OK"]
    assert (fields_of(store, claim.run_id)["attempt"], faults(store)) == ("1", [])


def test_a_paused_flow_that_nobody_resumes_fails_and_its_process_is_fenced(store: Store) -> None:
    seat, claim = paused_in_place(store)
    store.client.zincrby("baton:deadlines", -KEPT - 1, claim.run_id)
    late = resumed(store, claim.run_id).tag
    store.ledger.expire()
    assert (late, reported(store.ledger, seat, report(claim))) == ("LATE", ["FENCED"])
    assert told_by(rows_of(store, claim.run_id)[-1:], "type", "message") == [
        ("FAILED", "The flow was paused and never resumed.")
    ]
    assert faults(store) == []


def test_the_end_of_a_pause_that_was_lost_with_its_process_ends_no_later_one(store: Store) -> None:
    _, claim = paused_in_place(store)
    store.ledger.reap([Death("w1", "killed by signal 9")])
    lost = (state_of(store, claim.run_id), store.client.zcard("baton:deadlines"))
    seat = seated(store.ledger, "w2")
    reported(store.ledger, seat, report(one_begun(store.ledger, seat), suspended_for(0)))
    assert (lost, store.ledger.expire(), faults(store)) == ((IS_QUEUED, 0), 0, [])


def test_only_a_flow_pauses_in_its_process(store: Store) -> None:
    _, claim = held_by(store.ledger)
    store.ledger.propose(claim.run_id, PAUSED_IN_PLACE, "pause", token=claim.token, worker="w1")
    assert (state_of(store, claim.run_id), faults(store)) == (("PAUSED", "Paused", None), [])


# --- what cannot be resumed -------------------------------------------------------------------------------------------


def test_what_is_not_paused_is_not_resumed(store: Store) -> None:
    waiting = one_submitted(store.ledger)
    over = one_submitted(store.ledger, queue="other")
    ended(store.ledger, seated(store.ledger, "w1", "other"), over, COMPLETED)
    before = keyspace(store)
    answers = [resumed(store, run_id).tag for run_id in (waiting, over)]
    answers.append(store.ledger.resume(waiting, 7, "go", actor="alice").tag)
    assert (answers, keyspace(store)) == (["RUNNING", "TERMINAL", "CHANGED"], before)


# --- queues -----------------------------------------------------------------------------------------------------------


def test_a_paused_queue_hands_out_nothing_and_takes_everything(store: Store) -> None:
    seat = seated(store.ledger)
    changed = [store.ledger.set_queue("q", "pause", "alice") for _ in range(2)]
    run_id = one_submitted(store.ledger)
    settings = store.client.hgetall("baton:queue:q")
    assert (changed, store.ledger.cycle(seat, [], 1).claims, queued(store)) == ([True, False], [], [run_id])
    assert (settings["paused_by"], settings["paused_at"] <= fields_of(store, run_id)["created_at"]) == ("alice", True)


def test_other_queues_of_a_worker_go_on(store: Store) -> None:
    store.ledger.set_queue("a", "pause", "alice")
    one_submitted(store.ledger, queue="a")
    run_id = one_submitted(store.ledger, queue="b")
    assert one_begun(store.ledger, seated(store.ledger, "w1", "a", "b")).run_id == run_id


def test_what_runs_already_goes_on_in_a_paused_queue(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    store.ledger.set_queue("q", "pause", "alice")
    assert reported(store.ledger, seat, report(claim)) == ["OK"]


@pytest.mark.parametrize(("number", "tokens"), [(0, 0), (3, 3), (20, 8)])
def test_a_resumed_queue_wakes_as_many_workers_as_have_work(store: Store, number: int, tokens: int) -> None:
    store.ledger.set_queue("q", "pause", "alice")
    ids = submitted(store.ledger, number) if number else []
    store.client.delete("baton:wake:q")
    store.ledger.promote()
    asleep = tokens_lying(store)
    changed = [store.ledger.set_queue("q", "resume") for _ in range(2)]
    assert (asleep, changed, tokens_lying(store), queued(store)) == (0, [True, False], tokens, ids)
    assert store.client.exists("baton:queue:q") == 0


@pytest.mark.parametrize("key", ["rq:queues", "baton:queue:q", "rq:queue:q"])
def test_where_a_key_is_something_else_a_queue_is_not_changed(store: Store, key: str) -> None:
    store.client.set(key, "not ours")
    before = keyspace(store)
    for what in ("pause", "resume", "cap", "uncap"):
        with pytest.raises(Exception, match=f"WRONGTYPE {key} is no"):
            store.ledger.set_queue("q", what, 1)
    assert keyspace(store) == before
