"""What any process may do at any time: queue what is due, wake who sleeps beside work, remove what is past its time."""

from collections.abc import Callable

import pytest

from shared.clock import parse_iso
from shared.upkeep import Promoted
from tests.support.ledgers import (
    CANCELLED,
    COMPLETED,
    FAILED,
    Store,
    counts,
    fields_of,
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
    server_time,
    side_by_side,
    submitted,
    tokens_lying,
    told_by,
)
from tests.support.waiting import eventually

PERMANENT = {"baton:counts", "baton:tasks", "baton:task:shop.add:counts", "rq:queues"}


# --- promoting --------------------------------------------------------------------------------------------------------


def test_a_due_run_is_queued_and_its_history_says_so(store: Store) -> None:
    run_id = one_submitted(store.ledger, delay=0.0)
    assert store.ledger.promote() == Promoted(1, None)
    assert (queued(store), store.client.zcard("rq:scheduled:q"), counts(store), tokens_lying(store)) == (
        [run_id],
        0,
        {"PENDING": 1},
        1,
    )
    fields = fields_of(store, run_id)
    assert told_by(rows_of(store, run_id), "seq", "type") == [(1, "SCHEDULED"), (2, "PENDING")]
    assert (fields["status"], parse_iso(fields["enqueued_at"]) <= parse_iso(fields["state_time"])) == ("queued", True)


def test_runs_that_are_not_due_stay_and_their_time_is_told(store: Store) -> None:
    submitted(store.ledger, delay=200)
    submitted(store.ledger, delay=100, queue="else")
    before = keyspace(store)
    assert (store.ledger.promote(), keyspace(store)) == (Promoted(0, pytest.approx(100, abs=2)), before)


def test_a_run_begins_no_earlier_than_it_is_due_and_is_queued_once(store: Store) -> None:
    run_id = one_submitted(store.ledger, delay=0.2)
    due = parse_iso(fields_of(store, run_id)["expected_start"])
    eventually(lambda: store.ledger.promote().moved)
    assert parse_iso(fields_of(store, run_id)["state_time"]) >= due
    assert (store.ledger.promote(), queued(store)) == (Promoted(0, None), [run_id])


def test_what_is_due_first_is_queued_first(store: Store) -> None:
    late, early, middle = (one_submitted(store.ledger, delay=delay) for delay in (-1, -3, -2))
    store.ledger.promote()
    assert queued(store) == [early, middle, late]


def test_one_call_queues_so_many_runs_per_queue_and_tells_that_more_are_due(store: Store) -> None:
    for queue in ("a", "b"):
        submitted(store.ledger, 5, queue=queue, delay=0.0)
    answers = [store.ledger.promote(3) for _ in range(3)]
    assert answers == [Promoted(6, 0.0), Promoted(4, None), Promoted(0, None)]


def test_a_failed_attempt_comes_back_after_its_delay(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    seat = seated(store.ledger)
    reported(store.ledger, seat, report(one_begun(store.ledger, seat), retry_in(0.05)))
    eventually(lambda: store.ledger.promote().moved)
    assert one_begun(store.ledger, seat).run_id == run_id


def _cancelled(store: Store, run_id: str) -> None:
    store.ledger.propose(run_id, CANCELLED, "cancel", seq=1)


def _deleted(store: Store, run_id: str) -> None:
    store.client.delete(f"rq:job:{run_id}")


def _of_another_queue(store: Store, run_id: str) -> None:
    store.client.hset(f"rq:job:{run_id}", "origin", "else")


@pytest.mark.parametrize("change", [_cancelled, _deleted, _of_another_queue])
def test_a_row_whose_run_is_not_scheduled_here_is_dropped(store: Store, change: Callable[[Store, str], None]) -> None:
    run_id = one_submitted(store.ledger, delay=0.0)
    change(store, run_id)
    store.client.zadd("rq:scheduled:q", {run_id: 1})
    before = keyspace(store)
    del before["rq:scheduled:q"]
    assert (store.ledger.promote(), keyspace(store), quarantined(store)) == (Promoted(0, None), before, [])


def test_a_due_run_that_cannot_be_read_goes_to_quarantine(store: Store) -> None:
    broken, fine = submitted(store.ledger, 2, delay=0.0)
    store.client.hset(f"rq:job:{broken}", "seq", "x")
    assert (store.ledger.promote().moved, queued(store), quarantined(store)) == (
        1,
        [fine],
        [{"reason": "unreadable", "run": broken, "queue": "q"}],
    )


def test_a_queue_with_a_place_that_is_something_else_waits_and_the_others_are_served(store: Store) -> None:
    submitted(store.ledger, queue="bad", delay=0.0)
    fine = one_submitted(store.ledger, queue="good", delay=0.0)
    store.client.set("rq:failed:bad", "not ours")
    assert (store.ledger.promote().moved, queued(store, "good"), store.client.zcard("rq:scheduled:bad")) == (
        1,
        [fine],
        1,
    )


def test_many_promoters_at_once_queue_each_run_once(real: Store) -> None:
    ids = submitted(real.ledger, 400, delay=0.0)
    moved = side_by_side(real, 8, lambda ledger, _: sum(ledger.promote(20).moved for _ in range(20)))
    assert (sum(moved), sorted(queued(real)), counts(real)) == (400, sorted(ids), {"PENDING": 400})


# --- waking -----------------------------------------------------------------------------------------------------------


def test_a_queue_with_ids_and_without_a_token_gets_one(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.client.delete("baton:wake:q", "rq:queue:q")
    store.client.rpush("rq:queue:q", run_id)  # as RQ's own tools do it
    store.ledger.promote()
    store.ledger.promote()
    assert tokens_lying(store) == 1


@pytest.mark.parametrize("hold", ["the queue is paused", "rq is suspended", "the queue is empty"])
def test_nobody_is_woken_for_nothing(store: Store, hold: str) -> None:
    submitted(store.ledger)
    store.client.delete("baton:wake:q")
    match hold:
        case "the queue is paused":
            store.client.hset("baton:queue:q", "paused", "1")
        case "rq is suspended":
            store.client.set("rq:suspended", 1)
        case _:
            store.client.delete("rq:queue:q")
    store.ledger.promote()
    assert tokens_lying(store) == 0


@pytest.mark.parametrize("key", ["baton:wake:q", "baton:queue:q"])
def test_a_wake_up_list_or_settings_that_are_something_else_keep_no_due_run(store: Store, key: str) -> None:
    run_id = one_submitted(store.ledger, delay=0.0)
    store.client.set(key, "not ours")
    assert (store.ledger.promote(), queued(store)) == (Promoted(1, None), [run_id])


# --- sweeping ---------------------------------------------------------------------------------------------------------


def test_a_run_that_is_past_its_retention_leaves_no_key_behind(store: Store) -> None:
    submitted(store.ledger, 4)
    seat = seated(store.ledger)
    again = one_begun(store.ledger, seat)
    reported(store.ledger, seat, report(again, retry_in(0)._replace(result=b"error", traceback="Traceback")))
    store.ledger.promote()
    done, failed, cancelled, again = store.ledger.cycle(seat, [], 4).claims
    outcomes = [
        (done, COMPLETED),
        (failed, FAILED._replace(traceback="Traceback")),
        (cancelled, CANCELLED),
        (again, COMPLETED),
    ]
    reported(store.ledger, seat, *(report(claim, outcome._replace(retention=1)) for claim, outcome in outcomes))
    swept = []
    eventually(lambda: swept.append(store.ledger.sweep()) or sum(swept) == 4)
    left = {key for key in keyspace(store) if "w1" not in key and not key.startswith(("baton:stats:", "baton:wake:"))}
    assert left - {"baton:leases", "rq:workers", "rq:workers:q"} == PERMANENT


def test_what_has_no_lifetime_of_its_own_is_swept_too(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.ledger.propose(run_id, CANCELLED._replace(retention=1), "cancel", seq=1)
    for part in ("logs", "children", "input", "feeds"):
        store.client.rpush(f"baton:run:{run_id}:{part}", "x")
    eventually(store.ledger.sweep)
    assert [key for key in keyspace(store) if run_id in key and key != "rq:queue:q"] == []


def test_runs_within_their_retention_are_left_alone(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.ledger.propose(run_id, CANCELLED, "cancel", seq=1)
    before = keyspace(store)
    assert (store.ledger.sweep(), keyspace(store)) == (0, before)


def ended_long_ago(store: Store, number: int) -> list[str]:
    """Runs with rows in a registry whose time is over, that still have all their keys."""
    ids = submitted(store.ledger, number)
    for run_id in ids:
        store.ledger.propose(run_id, CANCELLED, "cancel", seq=1)
        store.client.zadd("rq:canceled:q", {run_id: 1})
    return ids


def test_one_call_removes_so_many_runs(store: Store) -> None:
    ids = ended_long_ago(store, 5)
    assert [store.ledger.sweep(2) for _ in range(4)] == [2, 2, 1, 0]
    assert store.client.exists(*(f"rq:job:{run_id}" for run_id in ids)) == 0


def _lives_again(store: Store, run_id: str) -> None:
    store.client.hset(f"rq:job:{run_id}", "state_type", "PENDING")


def _ended_otherwise_since(store: Store, run_id: str) -> None:
    store.client.hset(f"rq:job:{run_id}", "state_type", "COMPLETED")
    store.client.zadd("rq:finished:q", {run_id: server_time(store) + 1000})


def _is_a_job_of_rqs_own(store: Store, run_id: str) -> None:
    store.client.hdel(f"rq:job:{run_id}", "state_type")


@pytest.mark.parametrize("change", [_lives_again, _ended_otherwise_since, _is_a_job_of_rqs_own])
def test_of_a_row_that_is_stale_only_the_row_goes(store: Store, change: Callable[[Store, str], None]) -> None:
    (run_id,) = ended_long_ago(store, 1)
    change(store, run_id)
    before = keyspace(store)
    del before["rq:canceled:q"]
    assert (store.ledger.sweep(), keyspace(store)) == (1, before)


def test_a_registry_that_is_something_else_keeps_no_other_from_being_swept(store: Store) -> None:
    ended_long_ago(store, 1)
    store.client.set("rq:finished:q", "not ours")
    assert store.ledger.sweep() == 1


def test_many_sweepers_at_once_remove_each_run_once(real: Store) -> None:
    ended_long_ago(real, 200)
    assert sum(side_by_side(real, 4, lambda ledger, _: sum(ledger.sweep(10) for _ in range(30)))) == 200
