"""What `reconcile` makes of what others do to a run: it is adopted or cleaned, once, and all fits together."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest

from shared.commands import Claim, Outcome
from shared.ids import new_id
from shared.upkeep import Pulse
from tests.support import places
from tests.support.invariants import faults
from tests.support.ledgers import (
    COMPLETED,
    FAILED,
    KEPT,
    Store,
    begun,
    ended,
    fields_of,
    keyspace,
    lifetimes_of,
    new_run,
    new_runs,
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
    told_by,
)

IS_QUEUED = ("PENDING", "Pending", None)


Made = Callable[[Store], str]
Damage = Callable[[Store, str], object]


@pytest.mark.parametrize("made", places.EVERYWHERE)
def test_what_is_as_it_should_be_is_left_alone(store: Store, made: Made) -> None:
    run_id = made(store)
    before = keyspace(store)
    assert (store.ledger.reconcile([run_id]), keyspace(store)) == ([""], before)


# --- what others do ---------------------------------------------------------------------------------------------------


def removed(key: str) -> Damage:
    """The run's row is taken out of an index."""
    return lambda store, run_id: store.client.zrem(key, *_members(store, key, run_id))


def _members(store: Store, key: str, run_id: str) -> list[str]:
    members = [member for member in store.client.zrange(key, 0, -1) if member.partition(":")[0] == run_id]
    assert members
    return members


def listed(key: str) -> Damage:
    """The run gets a row in an index that is not its own."""
    return lambda store, run_id: store.client.zadd(key, {run_id: 1})


def worded(status: str) -> Damage:
    """The run gets another of RQ's words."""
    return lambda store, run_id: store.client.hset(f"rq:job:{run_id}", "status", status)


def mortal(store: Store, run_id: str) -> None:
    store.client.expire(f"rq:job:{run_id}", KEPT)


def immortal(store: Store, run_id: str) -> None:
    store.client.persist(f"rq:job:{run_id}")


def popped(store: Store, run_id: str) -> None:
    assert store.client.lrem("rq:queue:q", 0, run_id)


def requeued(store: Store, run_id: str) -> None:
    """As `rq requeue` does."""
    for name in ("finished", "failed", "canceled"):
        store.client.zrem(f"rq:{name}:q", run_id)
    worded("queued")(store, run_id)
    store.client.rpush("rq:queue:q", run_id)


def half_requeued(store: Store, run_id: str) -> None:
    """As `rq requeue` does, if it is killed between its steps."""
    store.client.zrem("rq:failed:q", run_id)
    worded("queued")(store, run_id)


def failed_by_cleanup(store: Store, run_id: str) -> None:
    """As the cleanup of RQ's started registry does, with a clock that is ahead."""
    removed("rq:wip:q")(store, run_id)
    worded("failed")(store, run_id)
    listed("rq:failed:q")(store, run_id)
    mortal(store, run_id)


def cancelled_by_rq(store: Store, run_id: str) -> None:
    """As `Job.cancel` does."""
    worded("canceled")(store, run_id)
    store.client.lrem("rq:queue:q", 0, run_id)
    listed("rq:canceled:q")(store, run_id)


def taken_by_rq(store: Store, run_id: str) -> None:
    """As a worker of RQ's own leaves it that took it from its queue, was refused, and noted that as its result."""
    popped(store, run_id)
    worded("finished")(store, run_id)
    listed("rq:finished:q")(store, run_id)
    store.client.xadd(f"rq:results:{run_id}", {"return_value": "x"})
    mortal(store, run_id)


def dropped_by_its_worker(store: Store, run_id: str) -> None:
    store.client.hdel("baton:worker:w1:runs", run_id)


def without_lease(store: Store, _run_id: str) -> None:
    store.client.zrem("baton:leases", "w1")


class Row(NamedTuple):
    """What is done to a run, what `reconcile` says, and the state and place in which the run is then."""

    made: Made
    damage: Damage
    words: str
    state: tuple[str, str, str | None]


BACK = "put back where it waits"
FREED = "freed of what RQ wrote"
TAKEN = "taken from a worker that does not hold it"
SLOT = ("SCHEDULED", "AwaitingConcurrencySlot", "limit:tag:db")
ROWS = {
    "a waiting id is not in its queue": Row(places.queued, popped, BACK, IS_QUEUED),
    "nothing is due": Row(places.scheduled, removed("rq:scheduled:q"), BACK, ("SCHEDULED", "Scheduled", None)),
    "nothing is deferred": Row(places.deferred, removed("rq:deferred:q"), BACK, ("PENDING", "Pending", "deferred")),
    "nothing was passed on": Row(places.passed_on, removed("rq:scheduled:q"), BACK, ("PENDING", "Pending", "passed")),
    "nothing waits for a slot": Row(places.waiting_for_a_slot, removed("baton:limit:tag:db:waiters"), BACK, SLOT),
    "nothing is paused": Row(places.suspended, removed("baton:paused"), BACK, ("PAUSED", "Suspended", None)),
    "a waiting run is mortal": Row(places.queued, mortal, FREED, IS_QUEUED),
    "a waiting run is listed as failed": Row(places.queued, listed("rq:failed:q"), FREED, IS_QUEUED),
    "a deferred run is listed as due": Row(
        places.deferred, listed("rq:scheduled:q"), FREED, ("PENDING", "Pending", "deferred")
    ),
    "a due run has another word": Row(places.scheduled, worded("queued"), FREED, ("SCHEDULED", "Scheduled", None)),
    "RQ cancelled a waiting run": Row(
        places.queued, cancelled_by_rq, "cancelled, as RQ asked", ("CANCELLED", "Cancelled", None)
    ),
    "RQ cancelled a due run": Row(
        places.scheduled, cancelled_by_rq, "cancelled, as RQ asked", ("CANCELLED", "Cancelled", None)
    ),
    "a worker of RQ's took a run": Row(places.queued, taken_by_rq, BACK, IS_QUEUED),
    "RQ cancelled a running run": Row(
        places.running,
        cancelled_by_rq,
        "asked its process to cancel it, as RQ asked",
        ("CANCELLING", "Cancelling", None),
    ),
    "RQ cancelled a paused flow": Row(
        places.paused_in_place,
        cancelled_by_rq,
        "asked its process to cancel it, as RQ asked",
        ("CANCELLING", "Cancelling", None),
    ),
    "RQ cancelled a run that was handed out": Row(
        places.handed_out, cancelled_by_rq, "cancelled, as RQ asked", ("CANCELLED", "Cancelled", None)
    ),
    "RQ's cleanup failed a running run": Row(
        places.running, failed_by_cleanup, "listed as running", ("RUNNING", "Running", None)
    ),
    "a running run is listed as failed": Row(
        places.running, listed("rq:failed:q"), FREED, ("RUNNING", "Running", None)
    ),
    "a running run is not listed": Row(
        places.running, removed("baton:running"), "listed as running", ("RUNNING", "Running", None)
    ),
    "its worker does not hold it": Row(places.running, dropped_by_its_worker, TAKEN, IS_QUEUED),
    "nobody holds a run that was handed out": Row(places.handed_out, dropped_by_its_worker, TAKEN, IS_QUEUED),
    "nobody holds a paused flow": Row(places.paused_in_place, dropped_by_its_worker, TAKEN, IS_QUEUED),
    "nobody holds a cancelling run": Row(
        places.cancelling, dropped_by_its_worker, TAKEN, ("CANCELLED", "Cancelled", None)
    ),
    "RQ requeued a failed run": Row(places.failed, requeued, "retried, as RQ asked", IS_QUEUED),
    "RQ requeued a completed run": Row(places.completed, requeued, "retried, as RQ asked", IS_QUEUED),
    "RQ requeued a run by half": Row(places.failed, half_requeued, "retried, as RQ asked", IS_QUEUED),
    "an ended run is not listed": Row(
        places.failed, removed("rq:failed:q"), "listed where it belongs", ("FAILED", "Failed", None)
    ),
    "an ended run is listed twice": Row(places.failed, listed("rq:finished:q"), FREED, ("FAILED", "Failed", None)),
    "an ended run has another word": Row(places.completed, worded("failed"), FREED, ("COMPLETED", "Completed", None)),
    "an ended run lives for ever": Row(
        places.completed, immortal, "listed where it belongs", ("COMPLETED", "Completed", None)
    ),
    "a needed run is mortal": Row(
        places.needed, mortal, "kept for those that need it", ("COMPLETED", "Completed", None)
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_reconcile_mends(store: Store, row: Row) -> None:
    run_id = row.made(store)
    row.damage(store, run_id)
    done = store.ledger.reconcile([run_id])
    after = keyspace(store)
    assert (done, state_of(store, run_id)) == ([row.words], row.state)
    assert (store.ledger.reconcile([run_id]), keyspace(store), faults(store)) == ([""], after, [])


HARMLESS = ("is listed as failed", "is listed as due", "is listed twice")
"""Rows that are too many: whoever comes upon one drops it, and the run is where it belongs."""
HARMFUL = {name: row for name, row in ROWS.items() if not name.endswith(HARMLESS)}


@pytest.mark.parametrize("row", HARMFUL.values(), ids=HARMFUL.keys())
def test_a_patrol_comes_upon_what_reconcile_mends(store: Store, row: Row) -> None:
    run_id = row.made(store)
    row.damage(store, run_id)
    assert list(store.ledger.patrol().look()[0]) == [run_id]


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_a_run_that_its_own_process_executes_goes_on_there_or_ends_with_it(store: Store, state: str) -> None:
    process, run = "inline-host-1-abc", new_run()
    store.ledger.beat([Pulse(process, [], {}, is_new=True)])
    token = store.ledger.entrust(run, process, "op").token
    if state == "RUNNING":
        begins = Outcome("RUNNING", "Running")
        token = store.ledger.propose(run.id, begins, "begin", token=token, worker=process).token
    store.client.delete(f"baton:worker:{process}:runs")
    mended = store.ledger.reconcile([run.id])
    held = (state_of(store, run.id)[0], fields_of(store, run.id)["token"], queued(store), faults(store))
    store.client.delete(f"baton:worker:{process}:runs")
    store.client.zrem("baton:leases", process)
    left = store.ledger.reconcile([run.id])
    assert (mended, held, left) == (["listed as running"], (state, token, [], []), ["left to the reaper"])
    assert [buried.ended for buried in store.ledger.reap()] == [1]
    assert (state_of(store, run.id)[0], queued(store), faults(store)) == ("CRASHED", [], [])


def test_a_run_whose_worker_has_no_lease_is_left_to_the_reaper(store: Store) -> None:
    run_id = places.running(store)
    without_lease(store, run_id)
    done = store.ledger.reconcile([run_id])
    assert (done, state_of(store, run_id)[0], faults(store)) == (["left to the reaper"], "RUNNING", [])
    store.ledger.reap()
    assert (state_of(store, run_id), queued(store), faults(store)) == (IS_QUEUED, [run_id], [])


# --- what is told -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("a waiting id is not in its queue", ("PENDING", "Put back: it was in no queue.", "reconcile")),
        ("RQ cancelled a waiting run", ("CANCELLED", "Cancelled with RQ.", "rq")),
        ("RQ cancelled a running run", ("CANCELLING", "Cancelled with RQ.", "rq")),
        ("RQ requeued a failed run", ("PENDING", "Requeued by RQ.", "rq")),
        ("its worker does not hold it", ("PENDING", "Attempt 1 was lost: no worker holds it.", None)),
    ],
)
def test_the_history_says_what_was_done(store: Store, row: str, told: tuple[str | None, ...]) -> None:
    run_id = ROWS[row].made(store)
    ROWS[row].damage(store, run_id)
    store.ledger.reconcile([run_id])
    assert told_by(rows_of(store, run_id)[-1:], "type", "message", "actor") == [told]


def test_a_run_that_was_requeued_is_a_retry_with_its_own_budgets(store: Store) -> None:
    run_id = places.failed(store)
    requeued(store, run_id)
    store.ledger.reconcile([run_id])
    fields = fields_of(store, run_id)
    assert (fields["run_count"], "ended_at" in fields, "error" in fields, lifetimes_of(store, run_id)) == (
        "0",
        False,
        False,
        {-1},
    )
    assert (one_begun(store.ledger, seated(store.ledger, "w2")).attempt, faults(store)) == (2, [])


def test_a_requeued_run_is_adopted_by_whoever_takes_it_first(store: Store) -> None:
    run_id = places.failed(store)
    requeued(store, run_id)
    claim = one_begun(store.ledger, seated(store.ledger, "w2"))
    assert (claim.run_id, told_by(rows_of(store, run_id)[-2:], "name", "actor")) == (
        run_id,
        [("Pending", "rq"), ("Rerunning", None)],
    )
    assert (store.ledger.reconcile([run_id]), faults(store)) == ([""], [])


def test_a_requeued_run_waits_for_an_upstream_that_was_retried(store: Store) -> None:
    upstream = one_submitted(store.ledger, queue="other")
    seat = seated(store.ledger, "w1", "other", "q")
    ended(store.ledger, seat, upstream)
    adopted, taken = submitted(store.ledger, 2, ties=[("up", upstream)])
    for run_id in (adopted, taken):
        ended(store.ledger, seat, run_id, FAILED)
    store.ledger.retry(upstream, seq_of(store, upstream), "again", actor="alice", rerun=True)
    for run_id in (adopted, taken):
        requeued(store, run_id)
    store.ledger.reconcile([adopted])
    store.ledger.cycle(seated(store.ledger, "w2"), [], 1)
    assert [state_of(store, run_id)[2] for run_id in (adopted, taken)] == ["deferred"] * 2
    assert faults(store) == []


# --- several at once --------------------------------------------------------------------------------------------------


def test_a_run_that_was_named_twice_is_put_back_once(store: Store) -> None:
    run_id = places.queued(store)
    popped(store, run_id)
    assert store.ledger.reconcile([run_id, run_id]) == [BACK, ""]
    assert (queued(store), faults(store)) == ([run_id], [])


def test_more_than_one_call_takes_are_all_looked_at(store: Store) -> None:
    ids = submitted(store.ledger, 520)
    for run_id in (ids[3], ids[515]):
        popped(store, run_id)
    done = store.ledger.reconcile(ids)
    assert {run_id for run_id, words in zip(ids, done, strict=True) if words} == {ids[3], ids[515]}
    assert faults(store) == []


def test_what_cannot_be_read_is_left_alone(store: Store) -> None:
    run_id = places.queued(store)
    store.client.hset(f"rq:job:{run_id}", "seq", "x")
    before = keyspace(store)
    assert (store.ledger.reconcile([run_id]), keyspace(store)) == ([""], before)


# --- what is gone -----------------------------------------------------------------------------------------------------


def deleted(store: Store, run_id: str) -> None:
    """As `Job.delete` or `rq empty` does."""
    store.client.delete(f"rq:job:{run_id}")


@pytest.mark.parametrize(
    "made",
    [
        places.scheduled,
        places.deferred,
        places.suspended,
        places.failed,
        places.completed,
    ],
)
def test_what_is_left_of_a_deleted_run_is_cleaned_up(store: Store, made: Made) -> None:
    run_id = made(store)
    deleted(store, run_id)
    done = store.ledger.reconcile([run_id])
    left = [key for key, (_, value, _) in keyspace(store).items() if run_id in key or run_id in str(value)]
    assert (done, [key for key in left if not key.startswith("baton:run:")]) == (["cleaned up after its deletion"], [])
    assert store.ledger.reconcile([run_id]) == [""]


def test_who_waited_for_a_deleted_run_is_queued_to_find_that(store: Store) -> None:
    first, second = submitted(store.ledger, 2)
    waiting = one_submitted(store.ledger, ties=[("up", first), ("up", second)])
    deleted(store, first)
    deleted(store, second)
    by_the_deleted = (store.ledger.reconcile([first]), state_of(store, waiting)[2])
    by_itself = (store.ledger.reconcile([waiting]), state_of(store, waiting))
    assert by_the_deleted == (["cleaned up after its deletion"], "deferred")
    assert (by_itself[1], queued(store)[-1]) == (IS_QUEUED, waiting)
    assert store.ledger.reconcile([waiting]) == [""]


def test_who_waits_for_what_ended_untold_is_queued(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    waiting = submitted(store.ledger, 520, ties=[("up", upstream)])
    ended(store.ledger, seated(store.ledger), upstream)
    store.client.delete("baton:continue")
    before = len(queued(store))
    store.ledger.reconcile(waiting)
    assert (before, sorted(queued(store)), faults(store)) == (500, sorted(waiting), [])


def test_ids_that_never_were_are_nothing_to_mend(store: Store) -> None:
    one_submitted(store.ledger)
    before = keyspace(store)
    assert (store.ledger.reconcile([new_id()]), keyspace(store)) == ([""], before)


def test_a_deleted_run_holds_no_slot(store: Store) -> None:
    store.ledger.set_limit("tag:db", 1)
    runs = new_runs(2, fields={"limits": "tag:db", "ties": "1"})
    store.ledger.submit(runs)
    seat = seated(store.ledger)
    claims: Sequence[Claim] = begun(store.ledger, seat)
    assert store.ledger.cycle(seat, [], 1).claims == []
    deleted(store, claims[0].run_id)
    verdicts = reported(store.ledger, seat, report(claims[0], COMPLETED))
    store.ledger.promote()
    assert (verdicts, queued(store)) == (["GONE"], [runs[1].id])
