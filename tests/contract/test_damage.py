"""What scripts do where others wrote: unreadable records, keys of another type. Nothing is ever left half written."""

from collections.abc import Callable

import pytest

from shared.commands import Claim
from shared.errors import RedisUnavailable
from shared.upkeep import Buried, Death, Pulse
from tests.support.ledgers import (
    Store,
    begun,
    fields_of,
    keyspace,
    new_runs,
    one_begun,
    one_submitted,
    quarantined,
    queued,
    report,
    reported,
    seated,
    submitted,
)

KILLED = "its process was killed by signal 9"


def ids_of(claims: list[Claim]) -> list[str]:
    return [claim.run_id for claim in claims]


def held(store: Store, number: int) -> list[Claim]:
    """Runs that a new worker holds."""
    submitted(store.ledger, number)
    return begun(store.ledger, seated(store.ledger), number)


# --- submitting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["rq:queue:q", "rq:scheduled:q", "rq:queues", "baton:tasks"])
def test_where_a_key_is_something_else_nothing_is_accepted(store: Store, key: str) -> None:
    store.client.set(key, "not ours")
    before = keyspace(store)
    with pytest.raises(RedisUnavailable, match=f"WRONGTYPE {key} is no "):
        store.ledger.submit(new_runs(2))
    assert keyspace(store) == before


@pytest.mark.parametrize("key", ["baton:counts", "baton:wake:q"])
def test_a_spoilt_counter_or_wake_up_list_keeps_no_run_from_its_queue(store: Store, key: str) -> None:
    store.client.set(key, "not ours")
    ids = submitted(store.ledger, 2)
    assert (queued(store), store.client.get(key)) == (ids, "not ours")


# --- beginning and reporting ------------------------------------------------------------------------------------------

NEEDED = ("state_type", "seq", "state_time", "origin", "task")
READ_AS_NUMBERS = ("seq", "token", "attempt", "run_count", "crashes", "total_run_time", "max_retries", "result_ttl")


def _without(name: str) -> Callable[[Store, str], object]:
    return lambda store, run_id: store.client.hdel(f"rq:job:{run_id}", name)


def _with(name: str, value: str) -> Callable[[Store, str], object]:
    return lambda store, run_id: store.client.hset(f"rq:job:{run_id}", name, value)


def _taken(key: str) -> Callable[[Store, str], object]:
    def take(store: Store, run_id: str) -> None:
        store.client.delete(key.format(run_id))
        store.client.sadd(key.format(run_id), "not ours")

    return take


DAMAGES = {
    **{f"without {name}": _without(name) for name in NEEDED},
    **{f"{name} is no number": _with(name, "x") for name in (*READ_AS_NUMBERS, "timeout_seconds")},
    **{f"{name} is not finite": _with(name, "nan") for name in ("seq", "token", "timeout_seconds")},
    "the state is unknown": _with("state_type", "LOST"),
    "the time is none": _with("state_time", "yesterday"),
    "the run is no hash": _taken("rq:job:{}"),
    "the history is no list": _taken("baton:run:{}:history"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_an_unreadable_run_goes_to_quarantine_and_those_beside_it_begin(
    store: Store, damage: Callable[[Store, str], object]
) -> None:
    first, broken, last = submitted(store.ledger, 3)
    damage(store, broken)
    seat = seated(store.ledger)
    before = keyspace(store)[f"rq:job:{broken}"]
    assert (ids_of(begun(store.ledger, seat, 2)), quarantined(store)) == (
        [first, last],
        [{"reason": "unreadable", "run": broken, "queue": "q"}],
    )
    assert keyspace(store)[f"rq:job:{broken}"] == before


def test_a_thousand_unreadable_runs_at_the_head_of_a_queue_hold_up_the_rest_for_a_few_calls(store: Store) -> None:
    broken = submitted(store.ledger, 1000)
    for run_id in broken:
        store.client.hset(f"rq:job:{run_id}", "seq", "x")
    fine = one_submitted(store.ledger)
    seat = seated(store.ledger)
    answers = [store.ledger.cycle(seat, [], 1) for _ in range(6)]
    assert [(answer.tag, ids_of(answer.claims)) for answer in answers] == [*[("MORE", [])] * 5, ("OK", [fine])]
    assert {entry["run"] for entry in quarantined(store)} == set(broken)


def test_a_run_of_rqs_own_goes_to_quarantine_untouched(store: Store) -> None:
    store.client.hset("rq:job:theirs", mapping={"data": "pickled", "status": "queued", "origin": "q"})
    store.client.rpush("rq:queue:q", "theirs")
    before = store.client.hgetall("rq:job:theirs")
    assert store.ledger.cycle(seated(store.ledger), [], 1).claims == []
    assert (quarantined(store), store.client.hgetall("rq:job:theirs")) == (
        [{"reason": "unreadable", "run": "theirs", "queue": "q"}],
        before,
    )


@pytest.mark.parametrize(
    "damage", [_taken("baton:run:{}:parameters"), lambda s, i: s.client.delete(f"baton:run:{i}:parameters")]
)
def test_a_run_without_its_parameters_begins_so_that_its_worker_can_fail_it(
    store: Store, damage: Callable[[Store, str], object]
) -> None:
    damage(store, one_submitted(store.ledger))
    assert one_begun(store.ledger, seated(store.ledger)).parameters is None


PLACES = ("rq:queue:q", "rq:wip:q", "rq:scheduled:q", "rq:finished:q", "rq:failed:q", "rq:canceled:q")


@pytest.mark.parametrize("key", [*PLACES, "baton:running", "baton:worker:w1:runs", "baton:leases", "rq:worker:w1"])
def test_where_a_place_is_something_else_a_cycle_is_refused_before_it_writes(store: Store, key: str) -> None:
    one_submitted(store.ledger)
    seat = seated(store.ledger)
    first = report(one_begun(store.ledger, seat))
    one_submitted(store.ledger)
    store.client.delete(key)
    store.client.set(key, "not ours")
    before = keyspace(store)
    with pytest.raises(RedisUnavailable, match="WRONGTYPE"):
        store.ledger.cycle(seat, [first], 1)
    assert keyspace(store) == before


@pytest.mark.parametrize("key", ["baton:counts", "baton:wake:q", "baton:task:shop.add:counts", "baton:quarantine"])
def test_what_is_only_counted_or_told_keeps_no_report_from_being_recorded(store: Store, key: str) -> None:
    one_submitted(store.ledger)
    seat = seated(store.ledger)
    claim = one_begun(store.ledger, seat)
    store.client.delete(key)
    store.client.set(key, "not ours")
    assert reported(store.ledger, seat, report(claim), report(claim)) == ["OK", "FENCED"]
    assert fields_of(store, claim.run_id)["state_type"] == "COMPLETED"


def test_where_the_settings_of_a_queue_cannot_be_read_it_counts_as_paused(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.client.set("baton:queue:q", "not ours")
    assert (store.ledger.cycle(seated(store.ledger), [], 1), queued(store)) == (("OK", [], []), [run_id])


# --- burying ----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_read_in_a_dead_workers_hand_goes_to_quarantine(store: Store) -> None:
    broken, deleted, fine = held(store, 3)
    store.client.hset(f"rq:job:{broken.run_id}", "seq", "x")
    store.client.delete(f"rq:job:{deleted.run_id}")
    assert store.ledger.reap([Death("w1", KILLED)]) == [Buried("w1", 1, 0, 0)]
    assert (queued(store), quarantined(store), store.client.exists("baton:worker:w1:runs")) == (
        [fine.run_id],
        [{"reason": "unreadable", "run": broken.run_id, "worker": "w1"}],
        0,
    )


def test_a_run_goes_back_although_what_the_hand_notes_of_it_cannot_be_read(store: Store) -> None:
    first, second = held(store, 2)
    store.client.hset("baton:worker:w1:runs", second.run_id, "?")
    assert store.ledger.reap([Death("w1", KILLED)]) == [Buried("w1", 2, 0, 0)]
    assert sorted(queued(store)) == sorted(ids_of([first, second]))


def test_a_hand_that_is_something_else_keeps_nobody_else_from_being_reaped(store: Store) -> None:
    seated(store.ledger, "odd")
    (claim,) = held(store, 1)
    store.client.set("baton:worker:odd:runs", "not ours")
    assert store.ledger.reap([Death("odd", KILLED), Death("w1", KILLED)]) == [
        Buried("odd", 0, 0, 0),
        Buried("w1", 1, 0, 0),
    ]
    assert queued(store) == [claim.run_id]


def test_a_dead_workers_runs_wait_for_their_queue_to_be_mended(store: Store) -> None:
    stuck, fine = one_submitted(store.ledger, queue="bad"), one_submitted(store.ledger, queue="good")
    begun(store.ledger, seated(store.ledger, "w1", "bad"))
    begun(store.ledger, seated(store.ledger, "w2", "good"))
    store.client.set("rq:failed:bad", "not ours")
    deaths = [Death("w1", KILLED), Death("w2", KILLED)]
    first = store.ledger.reap(deaths)
    store.client.delete("rq:failed:bad")
    second = store.ledger.reap(deaths)
    assert (first, second) == ([Buried("w2", 1, 0, 0)], [Buried("w1", 1, 0, 0), Buried("w2", 0, 0, 0)])
    assert (queued(store, "bad"), queued(store, "good")) == ([stuck], [fine])


@pytest.mark.parametrize("key", ["rq:workers", "rq:workers:q", "rq:worker:w1", "baton:counts", "baton:quarantine"])
def test_what_only_rqs_tools_read_keeps_no_run_from_going_back(store: Store, key: str) -> None:
    (claim,) = held(store, 1)
    store.client.delete(key)
    store.client.set(key, "not ours")
    assert (store.ledger.reap([Death("w1", KILLED)]), queued(store)) == ([Buried("w1", 1, 0, 0)], [claim.run_id])


@pytest.mark.parametrize("key", ["baton:leases", "baton:running"])
def test_where_an_index_of_all_is_something_else_nothing_is_reaped(store: Store, key: str) -> None:
    held(store, 1)
    store.client.delete(key)
    store.client.set(key, "not ours")
    before = keyspace(store)
    with pytest.raises(RedisUnavailable, match=f"WRONGTYPE {key} is no zset"):
        store.ledger.reap([Death("w1", KILLED)])
    assert keyspace(store) == before


def test_a_registration_that_cannot_be_written_costs_no_lease(store: Store) -> None:
    store.client.set("rq:worker:w1", "not ours")
    answers = [store.ledger.beat([Pulse("w1", ["q"], {}), Pulse("w2", ["q"], {}, is_new=True)]).buried]
    store.client.zadd("baton:leases", {"w1": 1})
    answers.append(store.ledger.beat([Pulse("w1", ["q"], {})]).buried)
    assert (answers, store.client.zscore("baton:leases", "w1") > 1) == ([["w1"], []], True)
