"""What operators are shown of queues, workers, tasks and runs, on both servers, and that no damage hides the rest."""

from dataclasses import replace
from typing import Any

import pytest

from shared.clock import from_epoch, iso, parse_iso, to_epoch
from shared.connect import connect
from shared.connections import Connections
from shared.errors import RedisUnavailable
from shared.ids import new_id
from shared.settings import Settings
from shared.state_types import StateType
from shared.transport import Command
from shared.upkeep import Death, Pulse
from shared.views.queues import Queue, queues
from shared.views.runs import FOREIGN, GONE, Newest, Wanted, newest, next_in, rows_of
from shared.views.server import server as server_of
from shared.views.tasks import TaskView, known_tasks, tasks
from shared.views.workers import workers
from tests.support.ledgers import (
    CANCELLED,
    COMPLETED,
    Store,
    held_by,
    one_submitted,
    report,
    reported,
    seated,
    server_time,
    submitted,
)
from tests.support.plants import PLANTS, Plant, told
from tests.support.server import RedisServer

ROLE = "operator"
ALL_VIEWS = (queues, workers, tasks)


def listed(store: Store, wanted: Wanted | None = None, limit: int = 50, page: int = 1000) -> Newest:
    return newest(store.exchange, wanted or Wanted(), limit, page)


def ids(found: Newest) -> list[str]:
    return [row.id for row in found.rows]


def everybody(store: Store) -> set[str]:
    """The ids of all runs that have a record."""
    return {key.removeprefix("rq:job:") for key in store.client.keys("rq:job:*")}


# --- queues -----------------------------------------------------------------------------------------------------------


def test_a_queue_is_told_with_what_lies_in_each_of_its_places(store: Store) -> None:
    story = told(store.ledger)
    due = store.client.zscore("rq:scheduled:q", story.scheduled)
    look = queues(store.exchange)
    expected = Queue(
        name="q",
        waiting=1,
        running=2,
        scheduled=1,
        deferred=0,
        failed=2,
        finished=1,
        cancelled=2,
        oldest_wait=None,
        next_due=due,
        paused=None,
        paused_by=None,
        paused_at=None,
        cap=None,
        problems={},
    )
    other, q = look.rows
    assert (other.name, other.scheduled, replace(q, oldest_wait=None)) == ("other", 1, expected)
    assert 0 <= (q.oldest_wait or -1) < 60


def test_the_oldest_wait_is_that_of_the_one_that_waits_longest(store: Store) -> None:
    cancelled, old, _ = submitted(store.ledger, 3)
    assert store.ledger.propose(cancelled, CANCELLED, "cancel", seq=1, actor="alice").tag == "OK"
    for run_id, seconds in ((cancelled, 7200), (old, 3600)):
        store.client.hset(f"rq:job:{run_id}", "state_time", iso(from_epoch(server_time(store) - seconds)))
    (look,) = queues(store.exchange, ["q"]).rows
    assert (look.waiting, look.oldest_wait) == (3, pytest.approx(3600, abs=5))


def test_a_paused_queue_says_who_paused_it(store: Store) -> None:
    one_submitted(store.ledger)
    store.client.hset("baton:queue:q", mapping={"paused": "1", "paused_by": "alice", "paused_at": "2026-11-20"})
    (look,) = queues(store.exchange).rows
    assert (look.paused, look.paused_by, look.paused_at) == ("1", "alice", "2026-11-20")


def test_only_queues_that_are_asked_for_and_there_are_told(store: Store) -> None:
    for name in ("a", "b"):
        one_submitted(store.ledger, queue=name)
    assert [queue.name for queue in queues(store.exchange, ["b", "nosuch"]).rows] == ["b"]


# --- workers ----------------------------------------------------------------------------------------------------------


def test_a_worker_is_told_with_its_lease_and_what_it_holds(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    fields = {"fleet": "f", "hostname": "h", "pid": 7, "tasks": "shop.add shop.mail", "version": "1", "birth": "b"}
    store.ledger.beat([Pulse("w1", seat.queues, fields)])
    (worker,) = workers(store.exchange).rows
    names = (
        "name",
        "fleet",
        "host",
        "pid",
        "state",
        "queues",
        "version",
        "birth",
        "current_run",
        "current_task",
        "held",
    )
    assert {name: getattr(worker, name) for name in names} == {
        "name": "w1",
        "fleet": "f",
        "host": "h",
        "pid": 7,
        "state": "busy",
        "queues": ("q",),
        "version": "1",
        "birth": "b",
        "current_run": claim.run_id,
        "current_task": "shop.add",
        "held": (claim.run_id,),
    }
    assert (worker.is_live, worker.announces("shop.mail"), worker.announces("mail")) == (True, True, False)


def test_a_worker_is_idle_lost_dead_or_unregistered(store: Store) -> None:
    for name in ("idle", "lost", "dead", "unregistered"):
        seated(store.ledger, name)
    store.client.zadd("baton:leases", {"lost": 1, "idle": server_time(store) + 60})
    store.ledger.reap([Death("dead", "killed by signal 9")])
    store.client.sadd("rq:workers", "rq:worker:dead")
    store.client.delete("rq:worker:unregistered")
    found = {worker.name: (worker.state, worker.is_live) for worker in workers(store.exchange).rows}
    live = store.client.zscore("baton:leases", "unregistered") > server_time(store)
    assert found == {
        "idle": ("idle", True),
        "lost": ("lost", False),
        "dead": ("dead", False),
        "unregistered": ("unregistered", live),
    }


# --- tasks ------------------------------------------------------------------------------------------------------------


def test_a_task_is_told_with_its_ends_and_whether_a_live_worker_knows_it(store: Store) -> None:
    told(store.ledger)
    seated(store.ledger, "w5")
    store.ledger.beat([Pulse("w5", ("q",), {"tasks": "shop.mail"})])
    store.client.zadd("baton:leases", {"w5": server_time(store) + 60})
    add, mail = tasks(store.exchange).rows
    ends = {"COMPLETED": 1, "FAILED": 1, "CRASHED": 1, "CANCELLED": 2}
    assert (add.key, add.is_known, add.submitted, add.counts) == ("shop.add", False, True, ends)
    assert (mail.key, mail.is_known, mail.submitted, mail.workers, mail.mean) == ("shop.mail", True, False, 1, None)


def test_mean_and_share_come_from_the_counted_bodies(store: Store) -> None:
    one_submitted(store.ledger)
    counted = {"COMPLETED": 10, "seconds": "25.0", "took_le_0.1": 9, "took_le_10": 0, "took_le_60": 1, "took_le_inf": 0}
    store.client.hset("baton:task:shop.add:counts", mapping=counted)
    (add,) = tasks(store.exchange).rows
    assert (add.mean, add.within(0.9), add.within(0.95), add.seconds) == (2.5, "0.1", "60", 25.0)


def test_bodies_longer_than_every_bound_have_none() -> None:
    view = TaskView("k", 1, submitted=True, counts={}, seconds=1.0, took={"1": 1, "inf": 3}, problems={})
    assert (view.within(0.25), view.within(0.95)) == ("1", "inf")


def test_who_knows_which_tasks_leaves_out_workers_that_are_gone(store: Store) -> None:
    for name in ("here", "gone"):
        seated(store.ledger, name)
        store.ledger.beat([Pulse(name, ("q",), {"tasks": f"shop.{name}"})])
    store.client.zadd("baton:leases", {"here": server_time(store) + 60, "gone": 1})
    known = known_tasks(store.exchange)
    assert (known.announced, known.submitted) == ({"shop.here"}, set())


# --- runs -------------------------------------------------------------------------------------------------------------


def test_all_runs_are_listed_newest_first(store: Store) -> None:
    told(store.ledger)
    found = listed(store)
    assert (ids(found), found.gaps) == (sorted(everybody(store), reverse=True), {})


@pytest.mark.parametrize("kind", [state for state in StateType if state is not StateType.PAUSED])
def test_runs_are_found_by_state_wherever_they_lie(store: Store, kind: StateType) -> None:
    told(store.ledger)
    there = {run_id for run_id in everybody(store) if store.client.hget(f"rq:job:{run_id}", "state_type") == kind}
    assert there
    assert set(ids(listed(store, Wanted(states=frozenset({kind}))))) == there


def test_runs_are_found_by_task_queue_and_time(store: Store) -> None:
    early = one_submitted(store.ledger, task="shop.mail")
    other = one_submitted(store.ledger, queue="other")
    created = to_epoch(parse_iso(store.client.hget(f"rq:job:{other}", "created_at")))
    found = [
        ids(listed(store, wanted))
        for wanted in (
            Wanted(task="shop.mail"),
            Wanted(queue="other"),
            Wanted(queue="nosuch"),
            Wanted(since=created - 3600),
            Wanted(since=created + 3600),
        )
    ]
    assert found == [[early], [other], [], [other, early], []]


def test_no_more_runs_are_listed_than_asked_for(store: Store) -> None:
    runs = submitted(store.ledger, 5)
    found = listed(store, limit=2)
    assert (ids(found), found.gaps) == (sorted(runs, reverse=True)[:2], {})


def test_where_a_place_was_not_read_to_its_end_that_is_told(store: Store) -> None:
    runs = submitted(store.ledger, 10)
    found = listed(store, page=4)
    assert (set(ids(found)), found.gaps) == (
        {*runs[:2], *runs[-2:]},
        {"rq:queue:q": "holds 10 ids, 4 were looked at"},
    )


def test_a_run_that_lies_in_two_places_is_listed_once(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.client.rpush("rq:queue:q", run_id)
    store.client.zadd("rq:scheduled:q", {run_id: 1})
    assert ids(listed(store)) == [run_id]


def test_runs_whose_retention_is_over_are_left_out(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    reported(store.ledger, seat, report(claim))
    store.client.zadd("rq:finished:q", {claim.run_id: 1})
    assert ids(listed(store)) == []


def test_jobs_of_rq_itself_and_junk_are_left_out(store: Store) -> None:
    run_id, foreign = one_submitted(store.ledger), new_id()
    store.client.hset(f"rq:job:{foreign}", mapping={"data": "x", "origin": "q", "status": "queued"})
    store.client.rpush("rq:queue:q", foreign, "junk", "\x1b[2J")
    assert ids(listed(store)) == [run_id]


def test_rows_come_in_the_order_they_were_asked_for(store: Store) -> None:
    run_id, gone, foreign = one_submitted(store.ledger), new_id(), new_id()
    store.client.hset(f"rq:job:{foreign}", mapping={"data": "x", "origin": "q", "status": "queued"})
    rows = rows_of(store.exchange, [gone, run_id, foreign, run_id])
    assert [(row.id, row.problem) for row in rows] == [(gone, GONE), (run_id, None), (foreign, FOREIGN), (run_id, None)]


def test_what_is_next_in_a_queue(store: Store) -> None:
    later = submitted(store.ledger, 3)
    first = one_submitted(store.ledger, at_front=True)
    assert [row.id for row in next_in(store.exchange, "q", 3)] == [first, *later[:2]]


def test_a_row_tells_the_run(store: Store) -> None:
    seat, claim = held_by(store.ledger, fields={"name": "adding"})
    reported(store.ledger, seat, report(claim, COMPLETED))
    (row,) = listed(store).rows
    names = ("task", "name", "queue", "state_type", "state_name", "attempt", "worker", "error", "problem")
    assert [getattr(row, name) for name in names] == [
        *("shop.add", "adding", "q", "COMPLETED", "Completed"),
        *(1, "w1", None, None),
    ]


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plant", [plant for _, plant in PLANTS], ids=lambda plant: plant.__name__)
def test_damage_of_one_run_hides_no_other(store: Store, plant: Plant) -> None:
    story = told(store.ledger)
    before = listed(store)
    named = plant(store.client, story)
    after = listed(store)
    hidden = {row.id for row in before.rows} - {row.id for row in after.rows}
    assert hidden <= {named}
    assert [queue.name for queue in queues(store.exchange).rows] == ["other", "q"]
    assert "w1" in {worker.name for worker in workers(store.exchange).rows}
    assert [task.key for task in tasks(store.exchange).rows] == ["shop.add"]


HOSTILE = ("x", "-1", "nan", "1e400", "\x1b[2J\u202e", "9" * 5000, "")


@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
def test_no_field_of_a_record_makes_a_view_fail(store: Store, value: str) -> None:
    story = told(store.ledger)
    for key in (f"rq:job:{story.running.run_id}", "rq:worker:w1", "baton:task:shop.add:counts", "baton:queue:q"):
        names = [*store.client.hgetall(key), "paused", "took_le_x", "pid"]
        store.client.hset(key, mapping=dict.fromkeys(names, value))
    views: list[Any] = [view(store.exchange).rows for view in ALL_VIEWS]
    assert (all(views), set(ids(listed(store))) >= everybody(store) - {story.running.run_id}) == (True, True)


KEYS = [
    *("rq:queue:q", "rq:scheduled:q", "rq:deferred:q", "rq:wip:q", "rq:failed:q", "rq:finished:q", "rq:canceled:q"),
    *("baton:queue:q", "baton:running", "baton:paused", "rq:worker:w1", "baton:worker:w1:runs"),
    "baton:task:shop.add:counts",
]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_another_type_is_a_problem_of_its_row_alone(store: Store, key: str) -> None:
    story = told(store.ledger)
    store.client.delete(key)
    store.client.set(key, "x")
    everything = [row for view in ALL_VIEWS for row in view(store.exchange).rows]
    found = listed(store)
    problems = {name for row in everything for name in row.problems} | set(found.gaps)
    assert (problems, len(everything)) == ({key}, 4)
    assert len(set(ids(found)) & {story.pending, story.completed, story.failed, story.scheduled}) >= 3


@pytest.mark.parametrize("key", ["rq:queues", "rq:workers", "baton:leases", "baton:tasks"])
def test_an_index_of_another_type_ends_the_views_that_stand_on_it(store: Store, key: str) -> None:
    told(store.ledger)
    store.client.delete(key)
    store.client.set(key, "x")
    ended = []
    for view in ALL_VIEWS:
        try:
            view(store.exchange)
        except RedisUnavailable as error:
            ended.append(str(error))
    assert ended
    assert all(key in text and "WRONGTYPE" in text for text in ended)


def test_nothing_is_written_and_the_keyspace_is_never_walked(real: Store) -> None:
    told(real.ledger)
    real.client.config_resetstat()
    for view in ALL_VIEWS:
        view(real.exchange)
    listed(real)
    next_in(real.exchange, "q")
    server_of(real.exchange)
    asked = {name.removeprefix("cmdstat_").partition("|")[0] for name in real.client.info("commandstats")}
    reads = {"time", "smembers", "lrange", "llen", "zcard", "zrange", "zrevrangebyscore", "zcount", "zscore", "hmget"}
    ours = {"config", "info"}
    assert asked - ours <= reads | {"hgetall", "hkeys", "hget", "client", "hello", "select"}


class Counted:
    """A transport that counts the commands and answers that go through it."""

    def __init__(self, exchange: Connections) -> None:
        self.address = exchange.address
        self._exchange = exchange
        self.longest = 0

    def read(self, commands: list[Command]) -> list[Any]:
        answers = self._exchange.read(commands)
        self.longest = max([self.longest, *(len(one) for one in answers if isinstance(one, list))])
        return answers


def test_of_very_long_places_only_pages_are_read(real: Store) -> None:
    one_submitted(real.ledger)
    real.client.rpush("rq:queue:q", *(f"{number:036}" for number in range(20_000)))
    real.client.zadd("rq:finished:q", {f"{number:036}": 4e9 for number in range(20_000)})
    counted: Any = Counted(real.exchange)
    newest(counted, Wanted(), 20)
    next_in(counted, "q")
    queues(counted)
    assert counted.longest <= 1000


# --- the server -------------------------------------------------------------------------------------------------------


def test_the_server_tells_an_administrator_of_itself(real: Store, server: RedisServer) -> None:
    real.ledger.check()
    exchange = connect(Settings(redis_url=server.url))
    told = server_of(exchange)
    exchange.close()
    assert (told.info["redis_mode"], told.info["maxmemory_policy"], told.layout) == ("standalone", "noeviction", "1")
    assert (told.info_refused, told.layout_refused, told.compact_refused) == (None, None, None)
    assert (bool(told.compact), server_of(real.exchange).compact) == (True, {})


def test_what_the_server_refuses_to_tell_is_said(server: RedisServer) -> None:
    rights = ["on", ">pw", "~*", "+@all", "-info", "-config", "-hget"]
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "small", *rights)
    exchange = connect(Settings(redis_url=server.url.replace("//", "//small:pw@")))
    told = server_of(exchange)
    exchange.close()
    refused = (told.info_refused, told.layout_refused, told.compact_refused)
    assert ["no permissions" in (text or "") for text in refused] == [True, True, True]
    assert (told.info, told.layout, told.compact) == ({}, None, {})
