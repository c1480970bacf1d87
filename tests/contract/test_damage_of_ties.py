"""What scripts do where others spoilt what ties runs: no run is lost, nothing is left half written, others go on."""

from collections.abc import Callable
from typing import Any

import pytest

from shared.commands import Seat
from shared.errors import RedisUnavailable
from shared.slots import Holder, Slots
from shared.upkeep import Pulse
from tests.support.invariants import faults
from tests.support.ledgers import (
    COMPLETED,
    FAILED,
    KEPT,
    PAUSED_IN_PLACE,
    Store,
    begun,
    ended,
    fields_of,
    held_by,
    keyspace,
    lifetimes_of,
    new_run,
    new_runs,
    one_begun,
    one_submitted,
    quarantined,
    queued,
    report,
    reported,
    seated,
    seq_of,
    state_of,
    submitted,
    suspended_for,
)

LIMITED = {"limits": "tag:db", "ties": "1"}
INLINE = "inline-host-1-abc"
IS_QUEUED = ("PENDING", "Pending", None)


def spoilt(store: Store, key: str) -> None:
    """The key holds something that none of ours does."""
    store.client.delete(key)
    store.client.xadd(key, {"not": "ours"})


def refused(store: Store, key: str, command: Callable[[], Any]) -> bool:
    """The command is refused for this key, and stored nothing."""
    spoilt(store, key)
    before = keyspace(store)
    with pytest.raises(RedisUnavailable, match=f"WRONGTYPE {key} is no "):
        command()
    return keyspace(store) == before


# --- fields -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["nowhere", "", "HELD", "limit", "held:1", "limits:tag:db"])
def test_a_run_with_a_place_that_is_none_is_unreadable_and_left_alone(store: Store, place: str) -> None:
    first, broken, last = submitted(store.ledger, 3, fields={"ties": "1"})
    store.client.hset(f"rq:job:{broken}", "place", place)
    before = fields_of(store, broken)
    ledger = store.ledger
    steered = [
        ledger.cancel([broken])[0].tag,
        ledger.retry(broken, 1, "again").tag,
        ledger.force(broken, 1, "force", FAILED).tag,
        ledger.resume(broken, 1, "go").tag,
        ledger.propose(broken, FAILED, "fail", seq=1).tag,
    ]
    claims = begun(ledger, seated(ledger), 2)
    assert (steered, [claim.run_id for claim in claims]) == (["BROKEN"] * 5, [first, last])
    assert (quarantined(store), fields_of(store, broken)) == (
        [{"reason": "unreadable", "run": broken, "queue": "q"}],
        before,
    )


@pytest.mark.parametrize("consumers", ["x", "nan", "0", "-3", "1e300", ""])
def test_a_number_of_readers_that_is_none_keeps_nothing_alive(store: Store, consumers: str) -> None:
    upstream = one_submitted(store.ledger)
    run_id = one_submitted(store.ledger, ties=[("up", upstream)])
    store.client.hset(f"rq:job:{upstream}", "consumers", consumers)
    seat = seated(store.ledger)
    ended(store.ledger, seat, upstream)
    seen = (state_of(store, upstream)[0], lifetimes_of(store, upstream))
    store.ledger.reconcile([run_id])
    ended(store.ledger, seat, run_id)
    store.client.zadd("rq:finished:q", {upstream: 1})
    store.ledger.sweep()
    assert (seen, state_of(store, run_id)[0]) == (("COMPLETED", {KEPT}), "COMPLETED")
    assert store.client.exists(f"rq:job:{upstream}") == 0


@pytest.mark.parametrize("field", ["kids", "limits", "idem", "start_within", "upstreams", "flow", "kind", "slot_since"])
@pytest.mark.parametrize("junk", ["", "x", "-1", "\x00 \n"])
def test_junk_in_other_fields_keeps_no_run_from_its_end(store: Store, field: str, junk: str) -> None:
    store.ledger.set_limit("tag:db", 0)
    broken = one_submitted(store.ledger, fields={"ties": "1", "limits": "tag:db", field: junk})
    seat = seated(store.ledger)
    first = store.ledger.cycle(seat, [], 1).claims
    store.ledger.set_limit("tag:db", 5)
    claims = first or begun(store.ledger, seat)
    attempt = claims[0]
    if attempt.state == "PENDING":
        answer = store.ledger.propose(broken, FAILED, "end", token=attempt.token, worker="w1")
        assert answer.tag == "OK"
    else:
        assert reported(store.ledger, seat, report(attempt)) == ["OK"]
    assert (attempt.run_id, state_of(store, broken)[0] in ("COMPLETED", "FAILED")) == (broken, True)
    assert [text for text in faults(store) if "holds a slot" not in text] == []


@pytest.mark.parametrize("passed_at", ["x", "nan", "", "-1", "inf"])
def test_a_run_that_was_passed_on_at_no_time_is_passed_on_anew(store: Store, passed_at: str) -> None:
    run_id = one_submitted(store.ledger, fields={"passed_at": passed_at})
    store.ledger.beat([Pulse("w1", ["q"], {"tasks": "shop.other"}, is_new=True)])
    assert store.ledger.cycle(Seat("w1", ["q"]), [], 1).claims == []
    assert (state_of(store, run_id), faults(store)) == (("PENDING", "Pending", "passed"), [])


@pytest.mark.parametrize("text", ["", "x", "feed", "children", "feed a b c", "children x -", "drop all", "\x00"])
def test_a_continuation_that_cannot_be_read_keeps_no_other_waiting(store: Store, text: str) -> None:
    _, claim = held_by(store.ledger)
    child = one_submitted(store.ledger, fields={"parent": claim.run_id})
    store.client.rpush("baton:continue", text)
    store.ledger.cancel([claim.run_id])
    assert (store.ledger.go_on(5), state_of(store, child)[0]) == (0, "CANCELLED")


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["baton:limits", "baton:limit:tag:db", "baton:limit:tag:db:holders"])
def test_a_limit_of_another_type_is_not_written(store: Store, key: str) -> None:
    assert refused(store, key, lambda: store.ledger.set_limit("tag:db", 1))
    assert refused(store, key, lambda: store.ledger.set_limit("tag:db", None))


@pytest.mark.parametrize("part", ["", ":holders", ":waiters"])
def test_a_limit_that_cannot_be_read_loses_no_run(store: Store, part: str) -> None:
    store.ledger.set_limit("tag:db", 1)
    seat = seated(store.ledger)
    ids = submitted(store.ledger, 2, fields=LIMITED)
    (claim,) = begun(store.ledger, seat)
    spoilt(store, f"baton:limit:tag:db{part}")
    other = one_submitted(store.ledger, queue="other")
    verdicts = reported(store.ledger, seat, report(claim))
    second = one_begun(store.ledger, seat)
    store.ledger.promote()
    assert (verdicts, second.run_id, queued(store, "other")) == (["OK"], ids[1], [other])
    assert reported(store.ledger, seat, report(second)) == ["OK"]


def test_who_waits_for_slots_that_cannot_be_written_down_goes_on_waiting_and_holds_up_nobody(store: Store) -> None:
    store.ledger.set_limit("tag:db", 1)
    seat = seated(store.ledger)
    first, second = submitted(store.ledger, 2, fields=LIMITED)
    claim = one_begun(store.ledger, seat)
    store.ledger.cycle(seat, [], 1)
    due = one_submitted(store.ledger, delay=0.0)
    spoilt(store, "baton:limit:tag:db:holders")
    moved, verdicts = store.ledger.promote().moved, reported(store.ledger, seat, report(claim))
    held_up = state_of(store, second)[2]
    store.client.delete("baton:limit:tag:db:holders")
    store.ledger.promote()
    assert (claim.run_id, moved, verdicts, held_up) == (first, 1, ["OK"], "limit:tag:db")
    assert (queued(store), faults(store)) == ([second, due], [])


def test_processes_keep_their_slots_where_their_leases_cannot_be_read(store: Store) -> None:
    seated(store.ledger, "p1", "other")
    store.ledger.set_limit("db", 1)
    slots = Slots(store.exchange)
    for process, hold in (("p1", "h"), ("p1", "waits")):
        slots.take(Holder(process), hold, ["db"], 1)
    spoilt(store, "baton:leases")
    run_id = one_submitted(store.ledger, delay=0.0)
    assert (store.ledger.promote().moved, queued(store)) == (1, [run_id])
    assert store.client.zrange("baton:limit:db:holders", 0, -1) == ["p1/h/1"]


@pytest.mark.parametrize("slots", ["x", "nan", "-1", "", "inf"])
def test_a_number_of_slots_that_is_none_counts_as_0(store: Store, slots: str) -> None:
    store.client.hset("baton:limit:tag:db", "slots", slots)
    run_id = one_submitted(store.ledger, fields=LIMITED)
    assert store.ledger.cycle(seated(store.ledger), [], 1).claims == []
    waits = state_of(store, run_id)
    store.ledger.set_limit("tag:db", 1)
    assert (waits, queued(store), faults(store)) == (
        ("SCHEDULED", "AwaitingConcurrencySlot", "limit:tag:db"),
        [run_id],
        [],
    )


def test_junk_among_holders_takes_no_slot_for_long(store: Store) -> None:
    store.ledger.set_limit("tag:db", 1)
    run_id = one_submitted(store.ledger, fields=LIMITED)
    store.client.zadd("baton:limit:tag:db:holders", {"junk": 1, "gone:reserved": 1, ":": 2, "a:b:c": 3})
    assert store.ledger.cycle(seated(store.ledger), [], 1).claims == []
    store.ledger.promote()
    assert (queued(store), faults(store)) == ([run_id], [])


def test_promoting_goes_on_where_limits_cannot_be_read(store: Store) -> None:
    spoilt(store, "baton:limits")
    run_id = one_submitted(store.ledger, delay=0.0)
    assert (store.ledger.promote().moved, queued(store)) == (1, [run_id])


# --- sets of ids ------------------------------------------------------------------------------------------------------


def test_a_set_of_those_that_wait_refuses_who_would_be_entered(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    runs = [*new_runs(1), new_run(ties=[("up", upstream)])]
    assert refused(store, f"baton:run:{upstream}:feeds", lambda: store.ledger.submit(runs))


def test_a_set_of_children_refuses_who_would_be_entered(store: Store) -> None:
    parent = one_submitted(store.ledger)
    runs = [*new_runs(1), new_run(fields={"parent": parent})]
    assert refused(store, f"baton:run:{parent}:children", lambda: store.ledger.submit(runs))


def test_a_place_of_those_that_wait_for_others_refuses_who_would_lie_there(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    runs = [*new_runs(1), new_run(ties=[("up", upstream)])]
    assert refused(store, "rq:deferred:q", lambda: store.ledger.submit(runs))


def test_a_registry_refuses_who_would_end_at_once(store: Store) -> None:
    parent = one_submitted(store.ledger, queue="other")
    store.ledger.cancel([parent])
    runs = [*new_runs(1), new_run(fields={"parent": parent})]
    assert refused(store, "rq:canceled:q", lambda: store.ledger.submit(runs))


@pytest.mark.parametrize("key", ["rq:wip:q", "rq:canceled:q", "baton:running", f"baton:worker:{INLINE}:runs"])
def test_a_place_of_what_runs_refuses_who_would_be_held(store: Store, key: str) -> None:
    store.ledger.beat([Pulse(INLINE, [], {}, is_new=True)])
    assert refused(store, key, lambda: store.ledger.entrust(new_run(), INLINE, "op"))


@pytest.mark.parametrize("key", ["baton:tags", "baton:tag:x:runs", "baton:deadlines"])
def test_an_index_of_another_type_refuses_who_would_be_entered(store: Store, key: str) -> None:
    runs = [*new_runs(1), new_run(ties=[("tag", "x"), ("within", 60)])]
    assert refused(store, key, lambda: store.ledger.submit(runs))


@pytest.mark.parametrize("part", ["feeds", "children", "tags", "upstream"])
def test_a_spoilt_set_keeps_its_run_from_nothing(store: Store, part: str) -> None:
    upstream = one_submitted(store.ledger, ties=[("tag", "x")])
    waiting = one_submitted(store.ledger, ties=[("up", upstream)])
    seat = seated(store.ledger)
    claim = one_begun(store.ledger, seat)
    one_submitted(store.ledger, fields={"parent": upstream})
    for run_id in (upstream, waiting):
        spoilt(store, f"baton:run:{run_id}:{part}")
    store.ledger.cancel([upstream])
    assert (store.ledger.go_on(5), reported(store.ledger, seat, report(claim))) == (0, ["CANCELLED"])
    store.ledger.reconcile([waiting])
    assert (state_of(store, upstream)[0], state_of(store, waiting)) == ("CANCELLED", IS_QUEUED)
    assert store.ledger.cancel([waiting])[0].state_type == "CANCELLED"


def test_a_run_that_cannot_tell_what_it_waits_for_holds_up_nobody_else(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    spoilt_one, fine = submitted(store.ledger, 2, ties=[("up", upstream)])
    spoilt(store, f"baton:run:{spoilt_one}:waits")
    ended(store.ledger, seated(store.ledger), upstream)
    assert (queued(store), state_of(store, spoilt_one)[2], store.ledger.wait_for([spoilt_one])) == (
        [fine],
        "deferred",
        0,
    )
    assert store.ledger.cancel([spoilt_one])[0].state_type == "CANCELLED"


# --- indexes of all ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["baton:deadlines", "baton:continue", "baton:running"])
def test_cancelling_is_refused_before_it_writes(store: Store, key: str) -> None:
    waiting = one_submitted(store.ledger)
    assert refused(store, key, lambda: store.ledger.cancel([waiting]))
    assert refused(store, key, store.ledger.go_on)


@pytest.mark.parametrize("key", ["baton:deadlines", "baton:paused"])
def test_expiring_is_refused_before_it_writes(store: Store, key: str) -> None:
    submitted(store.ledger, 1, ties=[("within", 0.000001)])
    assert refused(store, key, store.ledger.expire)


@pytest.mark.parametrize("key", ["rq:queues", "baton:running", "baton:leases"])
def test_reconciling_is_refused_before_it_writes(store: Store, key: str) -> None:
    run_id = one_submitted(store.ledger)
    store.client.delete("rq:queue:q")
    assert refused(store, key, lambda: store.ledger.reconcile([run_id]))


def test_a_pause_is_refused_where_it_could_not_be_found_again(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    plain = one_submitted(store.ledger)
    pause = suspended_for(KEPT)
    assert refused(store, "baton:paused", lambda: store.ledger.propose(plain, pause, "hold", seq=1))
    assert refused(store, "baton:paused", lambda: store.ledger.force(plain, 1, "hold", pause))
    assert refused(store, "baton:paused", lambda: store.ledger.cycle(seat, [report(claim, pause)], 0))
    assert (reported(store.ledger, seat, report(claim)), state_of(store, plain)) == (["OK"], IS_QUEUED)


def test_a_pause_in_its_process_is_refused_where_its_end_could_not_be_noted(store: Store) -> None:
    _, claim = held_by(store.ledger, fields={"kind": "flow", "ties": "1"})
    assert refused(
        store,
        "baton:deadlines",
        lambda: store.ledger.propose(claim.run_id, PAUSED_IN_PLACE, "pause", token=claim.token, worker="w1"),
    )


@pytest.mark.parametrize(
    "key", ["baton:deadlines", "baton:continue", "baton:paused", "baton:limits", "baton:awaited:q"]
)
def test_reports_are_recorded_and_runs_begin_all_the_same(store: Store, key: str) -> None:
    upstream = one_submitted(store.ledger, fields=LIMITED, ties=[("idem", "k"), ("digest", "d"), ("within", 60)])
    store.ledger.set_limit("tag:db", 1)
    waiting = submitted(store.ledger, 510, ties=[("up", upstream)])
    seat = seated(store.ledger)
    claim = one_begun(store.ledger, seat)
    spoilt(store, key)
    assert reported(store.ledger, seat, report(claim)) == ["OK"]
    assert (state_of(store, upstream)[0], len(queued(store))) == ("COMPLETED", 500)
    store.client.delete(key)
    store.ledger.reconcile(waiting)
    assert (sorted(queued(store)), faults(store)) == (sorted(waiting), [])


@pytest.mark.parametrize("key", ["baton:idem:k", "baton:limit:tag:db", "baton:paused", "baton:deadlines"])
def test_a_retry_and_a_force_go_through_where_only_ties_are_spoilt(store: Store, key: str) -> None:
    store.ledger.set_limit("tag:db", 1)
    run_id = one_submitted(store.ledger, fields=LIMITED, ties=[("idem", "k"), ("digest", "d")])
    ended(store.ledger, seated(store.ledger), run_id, FAILED)
    spoilt(store, key)
    retried = store.ledger.retry(run_id, seq_of(store, run_id), "again", actor="alice")
    forced = store.ledger.force(run_id, retried.seq, "force", COMPLETED, actor="alice")
    assert (retried.tag, forced.tag, state_of(store, run_id)[0]) == ("OK", "OK", "COMPLETED")
