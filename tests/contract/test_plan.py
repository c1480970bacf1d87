"""Schedules as they are stored: made, changed, paused, resumed, deleted; and what is fired of them."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.firing import Firing
from orchestrator.schedules import Schedules
from shared.clock import from_epoch
from shared.commands import NewRun
from shared.errors import InvalidCall, InvalidValue, RedisUnavailable
from shared.planning import PlannedCall, planned_call
from shared.views.schedules import Schedule
from tests.support.invariants import faults
from tests.support.ledgers import (
    Store,
    ended,
    keyspace,
    new_run,
    queued,
    seated,
    server_time,
    side_by_side,
    submitted,
)

AHEAD = datetime(2090, 1, 1, tzinfo=UTC)


def of(store: Store) -> Schedules:
    return Schedules(store.ledger, store.exchange)


def planned(store: Store, run: NewRun | None = None, **given: Any) -> Schedule:
    """A schedule `nightly`, by default for the year 2090."""
    return of(store).create(run or new_run(), **{"interval": 60, "anchor": AHEAD, "schedule_id": "nightly", **given})


def overdue(store: Store, by: float, **given: Any) -> None:
    """A schedule of every second, whose first occurrence was so many seconds ago, whole ones apart from each other."""
    anchor = from_epoch(server_time(store) - by)
    planned(store, interval=1, anchor=anchor, **given)
    store.client.zadd("baton:schedules", {"nightly": f"{server_time(store) - by:.6f}"})


def fired(store: Store, passes: int = 1) -> list[float]:
    firing = Firing(store.ledger, store.exchange)
    return [firing.run() for _ in range(passes)]


def test_what_is_created_is_found_again(store: Store) -> None:
    made = planned(store, cron="0 0 1 1 *", interval=None, timezone="Europe/Zurich", catch_up="all", starts=AHEAD)
    told = {name: made.fields[name] for name in ("task", "queue", "cron", "timezone", "catch_up", "overlap", "starts")}
    assert (told, of(store).all()) == (
        {
            "task": "shop.add",
            "queue": "q",
            "cron": "0 0 1 1 *",
            "timezone": "Europe/Zurich",
            "catch_up": "all",
            "overlap": "allow",
            "starts": "2090-01-01T00:00:00.000000Z",
        },
        (made,),
    )
    assert (made.rule, made.is_paused, made.count("fired"), faults(store)) == ("cron 0 0 1 1 *", False, 0, [])


def test_one_that_is_created_again_is_changed_and_was_made_when_it_was(store: Store) -> None:
    first = planned(store)
    second = planned(store, cron="* * * * *", interval=None)
    assert (second.rule, "interval" in second.fields, len(of(store).all())) == ("cron * * * * *", False, 1)
    assert second.fields["created_at"] == first.fields["created_at"]


def test_a_paused_schedule_is_not_due_and_goes_on_from_now(store: Store) -> None:
    overdue(store, 100)
    assert (of(store).pause("nightly"), of(store).pause("nightly"), of(store).get("nightly").next_due) == (
        True,
        False,
        None,
    )
    fired(store)
    assert (queued(store), of(store).resume("nightly"), of(store).resume("nightly")) == ([], True, False)
    due = of(store).get("nightly").next_due
    assert due is not None
    assert due > server_time(store) - 1


def test_a_deleted_schedule_leaves_no_key_behind(store: Store) -> None:
    before = keyspace(store)
    planned(store)
    assert (of(store).delete("nightly"), of(store).delete("nightly"), keyspace(store)) == (True, False, before)


@pytest.mark.parametrize("change", [lambda one: one.pause("x"), lambda one: one.resume("x"), lambda one: one.get("x")])
def test_what_is_not_there_cannot_be_changed(store: Store, change: Callable[[Schedules], object]) -> None:
    with pytest.raises(InvalidValue, match="there is no schedule 'x'"):
        change(of(store))


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"schedule_id": "No Name"}, InvalidValue, "no id of a schedule"),
        ({"catch_up": "some"}, InvalidValue, "'catch_up' is 'some'.* latest, all, none"),
        ({"overlap": "never"}, InvalidValue, "'overlap'"),
        ({"ends": datetime(2020, 1, 1, tzinfo=UTC)}, InvalidValue, "never be due"),
        ({"run": new_run(ties=[("up", "x")])}, InvalidCall, "cannot wait for a run"),
    ],
    ids=["its id", "catching up", "overlapping", "its end", "a future"],
)
def test_what_is_wrong_is_said_and_nothing_is_stored(
    store: Store, given: dict[str, Any], error: type[Exception], text: str
) -> None:
    before = keyspace(store)
    with pytest.raises(error, match=text):
        planned(store, **given)
    assert keyspace(store) == before


def test_a_call_is_stored_as_it_would_be_submitted() -> None:
    call = PlannedCall.of(new_run(fields={"max_retries": 2}, ties=[("tag", "a"), ("idem", "k"), ("digest", "d")]))
    assert (planned_call(call.encoded()), call.ties) == (call, (("tag", "a"),))


def test_a_schedule_that_a_body_makes_outlives_it_and_its_flow(store: Store) -> None:
    seat = seated(store.ledger)
    (flow,) = submitted(store.ledger, 1, fields={"kind": "flow", "ties": "1"})
    of_flow = {"parent": flow, "flow": flow, "name": "add-1", "correlation": flow, "traceparent": "00-1", "ties": "1"}
    made = new_run(fields={**of_flow, "outlives_flow": "1"}, ties=[("idem", "k"), ("digest", "d"), ("again", "1")])
    planned(store, made, interval=3600, anchor=from_epoch(server_time(store) - 1))
    store.client.zadd("baton:schedules", {"nightly": f"{server_time(store) - 1:.6f}"})
    ended(store.ledger, seat, flow)
    fired(store)
    store.ledger.promote()
    (claim,) = store.ledger.cycle(seat, [], 1).claims
    told = (claim.state, claim.parent, claim.flow, claim.name, claim.correlation, claim.traceparent)
    assert (told, claim.run_id) == (("RUNNING", *[None] * 5), of(store).get("nightly").fields["last_run"])
    assert (PlannedCall.of(made).ties, store.client.exists(f"baton:run:{flow}:children")) == ((), 0)


def test_an_occurrence_becomes_a_run_that_is_due_when_the_schedule_was(store: Store) -> None:
    overdue(store, 0.5)
    due = of(store).get("nightly").next_due
    assert due is not None
    fired(store)
    (row,) = store.client.zrange("rq:scheduled:q", 0, -1, withscores=True)
    told = of(store).get("nightly")
    assert (row[1], told.fields["last_run"], told.count("fired")) == (pytest.approx(due, abs=1e-3), row[0], 1)
    assert (store.client.hget(f"rq:job:{row[0]}", "schedule"), faults(store)) == ("nightly", [])


def test_all_that_was_missed_is_submitted_one_by_one(store: Store) -> None:
    overdue(store, 4.5, catch_up="all")
    fired(store, passes=10)
    told = of(store).get("nightly")
    assert (store.client.zcard("rq:scheduled:q"), told.count("fired"), told.count("missed")) == (5, 5, 0)


def test_the_latest_that_was_missed_is_submitted_alone(store: Store) -> None:
    overdue(store, 4.5)
    fired(store, passes=3)
    told = of(store).get("nightly")
    assert (store.client.zcard("rq:scheduled:q"), told.count("fired"), told.count("missed")) == (1, 1, 4)


def test_whoever_fires_each_occurrence_becomes_one_run(store: Store) -> None:
    overdue(store, 19.5, catch_up="all")

    def fire(ledger: Any, _number: int) -> None:
        firing = Firing(ledger, store.exchange)
        for _ in range(25):
            firing.run()

    side_by_side(store, 4, fire)
    assert (store.client.zcard("rq:scheduled:q"), of(store).get("nightly").count("fired")) == (20, 20)


def test_with_skip_nothing_begins_while_the_run_before_has_not_ended(store: Store) -> None:
    overdue(store, 0.5, overlap="skip")
    fired(store)
    (run_id,) = store.client.zrange("rq:scheduled:q", 0, -1)
    store.client.zadd("baton:schedules", {"nightly": f"{server_time(store) - 1:.6f}"})
    fired(store)
    store.ledger.promote()
    ended(store.ledger, seated(store.ledger), run_id)
    store.client.zadd("baton:schedules", {"nightly": f"{server_time(store) - 1:.6f}"})
    fired(store)
    told = of(store).get("nightly")
    assert (told.count("fired"), told.count("skipped"), told.fields["last_run"] != run_id) == (2, 1, True)


def test_a_full_queue_keeps_the_occurrence_due(store: Store) -> None:
    submitted(store.ledger)
    store.ledger.set_queue("q", "cap", 1)
    overdue(store, 0.5)
    assert (fired(store), of(store).get("nightly").count("fired")) == ([1.0], 0)
    store.ledger.set_queue("q", "uncap")
    fired(store)
    assert of(store).get("nightly").count("fired") == 1


def test_one_whose_queue_is_damaged_keeps_no_other_from_being_fired(store: Store) -> None:
    overdue(store, 0.5)
    of(store).create(new_run(queue="well"), interval=3600, schedule_id="other")
    store.client.zadd("baton:schedules", {"other": f"{server_time(store) - 0.2:.6f}"})
    store.client.set("rq:queue:q", "damaged")
    firing = Firing(store.ledger, store.exchange)
    with pytest.raises(RedisUnavailable, match="WRONGTYPE"):
        firing.run()
    firing.run()
    assert (of(store).get("nightly").count("fired"), of(store).get("other").count("fired")) == (0, 1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda client: client.hset("baton:schedule:nightly", "interval", "often"),
        lambda client: client.hset("baton:schedule:nightly", "timezone", "Nowhere"),
        lambda client: client.set("baton:schedule:nightly:call", b"junk"),
        lambda client: client.delete("baton:schedule:nightly:call"),
    ],
    ids=["its rule", "its zone", "its call", "no call"],
)
def test_one_that_cannot_be_read_says_so_and_the_others_go_on(store: Store, damage: Callable[[Any], object]) -> None:
    overdue(store, 0.5)
    of(store).create(new_run(), interval=3600, schedule_id="other")
    store.client.zadd("baton:schedules", {"other": f"{server_time(store) - 0.2:.6f}"})
    damage(store.client)
    fired(store, passes=3)
    broken, well = of(store).get("nightly"), of(store).get("other")
    assert (bool(broken.fields["error"]), broken.next_due, well.count("fired")) == (True, None, 1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda client: client.delete("baton:schedule:nightly"),
        lambda client: client.hset("baton:schedule:nightly", "paused", "1"),
        lambda client: client.delete("baton:schedule:nightly") and client.set("baton:schedule:nightly", "x"),
        lambda client: client.delete("baton:schedule:nightly:call") and client.rpush("baton:schedule:nightly:call", 1),
    ],
    ids=["no record", "paused by hand", "no hash", "no string"],
)
def test_one_that_cannot_be_moved_on_is_left_alone_and_the_others_go_on(
    store: Store, damage: Callable[[Any], object]
) -> None:
    overdue(store, 0.5)
    of(store).create(new_run(), interval=3600, schedule_id="other")
    store.client.zadd("baton:schedules", {"other": f"{server_time(store) - 0.2:.6f}"})
    damage(store.client)
    firing = Firing(store.ledger, store.exchange)
    for _ in range(3):
        with suppress(RedisUnavailable):
            firing.run()
    assert (of(store).get("other").count("fired"), firing.run() > 0) == (1, True)
