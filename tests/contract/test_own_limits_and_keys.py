"""The limit of a task's own, that its code declares, and idempotency keys that belong to a run for a while only."""

import pytest

from shared.commands import Claim
from shared.ids import new_id
from tests.support.invariants import faults
from tests.support.ledgers import (
    COMPLETED,
    Store,
    fields_of,
    new_run,
    one_begun,
    report,
    reported,
    seated,
    state_of,
)

LIMIT = "baton:limit:task:shop.add"


def submitted_with(store: Store, slots: int) -> str:
    run = new_run(id=new_id(), fields={"limits": "task:shop.add", "ties": "1"}, ties=[("slots", slots)])
    assert store.ledger.submit([run]) == ["OK"]
    return run.id


def begun_by(store: Store, worker: str) -> list[Claim]:
    """What this worker gets when it asks for two runs."""
    return store.ledger.cycle(seated(store.ledger, worker), [], 2).claims


def keyed(store: Store, unique: str) -> tuple[str, list[str]]:
    """The id of a run that was submitted under a key, and the answer."""
    ties = [("idem", "k"), ("digest", "d"), ("unique", unique)]
    run = new_run(id=new_id(), ties=ties)
    return run.id, store.ledger.submit([run])


# --- limits -----------------------------------------------------------------------------------------------------------


def test_no_more_runs_of_a_task_begin_than_its_code_says(store: Store) -> None:
    first, second = submitted_with(store, 1), submitted_with(store, 1)
    claims = begun_by(store, "w1") + begun_by(store, "w2")
    assert ([claim.run_id for claim in claims], state_of(store, second)[1], faults(store)) == (
        [first],
        "AwaitingConcurrencySlot",
        [],
    )


def test_what_the_code_says_now_holds_and_frees_who_waits_with_the_next_promotion(store: Store) -> None:
    submitted_with(store, 1)
    second = submitted_with(store, 1)
    begun_by(store, "w1")
    begun_by(store, "w2")
    submitted_with(store, 3)
    store.ledger.promote()
    assert (store.client.hgetall(LIMIT), state_of(store, second)[0], faults(store)) == (
        {"slots": "3", "declared": "3"},
        "PENDING",
        [],
    )


def test_what_was_set_by_hand_stays_until_the_code_says_another_number(store: Store) -> None:
    submitted_with(store, 1)
    store.ledger.set_limit("task:shop.add", 7)
    submitted_with(store, 1)
    by_hand = store.client.hget(LIMIT, "slots")
    submitted_with(store, 2)
    assert (by_hand, store.client.hget(LIMIT, "slots")) == ("7", "2")


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unique", ["until_started", "until_final"])
def test_while_it_waits_a_key_is_its_own(store: Store, unique: str) -> None:
    first, _ = keyed(store, unique)
    assert (keyed(store, unique)[1], faults(store)) == ([f"SAME {first}"], [])


def test_a_key_until_the_start_is_free_with_the_begin(store: Store) -> None:
    keyed(store, "until_started")
    one_begun(store.ledger, seated(store.ledger, "w1"))
    assert (keyed(store, "until_started")[1], faults(store)) == (["OK"], [])


@pytest.mark.parametrize("unique", ["until_started", "until_final"])
def test_a_key_until_the_end_is_free_with_it(store: Store, unique: str) -> None:
    first, _ = keyed(store, unique)
    seat = seated(store.ledger, "w1")
    claim = one_begun(store.ledger, seat)
    while_it_runs = keyed(store, "until_final")[1] if unique == "until_final" else [f"SAME {first}"]
    reported(store.ledger, seat, report(claim, COMPLETED))
    left = fields_of(store, first)
    assert (while_it_runs, "idem" in left, keyed(store, unique)[1], faults(store)) == (
        [f"SAME {first}"],
        False,
        ["OK"],
        [],
    )


def test_a_key_of_what_was_cancelled_before_its_start_is_free(store: Store) -> None:
    first, _ = keyed(store, "until_started")
    store.ledger.cancel([first], actor="alice")
    assert (keyed(store, "until_started")[1], faults(store)) == (["OK"], [])
