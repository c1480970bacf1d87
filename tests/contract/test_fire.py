"""Occurrences of schedules: each is submitted once, whoever fires it, and none is lost to a full queue."""

from typing import Any

import pytest

from shared.commands import NewRun
from shared.errors import RedisUnavailable
from tests.support.invariants import faults
from tests.support.ledgers import Store, keyspace, new_run, queued, side_by_side, submitted

DUE, NEXT = "1795166100.000000", "1795169700.000000"


def scheduled(store: Store, due: str = DUE, **fields: Any) -> None:
    """A schedule `nightly` with an occurrence at that time."""
    store.client.zadd("baton:schedules", {"nightly": due})
    store.client.hset("baton:schedule:nightly", mapping={"task": "shop.add", **fields})


def occurrence(due: str = DUE) -> NewRun:
    return new_run(ties=[("idem", f"nightly:{due}"), ("digest", "d")])


def fired(store: Store, run: NewRun, due: str = DUE, next_due: str = NEXT) -> str:
    return store.ledger.fire("nightly", due, next_due, {"last_run": run.id, "fired": 1}, run)


def test_an_occurrence_is_submitted_and_the_next_is_due(store: Store) -> None:
    scheduled(store)
    run = occurrence()
    assert (fired(store, run), queued(store)) == ("OK", [run.id])
    assert store.client.zrange("baton:schedules", 0, -1, withscores=True) == [("nightly", float(NEXT))]
    assert store.client.hgetall("baton:schedule:nightly") == {"task": "shop.add", "last_run": run.id, "fired": "1"}
    assert faults(store) == []


def test_an_occurrence_that_was_fired_is_not_fired_again(store: Store) -> None:
    scheduled(store)
    run = occurrence()
    fired(store, run)
    before = keyspace(store)
    assert ([fired(store, run), fired(store, occurrence())], keyspace(store)) == (["STALE"] * 2, before)


def test_of_many_that_fire_at_once_one_submits(store: Store) -> None:
    scheduled(store)
    runs = [occurrence() for _ in range(6)]
    answers = side_by_side(
        store, 6, lambda ledger, number: ledger.fire("nightly", DUE, NEXT, {"fired": 1}, runs[number])
    )
    assert (sorted(answers), len(queued(store))) == (["OK", *["STALE"] * 5], 1)


@pytest.mark.parametrize("change", ["deleted", "paused", "due at another time"])
def test_a_schedule_that_was_changed_meanwhile_fires_nothing(store: Store, change: str) -> None:
    scheduled(store, NEXT if change == "due at another time" else DUE)
    if change == "deleted":
        store.client.delete("baton:schedules", "baton:schedule:nightly")
    elif change == "paused":
        store.client.hset("baton:schedule:nightly", "paused", "1")
    before = keyspace(store)
    assert (fired(store, occurrence()), keyspace(store)) == ("STALE", before)


def test_a_full_queue_leaves_the_occurrence_due(store: Store) -> None:
    scheduled(store)
    store.ledger.set_queue("q", "cap", 1)
    submitted(store.ledger)
    run, before = occurrence(), keyspace(store)
    assert (fired(store, run), keyspace(store)) == ("FULL 1 1", before)
    store.ledger.set_queue("q", "uncap")
    assert fired(store, run) == "OK"


def test_after_the_last_occurrence_nothing_is_due(store: Store) -> None:
    scheduled(store)
    assert (fired(store, occurrence(), next_due=""), store.client.zscore("baton:schedules", "nightly")) == (
        "OK",
        float("inf"),
    )


def test_an_occurrence_that_has_its_run_already_moves_on_to_the_next(store: Store) -> None:
    scheduled(store)
    earlier = occurrence()
    store.ledger.submit([earlier])
    assert (fired(store, occurrence()), queued(store)) == (f"SAME {earlier.id}", [earlier.id])
    assert store.client.zscore("baton:schedules", "nightly") == float(NEXT)
    assert store.client.hget("baton:schedule:nightly", "last_run") == earlier.id


@pytest.mark.parametrize(
    "key", ["baton:schedules", "baton:schedule:nightly", "rq:queue:q", "rq:queues", f"baton:idem:nightly:{DUE}"]
)
def test_where_a_key_is_something_else_nothing_is_fired(store: Store, key: str) -> None:
    scheduled(store)
    store.client.delete(key)
    store.client.xadd(key, {"not": "ours"})
    before = keyspace(store)
    with pytest.raises(RedisUnavailable, match=f"WRONGTYPE {key} is no"):
        fired(store, occurrence())
    assert keyspace(store) == before
