"""What the doctor finds of runs that are tied to others: nothing where all is well, and what one raw command broke."""

import pytest

from orchestrator.doctor import examine
from tests.support.ledgers import Store
from tests.support.plants import OTHER, told
from tests.support.tied_plants import TIED_PLANTS, TiedPlant, tied

ROLE = "operator"


def faults(store: Store) -> list[tuple[str, tuple[str, ...]]]:
    """Which invariants are broken, and by whom."""
    return [(one.invariant, one.ids) for one in examine(store.exchange, lambda: None).violations]


def test_runs_of_every_kind_are_well(store: Store) -> None:
    told(store.ledger)
    tied(store.ledger)
    assert faults(store) == []


@pytest.mark.parametrize(("invariant", "plant"), TIED_PLANTS, ids=[plant.__name__ for _, plant in TIED_PLANTS])
def test_one_fault_is_found_as_what_it_is_and_nothing_else(store: Store, invariant: str, plant: TiedPlant) -> None:
    story = tied(store.ledger)
    named = plant(store.client, story)
    assert faults(store) == [(invariant, (named,))]


@pytest.mark.parametrize(
    "key",
    [
        "baton:deadlines",
        "baton:paused",
        "baton:limits",
        "baton:continue",
        "baton:limit:tag:db:holders",
        "baton:limit:tag:db:waiters",
        "baton:idem:k1",
        "rq:deferred:t",
    ],
)
def test_a_key_of_another_type_is_reported_alone(store: Store, key: str) -> None:
    tied(store.ledger)
    store.client.delete(key)
    store.client.set(key, "x") if key != "baton:idem:k1" else store.client.rpush(key, "x")
    assert faults(store) == [("keys", (key,))]


@pytest.mark.parametrize(("name", "part"), [("deferred", "waits"), ("deferred", "upstream"), ("needed", "feeds")])
def test_a_part_of_another_type_is_reported_alone(store: Store, name: str, part: str) -> None:
    run_id = getattr(tied(store.ledger), name)
    store.client.delete(f"baton:run:{run_id}:{part}")
    store.client.set(f"baton:run:{run_id}:{part}", "x")
    assert faults(store) == [("keys", (run_id,))]


def test_which_runs_a_run_needs_cannot_be_told_once_that_is_gone(store: Store) -> None:
    story = tied(store.ledger)
    store.client.delete(f"baton:run:{story.deferred}:upstream")
    assert faults(store) == [("ties", (story.deferred,)), ("consumers", (story.needed,))]


def test_who_waits_for_a_run_that_is_gone_is_found_with_what_that_left(store: Store) -> None:
    story = tied(store.ledger)
    store.client.delete(f"rq:job:{story.needed}")
    assert faults(store) == [("I7", ()), ("keys", (story.needed,)), ("ties", (story.deferred,))]


def test_who_waits_for_a_run_that_ended_may_be_told_later(store: Store) -> None:
    story = tied(store.ledger)
    store.client.sadd(f"baton:run:{story.deferred}:waits", story.done)
    store.client.rpush("baton:continue", f"feed {story.done}")
    assert faults(store) == []


def test_an_idempotency_key_whose_run_is_gone_may_live_to_its_end(store: Store) -> None:
    store.client.set("baton:idem:k9", f"{OTHER} d", ex=100)
    assert faults(store) == []


def test_a_slot_may_be_kept_as_long_as_nobody_else_wants_it(store: Store) -> None:
    story = tied(store.ledger)
    store.client.zadd("baton:limit:net:holders", {f"{story.reserved}:reserved": 1})
    assert faults(store) == []
