"""Locks by key: one holder at a time, free when it or its process is over, and nothing of them is left."""

import threading
from collections.abc import Iterator

import pytest

from shared.isolation import IsolationLevel
from shared.result_storage import MemoryStorage
from shared.results import ResultStore
from shared.transactions import transaction
from shared.upkeep import Death
from tests.contract.conftest import fake_store, real_store
from tests.support.ledgers import Store, closed, keyspace
from tests.support.waiting import eventually
from worker.locks import LimitLocks, lock_name
from worker.slots import Holds


@pytest.fixture(params=["redis", "fakeredis"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store on each of the two servers in turn, with leases that a busy machine can renew."""
    given = {"lease": 2.0, "beat": 0.2, "reap": 0.2}
    found = (
        fake_store(**given) if request.param == "fakeredis" else real_store(request.getfixturevalue("server"), **given)
    )
    yield found
    closed(found)


@pytest.fixture
def processes(store: Store) -> Iterator[tuple[Holds, Holds]]:
    """What two processes hold: each has a lease of its own."""
    both = (
        Holds(store.exchange, store.ledger, store.settings),
        Holds(store.exchange, store.ledger, store.settings),
    )
    yield both
    for holds in both:
        holds.close()


@pytest.fixture
def locks(processes: tuple[Holds, Holds]) -> tuple[LimitLocks, LimitLocks]:
    return LimitLocks(processes[0]), LimitLocks(processes[1])


def limits(store: Store) -> list[str]:
    """The keys of limits that are there."""
    return [key for key in keyspace(store) if key.startswith(("baton:limit", "baton:slot"))]


def test_a_lock_has_one_holder_and_leaves_nothing_behind(store: Store, locks: tuple[LimitLocks, LimitLocks]) -> None:
    one, other = locks
    seen = [one.acquire_lock("k"), one.acquire_lock("k"), other.acquire_lock("k", timeout=0)]
    seen += [one.is_lock_holder("k"), other.is_lock_holder("k"), one.is_lock_holder("k", "me"), other.is_locked("k")]
    assert seen == [True, True, False, True, False, False, True]
    other.release_lock("k")
    still = one.is_locked("k")
    one.release_lock("k")
    assert (still, one.is_locked("k"), other.acquire_lock("k", "me", 0)) == (True, False, True)
    other.release_lock("k", "me")
    assert limits(store) == []


def test_two_holders_of_one_process_exclude_each_other(locks: tuple[LimitLocks, LimitLocks]) -> None:
    one, _ = locks
    assert [one.acquire_lock("k", "a"), one.acquire_lock("k", "b", 0.1), one.is_lock_holder("k", "a")] == [
        True,
        False,
        True,
    ]


def test_whoever_waits_for_a_lock_goes_on_when_it_is_free(store: Store, locks: tuple[LimitLocks, LimitLocks]) -> None:
    one, other = locks
    one.acquire_lock("k")
    answers = [other.wait_for_lock("k", 0.05)]
    waiter = threading.Thread(target=lambda: answers.append(other.wait_for_lock("k", 10)))
    waiter.start()
    eventually(lambda: store.client.zcard("baton:limit:lock:k:waiters") == 1)
    one.release_lock("k")
    waiter.join(10)
    assert (answers, other.wait_for_lock("k"), limits(store)) == ([False, True], True, [])


def test_the_lock_of_a_dead_process_is_free(
    store: Store, processes: tuple[Holds, Holds], locks: tuple[LimitLocks, LimitLocks]
) -> None:
    one, other = locks
    one.acquire_lock("k")
    lease = processes[0].leases.current()
    store.ledger.reap([Death(lease.name, "a test")])
    assert other.acquire_lock("k", timeout=0)
    processes[0].leases.hasten()
    eventually(lease.is_lost)
    assert (one.is_lock_holder("k"), one.acquire_lock("k", timeout=0)) == (False, False)


@pytest.mark.parametrize("key", ["", "with space", "x" * 201, "line\nbreak", "\ud800"])
def test_a_key_that_no_limit_can_be_called_is_named_by_its_digest(key: str) -> None:
    name = lock_name(key)
    assert (name[:12], len(name), name == lock_name(f"{key}.")) == ("lock:sha256.", 76, False)


def test_a_transaction_knows_the_lock_of_one_around_it_whoever_manages_it(
    store: Store, locks: tuple[LimitLocks, LimitLocks]
) -> None:
    outer, inner = (ResultStore(MemoryStorage(), lock_manager=mine) for mine in locks)
    with transaction("k", outer, isolation_level=IsolationLevel.SERIALIZABLE) as txn:
        with transaction("k", inner) as same:
            same.stage(1)
        with transaction("other", inner) as other:
            other.stage(2)
        seen = (same.is_locked, other.is_locked)
        txn.stage(3)
    assert (seen, inner.read("k").result, outer.read("k").result, limits(store)) == ((False, True), 1, 3, [])


def test_of_two_serializable_transactions_one_runs_and_the_other_reads(
    store: Store, locks: tuple[LimitLocks, LimitLocks]
) -> None:
    shared, said, both = MemoryStorage(), list[str](), threading.Barrier(2)

    def block(mine: LimitLocks) -> None:
        both.wait(10)
        results = ResultStore(shared, lock_manager=mine)
        with transaction("k", results, isolation_level=IsolationLevel.SERIALIZABLE) as txn:
            said.append("reads" if txn.is_committed() else "runs")
            txn.stage(1)

    threads = [threading.Thread(target=block, args=(mine,)) for mine in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (said, ResultStore(shared).read("k").result, limits(store)) == (["runs", "reads"], 1, [])
