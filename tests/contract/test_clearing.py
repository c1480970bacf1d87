"""What operators take out of queues and indexes: runs moved, purged, entries dropped, ids of runs that are gone."""

from collections.abc import Callable

import pytest

from shared.commands import AT_ONCE, NewRun, Seat
from shared.errors import RedisUnavailable
from shared.ids import new_id
from shared.ledger import RunLedger
from shared.steering import Cleared
from shared.upkeep import Pulse
from tests.support.invariants import faults
from tests.support.ledgers import (
    FAILED,
    KEPT,
    Store,
    begun,
    counts,
    ended,
    fields_of,
    held_by,
    keyspace,
    new_runs,
    one_begun,
    one_submitted,
    quarantined,
    queued,
    report,
    reported,
    retry_in,
    rows_of,
    seated,
    side_by_side,
    state_of,
    submitted,
    suspended_for,
    tokens_lying,
    told_by,
)

LIMITED = {"limits": "tag:db", "ties": "1"}


def moved(store: Store, most: int = AT_ONCE) -> Cleared:
    return store.ledger.move("q", "z", actor="alice", most=most)


def purged(store: Store, most: int = AT_ONCE) -> Cleared:
    return store.ledger.purge("q", actor="alice", message="Purged.", most=most)


def passed_on(store: Store) -> str:
    """A run whose task the one worker of its queue does not know."""
    run_id = one_submitted(store.ledger)
    store.ledger.beat([Pulse("other", ["q"], {"tasks": "shop.other"}, is_new=True)])
    assert store.ledger.cycle(Seat("other", ["q"]), [], 1).claims == []
    return run_id


def waits_for_a_retry(store: Store) -> str:
    seat, claim = held_by(store.ledger, "retrying")
    reported(store.ledger, seat, report(claim, retry_in(KEPT)))
    return claim.run_id


# --- moving -----------------------------------------------------------------------------------------------------------


def test_what_waits_goes_to_the_end_of_the_other_queue_in_its_order(store: Store) -> None:
    (there,) = submitted(store.ledger, queue="z")
    ids = submitted(store.ledger, 3)
    assert (moved(store), queued(store), queued(store, "z"), tokens_lying(store, "z")) == (
        Cleared(3, 3),
        [],
        [there, *ids],
        4,
    )
    assert ({fields_of(store, run_id)["origin"] for run_id in ids}, counts(store), faults(store)) == (
        {"z"},
        {"PENDING": 4},
        [],
    )
    assert told_by(rows_of(store, ids[0]), "type", "name", "message", "actor") == [
        ("PENDING", "Pending", None, None),
        ("PENDING", "Pending", "Moved from queue q to z.", "alice"),
    ]


def test_a_moved_run_is_begun_by_the_workers_of_the_other_queue_only(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    moved(store)
    assert store.ledger.cycle(seated(store.ledger), [], 1).claims == []
    ended(store.ledger, seated(store.ledger, "w2", "z"), run_id)
    assert (state_of(store, run_id)[0], store.client.zscore("rq:finished:z", run_id) is not None, faults(store)) == (
        "COMPLETED",
        True,
        [],
    )


def test_what_is_due_later_or_waits_for_others_goes_along(store: Store) -> None:
    retrying = waits_for_a_retry(store)
    scheduled = one_submitted(store.ledger, delay=KEPT)
    upstream = one_submitted(store.ledger, queue="elsewhere")
    deferred = one_submitted(store.ledger, ties=[("up", upstream)])
    due = store.client.zscore("rq:scheduled:q", retrying)
    assert (moved(store), faults(store)) == (Cleared(3, 3), [])
    assert (store.client.zrange("rq:scheduled:z", 0, -1), store.client.zrange("rq:deferred:z", 0, -1)) == (
        [retrying, scheduled],
        [deferred],
    )
    assert (store.client.zscore("rq:scheduled:z", retrying), state_of(store, retrying), state_of(store, deferred)) == (
        due,
        ("SCHEDULED", "AwaitingRetry", None),
        ("PENDING", "Pending", "deferred"),
    )
    assert told_by(rows_of(store, scheduled), "name", "due")[0] == told_by(rows_of(store, scheduled), "name", "due")[1]
    ended(store.ledger, seated(store.ledger, "w1", "elsewhere"), upstream)
    assert queued(store, "z") == [deferred]


def test_a_run_of_a_task_unknown_in_its_queue_waits_in_the_other_one(store: Store) -> None:
    run_id = passed_on(store)
    assert (moved(store), queued(store, "z"), state_of(store, run_id), faults(store)) == (
        Cleared(1, 1),
        [run_id],
        ("PENDING", "Pending", None),
        [],
    )


def test_what_runs_is_paused_or_waits_for_a_slot_stays(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    reported(store.ledger, seat, report(claim, suspended_for(KEPT)))
    one_submitted(store.ledger)
    running = one_begun(store.ledger, seat)
    store.ledger.set_limit("tag:db", 0)
    one_submitted(store.ledger, fields=LIMITED)
    assert store.ledger.cycle(seat, [], 1).claims == []
    before = keyspace(store)
    assert (moved(store).runs, fields_of(store, running.run_id)["origin"]) == (0, "q")
    after = keyspace(store)
    assert (after.pop("rq:queues")[1], before.pop("rq:queues")[1]) == (["rq:queue:q", "rq:queue:z"], ["rq:queue:q"])
    assert (after, faults(store)) == (before, [])


def test_a_run_keeps_the_slot_that_is_kept_for_it(store: Store) -> None:
    store.ledger.set_limit("tag:db", 1)
    first, second = submitted(store.ledger, 2, fields=LIMITED)
    seat = seated(store.ledger)
    claim = one_begun(store.ledger, seat)
    assert (claim.run_id, store.ledger.cycle(seat, [], 1).claims) == (first, [])
    reported(store.ledger, seat, report(claim))
    moved(store)
    reserved = store.client.zrange("baton:limit:tag:db:holders", 0, -1)
    assert (reserved, queued(store, "z"), faults(store)) == ([f"{second}:reserved"], [second], [])
    assert one_begun(store.ledger, seated(store.ledger, "w2", "z")).run_id == second


def test_a_move_is_made_in_pages_and_a_repeat_moves_what_is_left(store: Store) -> None:
    ids = submitted(store.ledger, 5)
    answers = [moved(store, 2) for _ in range(4)]
    assert answers == [Cleared(2, 2), Cleared(2, 2), Cleared(1, 1), Cleared(0, 0)]
    assert (queued(store, "z"), faults(store)) == (ids, [])


@pytest.mark.parametrize("clear", [moved, purged])
def test_tombstones_are_dropped_and_what_cannot_be_read_is_left(
    store: Store, clear: Callable[[Store], Cleared]
) -> None:
    cancelled, broken, requeued, waiting = submitted(store.ledger, 4)
    store.ledger.cancel([cancelled])
    store.ledger.force(requeued, 1, "force", FAILED)
    store.client.hset(f"rq:job:{requeued}", "status", "queued")
    store.client.hset(f"rq:job:{broken}", "crashes", "x")
    store.client.rpush("rq:queue:q", new_id(), waiting)
    assert (clear(store), queued(store)) == (Cleared(1, 6), [broken, requeued])
    assert [run_id for run_id in (broken, requeued) if fields_of(store, run_id)["origin"] != "q"] == []


def test_a_cap_of_the_other_queue_refuses_no_move(store: Store) -> None:
    store.ledger.set_queue("z", "cap", 1)
    submitted(store.ledger, 3)
    assert (moved(store).runs, store.ledger.submit(new_runs(1, queue="z"))) == (3, ["FULL 3 1"])


def test_a_queue_is_not_moved_to_itself_nor_to_what_is_none(store: Store) -> None:
    submitted(store.ledger, 2)
    store.client.set("rq:queue:broken", "x")
    before = keyspace(store)
    with pytest.raises(RedisUnavailable, match="cannot be moved to itself"):
        store.ledger.move("q", "q")
    with pytest.raises(RedisUnavailable, match="is no list"):
        store.ledger.move("q", "broken")
    assert keyspace(store) == before


def test_runs_that_are_moved_to_and_fro_while_workers_begin_them_end_once(real: Store) -> None:
    ids = submitted(real.ledger, 200)

    def work(ledger: RunLedger, number: int) -> int:
        if number < 2:
            queue, to = [("q", "z"), ("z", "q")][number]
            for _ in range(60):
                ledger.move(queue, to, most=7)
            return 0
        seat, ended_here = seated(ledger, f"w{number}", "q", "z"), 0
        for _ in range(60):
            claims = ledger.cycle(seat, [], 2).claims
            ended_here += ledger.cycle(seat, [report(claim) for claim in claims], 0).verdicts.count("OK")
        return ended_here

    finished = sum(side_by_side(real, 4, work))
    left = {*queued(real), *queued(real, "z")} & {run_id for run_id in ids if state_of(real, run_id)[0] == "PENDING"}
    assert (finished + len(left), finished > 0, faults(real)) == (200, True, [])


# --- purging ----------------------------------------------------------------------------------------------------------


def test_a_purge_cancels_what_waits_for_a_worker_with_history(store: Store) -> None:
    ids = [*submitted(store.ledger, 2), passed_on(store)]
    assert (purged(store), queued(store), counts(store), faults(store)) == (Cleared(3, 3), [], {}, [])
    assert [told_by(rows_of(store, run_id)[-1:], "type", "message", "actor") for run_id in ids] == [
        [("CANCELLED", "Purged.", "alice")]
    ] * 3


def test_a_purge_leaves_what_is_due_later_waits_for_others_or_runs(store: Store) -> None:
    retrying = waits_for_a_retry(store)
    _, claim = held_by(store.ledger)
    deferred = one_submitted(store.ledger, ties=[("up", claim.run_id)])
    assert (purged(store).runs, counts(store), faults(store)) == (0, {"SCHEDULED": 1, "RUNNING": 1, "PENDING": 1}, [])
    assert [state_of(store, run_id)[0] for run_id in (retrying, deferred)] == ["SCHEDULED", "PENDING"]


def test_a_purged_queue_has_room_again(store: Store) -> None:
    store.ledger.set_queue("q", "cap", 2)
    submitted(store.ledger, 2)
    assert (purged(store, 1), purged(store, 1), store.ledger.submit(new_runs(1))) == (
        Cleared(1, 1),
        Cleared(1, 1),
        ["OK"],
    )


def test_who_waited_for_a_purged_run_is_told(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    deferred = one_submitted(store.ledger, queue="other", ties=[("up", upstream)])
    purged(store)
    assert (queued(store, "other"), faults(store)) == ([deferred], [])


# --- quarantine -------------------------------------------------------------------------------------------------------


def test_entries_are_dropped_by_their_ids(store: Store) -> None:
    seat = seated(store.ledger)
    submitted(store.ledger, 3)
    claims = begun(store.ledger, seat, 3)
    store.ledger.give_back("w1", [(claim.run_id, claim.token) for claim in claims], "Stop.")
    assert reported(store.ledger, seat, *map(report, claims)) == ["FENCED"] * 3
    first, second, _ = (entry for entry, _ in store.client.xrange("baton:quarantine"))
    assert [store.ledger.drop([first, second, "1-1"]) for _ in range(2)] == [2, 0]
    assert [entry["run"] for entry in quarantined(store)] == [claims[2].run_id]


def test_what_is_no_quarantine_is_left_alone(store: Store) -> None:
    store.client.set("baton:quarantine", "x")
    with pytest.raises(RedisUnavailable, match="is no stream"):
        store.ledger.drop(["1-1"])


# --- indexes of tags --------------------------------------------------------------------------------------------------


def tagged(number: int, tag: str) -> list[NewRun]:
    return new_runs(number, ties=[("tag", tag)])


def test_ids_of_runs_that_are_gone_leave_the_index_of_their_tag(store: Store) -> None:
    old, *gone, new = tagged(250, "a")
    assert set(store.ledger.submit([old, *gone, new])) == {"OK"}
    only = tagged(1, "b")
    assert store.ledger.submit(only) == ["OK"]
    store.client.delete(*(f"rq:job:{run.id}" for run in [*gone, *only]))
    for _ in range(60):
        store.ledger.sweep()
    assert (set(store.client.zrange("baton:tag:a:runs", 0, -1)), store.client.smembers("baton:tags")) == (
        {old.id, new.id},
        {"a"},
    )


def test_a_sweep_says_that_there_is_more_to_do_while_most_ids_are_gone(store: Store) -> None:
    runs = tagged(400, "a")
    store.ledger.submit(runs)
    store.client.delete(*(f"rq:job:{run.id}" for run in runs[:390]))
    answers = [store.ledger.sweep() for _ in range(10)]
    assert (answers[0], answers[-1]) == (AT_ONCE, 0)


@pytest.mark.parametrize("key", ["baton:tags", "baton:tag:a:runs"])
def test_a_damaged_index_of_tags_hinders_no_sweep(store: Store, key: str) -> None:
    store.ledger.submit(tagged(1, "a"))
    store.client.delete(key)
    store.client.set(key, "x")
    assert store.ledger.sweep() == 0
