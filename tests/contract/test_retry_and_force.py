"""What operators do with runs by hand: retry what has ended, and force any run into a state."""

from collections.abc import Callable

import pytest

from shared.errors import RedisUnavailable
from shared.ids import new_id
from shared.steering import Steered
from shared.upkeep import Death
from tests.support import places
from tests.support.invariants import faults
from tests.support.ledgers import (
    CANCELLED,
    COMPLETED,
    FAILED,
    KEPT,
    PENDING,
    Outcome,
    Store,
    counts,
    fields_of,
    held_by,
    keyspace,
    lifetimes_of,
    one_begun,
    one_submitted,
    queued,
    report,
    reported,
    retry_in,
    rows_of,
    seated,
    seq_of,
    state_of,
    suspended_for,
    told_by,
)

IS_QUEUED = ("PENDING", "Pending", None)


def retried(store: Store, run_id: str, *, delay: float = 0, rerun: bool = False) -> Steered:
    return store.ledger.retry(
        run_id, seq_of(store, run_id), "again", actor="alice", message="Fixed.", delay=delay, rerun=rerun
    )


def forced(store: Store, run_id: str, outcome: Outcome, operation: str = "force") -> Steered:
    return store.ledger.force(run_id, seq_of(store, run_id), operation, outcome, actor="alice")


# --- retry ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [places.failed, places.crashed, places.cancelled, places.completed])
def test_every_end_can_be_left_by_a_retry(store: Store, made: Callable[[Store], str]) -> None:
    run_id = made(store)
    token = int(fields_of(store, run_id).get("token", 0))
    answer = retried(store, run_id, rerun=made is places.completed)
    fields = fields_of(store, run_id)
    assert (answer, set(queued(store)), state_of(store, run_id)) == (
        Steered("OK", seq_of(store, run_id), "PENDING", "Pending"),
        {run_id},
        IS_QUEUED,
    )
    assert told_by(rows_of(store, run_id)[-1:], "type", "message", "actor") == [("PENDING", "Fixed.", "alice")]
    assert (fields["run_count"], fields["crashes"], int(fields["token"]) > token) == ("0", "0", True)
    assert fields.keys().isdisjoint({"ended_at", "error", "result"})
    assert (lifetimes_of(store, run_id), counts(store), faults(store)) == ({-1}, {"PENDING": 1}, [])


def test_what_has_completed_is_run_again_only_if_that_is_asked_for(store: Store) -> None:
    run_id = places.completed(store)
    before = keyspace(store)
    answer = retried(store, run_id)
    assert (answer, keyspace(store)) == (Steered("TERMINAL", 3, "COMPLETED", "Completed"), before)


@pytest.mark.parametrize("made", [places.failed, places.completed])
def test_result_and_traceback_of_the_old_end_are_gone(store: Store, made: Callable[[Store], str]) -> None:
    run_id = made(store)
    retried(store, run_id, rerun=True)
    left = store.client.keys(f"baton:run:{run_id}:*")
    assert sorted(left) == [f"baton:run:{run_id}:history", f"baton:run:{run_id}:parameters"]


def test_a_retry_is_a_new_attempt_with_its_own_budgets(store: Store) -> None:
    run_id = places.failed(store)
    retried(store, run_id)
    claim = one_begun(store.ledger, seated(store.ledger, "w2"))
    assert (claim.attempt, claim.run_count, claim.crashes) == (2, 1, 0)
    assert (state_of(store, run_id)[1], fields_of(store, run_id)["start_time"]) == (
        "Rerunning",
        rows_of(store, run_id)[1]["time"],
    )


def test_a_retry_may_come_later(store: Store) -> None:
    run_id = places.failed(store)
    answer = retried(store, run_id, delay=KEPT)
    before = (answer.state_type, state_of(store, run_id), queued(store))
    store.client.zadd("rq:scheduled:q", {run_id: 1})
    store.ledger.promote()
    assert before == ("SCHEDULED", ("SCHEDULED", "Scheduled", None), [])
    assert (queued(store), faults(store)) == ([run_id], [])


def test_a_repeat_answers_what_holds_and_another_is_told_that_the_run_has_changed(store: Store) -> None:
    run_id = places.failed(store)
    seq = seq_of(store, run_id)
    first = store.ledger.retry(run_id, seq, "mine", actor="alice")
    stored = keyspace(store)
    again = store.ledger.retry(run_id, seq, "mine", actor="alice")
    other = store.ledger.retry(run_id, seq, "theirs", actor="bob")
    assert (first, again, other.tag, keyspace(store)) == (again, first, "CHANGED", stored)
    one_begun(store.ledger, seated(store.ledger, "w2"))
    assert store.ledger.retry(run_id, seq, "mine", actor="alice") == Steered("OK", seq + 2, "RUNNING", "Rerunning")


@pytest.mark.parametrize("delay", [None, KEPT])
def test_what_has_not_ended_cannot_be_retried(store: Store, delay: float | None) -> None:
    run_id = one_submitted(store.ledger, delay=delay)
    before = keyspace(store)
    assert (retried(store, run_id).tag, keyspace(store)) == ("RUNNING", before)


def test_what_is_gone_or_unreadable_is_told_as_that(store: Store) -> None:
    broken = places.failed(store)
    store.client.hset(f"rq:job:{broken}", "crashes", "x")
    gone = new_id()
    answers = [store.ledger.retry(run_id, 1, "again", actor="alice") for run_id in (gone, broken)]
    answers += [store.ledger.force(run_id, 1, "again", FAILED, actor="alice") for run_id in (gone, broken)]
    answers += [store.ledger.resume(run_id, 1, "again", actor="alice") for run_id in (gone, broken)]
    assert answers == [Steered("GONE"), Steered("BROKEN")] * 3


def test_the_idempotency_key_of_a_retried_run_lives_as_long_as_the_run(store: Store) -> None:
    run_id = one_submitted(store.ledger, ties=[("idem", "k"), ("digest", "d")])
    seen = []
    store.ledger.cancel([run_id])
    seen.append(0 < store.client.ttl("baton:idem:k") <= 86400)
    retried(store, run_id)
    seen.append(store.client.ttl("baton:idem:k") == -1)
    store.ledger.cancel([run_id])
    seen.append(0 < store.client.ttl("baton:idem:k") <= 86400)
    assert (seen, faults(store)) == ([True, True, True], [])


def test_a_run_that_was_given_up_for_its_losses_has_a_whole_budget_again(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    for number in range(store.settings.crash_budget):
        one_begun(store.ledger, seated(store.ledger, f"w{number}"))
        store.ledger.reap([Death(f"w{number}", "killed by signal 9")])
    crashed = state_of(store, run_id)[0]
    retried(store, run_id)
    one_begun(store.ledger, seated(store.ledger, "last"))
    store.ledger.reap([Death("last", "killed by signal 9")])
    assert (crashed, state_of(store, run_id), fields_of(store, run_id)["crashes"]) == ("CRASHED", IS_QUEUED, "1")


def test_a_run_that_expired_does_not_expire_again(store: Store) -> None:
    run_id = one_submitted(store.ledger, ties=[("within", 0.000001)])
    store.ledger.expire()
    retried(store, run_id)
    store.ledger.expire()
    assert (one_begun(store.ledger, seated(store.ledger)).run_id, faults(store)) == (run_id, [])


# --- force ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", places.EVERYWHERE)
@pytest.mark.parametrize("outcome", [PENDING, COMPLETED, FAILED, CANCELLED, retry_in(KEPT), suspended_for(KEPT)])
def test_every_run_can_be_forced_into_every_state_but_a_running_one(
    store: Store, made: Callable[[Store], str], outcome: Outcome
) -> None:
    run_id = made(store)
    outcome = outcome._replace(message="It was stuck.")
    answer = forced(store, run_id, outcome)
    after = keyspace(store)
    assert (answer.tag, state_of(store, run_id)) == ("OK", (outcome.state_type, outcome.state_name, None))
    assert told_by(rows_of(store, run_id)[-1:], "type", "message", "actor") == [
        (outcome.state_type, "It was stuck.", "alice")
    ]
    again = store.ledger.force(run_id, 0, "force", outcome, actor="alice")
    assert (again, keyspace(store), faults(store)) == (answer, after, [])


def test_whoever_held_a_forced_run_is_fenced(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    forced(store, claim.run_id, PENDING)
    verdicts = reported(store.ledger, seat, report(claim))
    again = one_begun(store.ledger, seat)
    assert (verdicts, again.run_id, again.token > claim.token, faults(store)) == (["FENCED"], claim.run_id, True, [])


@pytest.mark.parametrize("state", ["RUNNING", "CANCELLING", "NONSENSE"])
def test_only_a_process_can_be_running(store: Store, state: str) -> None:
    run_id = one_submitted(store.ledger)
    before = keyspace(store)
    with pytest.raises(RedisUnavailable, match=f"no run can be forced to be {state}"):
        forced(store, run_id, Outcome(state, state.title()))
    assert keyspace(store) == before


def test_a_forced_end_tells_those_that_wait_for_it(store: Store) -> None:
    upstream = one_submitted(store.ledger, delay=KEPT)
    run_id = one_submitted(store.ledger, ties=[("up", upstream)])
    forced(store, upstream, COMPLETED)
    assert (queued(store), store.ledger.get(upstream).state.result(), faults(store)) == ([run_id], 3, [])


def test_a_forced_cancellation_reaches_the_children(store: Store) -> None:
    run_id = places.running(store)
    child = one_submitted(store.ledger, fields={"parent": run_id})
    forced(store, run_id, CANCELLED)
    store.ledger.go_on()
    assert (state_of(store, child)[0], faults(store)) == ("CANCELLED", [])


def test_forcing_a_run_that_has_changed_since_it_was_read_changes_nothing(store: Store) -> None:
    run_id = places.failed(store)
    before = keyspace(store)
    answer = store.ledger.force(run_id, 1, "force", COMPLETED, actor="alice")
    assert (answer, keyspace(store)) == (Steered("CHANGED", 3, "FAILED", "Failed"), before)
