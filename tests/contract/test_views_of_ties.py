"""What operators are shown of limits, tags and the quarantine, and every run that matches, on both servers."""

from typing import Any

import pytest

from shared.commands import Claim, Outcome, Seat
from shared.errors import InvalidValue, RedisUnavailable
from shared.state_types import StateType
from shared.upkeep import Pulse
from shared.views.limits import Holder, Limit, limits
from shared.views.quarantine import entries, named
from shared.views.runs import Newest, Wanted, every, newest, tag_names
from tests.support.ledgers import (
    Store,
    new_run,
    new_runs,
    one_begun,
    report,
    reported,
    retry_in,
    seated,
    server_time,
    state_of,
    submitted,
)

ROLE = "operator"
LIMITED = {"limits": "tag:db", "ties": "1"}


def full_limit(store: Store, waiting: int = 1) -> tuple[Seat, Claim, list[str]]:
    """A limit of one slot: its holder, and those that wait for it."""
    store.ledger.set_limit("tag:db", 1)
    _, *others = submitted(store.ledger, 1 + waiting, fields=LIMITED)
    seat = seated(store.ledger)
    claim = one_begun(store.ledger, seat)
    assert store.ledger.cycle(seat, [], 1).claims == []
    return seat, claim, others


def one_limit(store: Store) -> Limit:
    (limit,) = limits(store.exchange).rows
    return limit


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_limit_is_told_with_who_holds_it_and_who_waits(store: Store) -> None:
    _, claim, others = full_limit(store, 3)
    limit = one_limit(store)
    (holder,) = limit.holders
    expected = Holder(f"{claim.run_id}:{claim.token}", claim.run_id, False, holder.since, "w1", holder.lease_left)
    assert (limit, holder) == (Limit("tag:db", 1, 1, 3, (holder,), tuple(others), {}), expected)
    assert abs(server_time(store) - holder.since) < 60
    assert holder.lease_left is not None


def test_a_slot_that_is_kept_for_a_run_says_so(store: Store) -> None:
    seat, claim, (other,) = full_limit(store)
    reported(store.ledger, seat, report(claim))
    (holder,) = one_limit(store).holders
    assert (holder.run_id, holder.is_reserved, holder.worker, holder.lease_left) == (other, True, None, None)


def test_a_process_may_hold_a_slot(store: Store) -> None:
    store.ledger.set_limit("tag:db", 2)
    seated(store.ledger, "inline-1")
    store.client.zadd("baton:limit:tag:db:holders", {"inline-1": 5})
    (holder,) = one_limit(store).holders
    assert (holder.run_id, holder.worker, holder.since, holder.lease_left is not None) == (None, "inline-1", 5.0, True)


@pytest.mark.parametrize("part", ["", ":holders", ":waiters"])
def test_damage_of_a_limit_hides_nothing_else(store: Store, part: str) -> None:
    store.ledger.set_limit("tag:db", 1)
    store.ledger.set_limit("tag:other", 2)
    store.client.delete(f"baton:limit:tag:db{part}")
    store.client.set(f"baton:limit:tag:db{part}", "x")
    damaged, other = limits(store.exchange).rows
    assert (list(damaged.problems), other) == (
        [f"baton:limit:tag:db{part}"],
        Limit("tag:other", 2, 0, 0, (), (), {}),
    )


# --- runs -------------------------------------------------------------------------------------------------------------


def ids(found: Newest) -> list[str]:
    return [row.id for row in found.rows]


def test_runs_that_wait_for_a_slot_are_listed(store: Store) -> None:
    _, _, others = full_limit(store, 3)
    found = newest(store.exchange, Wanted(states=frozenset({StateType.SCHEDULED})), 10)
    few = newest(store.exchange, Wanted(states=frozenset({StateType.SCHEDULED})), 10, page=2)
    assert (ids(found), found.gaps, ids(few), few.gaps) == (
        others[::-1],
        {},
        others[:0:-1],
        {"baton:limit:tag:db:waiters": "holds 3 ids, 2 were looked at"},
    )


def test_a_run_that_waits_for_its_next_attempt_in_its_process_is_listed(store: Store) -> None:
    process, run = "inline-host-1-abc", new_run()
    store.ledger.beat([Pulse(process, [], {}, is_new=True)])
    token = store.ledger.entrust(run, process, "op").token
    token = store.ledger.propose(run.id, Outcome("RUNNING", "Running"), "begin", token=token, worker=process).token
    store.ledger.propose(run.id, retry_in(30), "wait", token=token, worker=process)
    wanted = Wanted(states=frozenset({StateType.SCHEDULED}))
    found = [row.id for row in newest(store.exchange, wanted, 10).rows]
    assert (state_of(store, run.id)[2], found) == ("held", [run.id])
    assert [row.id for row in every(store.exchange, wanted, {})] == [run.id]


def test_every_run_is_found_however_deep_it_lies(store: Store) -> None:
    _, _, others = full_limit(store, 2)
    deep = submitted(store.ledger, 1200)
    gaps: dict[str, str] = {}
    waiting = [row.id for row in every(store.exchange, Wanted(frozenset({StateType.PENDING})), gaps)]
    slots = [row.id for row in every(store.exchange, Wanted(frozenset({StateType.SCHEDULED})), gaps)]
    assert (waiting, slots, gaps) == (deep[::-1], others[::-1], {})


def test_a_place_that_cannot_be_read_is_a_gap_and_a_run_without_a_record_none(store: Store) -> None:
    run_id, gone = submitted(store.ledger, 2)
    store.client.delete(f"rq:job:{gone}")
    store.client.set("rq:failed:q", "x")
    gaps: dict[str, str] = {}
    assert ([row.id for row in every(store.exchange, Wanted(), gaps)], list(gaps)) == ([run_id], ["rq:failed:q"])


# --- tags -------------------------------------------------------------------------------------------------------------


def pages(store: Store, wanted: Wanted, limit: int, page: int = 1000) -> list[list[str]]:
    """All pages of a question, as many as there are."""
    found = [newest(store.exchange, wanted, limit, page)]
    while found[-1].cursor is not None:
        found.append(newest(store.exchange, wanted, limit, page, found[-1].cursor))
    return [ids(one) for one in found]


def tagged(store: Store, number: int, **given: Any) -> list[str]:
    runs = new_runs(number, ties=[("tag", "red")], **given)
    assert set(store.ledger.submit(runs)) == {"OK"}
    return [run.id for run in runs]


def test_runs_of_one_call_have_one_time_and_are_paged_all_the_same(store: Store) -> None:
    first, second = tagged(store, 5), tagged(store, 3)
    newest_first = [*second[::-1], *first[::-1]]
    found = pages(store, Wanted(tag="red"), 3)
    assert (found, tag_names(store.exchange)) == ([newest_first[:3], newest_first[3:6], newest_first[6:]], ["red"])


def test_a_filter_beside_a_tag_may_leave_pages_empty_but_misses_nothing(store: Store) -> None:
    (wanted,) = tagged(store, 1, queue="rare")
    for _ in range(6):
        tagged(store, 2)
    found = pages(store, Wanted(tag="red", queue="rare"), 10, page=4)
    assert ([run_id for page in found for run_id in page], len(found) > 1) == ([wanted], True)


def test_ids_of_runs_that_are_gone_are_not_told(store: Store) -> None:
    kept, gone = tagged(store, 2)
    store.client.delete(f"rq:job:{gone}")
    assert pages(store, Wanted(tag="red"), 10) == [[kept]]


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "1.5 x", *(f"{score} 01a1f879-5eda-7005-8876-23ab1bc095ff" for score in ("nan", "+inf"))],
)
def test_what_is_no_cursor_is_refused(store: Store, cursor: str) -> None:
    for wanted in (Wanted(), Wanted(tag="red")):
        with pytest.raises(InvalidValue):
            newest(store.exchange, wanted, 10, after=cursor)


def test_an_index_that_is_none_is_told(store: Store) -> None:
    store.client.set("baton:tag:red:runs", "x")
    with pytest.raises(RedisUnavailable, match="baton:tag:red:runs"):
        newest(store.exchange, Wanted(tag="red"), 10)


# --- quarantine -------------------------------------------------------------------------------------------------------


def test_entries_are_told_newest_first_and_by_reason(store: Store) -> None:
    made = [
        store.client.xadd("baton:quarantine", {"reason": reason, "run": str(number), "result": b"\xff\x00"})
        for number, reason in enumerate(["fenced", "crashed"] * 300)
    ]
    total, newest_three = entries(store.exchange, 3)
    _, fenced = entries(store.exchange, 10_000, "fenced")
    assert (total, [entry.id for entry in newest_three], len(fenced), {entry.reason for entry in fenced}) == (
        600,
        made[:-4:-1],
        300,
        {"fenced"},
    )
    found = named(store.exchange, [made[1], made[0], made[1], "1-1"])
    assert ([*found], found[made[0]].fields["result"]) == ([made[1], made[0]], b"\xff\x00")


def test_a_quarantine_that_is_none_is_told(store: Store) -> None:
    assert entries(store.exchange, 10) == (0, [])
    store.client.set("baton:quarantine", "x")
    for ask in (lambda: entries(store.exchange, 10), lambda: named(store.exchange, ["1-1"])):
        with pytest.raises(RedisUnavailable, match="baton:quarantine"):
            ask()
