"""Slots that processes hold: all or none, first come first served together with runs, and none is ever lost."""

import threading
from collections.abc import Callable

import pytest

from orchestrator.reconcile import reconcile
from shared.slots import Holder, Rated, Slots, Taken, heard
from shared.upkeep import Death
from tests.support.invariants import faults
from tests.support.ledgers import (
    Store,
    keyspace,
    one_begun,
    one_submitted,
    queued,
    report,
    reported,
    seated,
    server_time,
    side_by_side,
)
from tests.support.waiting import eventually

ROLE = "operator"
OK = Taken("OK", "")
A, B = Holder("p1"), Holder("p2")


@pytest.fixture
def slots(store: Store) -> Slots:
    """The slots of this store; `p1` and `p2` are processes that have a lease."""
    for name in ("p1", "p2"):
        seated(store.ledger, name, "other")
    return Slots(store.exchange)


def holders(store: Store, name: str = "db") -> list[str]:
    return sorted(store.client.zrange(f"baton:limit:{name}:holders", 0, -1))


def waiters(store: Store, name: str = "db") -> list[str]:
    members: list[str] = store.client.zrange(f"baton:limit:{name}:waiters", 0, -1)
    return members


def left(store: Store) -> dict[str, object]:
    """What is stored of limits and slots, without their names and numbers."""
    return {key: value for key, value in keyspace(store).items() if key.startswith(("baton:limit:", "baton:slot"))}


# --- taking and giving back -------------------------------------------------------------------------------------------


def test_slots_are_taken_and_given_back(store: Store, slots: Slots) -> None:
    store.ledger.set_limit("db", 3)
    seen = [slots.take(A, "h", ["db"], 2), slots.take(A, "h", ["db"], 2)]
    assert (seen, holders(store)) == ([OK, OK], ["p1/h/1", "p1/h/2"])
    assert ([slots.free(A, "h"), slots.free(A, "h")], holders(store)) == ([True, False], [])
    assert set(left(store)) == {"baton:limit:db"}


def test_all_or_none_are_taken(store: Store, slots: Slots) -> None:
    store.ledger.set_limit("db", 1)
    store.ledger.set_limit("web", 1)
    assert slots.take(A, "h", ["web"], 1) == OK
    assert slots.take(B, "g", ["db", "web"], 1) == Taken("WAIT", "web")
    assert (holders(store), waiters(store), waiters(store, "web")) == ([], [], ["p2/g/1"])
    slots.free(A, "h")
    assert slots.take(B, "g", ["db", "web"], 1) == OK
    assert (holders(store), holders(store, "web")) == (["p2/g/1"], ["p2/g/1"])


def test_whoever_finds_another_limit_full_waits_there_since_when_it_first_waited(store: Store, slots: Slots) -> None:
    for name in ("db", "web"):
        store.ledger.set_limit(name, 1)
        slots.take(A, name, [name], 1)
    slots.take(B, "both", ["db", "web"], 1)
    since = store.client.zscore("baton:limit:db:waiters", "p2/both/1")
    slots.take(B, "later", ["web"], 1)
    slots.free(A, "db")
    assert slots.take(B, "both", ["db", "web"], 1) == Taken("WAIT", "web")
    assert (holders(store), waiters(store, "web")) == ([], ["p2/both/1", "p2/later/1"])
    assert store.client.zscore("baton:limit:web:waiters", "p2/both/1") == since


def test_names_that_are_no_limits_count_for_nothing_or_are_refused(store: Store, slots: Slots) -> None:
    store.ledger.set_limit("db", 1)
    seen = [slots.take(A, "h", ["free"], 1), slots.take(A, "g", ["db", "free"], 1, strict=True)]
    assert (seen, set(left(store))) == ([OK, Taken("UNKNOWN", "free")], {"baton:limit:db"})


def test_more_than_the_limit_is_refused(store: Store, slots: Slots) -> None:
    store.ledger.set_limit("db", 2)
    assert (slots.take(A, "h", ["db"], 3), set(left(store))) == (Taken("OVER", "db"), {"baton:limit:db"})


def test_who_may_not_wait_is_told_and_leaves_nothing(store: Store, slots: Slots) -> None:
    store.ledger.set_limit("db", 1)
    slots.take(A, "h", ["db"], 1)
    before = left(store)
    seen = slots.take(B, "g", ["db"], 1, wait=False)
    after = left(store)
    for found in (before, after):
        found.pop("baton:limit:db")
    assert (seen, after) == (Taken("FULL", "db"), before)


def test_a_process_without_a_lease_gets_nothing(store: Store, slots: Slots) -> None:
    store.ledger.set_limit("db", 1)
    assert (slots.take(Holder("nobody"), "h", ["db"], 1), holders(store)) == (Taken("BURIED", ""), [])


# --- the row ----------------------------------------------------------------------------------------------------------


def test_who_wants_several_slots_is_not_passed_by_those_who_want_one(store: Store, slots: Slots) -> None:
    store.ledger.set_limit("db", 2)
    slots.take(A, "one", ["db"], 1)
    big, small = slots.take(B, "big", ["db"], 2), slots.take(A, "small", ["db"], 1)
    assert (big, small, holders(store)) == (Taken("WAIT", "db"), Taken("WAIT", "db"), ["p1/one/1"])
    slots.free(A, "one")
    assert holders(store) == ["p2/big/1", "p2/big/2"]
    slots.free(B, "big")
    assert (holders(store), slots.take(A, "small", ["db"], 1)) == (["p1/small/1"], OK)


def test_runs_and_processes_wait_in_one_row(store: Store, slots: Slots) -> None:
    store.ledger.set_limit("db", 1)
    slots.take(A, "first", ["db"], 1)
    run_id = one_submitted(store.ledger, fields={"limits": "db", "ties": "1"})
    seat = seated(store.ledger)
    assert store.ledger.cycle(seat, [], 1).claims == []
    slots.take(B, "last", ["db"], 1)
    slots.free(A, "first")
    assert (queued(store), holders(store), waiters(store)) == ([run_id], [f"{run_id}:reserved"], ["p2/last/1"])
    claim = one_begun(store.ledger, seat)
    assert slots.take(B, "last", ["db"], 1) == Taken("WAIT", "db")
    reported(store.ledger, seat, report(claim))
    assert (slots.take(B, "last", ["db"], 1), faults(store)) == (OK, [])


def test_a_release_wakes_the_one_who_is_next(store: Store, slots: Slots) -> None:
    store.ledger.set_limit("db", 1)
    slots.take(A, "h", ["db"], 1)
    slots.take(B, "g", ["db"], 1)
    line = store.exchange.line()
    told: list[bool] = []
    thread = threading.Thread(target=lambda: told.append(heard(line, "g", 10)))
    thread.start()
    slots.free(A, "h")
    thread.join(10)
    line.close()
    assert (told, slots.take(B, "g", ["db"], 1), store.client.keys("baton:slot:*")) == ([True], OK, [])


def test_whoever_wants_more_than_a_lowered_limit_has_is_woken_to_hear_so(store: Store, slots: Slots) -> None:
    store.ledger.set_limit("db", 2)
    slots.take(A, "h", ["db"], 2)
    slots.take(B, "g", ["db"], 2)
    store.ledger.set_limit("db", 1)
    slots.free(A, "h")
    assert (store.client.llen("baton:slot:g"), slots.take(B, "g", ["db"], 2)) == (1, Taken("OVER", "db"))
    slots.free(B, "g")
    assert waiters(store) == []


def test_a_limit_that_is_raised_or_deleted_lets_processes_go_on(store: Store, slots: Slots) -> None:
    store.ledger.set_limit("db", 1)
    for hold in ("a", "b", "c"):
        slots.take(A, hold, ["db"], 1)
    store.ledger.set_limit("db", 2)
    raised = holders(store)
    store.ledger.set_limit("db", None)
    assert (raised, slots.take(A, "c", ["db"], 1), waiters(store)) == (["p1/a/1", "p1/b/1"], OK, [])


# --- deaths -----------------------------------------------------------------------------------------------------------


def test_what_a_dead_process_held_goes_to_the_next_and_its_place_in_the_row_is_gone(store: Store, slots: Slots) -> None:
    store.ledger.set_limit("db", 2)
    seated(store.ledger, "p3", "other")
    slots.take(A, "h", ["db"], 2)
    slots.take(Holder("p3"), "dead", ["db"], 1)
    slots.take(B, "g", ["db"], 1)
    store.ledger.reap([Death("p3", "a test")])
    store.ledger.reap([Death("p1", "a test")])
    assert (holders(store), waiters(store), store.client.keys("baton:slots:*")) == (
        ["p2/g/1"],
        [],
        ["baton:slots:p2"],
    )


def _attempt_of(store: Store, seat_name: str = "w1") -> tuple[Holder, Callable[[], object]]:
    one_submitted(store.ledger)
    seat = seated(store.ledger, seat_name)
    claim = one_begun(store.ledger, seat)
    return Holder(seat_name, f"{claim.run_id}:{claim.token}"), lambda: reported(store.ledger, seat, report(claim))


def test_what_an_attempt_left_behind_goes_to_the_next(store: Store, slots: Slots) -> None:
    store.ledger.set_limit("db", 1)
    holder, end = _attempt_of(store)
    slots.take(holder, "h", ["db"], 1)
    assert slots.take(B, "g", ["db"], 1) == Taken("WAIT", "db")
    end()
    store.ledger.promote()
    assert (holders(store), store.client.keys("baton:slots:w1")) == (["p2/g/1"], [])


def test_those_who_wait_look_after_a_limit_where_no_fleet_does(store: Store, slots: Slots) -> None:
    store.ledger.set_limit("db", 1)
    holder, end = _attempt_of(store)
    slots.take(holder, "h", ["db"], 1)
    end()
    eventually(lambda: slots.take(B, "g", ["db"], 1) == OK)
    assert holders(store) == ["p2/g/1"]


def test_a_waiter_that_asks_no_more_is_passed(store: Store, slots: Slots) -> None:
    store.ledger.set_limit("db", 1)
    slots.take(A, "h", ["db"], 1)
    slots.take(A, "gone", ["db"], 1)
    slots.take(B, "g", ["db"], 1)
    entry = store.client.hget("baton:slots:p1", "gone")
    state, asked, *rest = entry.split()
    store.client.hset("baton:slots:p1", "gone", " ".join([state, f"{float(asked) - 31:.3f}", *rest]))
    slots.free(A, "h")
    store.ledger.promote()
    assert (holders(store), store.client.hkeys("baton:slots:p1")) == (["p2/g/1"], [])


def test_a_process_gives_back_what_it_does_not_know_of(store: Store, slots: Slots) -> None:
    store.ledger.set_limit("db", 2)
    slots.take(A, "known", ["db"], 1)
    slots.take(A, "unknown", ["db"], 1)
    young, old = slots.renew("p1", ["known"], 60), slots.renew("p1", ["known"], 0)
    assert (young, old, holders(store)) == (0, 1, ["p1/known/1"])


def test_the_doctor_knows_processes_that_hold_slots_and_reconcile_frees_those_of_the_dead(
    store: Store, slots: Slots
) -> None:
    store.ledger.set_limit("db", 2)
    slots.take(A, "h", ["db"], 1)
    slots.take(B, "g", ["db"], 1)
    slots.take(A, "waits", ["db"], 1)
    before = reconcile(store.exchange, store.ledger, lambda: None).found.violations
    store.client.zrem("baton:leases", "p2")
    report = reconcile(store.exchange, store.ledger, lambda: None)
    told = [violation.what for violation in report.found.violations]
    assert (before, told) == ((), ["a slot of db is held by a process that has no lease"])
    assert (report.left.violations, holders(store)) == ((), ["p1/h/1", "p1/waits/1"])
    assert store.client.keys("baton:slots:*") == ["baton:slots:p1"]


# --- locks ------------------------------------------------------------------------------------------------------------


def test_a_lock_is_a_limit_of_one_that_leaves_nothing_behind(store: Store, slots: Slots) -> None:
    seen = [slots.take(holder, "h", ["lock:k"], 1, lock=True) for holder in (A, B)]
    held = slots.is_held("lock:k")
    slots.free(A, "h")
    seen.append(slots.take(B, "h", ["lock:k"], 1, lock=True))
    assert (seen, held) == ([OK, Taken("WAIT", "lock:k"), OK], True)
    slots.free(B, "h")
    assert (slots.is_held("lock:k"), left(store), store.client.smembers("baton:limits")) == (False, {}, set())


def test_a_lock_whose_holder_died_leaves_nothing_behind(store: Store, slots: Slots) -> None:
    slots.take(A, "h", ["lock:k"], 1, lock=True)
    store.ledger.reap([Death("p1", "a test")])
    assert (left(store), store.client.smembers("baton:limits")) == ({}, set())


def test_never_more_than_the_limit_hold_slots_at_once(real: Store) -> None:
    real.ledger.set_limit("db", 2)
    inside, most = set[int](), list[int]()

    def work(_ledger: object, number: int) -> int:
        seated(real.ledger, f"t{number}", "other")
        mine, done = Holder(f"t{number}"), 0
        while done < 20:
            if slots.take(mine, f"h{done}", ["db"], 1).tag == "OK":
                inside.add(number)
                most.append(len(inside))
                inside.discard(number)
                slots.free(mine, f"h{done}")
                done += 1
        return done

    slots = Slots(real.exchange)
    assert (side_by_side(real, 4, work), max(most) <= 2) == ([20] * 4, True)
    assert (holders(real), waiters(real)) == ([], [])


# --- slots that free themselves ---------------------------------------------------------------------------------------


def seconds(answers: list[Rated]) -> list[float]:
    assert {answer.tag for answer in answers} == {"OK"}
    return [answer.seconds for answer in answers]


def test_slots_that_free_themselves_are_taken_ahead_of_their_time(store: Store, slots: Slots) -> None:
    store.ledger.set_limit("api", 2, 0.5)
    began = server_time(store)
    waits = seconds([slots.rate(f"o{number}", ["api"], 1) for number in range(5)])
    took = server_time(store) - began
    assert waits[:2] == [0.0, 0.0]
    assert all(2 * (n + 1) - took <= wait <= 2 * (n + 1) for n, wait in enumerate(waits[2:]))


def test_a_call_that_is_sent_twice_takes_slots_once(store: Store, slots: Slots) -> None:
    store.ledger.set_limit("api", 1, 0.01)
    first, again = slots.rate("same", ["api"], 1), slots.rate("same", ["api"], 1)
    (other,) = seconds([slots.rate("other", ["api"], 1)])
    assert (first, again, 99 < other <= 100) == (Rated("OK", "", 0), Rated("OK", "", 0), True)


def test_several_limits_are_taken_for_one_moment(store: Store, slots: Slots) -> None:
    store.ledger.set_limit("slow", 1, 0.01)
    store.ledger.set_limit("fast", 1, 1.0)
    waits = seconds([slots.rate(name, names, 1) for name, names in {"a": ["slow"], "b": ["slow", "fast"]}.items()])
    (behind,) = seconds([slots.rate("c", ["fast"], 1)])
    assert (waits[0], round(waits[1]), round(behind)) == (0.0, 100, 101)


@pytest.mark.parametrize(
    ("names", "occupy", "strict", "tag"),
    [
        (["api"], 3, False, "OVER"),
        (["none"], 1, True, "UNKNOWN"),
        (["fixed"], 1, False, "FIXED"),
    ],
)
def test_what_will_never_be_is_refused(
    store: Store, slots: Slots, names: list[str], occupy: int, strict: bool, tag: str
) -> None:
    store.ledger.set_limit("api", 2, 1.0)
    store.ledger.set_limit("fixed", 2)
    before = keyspace(store)
    answer = slots.rate("o", names, occupy, strict=strict)
    assert (answer, keyspace(store)) == (Rated(tag, names[0], 0), before)


def test_who_would_wait_too_long_takes_nothing(store: Store, slots: Slots) -> None:
    store.ledger.set_limit("api", 1, 0.1)
    slots.rate("a", ["api"], 1)
    before = keyspace(store)
    answer = slots.rate("b", ["api"], 1, most=5)
    assert (answer.tag, 9 < answer.seconds <= 10, keyspace(store)) == ("LATE", True, before)
