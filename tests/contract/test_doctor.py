"""What the doctor finds: nothing after a busy story, and after one raw command exactly what that command broke."""

from importlib.resources import files

import pytest

from orchestrator.doctor import examine
from orchestrator.invariants import Violation
from shared import keys
from shared.rq_words import PLACED, REGISTRIES, WORDS, call_of
from shared.state_types import StateType
from tests.support.ledgers import (
    Store,
    fields_of,
    one_begun,
    one_submitted,
    rows_of,
    seated,
    submitted,
)
from tests.support.plants import OTHER, PLANTS, Plant, told

ROLE = "operator"


def found(store: Store) -> list[Violation]:
    return list(examine(store.exchange, lambda: None).violations)


def faults(store: Store) -> list[tuple[str, tuple[str, ...]]]:
    """Which invariants are broken, and by whom."""
    return [(violation.invariant, violation.ids) for violation in found(store)]


# --- health -----------------------------------------------------------------------------------------------------------


def test_an_empty_server_is_well(store: Store) -> None:
    assert examine(store.exchange, lambda: None).violations == ()


def test_after_a_busy_story_all_is_well(store: Store) -> None:
    told(store.ledger)
    diagnosis = examine(store.exchange, lambda: None)
    assert (diagnosis.violations, diagnosis.runs, diagnosis.states, diagnosis.compared_counters) == (
        (),
        10,
        {
            "SCHEDULED": 2,
            "PENDING": 1,
            "RUNNING": 1,
            "COMPLETED": 1,
            "FAILED": 1,
            "CANCELLED": 2,
            "CRASHED": 1,
            "CANCELLING": 1,
        },
        True,
    )


def test_more_runs_than_a_page_holds_are_all_seen(store: Store) -> None:
    waiting, later = submitted(store.ledger, 1100), submitted(store.ledger, 1100, delay=60)
    well = examine(store.exchange, lambda: None)
    store.client.lrem("rq:queue:q", 0, waiting[0])
    store.client.zrem("rq:scheduled:q", later[-1])
    assert (well.violations, well.states, faults(store)) == (
        (),
        {"SCHEDULED": 1100, "PENDING": 1100},
        [("I1", (waiting[0],)), ("I1", (later[-1],))],
    )


def test_tombstones_and_ids_that_lie_twice_in_a_queue_are_no_fault(store: Store) -> None:
    story = told(store.ledger)
    store.client.rpush("rq:queue:q", story.pending, story.completed, story.running.run_id, OTHER, "junk", "")
    store.client.rpush("rq:queue:other", story.pending)
    assert found(store) == []


def test_keys_of_others_are_left_alone(store: Store) -> None:
    store.client.hset(f"rq:job:{OTHER}", mapping={"status": "started", "origin": "theirs", "data": "x"})
    store.client.set(f"rq:job:{OTHER}:dependents", "x")
    store.client.zadd("rq:wip:theirs", {f"{OTHER}:5f2a": 1})
    store.client.set("rq:clean_registries:theirs", 1)
    store.client.set("shop:cart", 1)
    assert found(store) == []


def test_a_history_that_dropped_its_old_rows_is_whole(store: Store) -> None:
    seat = seated(store.ledger)
    run_id = one_submitted(store.ledger)
    for _ in range(501):
        claim = one_begun(store.ledger, seat)
        store.ledger.give_back("w1", [(run_id, claim.token)], "Not started: the worker is busy.")
    assert (len(rows_of(store, run_id)), found(store)) == (1000, [])


# --- one fault each ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("invariant", "plant"), PLANTS, ids=[plant.__name__ for _, plant in PLANTS])
def test_one_fault_is_found_as_what_it_is_and_nothing_else(store: Store, invariant: str, plant: Plant) -> None:
    story = told(store.ledger)
    named = plant(store.client, story)
    assert faults(store) == [(invariant, (named,))]


def test_runs_of_a_worker_without_lease_are_found(store: Store) -> None:
    story = told(store.ledger)
    store.client.zrem("baton:leases", "w1")
    assert faults(store) == [("I4", tuple(sorted((story.running.run_id, story.cancelling))))]


def test_runs_whose_lease_ended_long_ago_are_found_and_those_that_wait_to_be_reaped_are_not(store: Store) -> None:
    story = told(store.ledger)
    now = store.client.time()[0]
    store.client.zadd("baton:leases", {"w1": now - 60})
    waiting = found(store)
    store.client.zadd("baton:leases", {"w1": now - 3600})
    assert (waiting, faults(store)) == ([], [("I4", tuple(sorted((story.running.run_id, story.cancelling))))])


def test_a_queue_that_rq_does_not_know_is_found_with_its_runs(store: Store) -> None:
    one_submitted(store.ledger)
    other = submitted(store.ledger, 3, queue="other")
    store.client.srem("rq:queues", "rq:queue:other")
    assert faults(store) == [("I8", tuple(sorted(other)))]


@pytest.mark.parametrize(
    ("counter", "by", "what"),
    [
        ("PENDING", 2, "the counter of PENDING is 2 too high"),
        ("RUNNING", -1, "the counter of RUNNING is 1 too low"),
        ("PAUSED", 1, "the counter of PAUSED is 1 too high"),
        (
            "DONE",
            1,
            "baton:counts has a counter DONE, which is no state that is counted",
        ),
    ],
)
def test_a_counter_that_is_wrong_is_found_with_its_difference(store: Store, counter: str, by: int, what: str) -> None:
    told(store.ledger)
    store.client.hincrby("baton:counts", counter, by)
    assert found(store) == [Violation("I7", (), what, "baton reconcile")]


def test_a_counter_that_is_no_number_is_found(store: Store) -> None:
    told(store.ledger)
    store.client.hset("baton:counts", "PENDING", "many")
    assert [(one.invariant, one.what) for one in found(store)] == [
        ("I7", "the counter of PENDING is many, which is no number")
    ]


@pytest.mark.parametrize("key", ["baton:leases", "baton:counts", "baton:running", "baton:worker:w1:runs", "rq:queues"])
def test_a_key_of_another_type_is_reported_alone(store: Store, key: str) -> None:
    told(store.ledger)
    store.client.delete(key)
    store.client.set(key, "x")
    assert faults(store) == [("keys", (key,))]


@pytest.mark.parametrize(
    "key", ["rq:queue:q", "rq:scheduled:q", "rq:finished:q", "rq:failed:q", "rq:canceled:q", "rq:wip:q"]
)
def test_a_place_of_another_type_is_reported_alone(store: Store, key: str) -> None:
    told(store.ledger)
    store.client.delete(key)
    store.client.set(key, "x")
    assert faults(store) == [("keys", (key,))]


# --- damaged fields ---------------------------------------------------------------------------------------------------

NEEDED = {
    "pending": ("state_type", "state_name", "state_time", "seq", "task", "origin", "created_at"),
    "running": ("attempt", "token", "run_count", "worker_name", "started_at", "start_time"),
    "failed": ("ended_at", "token"),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in NEEDED.items() for name in names])
def test_a_field_that_is_missing_is_found(store: Store, kind: str, name: str) -> None:
    story = told(store.ledger)
    run_id = story.running.run_id if kind == "running" else getattr(story, kind)
    store.client.hdel(f"rq:job:{run_id}", name)
    assert [(one.invariant, one.ids, one.what) for one in found(store)] == [("fields", (run_id,), f"{name} is missing")]


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("seq", "x", "seq is 'x', not a number above 0"),
        ("seq", "", "seq is '', not a number above 0"),
        ("seq", "\u0663", "seq is '\u0663', not a number above 0"),
        ("token", "-1", "token is '-1', not a number above 0"),
        ("attempt", "1000000000", "attempt is 1000000000, which takes more transitions than the 3 that seq tells of"),
        ("crashes", "5", "crashes is 5, above the number of the attempt, 2"),
        ("run_count", "1e3", "run_count is '1e3', not a number"),
        ("state_type", "BOGUS", "state_type is 'BOGUS', not a type of state"),
        ("state_type", b"\xff\x1b[2J", "state_type is '\\udcff\\x1b[2J', not a type of state"),
        (
            "state_time",
            "2026-02-30T09:15:00.000250Z",
            "state_time is '2026-02-30T09:15:00.000250Z', not a time in UTC with six digits",
        ),
        ("created_at", "yesterday", "created_at is 'yesterday', not a time in UTC with six digits"),
        ("total_run_time", "nan", "total_run_time is 'nan', not a number of seconds"),
        ("max_retries", "many", "max_retries is 'many', not a number"),
        ("last_end", "cat", "last_end is 'cat', not lost, given_back, failed, paused or retried"),
        ("origin", "", "origin is '', not a text"),
    ],
)
def test_a_field_that_is_malformed_is_found(store: Store, name: str, value: str | bytes, what: str) -> None:
    story = told(store.ledger)
    store.client.hset(f"rq:job:{story.running.run_id}", name, value)
    assert [(one.invariant, one.ids, one.what) for one in found(store)] == [("fields", (story.running.run_id,), what)]


# --- tables that the scripts have too ---------------------------------------------------------------------------------


def lua_table(store: Store, name: str) -> dict[str, str]:
    """A table of the scripts' prelude, as the server sees it."""
    names = "\n".join(f"local {lua} = '{key}'" for lua, key in keys.LUA.items())
    prelude = (files("shared") / "lua" / "prelude.lua").read_text(encoding="utf-8")
    flat = f"local flat = {{}}\nfor k, v in pairs({name}) do flat[#flat + 1] = k; flat[#flat + 1] = v end\nreturn flat"
    answer = store.client.eval(f"{names}\n{prelude}\n{flat}", 0)
    return dict(zip(answer[::2], answer[1::2], strict=True))


def test_rqs_words_and_registries_are_those_of_the_scripts(store: Store) -> None:
    tables = [lua_table(store, name) for name in ("STATUS", "REGISTRY", "PLACED")]
    assert tables == [WORDS, REGISTRIES, PLACED]
    assert (set(WORDS), len(REGISTRIES)) == (set(StateType), 4)


def test_a_run_is_stored_with_the_call_that_we_expect(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    assert fields_of(store, run_id)["data"] == call_of(run_id)
