"""What lies beside our keys in the same database: never touched, and never walked over by a command that stops all."""

from itertools import takewhile

import pytest

from orchestrator.doctor import examine
from orchestrator.reconcile import reconcile
from tests.support import places
from tests.support.ledgers import Store, seq_of

ROLE = "operator"
FORBIDDEN = {"KEYS", "FLUSHALL", "FLUSHDB", "DEBUG", "CONFIG", "SAVE", "SHUTDOWN", "SWAPDB", "RENAME", "SORT"}


@pytest.fixture
def foreign(real: Store) -> dict[str, bytes]:
    """Keys of somebody else, of each type, with names that look like ours."""
    client = real.client
    client.set("session:1", "theirs")
    client.set("rqueue", "theirs")
    client.hset("batons:job:1", mapping={"state_type": "RUNNING", "status": "queued"})
    client.rpush("queue:q", "theirs")
    client.sadd("other:rq:queues", "theirs")
    client.zadd("xbaton:leases", {"theirs": 1})
    client.xadd("events", {"a": "b"})
    return dumped(real)


def dumped(store: Store) -> dict[str, bytes]:
    keys = (key for key in store.client.keys("*") if not key.startswith(("rq:", "baton:")))
    return {key: store.raw.dump(key) for key in keys}


def everything(store: Store) -> None:
    """Every command there is, on runs in every place."""
    ledger = store.ledger
    for make in places.EVERYWHERE:
        # Each has a worker of the same name.
        store.client.delete("rq:worker:w1", "baton:worker:w1:runs", "rq:queue:q")
        store.client.zrem("baton:leases", "w1")
        run_id = make(store)
        ledger.wait_for([run_id])
        ledger.cancel([run_id], actor="alice")
        ledger.retry(run_id, seq_of(store, run_id), "retry", actor="alice")
        ledger.resume(run_id, seq_of(store, run_id), "resume", actor="alice")
    ledger.reap()
    ledger.promote()
    ledger.expire()
    ledger.go_on()
    ledger.sweep()
    examine(store.exchange, lambda: None)
    reconcile(store.exchange, ledger, lambda: None)


def test_foreign_keys_are_left_as_they_are(real: Store, foreign: dict[str, bytes]) -> None:
    everything(real)
    assert dumped(real) == foreign


def test_no_command_stops_the_server_or_walks_over_foreign_keys(real: Store) -> None:
    real.ledger.check()
    with real.client.monitor() as monitor:
        everything(real)
        real.client.echo("the end")
        told = (command["command"] for command in monitor.listen())
        sent = [line.upper().split() for line in takewhile(lambda line: not line.endswith("the end"), told)]
    assert {words[0] for words in sent} & FORBIDDEN == set()
    assert [words for words in sent if words[0] == "SCAN" and "MATCH" not in words] == []
    assert len(sent) > 1000
