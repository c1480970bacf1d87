"""What `reconcile` does about what the doctor finds: it mends what can be mended, and runs go on to their ends."""

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.doctor import examine
from orchestrator.reconcile import Report, reconcile
from shared.ledger import RunLedger
from shared.seen import Needed, Stray
from shared.upkeep import Recount
from tests.support.ledgers import (
    Store,
    counts,
    keyspace,
    one_submitted,
    queued,
    submitted,
)
from tests.support.plants import OTHER, PLANTS, history_gone, record_of_another_type, told
from tests.support.tied_plants import TIED_PLANTS, tied
from tests.support.working_off import worked_off

ROLE = "operator"


def reconciled(store: Store) -> Report:
    return reconcile(store.exchange, store.ledger, lambda: None)


def found(store: Store) -> list[tuple[str, tuple[str, ...]]]:
    """Which invariants are broken, and by whom."""
    return [(one.invariant, one.ids) for one in examine(store.exchange, lambda: None).violations]


# --- what is mended ---------------------------------------------------------------------------------------------------

BY_HAND = {
    "history_lost_its_first_row",
    "history_with_junk",
    "history_of_another_state",
    "history_of_a_later_attempt",
    "lives_after_its_end",
    "record_of_another_type",
    "history_of_another_type",
    "place_of_another_state",
    "ties_without_their_mark",
    "parameters_gone",
    "key_of_junk",
    "key_of_another_run",
    "key_of_a_run_that_is_gone",
    "key_that_ends_before_its_run",
    "key_without_an_end",
}
IN_PART = {"history_gone"}
"""Only the last row of a history is written again: of the others nobody knows what they said."""
STORIES: list[tuple[Any, Any]] = [
    *((told, plant) for _, plant in PLANTS),
    *((tied, plant) for _, plant in TIED_PLANTS),
]
MENDED = [pair for pair in STORIES if pair[1].__name__ not in BY_HAND | IN_PART]
LEFT = [pair for pair in STORIES if pair[1].__name__ in BY_HAND]


def name_of(part: Callable[..., object]) -> str:
    return part.__name__


@pytest.mark.parametrize(("tell", "plant"), MENDED, ids=name_of)
def test_what_is_mended_is_well_and_its_run_goes_on_to_its_end(
    store: Store, tell: Callable[[RunLedger], Any], plant: Callable[..., str]
) -> None:
    named = plant(store.client, tell(store.ledger))
    told_of = reconciled(store)
    assert (len(told_of.found.violations), told_of.left.violations, list(told_of.done)) == (1, (), [named])
    worked_off(store, named)
    assert found(store) == []


@pytest.mark.parametrize(("tell", "plant"), LEFT, ids=name_of)
def test_what_needs_a_hand_is_told_and_left_as_it_is(
    store: Store, tell: Callable[[RunLedger], Any], plant: Callable[..., str]
) -> None:
    plant(store.client, tell(store.ledger))
    before = keyspace(store)
    told_of = reconciled(store)
    assert (len(told_of.found.violations), told_of.left, told_of.done) == (1, told_of.found, {})
    assert keyspace(store) == before


def test_what_is_well_is_left_as_it_is(store: Store) -> None:
    told(store.ledger)
    tied(store.ledger)
    before = keyspace(store)
    told_of = reconciled(store)
    assert (told_of.found.violations, told_of.left, told_of.done, keyspace(store)) == ((), told_of.found, {}, before)


def test_a_lost_history_begins_again_with_what_the_record_says(store: Store) -> None:
    story = told(store.ledger)
    history_gone(store.client, story)
    told_of = reconciled(store)
    run = store.ledger.get(story.failed)
    assert told_of.done == {story.failed: ["last row of its history written again"]}
    assert (run.state.type, run.state.message, found(store)) == (
        "FAILED",
        "ValueError: no",
        [("I2", (story.failed,))],
    )


# --- more than one fault ----------------------------------------------------------------------------------------------

FAMILIES = [
    "rq:queue:*",
    "rq:queues",
    "rq:wip:*",
    "rq:scheduled:*",
    "rq:deferred:*",
    "rq:finished:*",
    "rq:failed:*",
    "rq:canceled:*",
    "baton:paused",
    "baton:running",
    "baton:leases",
    "baton:worker:*",
    "baton:counts",
    "baton:deadlines",
    "baton:limits",
    "baton:limit:*:waiters",
    "baton:run:*:waits",
    "baton:run:*:feeds",
]


@pytest.mark.parametrize("pattern", FAMILIES)
def test_a_family_of_keys_that_was_deleted_is_found_and_mended(store: Store, pattern: str) -> None:
    told(store.ledger)
    tied(store.ledger)
    store.client.delete(*store.client.keys(pattern))
    told_of = reconciled(store)
    assert (len(told_of.found.violations) > 0, told_of.left.violations) == (True, ())
    worked_off(store, *(key.removeprefix("rq:job:") for key in store.client.keys("rq:job:*")))
    assert found(store) == []


def test_what_runs_left_that_were_deleted_is_cleaned_up(store: Store) -> None:
    told(store.ledger)
    tied(store.ledger)
    store.client.delete(*store.client.keys("rq:job:*"))
    told_of = reconciled(store)
    assert ([one.invariant for one in told_of.left.violations], store.client.keys("baton:run:*")) == (["idem"], [])
    assert (store.client.zcard("baton:running"), counts(store)) == (0, {})


def test_runs_that_were_lost_come_back_in_their_order_whatever_their_number(store: Store) -> None:
    ids = submitted(store.ledger, 120)
    store.client.delete("rq:queue:q")
    behind = one_submitted(store.ledger)
    reconciled(store)
    assert (queued(store), found(store)) == ([*ids, behind], [])


def test_counters_are_written_as_runs_are_found(store: Store) -> None:
    submitted(store.ledger, 3)
    store.client.hset("baton:counts", mapping={"PENDING": "many", "PAUSED": 2, "DONE": 1})
    told_of = reconciled(store)
    assert (told_of.counters, told_of.left.violations, store.client.hgetall("baton:counts")) == (
        [Recount("DONE", "1", 0), Recount("PAUSED", "2", 0), Recount("PENDING", "many", 3)],
        (),
        {"PENDING": "3"},
    )


def test_a_counter_is_left_in_the_doubt_about_a_run_that_cannot_be_read(store: Store) -> None:
    record_of_another_type(store.client, told(store.ledger))
    store.client.hincrby("baton:counts", "RUNNING", 3)
    told_of = reconciled(store)
    assert (told_of.counters, [one.invariant for one in told_of.left.violations]) == (
        [Recount("RUNNING", "4", 2)],
        ["keys"],
    )


# --- what is left alone -----------------------------------------------------------------------------------------------


def test_what_is_in_order_when_it_is_looked_at_again_is_left_alone(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.client.delete("rq:queue:q")
    before = keyspace(store)

    def repair() -> None:
        store.client.lrem("rq:queue:q", 0, run_id)
        store.client.rpush("rq:queue:q", run_id)

    told_of = reconcile(store.exchange, store.ledger, repair)
    assert (told_of.found.violations, told_of.done) == ((), {})
    assert keyspace(store) == before | {"rq:queue:q": ("list", [run_id], False)}


def test_rows_that_belong_where_they_are_are_never_struck(store: Store) -> None:
    story = tied(store.ledger)
    handed, holder = story.handed, story.holder
    wip = f"{handed.run_id}:{handed.token}"
    rows = [
        Stray(story.deferred, "place", "rq:deferred:t", story.deferred),
        Stray(story.passed, "place", "rq:scheduled:v", story.passed),
        Stray(story.waiter, "place", "baton:limit:tag:db:waiters", story.waiter),
        Stray(story.suspended, "place", "baton:paused", story.suspended),
        Stray(story.done, "place", "rq:finished:t", story.done),
        Stray(handed.run_id, "held", "baton:worker:t1:runs", handed.run_id),
        Stray(handed.run_id, "wip", "rq:wip:t", wip),
        Stray(handed.run_id, "running", "baton:running", handed.run_id),
        Stray(story.within, "deadline", "baton:deadlines", story.within),
        Stray(story.cancelling, "deadline", "baton:deadlines", story.cancelling),
        Stray(story.paused.run_id, "deadline", "baton:deadlines", story.paused.run_id),
        Stray(holder.run_id, "slot", "baton:limit:tag:db:holders", f"{holder.run_id}:{holder.token}"),
        Stray(story.reserved, "slot", "baton:limit:net:holders", f"{story.reserved}:reserved"),
    ]
    before = keyspace(store)
    assert (store.ledger.strike(rows), keyspace(store) == before) == ([False] * len(rows), True)


def test_a_slot_of_a_living_process_is_never_struck(store: Store) -> None:
    tied(store.ledger)
    store.client.zadd("baton:limit:tag:db:holders", {"t1/hold/1": 1})
    struck = store.ledger.strike([Stray("", "slot", "baton:limit:tag:db:holders", "t1/hold/1")])
    assert (found(store), struck) == ([], [False])


def test_a_slot_that_is_struck_goes_to_who_waits_for_one(store: Store) -> None:
    story = tied(store.ledger)
    store.client.delete("baton:limit:tag:db:holders")
    store.client.zadd("baton:limit:tag:db:holders", {f"{OTHER}:5": 1})
    reconciled(store)
    assert (store.client.zrange("baton:limit:tag:db:holders", 0, -1), queued(store, "t")[0]) == (
        [f"{story.waiter}:reserved"],
        story.waiter,
    )


def test_needs_that_changed_since_they_were_counted_are_left_alone(store: Store) -> None:
    story = tied(store.ledger)
    answers = store.ledger.write_needs(
        [Needed(story.done, "2", 5), Needed(story.needed, "", 5), Needed(OTHER, "", 5), Needed(story.done, "1", 4)]
    )
    consumers = [store.client.hget(f"rq:job:{run_id}", "consumers") for run_id in (story.done, story.needed)]
    assert (answers, consumers, store.client.exists(f"rq:job:{OTHER}")) == ([False] * 3 + [True], ["4", "1"], 0)


def test_jobs_of_rqs_own_are_left_alone(store: Store) -> None:
    job = {"status": "started", "origin": "theirs", "data": "x"}
    store.client.hset(f"rq:job:{OTHER}", mapping=job)
    store.client.zadd("rq:wip:theirs", {f"{OTHER}:5f2a": 1})
    store.client.rpush("rq:queue:theirs:intermediate", OTHER)
    before = keyspace(store)
    reconciled(store)
    store.ledger.reconcile([OTHER])
    store.ledger.strike([Stray(OTHER, "parked", "rq:queue:theirs:intermediate", OTHER)])
    assert keyspace(store) == before
