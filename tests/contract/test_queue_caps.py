"""Caps of queues: what is too much is refused, whole runs at a time, and stores nothing."""

from tests.support.invariants import faults
from tests.support.ledgers import (
    KEPT,
    Store,
    ended,
    held_by,
    keyspace,
    new_run,
    new_runs,
    one_begun,
    queued,
    seated,
    side_by_side,
    submitted,
)


def test_a_full_queue_refuses_a_run_and_says_how_full_it_is(store: Store) -> None:
    assert store.ledger.set_queue("q", "cap", 2)
    ids = submitted(store.ledger, 2)
    before = keyspace(store)
    assert (store.ledger.submit(new_runs(2)), keyspace(store)) == (["FULL 2 2"] * 2, before)
    assert (queued(store), faults(store)) == (ids, [])


def test_what_a_call_accepts_counts_for_what_comes_behind_it(store: Store) -> None:
    store.ledger.set_queue("q", "cap", 3)
    runs = [new_run(at_front=number % 2 == 0) for number in range(4)]
    other = new_run(queue="other")
    assert store.ledger.submit([*runs, other]) == ["OK", "OK", "OK", "FULL 3 3", "OK"]
    assert (len(queued(store)), queued(store, "other"), faults(store)) == (3, [other.id], [])


def test_a_run_that_was_accepted_is_known_again_in_a_full_queue(store: Store) -> None:
    store.ledger.set_queue("q", "cap", 1)
    runs = new_runs(2)
    assert [store.ledger.submit(runs) for _ in range(2)] == [["OK", "FULL 1 1"], ["EXISTS", "FULL 1 1"]]


def test_a_run_that_begins_makes_room(store: Store) -> None:
    store.ledger.set_queue("q", "cap", 1)
    submitted(store.ledger)
    one_begun(store.ledger, seated(store.ledger))
    assert store.ledger.submit(new_runs(2)) == ["OK", "FULL 1 1"]


def test_what_is_put_back_is_never_refused(store: Store) -> None:
    _, claim = held_by(store.ledger)
    store.ledger.set_queue("q", "cap", 1)
    (other,) = submitted(store.ledger)
    store.ledger.give_back("w1", [(claim.run_id, claim.token)], "Stop.")
    assert (queued(store), faults(store)) == ([claim.run_id, other], [])


def test_what_waits_for_others_comes_into_a_full_queue_all_the_same(store: Store) -> None:
    (upstream,) = submitted(store.ledger)
    (run_id,) = submitted(store.ledger, ties=[("up", upstream)])
    store.ledger.set_queue("q", "cap", 1)
    seat = seated(store.ledger)
    ended(store.ledger, seat, upstream)
    assert queued(store) == [run_id]


def test_a_full_queue_refuses_also_what_is_due_later(store: Store) -> None:
    store.ledger.set_queue("q", "cap", 1)
    submitted(store.ledger)
    assert store.ledger.submit(new_runs(1, delay=KEPT)) == ["FULL 1 1"]


def test_a_cap_can_be_changed_and_taken_away(store: Store) -> None:
    changed = [store.ledger.set_queue("q", "cap", cap) for cap in (1, 1, 2)]
    submitted(store.ledger, 2)
    answers = store.ledger.submit(new_runs(1))
    changed += [store.ledger.set_queue("q", "uncap") for _ in range(2)]
    submitted(store.ledger, 2)
    assert (changed, answers, store.client.exists("baton:queue:q")) == (
        [True, False, True, True, False],
        ["FULL 2 2"],
        0,
    )


def test_a_cap_that_is_no_number_caps_nothing(store: Store) -> None:
    store.client.hset("baton:queue:q", "cap", "many")
    assert len(submitted(store.ledger, 3)) == 3


def test_many_that_submit_at_once_never_pass_the_cap(store: Store) -> None:
    store.ledger.set_queue("q", "cap", 10)
    answers = side_by_side(store, 4, lambda ledger, _: [ledger.submit(new_runs(1))[0] for _ in range(5)])
    flat = [answer for some in answers for answer in some]
    assert (flat.count("OK"), flat.count("FULL 10 10"), len(queued(store))) == (10, 10, 10)
