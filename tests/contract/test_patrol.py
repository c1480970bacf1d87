"""What a patrol suspects, how little it reads for that, and what every fleet's housekeeping does about it."""

import logging
from collections.abc import Callable

import pytest

from shared.patrol import SHORT, SLICE
from shared.settings import Settings
from tests.support import places
from tests.support.invariants import faults
from tests.support.ledgers import Store, held_by, one_begun, one_submitted, queued, seated, state_of, submitted
from tests.support.waiting import eventually
from worker.housekeeping import Upkeep


@pytest.mark.parametrize("made", places.EVERYWHERE)
def test_nothing_is_suspected_of_what_is_as_it_should_be(store: Store, made: Callable[[Store], str]) -> None:
    made(store)
    assert store.ledger.patrol().look()[0] == {}


def test_a_slice_is_bounded_and_the_next_goes_on_behind_it(real: Store) -> None:
    lost = submitted(real.ledger, 2 * SLICE)
    real.client.delete("rq:queue:q")
    patrol = real.ledger.patrol()
    slices = []
    while not patrol.rounds:
        slices.append(list(patrol.look()[0]))
    assert {run_id for ids in slices for run_id in ids} == set(lost)
    assert len(slices) > 2
    assert max(map(len, slices)) <= SLICE


def test_in_a_long_queue_only_those_are_looked_for_that_its_head_has_overtaken(store: Store) -> None:
    first, second, *_, last = submitted(store.ledger, SHORT + 20)
    for run_id in (second, last):
        store.client.lrem("rq:queue:q", 0, run_id)
    store.client.hset(f"rq:job:{first}", "enqueued_at", "2026-01-01T00:00:01.000000Z")
    store.client.hset(f"rq:job:{second}", "enqueued_at", "2026-01-01T00:00:00.000000Z")
    assert suspects_of(store) == {second}
    store.client.lpop("rq:queue:q", 20)
    assert suspects_of(store) >= {second, last}


def suspects_of(store: Store) -> set[str]:
    """All that a whole round suspects."""
    patrol, found = store.ledger.patrol(), set[str]()
    while not patrol.rounds:
        found |= patrol.look()[0].keys()
    return found


def test_a_run_that_cannot_be_read_is_left_to_people(store: Store) -> None:
    broken, typed = submitted(store.ledger, 2)
    store.client.hset(f"rq:job:{broken}", "seq", "x")
    store.client.delete(f"rq:job:{typed}")
    store.client.set(f"rq:job:{typed}", "x")
    assert store.ledger.patrol().look()[0] == {}


def test_a_queue_of_another_type_is_left_to_people(store: Store) -> None:
    one_submitted(store.ledger)
    store.client.delete("rq:queue:q")
    store.client.set("rq:queue:q", "x")
    assert store.ledger.patrol().look()[0] == {}


# --- housekeeping -----------------------------------------------------------------------------------------------------


def upkeep(store: Store, workers: int = 1) -> Upkeep:
    """Housekeeping that patrols all the time."""
    settings = Settings.model_validate({**store.settings.model_dump(), "reconcile": 0.01})
    return Upkeep(store.ledger, settings, workers)


def test_housekeeping_puts_back_what_is_in_no_queue(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    run_id = one_submitted(store.ledger)
    store.client.delete("rq:queue:q")
    house = upkeep(store)
    with caplog.at_level(logging.WARNING):
        eventually(lambda: house.run() or queued(store) == [run_id])
    assert f"run {run_id} was changed by others: put back where it waits" in caplog.messages
    assert (one_begun(store.ledger, seated(store.ledger)).run_id, faults(store)) == (run_id, [])


def test_housekeeping_frees_what_a_stock_worker_took_and_left(store: Store) -> None:
    """A worker of RQ's own with one queue parks what it takes in a list beside it."""
    run_id = one_submitted(store.ledger)
    store.client.lmove("rq:queue:q", "rq:queue:q:intermediate", "LEFT", "LEFT")
    house = upkeep(store)
    eventually(lambda: house.run() or queued(store) == [run_id])
    assert (store.client.exists("rq:queue:q:intermediate"), faults(store)) == (0, [])


def test_housekeeping_removes_what_is_left_of_a_deleted_run_and_lets_go_who_waits_for_it(store: Store) -> None:
    upstream = one_submitted(store.ledger, queue="other")
    waiting = one_submitted(store.ledger, ties=[("up", upstream)])
    store.client.delete(f"rq:job:{upstream}")
    house = upkeep(store)
    eventually(lambda: house.run() or queued(store) == [waiting])
    assert store.client.keys(f"baton:run:{upstream}:*") == []


def test_housekeeping_of_many_at_once_puts_each_run_back_once(real: Store) -> None:
    ids = submitted(real.ledger, 300)
    real.client.delete("rq:queue:q")
    houses = [upkeep(real) for _ in range(4)]
    eventually(lambda: [house.run() for house in houses] and len(queued(real)) >= len(ids))
    assert (sorted(queued(real)), faults(real)) == (sorted(ids), [])


def test_a_user_who_may_not_scan_still_reaps(real: Store, caplog: pytest.LogCaptureFixture) -> None:
    seat, claim = held_by(real.ledger)
    real.client.execute_command("ACL", "SETUSER", "worker", "-scan")
    house = upkeep(real)
    eventually(lambda: house.run() or state_of(real, claim.run_id)[0] == "PENDING")
    eventually(lambda: house.run() or [text for text in caplog.messages if "refuses SCAN" in text])
    assert (seat.worker in real.client.zrange("baton:leases", 0, -1), house.due_in() <= 0.1) == (False, True)


@pytest.mark.parametrize(("workers", "rest"), [(1, 20), (10, 2), (20, 1)])
def test_all_fleets_together_patrol_as_often_as_one_alone(store: Store, workers: int, rest: float) -> None:
    for number in range(20):
        seated(store.ledger, f"w{number}")
    settings = Settings(lease=60, beat=1, reap=30, reconcile=1)
    house = Upkeep(store.ledger, settings, workers)
    eventually(lambda: house.run() or house.patrol.rounds)
    assert rest * 0.7 < house.due_in() <= rest * 1.2
