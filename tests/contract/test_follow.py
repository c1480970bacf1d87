"""Following transitions, on both servers: each row once and in order, whatever happens to messages and connections."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from shared.connect import connect
from shared.errors import BadEnvelope, RedisUnavailable, RunGone
from shared.follow import Overheard, follow, follow_all
from shared.ids import new_id
from shared.settings import Settings
from tests.support.fleets import in_thread
from tests.support.ledgers import Store, held_by, one_begun, one_submitted, report, reported, retry_in, seated
from tests.support.server import RedisServer
from tests.support.waiting import eventually

ROLE = "operator"
NAMES = ["Pending", "Running", "AwaitingRetry", "Pending", "Retrying", "Completed"]


class Heard:
    """What a thread follows of one run, as it comes."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.names: list[str] = []
        self._end = in_thread(lambda: self._hear(follow(store.exchange, run_id, store.settings)))

    def _hear(self, rows: Iterator[str]) -> None:
        for row in rows:
            self.names.append(json.loads(row)["name"])

    def all(self) -> list[str]:
        """Every name, when the run has ended."""
        self._end(20)
        return self.names


def live(store: Store, run_id: str) -> None:
    """Retry a run, and complete it."""
    seat = seated(store.ledger)
    assert reported(store.ledger, seat, report(one_begun(store.ledger, seat), retry_in(0.001))) == ["OK"]
    assert eventually(lambda: store.ledger.promote().moved) == 1
    claim = one_begun(store.ledger, seat)
    assert (claim.run_id, reported(store.ledger, seat, report(claim))) == (run_id, ["OK"])


def test_a_run_that_has_ended_is_told_from_its_record(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    live(store, run_id)
    rows = [json.loads(row) for row in follow(store.exchange, run_id, store.settings)]
    assert ([row["name"] for row in rows], [row["seq"] for row in rows]) == (NAMES, list(range(1, 7)))


def test_a_living_run_is_told_from_its_first_row_to_its_end(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    heard = Heard(store, run_id)
    eventually(lambda: heard.names == NAMES[:1])
    live(store, run_id)
    assert heard.all() == NAMES


def test_forged_messages_are_only_a_reason_to_look(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    heard = Heard(store, run_id)
    eventually(lambda: heard.names == NAMES[:1])
    for message in ("junk", '{"seq":2,"type":"COMPLETED","name":"Forged"}', "x" * 100_000, b"\xff"):
        store.client.publish(f"baton:run:{run_id}:state", message)
    live(store, run_id)
    assert heard.all() == NAMES


def test_a_connection_that_is_cut_loses_nothing(real: Store) -> None:
    run_id = one_submitted(real.ledger)
    heard = Heard(real, run_id)
    for _ in range(3):
        eventually(lambda: real.client.pubsub_numsub(f"baton:run:{run_id}:state")[0][1] == 1)
        real.client.client_kill_filter(_type="pubsub")
    live(real, run_id)
    assert heard.all() == NAMES


def test_a_transition_without_a_message_is_found_by_looking_now_and_then(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    heard = Heard(store, run_id)
    eventually(lambda: heard.names == NAMES[:1])
    row = {"seq": 2, "type": "COMPLETED", "name": "Quiet", "time": "2026-11-20T09:15:00.000250Z"}
    store.client.rpush(f"baton:run:{run_id}:history", json.dumps(row))
    store.client.hset(f"rq:job:{run_id}", mapping={"seq": 2, "state_type": "COMPLETED"})
    assert heard.all() == ["Pending", "Quiet"]


def test_a_run_that_is_not_there_is_gone(store: Store) -> None:
    with pytest.raises(RunGone):
        next(follow(store.exchange, new_id(), store.settings))


def test_a_run_that_is_deleted_meanwhile_is_gone(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    rows = follow(store.exchange, run_id, store.settings)
    next(rows)
    store.client.delete(f"rq:job:{run_id}")
    with pytest.raises(RunGone):
        next(rows)


def test_a_history_of_another_type_is_told(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.client.delete(f"baton:run:{run_id}:history")
    store.client.set(f"baton:run:{run_id}:history", "x")
    with pytest.raises(BadEnvelope, match=f"{run_id}: WRONGTYPE"):
        next(follow(store.exchange, run_id, store.settings))


def test_rows_that_cannot_be_read_are_passed_on_once(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    store.client.lset(f"baton:run:{claim.run_id}:history", 0, "junk\x1b")
    rows = follow(store.exchange, claim.run_id, store.settings)
    first = next(rows)
    assert reported(store.ledger, seat, report(claim)) == ["OK"]
    names = [json.loads(row)["name"] for row in rows]
    assert (first, names) == ("junk\x1b", ["Running", "Completed"])


def test_a_server_that_goes_away_is_told_after_a_while(tmp_path: Path, server: RedisServer) -> None:
    assert server  # where there is none, this is skipped
    own = RedisServer(tmp_path)
    settings = Settings(redis_url=own.url, producer_budget=0.5)
    exchange = connect(settings)
    heard = in_thread(lambda: list(follow_all(exchange, settings)))
    with own.client() as client:
        eventually(lambda: client.pubsub_numpat() == 1)
    own.stop()
    with pytest.raises(RedisUnavailable):
        heard()


def test_all_runs_are_told_from_now_on(store: Store) -> None:
    one_submitted(store.ledger, queue="other")
    rows = follow_all(store.exchange, store.settings)
    told = in_thread(lambda: [(run_id, json.loads(row)["name"]) for run_id, row in islice(rows, 3)])
    eventually(lambda: store.client.pubsub_numpat() == 1)
    seat, claim = held_by(store.ledger)
    assert reported(store.ledger, seat, report(claim)) == ["OK"]
    assert told() == [(claim.run_id, name) for name in ("Pending", "Running", "Completed")]


def test_who_looks_often_hears_what_came_since(store: Store) -> None:
    overheard = Overheard(store.exchange)
    try:
        run_id = one_submitted(store.ledger)
        heard: list[tuple[str, str]] = []
        eventually(lambda: heard.extend((run, json.loads(row)["name"]) for run, row in overheard.heard()) or heard)
        assert (heard, list(overheard.heard())) == ([(run_id, "Pending")], [])
    finally:
        overheard.close()


def test_who_looks_often_is_told_when_the_connection_is_lost(real: Store) -> None:
    overheard = Overheard(real.exchange)
    eventually(lambda: real.client.pubsub_numpat() == 1)
    real.client.client_kill_filter(_type="pubsub")
    with pytest.raises(RedisUnavailable):
        eventually(lambda: list(overheard.heard()))
