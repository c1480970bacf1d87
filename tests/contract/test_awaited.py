"""Runs that somebody waits for: begun before the others of their queue, each once, and lost with no hint."""

from shared.commands import Seat
from shared.ids import new_id
from shared.upkeep import Death
from tests.support.invariants import faults
from tests.support.ledgers import (
    KEPT,
    Store,
    begun,
    held_by,
    keyspace,
    one_begun,
    one_submitted,
    quarantined,
    queued,
    report,
    reported,
    seated,
    submitted,
    tokens_lying,
)
from tests.support.waiting import eventually


def hints(store: Store, queue: str = "q") -> list[str]:
    ids: list[str] = store.client.lrange(f"baton:awaited:{queue}", 0, -1)
    return ids


def test_what_is_awaited_is_begun_first_and_once(store: Store) -> None:
    first, second, third = submitted(store.ledger, 3)
    left = store.ledger.wait_for([third, second])
    claims = begun(store.ledger, seated(store.ledger), 3)
    assert (left, [claim.run_id for claim in claims]) == (2, [third, second, first])
    assert (hints(store), store.ledger.cycle(Seat("w1", ["q"], 2), [], 3).claims, faults(store)) == ([], [], [])
    assert queued(store) == []


def test_a_hint_is_no_place_of_a_run(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.ledger.wait_for([run_id])
    store.client.delete("baton:awaited:q")
    assert (faults(store), one_begun(store.ledger, seated(store.ledger)).run_id) == ([], run_id)


def test_a_hint_is_left_once_while_it_lies_and_again_once_it_is_lost(store: Store) -> None:
    first, second = submitted(store.ledger, 2)
    left = [store.ledger.wait_for([first, second, first]) for _ in range(3)]
    store.client.delete("baton:awaited:q")
    assert (left, store.ledger.wait_for([second]), hints(store)) == ([2, 0, 0], 1, [second])


def test_a_repeated_hint_begins_nothing_twice(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.ledger.wait_for([run_id])
    store.client.rpush("baton:awaited:q", run_id)
    seat = seated(store.ledger)
    assert [claim.run_id for claim in store.ledger.cycle(seat, [], 5).claims] == [run_id]
    assert (hints(store), quarantined(store), faults(store)) == ([], [], [])


def test_a_worker_that_lends_its_place_begins_only_what_is_awaited(store: Store) -> None:
    first, second = submitted(store.ledger, 2)
    seated(store.ledger)
    lent = Seat("w1", ["q"], awaited_only=True)
    nothing = store.ledger.cycle(lent, [], 2).claims
    store.ledger.wait_for([second])
    assert (nothing, [claim.run_id for claim in store.ledger.cycle(lent, [], 2).claims]) == ([], [second])
    assert queued(store) == [first, second]


def test_hints_wake_workers_and_those_that_lend_their_place(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.client.delete("baton:wake:q")
    store.ledger.wait_for([run_id])
    assert (tokens_lying(store), tokens_lying(store, "awaited:q")) == (1, 1)


def test_who_waits_for_a_run_waits_for_what_that_waits_for(store: Store) -> None:
    other, root = submitted(store.ledger, 2)
    middle = one_submitted(store.ledger, ties=[("up", root)])
    leaf = one_submitted(store.ledger, ties=[("up", middle)])
    left = store.ledger.wait_for([leaf])
    assert (left, hints(store), one_begun(store.ledger, seated(store.ledger)).run_id) == (1, [root], root)
    assert queued(store) == [other, root]


def test_what_is_too_much_for_one_call_is_awaited_all_the_same(store: Store) -> None:
    upstreams = submitted(store.ledger, 600)
    run_id = one_submitted(store.ledger, ties=[("up", upstream) for upstream in upstreams])
    assert (store.ledger.wait_for([run_id, run_id]), sorted(hints(store))) == (600, sorted(upstreams))


def test_a_long_chain_is_looked_down_to_what_waits_for_nobody(store: Store) -> None:
    root = one_submitted(store.ledger)
    wide = submitted(store.ledger, 510, ties=[("up", root)])
    leaf = one_submitted(store.ledger, ties=[("up", run_id) for run_id in wide])
    for _ in range(510):
        leaf = one_submitted(store.ledger, ties=[("up", leaf)])
    assert (store.ledger.wait_for([leaf]), hints(store)) == (1, [root])


def test_only_what_lies_in_a_queue_is_hinted_at_the_rest_is_marked(store: Store) -> None:
    _, claim = held_by(store.ledger)
    later = one_submitted(store.ledger, delay=KEPT)
    before = keyspace(store)
    left = store.ledger.wait_for([claim.run_id, later, new_id()])
    marks = [store.client.hget(f"rq:job:{run_id}", "awaited") for run_id in (claim.run_id, later)]
    assert (left, marks, keyspace(store).keys() - before.keys(), faults(store)) == (0, ["1", "1"], set(), [])


def test_an_awaited_run_that_becomes_ready_later_leaves_its_hint_then(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    later = one_submitted(store.ledger, delay=0.05)
    middle = one_submitted(store.ledger, ties=[("up", claim.run_id)])
    leaf = one_submitted(store.ledger, ties=[("up", middle)])
    store.ledger.wait_for([later, leaf])
    before = hints(store)
    eventually(lambda: store.ledger.promote(10).moved)
    promoted = hints(store)
    reported(store.ledger, seat, report(claim))
    assert (before, promoted, hints(store), faults(store)) == ([], [later], [later, middle], [])
    assert (
        tokens_lying(store, "awaited:q"),
        [c.run_id for c in begun(store.ledger, seated(store.ledger, "w2"), 1)],
    ) == (
        2,
        [later],
    )


def test_an_awaited_run_that_goes_back_leaves_its_hint_again(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    store.ledger.wait_for([claim.run_id])
    store.ledger.give_back(seat.worker, [(claim.run_id, claim.token)], "Not started.")
    again = one_begun(store.ledger, seated(store.ledger, "w2"))
    store.ledger.reap([Death("w2", "killed", again.run_id)])
    assert (again.run_id, hints(store), faults(store)) == (claim.run_id, [claim.run_id], [])


def test_an_end_takes_the_mark_away(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    store.ledger.wait_for([claim.run_id])
    reported(store.ledger, seat, report(claim))
    before = keyspace(store)
    assert (store.client.hget(f"rq:job:{claim.run_id}", "awaited"), store.ledger.wait_for([claim.run_id])) == (None, 0)
    assert (keyspace(store), faults(store)) == (before, [])


def test_hints_at_what_has_begun_or_is_gone_are_dropped(store: Store) -> None:
    first, second, third = submitted(store.ledger, 3)
    store.ledger.wait_for([first, second])
    store.client.delete(f"rq:job:{second}")
    other = seated(store.ledger, "w2", "q")
    store.client.delete("baton:wake:q")
    store.client.rpush("baton:awaited:q", "junk")
    claims = begun(store.ledger, other, 2)
    assert ([claim.run_id for claim in claims], hints(store), quarantined(store)) == ([first, third], [], [])


def test_a_hint_does_not_pass_a_pause(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.ledger.set_queue("q", "pause", "alice")
    store.ledger.wait_for([run_id])
    assert (store.ledger.cycle(seated(store.ledger), [], 1).claims, hints(store)) == ([], [run_id])


def test_a_run_that_stays_alone_stays_a_hint_until_its_turn(store: Store) -> None:
    plain = one_submitted(store.ledger)
    alone = one_submitted(store.ledger, fields={"on_crash": "fail"})
    store.ledger.wait_for([plain, alone])
    seat = seated(store.ledger)
    first = store.ledger.cycle(seat, [], 5).claims
    second = store.ledger.cycle(seat, [report(first[0])], 5).claims
    assert [[claim.run_id for claim in claims] for claims in (first, second)] == [[plain], [alone]]


def test_hints_of_another_type_keep_nobody_from_beginning(store: Store) -> None:
    store.client.set("baton:awaited:q", "not ours")
    run_id = one_submitted(store.ledger)
    store.ledger.wait_for([run_id])
    assert one_begun(store.ledger, seated(store.ledger)).run_id == run_id
