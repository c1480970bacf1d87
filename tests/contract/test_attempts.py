"""How an attempt or a client moves one run: what a proposal does, when it is refused, and what its repeat does."""

from collections.abc import Callable

import pytest

from shared.commands import Claim, Outcome, Recorded, Seat
from shared.errors import RedisUnavailable
from shared.upkeep import Death
from tests.support.ledgers import (
    CANCELLED,
    CANCELLING,
    COMPLETED,
    FAILED,
    RETRYING,
    RUNNING,
    Store,
    asked_to_cancel,
    counts,
    fields_of,
    held_by,
    keyspace,
    one_begun,
    one_submitted,
    quarantined,
    queued,
    report,
    reported,
    retry_in,
    rows_of,
    seated,
    told_by,
)

CRASHED = FAILED._replace(state_type="CRASHED", state_name="Crashed")
PENDING = Outcome("PENDING", "Pending")


def restarted(store: Store, claim: Claim, operation: str = "op") -> Recorded:
    """The answer to an attempt that failed and begins its run's next one in place."""
    return store.ledger.propose(claim.run_id, RETRYING, operation, token=claim.token, worker="w1")


# --- tokens -----------------------------------------------------------------------------------------------------------


def _given_back(store: Store, claim: Claim) -> None:
    store.ledger.give_back("w1", [(claim.run_id, claim.token)], "Given back.")


def _reaped(store: Store, _claim: Claim) -> None:
    store.ledger.reap([Death("w1", "it was killed")])


def _retried(store: Store, claim: Claim) -> None:
    store.ledger.propose(claim.run_id, retry_in(100), "retry", token=claim.token, worker="w1")


def _restarted(store: Store, claim: Claim) -> None:
    restarted(store, claim)


def token_of(store: Store, run_id: str) -> int:
    return int(fields_of(store, run_id)["token"])


@pytest.mark.parametrize("step", [_given_back, _reaped, _retried, _restarted])
def test_whatever_ends_an_attempt_raises_the_token(store: Store, step: Callable[[Store, Claim], None]) -> None:
    _, claim = held_by(store.ledger)
    step(store, claim)
    assert token_of(store, claim.run_id) > int(claim.token)


def test_each_begin_raises_the_token_also_on_a_server_whose_clock_was_set_back(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    seat = seated(store.ledger)
    future = 4_000_000_000_000_000
    store.client.hset(f"rq:job:{run_id}", "token", future)
    claim = one_begun(store.ledger, seat)
    _given_back(store, claim)
    assert (claim.token, token_of(store, run_id), one_begun(store.ledger, seat).token) == (
        str(future + 1),
        future + 2,
        str(future + 3),
    )


def test_a_token_is_the_servers_time_in_microseconds(store: Store) -> None:
    seconds, microseconds = store.client.time()
    _, claim = held_by(store.ledger)
    assert 0 < int(claim.token) - (seconds * 1_000_000 + microseconds) < 10_000_000


@pytest.mark.parametrize("step", [_given_back, _reaped, _retried, _restarted])
def test_a_report_with_an_old_token_leaves_the_run_as_it_is_byte_for_byte(
    store: Store, step: Callable[[Store, Claim], None]
) -> None:
    _, claim = held_by(store.ledger)
    step(store, claim)
    before = {key: value for key, value in keyspace(store).items() if claim.run_id in key}
    assert reported(store.ledger, seated(store.ledger, "w2"), report(claim)) == ["FENCED"]
    assert {key: value for key, value in keyspace(store).items() if claim.run_id in key} == before


# --- an attempt's own proposals ---------------------------------------------------------------------------------------


def test_an_attempt_begins_the_next_one_in_place(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    answer = restarted(store, claim)
    fields, run_id = fields_of(store, claim.run_id), claim.run_id
    assert answer == Recorded("OK", fields["token"], 2, 2, 3, "RUNNING", "Retrying", fields["state_time"])
    assert told_by(rows_of(store, run_id)[-1:], "type", "name", "message", "attempt", "worker") == [
        ("RUNNING", "Retrying", "ValueError: no", 2, "w1")
    ]
    assert (
        store.client.hgetall("baton:worker:w1:runs"),
        store.client.zrange("rq:wip:q", 0, -1),
        store.client.zrange("baton:running", 0, -1),
        counts(store),
    ) == ({run_id: f"{answer.token} 1 1"}, [f"{run_id}:{answer.token}"], [run_id], {"RUNNING": 1})
    assert reported(store.ledger, seat, report(claim), report(claim)._replace(token=answer.token)) == ["FENCED", "OK"]


def test_an_attempt_may_propose_its_end_itself(store: Store) -> None:
    _, claim = held_by(store.ledger)
    answer = store.ledger.propose(claim.run_id, COMPLETED, "op", token=claim.token, worker="w1")
    assert (answer.tag, answer.state_type, answer.seq) == ("OK", "COMPLETED", 3)
    assert (
        store.client.zrange("rq:finished:q", 0, -1),
        store.client.hgetall("baton:worker:w1:runs"),
        counts(store),
    ) == (
        [claim.run_id],
        {},
        {},
    )


@pytest.mark.parametrize("outcome", [RETRYING, COMPLETED, retry_in(60)])
def test_a_repeat_of_the_same_operation_answers_what_holds_and_writes_nothing(store: Store, outcome: Outcome) -> None:
    _, claim = held_by(store.ledger)
    first = store.ledger.propose(claim.run_id, outcome, "op", token=claim.token, worker="w1")
    before = keyspace(store)
    again = store.ledger.propose(claim.run_id, outcome, "op", token=claim.token, worker="w1")
    assert (first.tag, again, keyspace(store)) == ("OK", first, before)


def test_a_repeat_does_not_learn_the_token_of_an_attempt_in_other_hands(store: Store) -> None:
    _, claim = held_by(store.ledger)
    mine = restarted(store, claim)
    store.ledger.reap([Death("w1", "it was killed")])
    theirs = one_begun(store.ledger, seated(store.ledger, "w2"))
    seated(store.ledger, "w3")
    before = keyspace(store)
    buried = restarted(store, claim)
    alive = store.ledger.propose(claim.run_id, RETRYING, "op", token=claim.token, worker="w3")
    assert (mine.tag, buried.tag, alive.tag) == ("OK", "BURIED", "FENCED")
    assert (keyspace(store), int(theirs.token) > int(mine.token)) == (before, True)


def test_the_operations_of_an_attempt_and_of_clients_do_not_forget_each_other(store: Store) -> None:
    _, claim = held_by(store.ledger)
    first = restarted(store, claim)
    asked_to_cancel(store.ledger, claim.run_id)
    again = restarted(store, claim)
    assert (again.tag, again.token, again.state_type) == ("OK", first.token, "CANCELLING")


# --- refusals ---------------------------------------------------------------------------------------------------------


def _by_an_old_token(store: Store) -> Recorded:
    _, claim = held_by(store.ledger)
    _given_back(store, claim)
    return restarted(store, claim)


def _by_the_token_of_an_attempt_that_has_ended_in_a_retry(store: Store) -> Recorded:
    seat, claim = held_by(store.ledger)
    reported(store.ledger, seat, report(claim, retry_in(100)))
    return restarted(store, claim)


def _by_an_old_seq(store: Store) -> Recorded:
    _, claim = held_by(store.ledger)
    return store.ledger.propose(claim.run_id, CANCELLED, "op", seq=1)


def _after_the_end(store: Store) -> Recorded:
    run_id = one_submitted(store.ledger)
    store.ledger.propose(run_id, CANCELLED, "first", seq=1)
    return store.ledger.propose(run_id, CANCELLED, "second", seq=2)


def _after_its_own_end(store: Store) -> Recorded:
    seat, claim = held_by(store.ledger)
    reported(store.ledger, seat, report(claim))
    return restarted(store, claim)


def _while_it_is_to_be_cancelled(store: Store) -> Recorded:
    _, claim = held_by(store.ledger)
    asked_to_cancel(store.ledger, claim.run_id)
    return restarted(store, claim)


def _by_a_worker_without_a_lease(store: Store) -> Recorded:
    run_id = one_submitted(store.ledger)
    return store.ledger.propose(run_id, RUNNING, "op", seq=1, worker="w9")


def _by_nobody(store: Store) -> Recorded:
    return store.ledger.propose(one_submitted(store.ledger), RUNNING, "op", seq=1)


def _of_no_run(store: Store) -> Recorded:
    return store.ledger.propose("no-run", CANCELLED, "op", seq=1)


def _of_a_run_that_cannot_be_read(store: Store) -> Recorded:
    run_id = one_submitted(store.ledger)
    store.client.hdel(f"rq:job:{run_id}", "task")
    return store.ledger.propose(run_id, CANCELLED, "op", seq=1)


def _of_a_run_whose_place_is_taken(store: Store) -> Recorded:
    run_id = one_submitted(store.ledger)
    store.client.set("rq:canceled:q", "not ours")
    return store.ledger.propose(run_id, CANCELLED, "op", seq=1)


REFUSED = {
    _by_an_old_token: "FENCED",
    _by_the_token_of_an_attempt_that_has_ended_in_a_retry: "FENCED",
    _by_an_old_seq: "CHANGED",
    _after_the_end: "TERMINAL",
    _after_its_own_end: "TERMINAL",
    _while_it_is_to_be_cancelled: "CANCELLING",
    _by_a_worker_without_a_lease: "BURIED",
    _by_nobody: "BURIED",
    _of_no_run: "GONE",
    _of_a_run_that_cannot_be_read: "BROKEN",
    _of_a_run_whose_place_is_taken: "BROKEN",
}


@pytest.mark.parametrize(("proposal", "tag"), REFUSED.items(), ids=[each.__name__ for each in REFUSED])
def test_a_proposal_is_refused(store: Store, proposal: Callable[[Store], Recorded], tag: str) -> None:
    assert proposal(store).tag == tag


def test_a_refused_proposal_writes_nothing(store: Store) -> None:
    _, claim = held_by(store.ledger)
    asked_to_cancel(store.ledger, claim.run_id)
    before = keyspace(store)
    for known in ({"token": "1"}, {"seq": 1}, {"token": claim.token}, {"seq": 3}):
        store.ledger.propose(claim.run_id, RETRYING, "op", worker="w1", **known)
    assert keyspace(store) == before


def test_a_proposal_of_what_is_no_state_is_refused_before_anything_is_written(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    before = keyspace(store)
    with pytest.raises(RedisUnavailable, match="NONSENSE is no state"):
        store.ledger.propose(run_id, Outcome("NONSENSE", "Nonsense"), "op", seq=1)
    assert keyspace(store) == before


# --- clients ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [None, 100.0])
@pytest.mark.parametrize(
    ("outcome", "registry"), [(CANCELLED, "canceled"), (FAILED, "failed"), (COMPLETED, "finished"), (CRASHED, "failed")]
)
def test_a_client_ends_a_waiting_run(store: Store, delay: float | None, outcome: Outcome, registry: str) -> None:
    run_id = one_submitted(store.ledger, delay=delay)
    answer = store.ledger.propose(run_id, outcome, "op", seq=1, actor="alice")
    assert (answer.tag, answer.seq, answer.state_type) == ("OK", 2, outcome.state_type)
    assert told_by(rows_of(store, run_id)[-1:], "type", "actor", "worker", "attempt") == [
        (outcome.state_type, "alice", None, None)
    ]
    assert (
        store.client.zrange(f"rq:{registry}:q", 0, -1),
        store.client.zcard("rq:scheduled:q"),
        counts(store),
        store.ledger.cycle(seated(store.ledger), [], 1).claims,
    ) == ([run_id], 0, {}, [])


def test_an_end_without_a_retention_still_leaves_a_whole_record(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.ledger.propose(run_id, Outcome("CANCELLED", "Cancelled"), "op", seq=1)
    assert (fields_of(store, run_id)["task"], len(rows_of(store, run_id))) == ("shop.add", 2)


@pytest.mark.parametrize("delay", [None, 100.0])
def test_a_process_of_a_client_begins_a_waiting_run_itself(store: Store, delay: float | None) -> None:
    run_id = one_submitted(store.ledger, delay=delay)
    seated(store.ledger, "inline-1")
    answer = store.ledger.propose(run_id, RUNNING, "op", seq=1, worker="inline-1")
    assert (answer.tag, answer.attempt, answer.state_name) == ("OK", 1, "Running")
    assert (
        store.client.hgetall("baton:worker:inline-1:runs"),
        store.client.zcard("rq:scheduled:q"),
        counts(store),
    ) == (
        {run_id: f"{answer.token} 0 1"},
        0,
        {"RUNNING": 1},
    )
    assert store.ledger.cycle(seated(store.ledger), [], 1).claims == []


def test_a_scheduled_run_can_be_queued_before_its_time(store: Store) -> None:
    run_id = one_submitted(store.ledger, delay=100)
    assert store.ledger.propose(run_id, PENDING, "op", seq=1).tag == "OK"
    assert (queued(store), store.client.zcard("rq:scheduled:q"), counts(store)) == ([run_id], 0, {"PENDING": 1})


def test_a_waiting_run_that_is_scheduled_counts_as_no_retry(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    later = retry_in(100)._replace(state_name="Scheduled")
    assert store.ledger.propose(run_id, later, "op", seq=1).tag == "OK"
    day = store.client.hgetall(f"baton:stats:{fields_of(store, run_id)['created_at'][:10]}")
    assert (day, counts(store), store.ledger.cycle(seated(store.ledger), [], 1).claims) == (
        {"submitted": "1"},
        {"SCHEDULED": 1},
        [],
    )


def test_of_two_clients_who_know_the_same_the_first_one_is_heard(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    answers = [store.ledger.propose(run_id, CANCELLED, name, seq=1, actor=name).tag for name in ("alice", "bob")]
    assert (answers, rows_of(store, run_id)[-1]["actor"]) == (["OK", "CHANGED"], "alice")


def test_a_client_forces_the_end_of_a_run_that_is_held(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    answer = store.ledger.propose(claim.run_id, FAILED, "force", seq=2, actor="alice")
    assert (answer.tag, store.client.hgetall("baton:worker:w1:runs"), store.client.zcard("rq:wip:q")) == ("OK", {}, 0)
    assert (reported(store.ledger, seat, report(claim)), [entry["run"] for entry in quarantined(store)]) == (
        ["FENCED"],
        [claim.run_id],
    )


def test_who_is_to_be_cancelled_can_be_asked_again_and_then_told_to_be_cancelled(store: Store) -> None:
    _, claim = held_by(store.ledger)
    answers = [
        store.ledger.propose(claim.run_id, outcome, name, seq=seq).tag
        for outcome, name, seq in ((CANCELLING, "a", 2), (COMPLETED, "b", 3), (CANCELLED, "c", 3))
    ]
    assert (answers, fields_of(store, claim.run_id)["state_type"]) == (["OK", "CANCELLING", "OK"], "CANCELLED")


def test_a_run_moves_only_as_its_worker_and_its_clients_say(store: Store) -> None:
    seat: Seat
    seat, claim = held_by(store.ledger)
    restarted(store, claim, "first")
    second = store.ledger.get(claim.run_id)
    answer = store.ledger.propose(claim.run_id, retry_in(0), "second", token=fields_of(store, claim.run_id)["token"])
    store.ledger.promote()
    third = one_begun(store.ledger, seat)
    reported(store.ledger, seat, report(third))
    assert (second.attempt, answer.state_type, third.attempt) == (2, "SCHEDULED", 3)
    assert told_by(rows_of(store, claim.run_id), "seq", "type", "name", "attempt") == [
        (1, "PENDING", "Pending", None),
        (2, "RUNNING", "Running", 1),
        (3, "RUNNING", "Retrying", 2),
        (4, "SCHEDULED", "AwaitingRetry", 2),
        (5, "PENDING", "Pending", 2),
        (6, "RUNNING", "Retrying", 3),
        (7, "COMPLETED", "Completed", 3),
    ]
