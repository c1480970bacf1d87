"""Limits: never more runs at once than there are slots, first come first served, and no slot is ever lost."""

from collections.abc import Callable
from typing import Any

import pytest

from shared.commands import Claim, Outcome, Seat
from shared.upkeep import Death
from tests.support.invariants import faults, scanned, waiting_beside_free_slots
from tests.support.ledgers import (
    CANCELLED,
    COMPLETED,
    FAILED,
    KEPT,
    PAUSED_IN_PLACE,
    RETRYING,
    RUNNING,
    Store,
    begun,
    counts,
    ended,
    fields_of,
    one_begun,
    one_submitted,
    queued,
    report,
    reported,
    retry_in,
    rows_of,
    seated,
    seq_of,
    state_of,
    submitted,
    suspended_for,
    told_by,
)

HOLDERS = "baton:limit:tag:db:holders"
WAITERS = "baton:limit:tag:db:waiters"
WAITS = ("SCHEDULED", "AwaitingConcurrencySlot", "limit:tag:db")
IS_QUEUED = ("PENDING", "Pending", None)


def limited(*names: str) -> dict[str, Any]:
    """Fields of a run that needs a slot of each of these limits."""
    return {"limits": " ".join(names or ("tag:db",)), "ties": "1"}


def running_and_waiting(store: Store, waiting: int = 2, slots: int = 1) -> tuple[Seat, list[Claim], list[str]]:
    """A full limit: who holds its slots, and who waits for one, in their order."""
    store.ledger.set_limit("tag:db", slots)
    ids = submitted(store.ledger, slots + waiting, fields=limited())
    seat = seated(store.ledger)
    claims = [one_begun(store.ledger, seat) for _ in range(slots)]
    assert store.ledger.cycle(seat, [], 1).claims == []
    assert [claim.run_id for claim in claims] == ids[:slots]
    return seat, claims, ids[slots:]


def holders(store: Store, name: str = "tag:db") -> list[str]:
    """Who holds a slot: ids, those that are only reserved marked."""
    members = store.client.zrange(f"baton:limit:{name}:holders", 0, -1)
    return [member if member.endswith(":reserved") else member.partition(":")[0] for member in members]


def waiters(store: Store, name: str = "tag:db") -> list[str]:
    ids: list[str] = store.client.zrange(f"baton:limit:{name}:waiters", 0, -1)
    return ids


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_a_run_without_a_slot_waits_for_one_and_blocks_nobody_behind_it(store: Store) -> None:
    store.ledger.set_limit("tag:db", 1)
    first, second = submitted(store.ledger, 2, fields=limited())
    other = one_submitted(store.ledger)
    claims = [one_begun(store.ledger, seated(store.ledger, name)).run_id for name in ("w1", "w2")]
    assert (claims, state_of(store, second), waiters(store)) == ([first, other], WAITS, [second])
    assert (counts(store), fields_of(store, second)["status"], faults(store)) == (
        {"RUNNING": 2, "SCHEDULED": 1},
        "deferred",
        [],
    )


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        (1, "Concurrency limit reached for tags: db"),
        (0, 'The concurrency limit on tag "db" is 0: no run starts until it is raised.'),
    ],
)
def test_a_run_that_waits_says_for_what(store: Store, slots: int, message: str) -> None:
    _, _, (run_id, *_) = running_and_waiting(store, waiting=1, slots=slots)
    assert told_by(rows_of(store, run_id), "type", "message") == [("PENDING", None), ("SCHEDULED", message)]


def test_names_without_a_limit_cost_nothing(store: Store) -> None:
    submitted(store.ledger, 3, fields=limited("tag:free"))
    seat = seated(store.ledger)
    claims = [one_begun(store.ledger, seat) for _ in range(3)]
    assert (len(claims), store.client.keys("baton:limit*"), faults(store)) == (3, [], [])


def test_slots_are_given_in_the_order_in_which_they_were_waited_for(store: Store) -> None:
    seat, (claim,), waiting = running_and_waiting(store, waiting=3)
    begun_ids = []
    while waiting[len(begun_ids) :]:
        reported(store.ledger, seat, report(claim))
        claim = one_begun(store.ledger, seat)
        begun_ids.append(claim.run_id)
    assert (begun_ids, faults(store)) == (waiting, [])


def test_a_slot_that_is_given_is_kept_for_its_run_until_that_begins(store: Store) -> None:
    seat, (claim,), (first, second) = running_and_waiting(store)
    reported(store.ledger, seat, report(claim))
    given = (holders(store), queued(store), state_of(store, first), state_of(store, second))
    assert given == ([f"{first}:reserved"], [first], IS_QUEUED, WAITS)
    one_begun(store.ledger, seat)
    assert (holders(store), waiters(store), faults(store)) == ([first], [second], [])


def test_newcomers_pass_nobody_who_waits(store: Store) -> None:
    seat, (claim,), (waiting,) = running_and_waiting(store, waiting=1)
    newcomer = one_submitted(store.ledger, fields=limited(), at_front=True)
    reported(store.ledger, seat, report(claim))
    order = []
    for _ in range(2):
        claim = one_begun(store.ledger, seat)
        order.append(claim.run_id)
        assert store.ledger.cycle(seat, [], 1).claims == []
        reported(store.ledger, seat, report(claim))
    assert (order, faults(store)) == ([waiting, newcomer], [])


def test_a_reservation_that_is_not_used_in_time_goes_to_the_next(store: Store) -> None:
    seat, (claim,), (first, second) = running_and_waiting(store)
    reported(store.ledger, seat, report(claim))
    store.ledger.promote()
    kept = holders(store)
    store.client.zincrby(HOLDERS, -31, f"{first}:reserved")
    store.ledger.promote()
    assert (kept, holders(store), waiters(store)) == ([f"{first}:reserved"], [f"{second}:reserved"], [])
    late = store.ledger.cycle(seat, [], 1).claims
    assert ([claim.run_id for claim in late], state_of(store, first), faults(store)) == ([second], IS_QUEUED, [])
    assert (store.ledger.cycle(seat, [], 1).claims, state_of(store, first)) == ([], WAITS)


def test_slots_of_runs_that_are_not_there_any_more_go_to_the_next(store: Store) -> None:
    _, (claim,), (first, _) = running_and_waiting(store)
    store.client.delete(f"rq:job:{claim.run_id}")
    store.ledger.promote()
    assert (holders(store), queued(store)) == ([f"{first}:reserved"], [first])


def test_waiters_that_are_not_there_any_more_keep_nobody_waiting(store: Store) -> None:
    seat, (claim,), (first, second) = running_and_waiting(store)
    store.client.delete(f"rq:job:{first}")
    reported(store.ledger, seat, report(claim))
    store.ledger.promote()
    assert (queued(store), waiters(store)) == ([second], [])


# --- changing a limit -------------------------------------------------------------------------------------------------


def test_a_raised_limit_lets_so_many_more_go_at_once(store: Store) -> None:
    _, _, waiting = running_and_waiting(store, waiting=3)
    tokens = store.client.llen("baton:wake:q")
    left = store.ledger.set_limit("tag:db", 3)
    assert (left, queued(store), waiters(store), faults(store)) == (1, waiting[:2], waiting[2:], [])
    assert store.client.llen("baton:wake:q") == tokens + 2


def test_a_lowered_limit_takes_no_slot_away_and_gives_none(store: Store) -> None:
    seat, claims, (waiting,) = running_and_waiting(store, waiting=1, slots=3)
    store.ledger.set_limit("tag:db", 1)
    seen = [(len(holders(store)), queued(store))]
    for claim in claims:
        reported(store.ledger, seat, report(claim))
        seen.append((len(holders(store)), queued(store)))
    assert (seen, faults(store)) == ([(3, []), (2, []), (1, []), (1, [waiting])], [])


def test_a_limit_of_none_lets_nobody_begin_until_it_is_raised(store: Store) -> None:
    seat, _, (waiting,) = running_and_waiting(store, waiting=1, slots=0)
    store.ledger.promote()
    before = queued(store)
    store.ledger.set_limit("tag:db", 1)
    assert (before, one_begun(store.ledger, seat).run_id, faults(store)) == ([], waiting, [])


def test_a_limit_that_is_deleted_lets_everybody_go(store: Store) -> None:
    seat, (claim,), waiting = running_and_waiting(store, waiting=3)
    left = store.ledger.set_limit("tag:db", None)
    claims = [one_begun(store.ledger, seat) for _ in range(3)]
    assert (left, [claim.run_id for claim in claims]) == (0, waiting)
    reported(store.ledger, seat, *(report(each) for each in [claim, *claims]))
    assert (store.client.keys("baton:limit*"), counts(store), faults(store)) == ([], {}, [])


def test_a_limit_that_is_deleted_lets_more_go_than_one_call_moves(store: Store) -> None:
    store.ledger.set_limit("tag:db", 0)
    ids = submitted(store.ledger, 620, fields=limited())
    store.ledger.cycle(seated(store.ledger), [], 1)
    while queued(store):
        store.ledger.cycle(Seat("w1", ["q"], number=int(store.client.hget("rq:worker:w1", "cycle")) + 1), [], 1)
    seen = [(store.ledger.set_limit("tag:db", None), len(queued(store)))]
    for _ in range(2):
        store.ledger.promote()
        seen.append((len(waiters(store)), len(queued(store))))
    assert (seen, sorted(queued(store))) == ([(120, 500), (0, 620), (0, 620)], sorted(ids))
    assert store.client.smembers("baton:limits") == set()


def test_a_limit_is_written_as_it_shall_hold(store: Store) -> None:
    store.ledger.set_limit("rate", 10, decay=0.5)
    first = store.client.hgetall("baton:limit:rate")
    store.ledger.set_limit("rate", 5)
    assert (first, store.client.hgetall("baton:limit:rate"), store.client.smembers("baton:limits")) == (
        {"slots": "10", "decay": "0.5"},
        {"slots": "5"},
        {"rate"},
    )


# --- two limits -------------------------------------------------------------------------------------------------------


def test_a_run_takes_all_its_slots_or_none(store: Store) -> None:
    for name in ("tag:db", "tag:web"):
        store.ledger.set_limit(name, 1)
    seat = seated(store.ledger)
    web = one_submitted(store.ledger, fields=limited("tag:web"))
    one_begun(store.ledger, seat)
    both, db = one_submitted(store.ledger, fields=limited("tag:db", "tag:web")), None
    assert store.ledger.cycle(seat, [], 1).claims == []
    db = one_submitted(store.ledger, fields=limited())
    assert one_begun(store.ledger, seat).run_id == db
    assert (holders(store), holders(store, "tag:web"), waiters(store, "tag:web")) == ([db], [web], [both])
    assert faults(store) == []


def test_whoever_finds_a_second_limit_full_waits_there_since_when_it_first_waited(store: Store) -> None:
    for name in ("tag:db", "tag:web"):
        store.ledger.set_limit(name, 1)
    seat = seated(store.ledger)
    db, web = (one_submitted(store.ledger, fields=limited(name)) for name in ("tag:db", "tag:web"))
    first, second = begun(store.ledger, seat) + begun(store.ledger, seat)
    both = one_submitted(store.ledger, fields=limited("tag:db", "tag:web"))
    assert store.ledger.cycle(seat, [], 1).claims == []
    since = store.client.zscore(WAITERS, both)
    later = one_submitted(store.ledger, fields=limited("tag:web"))
    assert store.ledger.cycle(seat, [], 1).claims == []
    assert (first.run_id, second.run_id) == (db, web)
    reported(store.ledger, seat, report(first))
    assert store.ledger.cycle(seat, [], 1).claims == []
    assert (waiters(store, "tag:web"), holders(store)) == ([both, later], [])
    assert store.client.zscore("baton:limit:tag:web:waiters", both) == since
    reported(store.ledger, seat, report(second))
    assert one_begun(store.ledger, seat).run_id == both
    assert (holders(store), holders(store, "tag:web"), faults(store)) == ([both], [both], [])


def test_a_tied_run_asks_for_its_slot_when_it_starts(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    seat = seated(store.ledger)
    ended(store.ledger, seat, upstream)
    store.ledger.set_limit("tag:db", 1)
    holder, tied = one_submitted(store.ledger, fields=limited()), None
    (own,) = begun(store.ledger, seat)
    tied = one_submitted(store.ledger, fields=limited(), ties=[("up", upstream)])
    claim = one_begun(store.ledger, seat)
    answers = {store.ledger.propose(tied, RUNNING, "start", token=claim.token, worker="w1") for _ in range(2)}
    other = store.ledger.propose(tied, RUNNING, "once more", token=claim.token, worker="w1")
    assert ([answer.tag for answer in answers], other.tag, state_of(store, tied)) == (["FULL"], "FENCED", WAITS)
    assert (holders(store), faults(store)) == ([holder], [])
    reported(store.ledger, seat, report(own))
    claim = one_begun(store.ledger, seat)
    assert store.ledger.propose(tied, RUNNING, "start-2", token=claim.token, worker="w1").tag == "OK"
    assert (holders(store), faults(store)) == ([tied], [])


# --- ways out ---------------------------------------------------------------------------------------------------------


def _reports(outcome: Outcome) -> Callable[[Store, Seat, Claim], object]:
    return lambda store, seat, claim: reported(store.ledger, seat, report(claim, outcome))


def _forced(outcome: Outcome) -> Callable[[Store, Seat, Claim], object]:
    def force(store: Store, _seat: Seat, claim: Claim) -> None:
        store.ledger.force(claim.run_id, seq_of(store, claim.run_id), "force", outcome, actor="alice")

    return force


def _cancelled(store: Store, seat: Seat, claim: Claim) -> None:
    store.ledger.cancel([claim.run_id])
    assert holders(store) == [claim.run_id]
    reported(store.ledger, seat, report(claim, CANCELLED))


WAYS_OUT = {
    "it completes": _reports(COMPLETED),
    "it fails": _reports(FAILED),
    "it will be tried again later": _reports(retry_in(KEPT)),
    "it is suspended": _reports(suspended_for(0)),
    "it is cancelled": _cancelled,
    "its worker dies": lambda store, _, __: store.ledger.reap([Death("w1", "killed by signal 9")]),
    "it is given back": lambda store, _, claim: store.ledger.give_back("w1", [(claim.run_id, claim.token)], "Stop."),
    "it is forced to an end": _forced(FAILED),
    "it is forced to wait": _forced(Outcome("PENDING", "Pending", "Again.")),
    "it is forced to wait for a time": _forced(retry_in(KEPT)),
}


@pytest.mark.parametrize("way_out", WAYS_OUT.values(), ids=WAYS_OUT.keys())
def test_a_slot_is_free_when(store: Store, way_out: Callable[[Store, Seat, Claim], object]) -> None:
    seat, (claim,), (first, _) = running_and_waiting(store)
    way_out(store, seat, claim)
    assert (holders(store), queued(store)[0], faults(store)) == ([f"{first}:reserved"], first, [])
    store.ledger.promote()
    assert waiting_beside_free_slots(scanned(store)) == []


@pytest.mark.parametrize("way_out", ["cancel", "force"])
def test_a_reserved_slot_is_free_when_its_run_ends_before_it_begins(store: Store, way_out: str) -> None:
    seat, (claim,), (first, second) = running_and_waiting(store)
    reported(store.ledger, seat, report(claim))
    if way_out == "cancel":
        store.ledger.cancel([first])
    else:
        store.ledger.force(first, seq_of(store, first), "force", FAILED, actor="alice")
    assert (holders(store), waiters(store), faults(store)) == ([f"{second}:reserved"], [], [])


def test_a_waiter_that_is_cancelled_leaves_its_place_in_the_row(store: Store) -> None:
    seat, (claim,), (first, second) = running_and_waiting(store)
    store.ledger.cancel([first])
    reported(store.ledger, seat, report(claim))
    assert (holders(store), waiters(store), faults(store)) == ([f"{second}:reserved"], [], [])


def test_a_retry_in_place_keeps_its_slot(store: Store) -> None:
    _, (claim,), _ = running_and_waiting(store)
    again = store.ledger.propose(claim.run_id, RETRYING, "again", token=claim.token, worker="w1")
    assert (again.tag, store.client.zrange(HOLDERS, 0, -1)) == ("OK", [f"{claim.run_id}:{again.token}"])
    assert faults(store) == []


def test_a_pause_in_place_holds_no_slot_and_takes_one_again_with_its_resumption(store: Store) -> None:
    store.ledger.set_limit("tag:db", 1)
    flow = one_submitted(store.ledger, fields=limited() | {"kind": "flow"})
    seat = seated(store.ledger)
    claim = one_begun(store.ledger, seat)
    paused = store.ledger.propose(flow, PAUSED_IN_PLACE, "pause", token=claim.token, worker="w1")
    seen = [(paused.tag, holders(store), faults(store))]
    resumed = store.ledger.resume(flow, paused.seq, "go", actor="alice")
    seen.append((resumed.tag, holders(store), faults(store)))
    assert seen == [("OK", [], []), ("OK", [flow], [])]


def test_a_tag_without_a_limit_costs_no_batch(store: Store) -> None:
    submitted(store.ledger, 3, fields={"limits": "tag:a tag:b", "ties": "1"})
    seat = seated(store.ledger)
    assert len(store.ledger.cycle(seat, [], 16).claims) == 3


def test_a_run_with_a_limit_shares_no_batch(store: Store) -> None:
    store.ledger.set_limit("tag:b", 9)
    submitted(store.ledger, 3, fields={"limits": "tag:a tag:b", "ties": "1"})
    seat = seated(store.ledger)
    assert [len(store.ledger.cycle(seat, [], 16).claims) for _ in range(4)] == [1, 1, 1, 0]
