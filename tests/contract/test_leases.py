"""Leases of processes that are no workers: renewed while the process lives, ended with it, and known to be lost."""

import os
from collections.abc import Iterator

import pytest

from shared.upkeep import Death
from tests.contract.conftest import fake_store, real_store
from tests.support.ledgers import CANCELLING, Store, closed, one_begun, one_submitted, seated, server_time
from tests.support.waiting import eventually
from worker.leases import Lease, Leases

LENGTH = 1.5


@pytest.fixture(params=["redis", "fakeredis"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store on each of the two servers in turn, with leases that a busy machine can renew."""
    given = {"lease": LENGTH, "beat": 0.2, "reap": 0.2}
    found = (
        fake_store(**given) if request.param == "fakeredis" else real_store(request.getfixturevalue("server"), **given)
    )
    yield found
    closed(found)


@pytest.fixture
def leases(store: Store) -> Iterator[Leases]:
    """The leases of this process."""
    found = Leases(store.ledger, store.settings)
    yield found
    found.end()


def ends(store: Store) -> dict[str, float]:
    """Who has a lease, and until when by the server's clock."""
    return dict(store.client.zrange("baton:leases", 0, -1, withscores=True))


def test_a_lease_begins_with_its_first_use_and_is_the_same_for_all(store: Store, leases: Leases) -> None:
    before = ends(store)
    names = {leases.current().name for _ in range(3)}
    assert (before, set(ends(store))) == ({}, names)


def test_a_lease_is_renewed_while_its_process_lives(store: Store, leases: Leases) -> None:
    lease = leases.current()
    first = ends(store)[lease.name]
    eventually(lambda: server_time(store) > first + 0.1)
    assert (store.ledger.reap(), lease.is_lost(), leases.current() is lease) == ([], False, True)


def test_a_lease_that_is_ended_leaves_nothing_and_the_next_use_begins_another(store: Store, leases: Leases) -> None:
    first = leases.current()
    leases.end()
    left = (ends(store), store.client.smembers("rq:workers"), first.is_lost())
    second = leases.current()
    assert (left, second.name != first.name, set(ends(store))) == (({}, set(), True), True, {second.name})


def test_whoever_asked_for_it_is_told_that_a_lease_was_buried(store: Store, leases: Leases) -> None:
    told: list[str] = []
    lease = leases.current()
    lease.when_lost(lambda: told.append("kept"))
    take_back = lease.when_lost(lambda: told.append("taken back"))
    take_back()
    store.ledger.reap([Death(lease.name, "a test")])
    leases.hasten()
    eventually(lease.is_lost)
    eventually(lambda: told)
    lease.when_lost(lambda: told.append("too late"))
    assert (told, leases.current().name != lease.name) == (["kept", "too late"], True)


def test_a_lease_that_could_not_be_renewed_for_its_length_is_lost() -> None:
    lease = Lease(0.0)
    lease.renewed(0.0)
    assert (lease.is_lost(), lease.is_told) == (True, False)


def test_with_each_beat_something_else_can_be_renewed(leases: Leases) -> None:
    renewed: list[str] = []
    leases.with_each_beat(lambda lease: renewed.append(lease.name))
    name = leases.current().name
    eventually(lambda: renewed[:2] == [name, name])


def test_a_run_under_the_lease_that_is_to_end_is_told(store: Store, leases: Leases) -> None:
    told: list[tuple[str, str]] = []
    leases.hear(lambda ended: told.append((ended.run_id, ended.token)))
    run_id = one_submitted(store.ledger)
    claim = one_begun(store.ledger, seated(store.ledger, leases.current().name))
    store.ledger.propose(run_id, CANCELLING, "cancel", seq=store.ledger.get(run_id).seq, actor="alice")
    leases.hasten()
    eventually(lambda: told)
    assert told[0] == (run_id, claim.token)


def test_the_child_of_a_fork_has_a_lease_of_its_own(store: Store, leases: Leases) -> None:
    name = leases.current().name
    pid = os.fork()
    if pid == 0:
        os._exit(0 if leases.current().name != name else 1)
    _, status = os.waitpid(pid, 0)
    assert (os.waitstatus_to_exitcode(status), leases.current().name, name in ends(store)) == (0, name, True)
