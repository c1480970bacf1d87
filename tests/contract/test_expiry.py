"""Runs that have to begin in time: those that do not are cancelled, whoever looks first."""

import pytest

from shared.upkeep import Death
from tests.support.invariants import faults
from tests.support.ledgers import (
    KEPT,
    Store,
    begun,
    counts,
    ended,
    fields_of,
    lifetimes_of,
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
    state_of,
    submitted,
    told_by,
)

EXPIRED = ("CANCELLED", "Expired", None)
IN_A_MINUTE = [("within", 60)]


def late(store: Store, run_id: str) -> None:
    """The run's time is over."""
    store.client.zincrby("baton:deadlines", -KEPT, run_id)


def test_a_run_that_did_not_begin_in_its_time_is_cancelled(store: Store) -> None:
    run_id = one_submitted(store.ledger, ties=IN_A_MINUTE)
    early = (store.ledger.expire(), state_of(store, run_id)[0])
    late(store, run_id)
    assert (early, store.ledger.expire(), store.ledger.expire()) == ((0, "PENDING"), 1, 0)
    assert (state_of(store, run_id), told_by(rows_of(store, run_id)[-1:], "message")) == (
        EXPIRED,
        [("Not started within 60 seconds.",)],
    )
    assert (lifetimes_of(store, run_id), counts(store), faults(store)) == ({store.settings.retention_cancelled}, {}, [])


@pytest.mark.parametrize("delay", [None, 100.0])
def test_the_time_counts_from_the_submit_or_from_when_it_is_due(store: Store, delay: float | None) -> None:
    run_id = one_submitted(store.ledger, ties=IN_A_MINUTE, delay=delay)
    deadline = store.client.zscore("baton:deadlines", run_id)
    assert deadline - server_time(store) == pytest.approx(60 + (delay or 0), abs=2)


@pytest.mark.parametrize("held_back_by", ["an upstream", "a limit", "a pause of its queue", "its delay"])
def test_it_counts_whatever_the_run_waits_for(store: Store, held_back_by: str) -> None:
    given: dict[str, object] = {"ties": list(IN_A_MINUTE)}
    if held_back_by == "an upstream":
        given = {"ties": [*IN_A_MINUTE, ("up", one_submitted(store.ledger))]}
    elif held_back_by == "a limit":
        given["fields"] = {"limits": "tag:db", "ties": "1"}
        store.ledger.set_limit("tag:db", 0)
    elif held_back_by == "a pause of its queue":
        store.ledger.set_queue("q", "pause", "alice")
    else:
        given["delay"] = 10.0
    run_id = one_submitted(store.ledger, **given)
    store.ledger.cycle(seated(store.ledger), [], 16)
    late(store, run_id)
    store.ledger.expire()
    assert (state_of(store, run_id), faults(store)) == (EXPIRED, [])


def test_a_worker_that_comes_to_it_first_cancels_it_and_takes_the_next(store: Store) -> None:
    run_id, following = one_submitted(store.ledger, ties=IN_A_MINUTE), one_submitted(store.ledger)
    late(store, run_id)
    assert one_begun(store.ledger, seated(store.ledger)).run_id == following
    assert (state_of(store, run_id), store.ledger.expire(), faults(store)) == (EXPIRED, 0, [])


def test_a_run_that_has_begun_does_not_expire(store: Store) -> None:
    run_id = one_submitted(store.ledger, ties=IN_A_MINUTE)
    seat = seated(store.ledger)
    claim = one_begun(store.ledger, seat)
    begun_in_time = store.client.zcard("baton:deadlines")
    reported(store.ledger, seat, report(claim, retry_in(0)))
    store.ledger.promote()
    store.ledger.expire()
    assert (begun_in_time, one_begun(store.ledger, seat).run_id, faults(store)) == (0, run_id, [])


def test_a_run_that_was_lost_with_its_worker_does_not_expire(store: Store) -> None:
    run_id = one_submitted(store.ledger, ties=IN_A_MINUTE)
    one_begun(store.ledger, seated(store.ledger))
    store.ledger.reap([Death("w1", "killed by signal 9")])
    assert (store.client.zcard("baton:deadlines"), queued(store), faults(store)) == (0, [run_id], [])


def test_a_run_that_is_handed_out_may_begin_or_expires_when_it_comes_back(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    seat = seated(store.ledger)
    ended(store.ledger, seat, upstream)
    run_id = one_submitted(store.ledger, ties=[("up", upstream), *IN_A_MINUTE])
    claim = one_begun(store.ledger, seat)
    late(store, run_id)
    store.ledger.expire()
    held = (state_of(store, run_id), faults(store))
    store.ledger.give_back("w1", [(run_id, claim.token)], "Stop.")
    late(store, run_id)
    store.ledger.expire()
    assert (held, state_of(store, run_id), faults(store)) == ((("PENDING", "Pending", "held"), []), EXPIRED, [])


def test_one_call_looks_at_so_many(store: Store) -> None:
    for run_id in submitted(store.ledger, 5, ties=IN_A_MINUTE):
        late(store, run_id)
    assert [store.ledger.expire(3) for _ in range(3)] == [3, 2, 0]
    assert (counts(store), faults(store)) == ({}, [])


def test_rows_of_runs_that_are_gone_or_unreadable_go(store: Store) -> None:
    gone, broken, fine = submitted(store.ledger, 3, ties=IN_A_MINUTE)
    store.client.delete(f"rq:job:{gone}")
    store.client.hset(f"rq:job:{broken}", "seq", "x")
    for run_id in (gone, broken, fine):
        late(store, run_id)
    assert (store.ledger.expire(), store.client.zcard("baton:deadlines")) == (3, 0)
    assert (quarantined(store), state_of(store, fine)) == ([{"reason": "unreadable", "run": broken}], EXPIRED)


def test_runs_without_such_a_time_have_no_deadline(store: Store) -> None:
    submitted(store.ledger, 2)
    (claim,) = begun(store.ledger, seated(store.ledger))
    assert ("start_within" in fields_of(store, claim.run_id), store.client.exists("baton:deadlines")) == (False, 0)
