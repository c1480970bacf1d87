"""How calls reach Redis: forgotten scripts, broken connections, forks, no room, and errors in plain words."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from shared.connections import Connection, Connections, client_for
from shared.errors import ConfigError, RedisUnavailable, StorageFull
from shared.ledger import RunLedger
from shared.settings import Settings
from tests.contract.conftest import real_store
from tests.support.ledgers import (
    Store,
    closed,
    fields_of,
    held_by,
    keyspace,
    new_runs,
    one_begun,
    one_submitted,
    queued,
    report,
    seated,
    side_by_side,
    submitted,
)
from tests.support.server import RedisServer, free_port
from tests.support.waiting import eventually

REFUSED = r"^Redis at 127\.0\.0\.1:\d+/3 did not answer \((beat|HGET)\): .*refused"
ROLE = "default"


def nowhere(budget: float) -> Connections:
    """Connections to a port on which nobody listens."""
    url = f"redis://alice:secret@127.0.0.1:{free_port()}/3"
    return Connections(client_for(Settings(redis_url=url)), budget=budget)


# --- scripts and answers ----------------------------------------------------------------------------------------------


def test_a_script_that_the_server_forgot_is_sent_again(store: Store) -> None:
    first = one_submitted(store.ledger)
    store.client.script_flush()
    second = one_submitted(store.ledger)
    assert queued(store) == [first, second]


def test_scripts_that_are_forgotten_again_and_again_lose_nothing(store: Store) -> None:
    def submit_or_flush(ledger: RunLedger, number: int) -> int:
        for _ in range(30):
            if number:
                submitted(ledger)
            else:
                store.client.script_flush()
        return number

    assert side_by_side(store, 4, submit_or_flush) == [0, 1, 2, 3]
    assert len(queued(store)) == 90


def test_a_wrong_type_among_several_answers_leaves_the_others_right(store: Store) -> None:
    store.client.set("text", "x")
    store.client.rpush("list", "y")
    answers = store.exchange.read([("GET", "text"), ("GET", "list"), ("NONSENSE",), ("LRANGE", "list", 0, -1)])
    assert (answers[0], [type(answer).__name__ for answer in answers[1:3]], answers[3]) == (
        b"x",
        ["ResponseError", "ResponseError"],
        [b"y"],
    )
    assert store.exchange.read([("GET", "text")]) == [b"x"]


def test_a_refused_script_is_told_with_its_name_and_the_connection_goes_on(store: Store) -> None:
    store.client.set("rq:queue:q", "not ours")
    with pytest.raises(RedisUnavailable, match="refused submit: WRONGTYPE rq:queue:q is no list"):
        store.ledger.submit(new_runs(1))
    store.client.delete("rq:queue:q")
    assert store.ledger.submit(new_runs(1)) == ["OK"]


def test_threads_share_connections_without_mixing_their_answers(store: Store) -> None:
    ids = submitted(store.ledger, 8)
    shared = RunLedger(store.exchange, store.settings)
    found = side_by_side(store, 8, lambda _, number: {shared.get(ids[number]).id for _ in range(50)})
    assert found == [{run_id} for run_id in ids]


# --- waiting and listening --------------------------------------------------------------------------------------------


@contextmanager
def own_line(store: Store) -> Iterator[Connection]:
    line = store.exchange.line()
    try:
        yield line
    finally:
        line.close()


def test_a_wake_up_token_ends_the_wait_and_is_taken(store: Store) -> None:
    submitted(store.ledger, 1)
    with own_line(store) as line:
        answers = [line.pop(["baton:wake:none", "baton:wake:q"], 5), line.pop(["baton:wake:q"], 0.05)]
    assert (answers, store.client.llen("baton:wake:q")) == ([True, False], 0)


def test_a_submit_wakes_a_worker_that_waits_already(store: Store) -> None:
    def wait_or_submit(ledger: RunLedger, number: int) -> bool:
        if number:
            return ledger.submit(new_runs(1)) == ["OK"]
        with own_line(store) as line:
            return line.pop(["baton:wake:q"], 10)

    assert side_by_side(store, 2, wait_or_submit) == [True, True]


def test_a_line_hears_what_it_subscribed_to(store: Store) -> None:
    with own_line(store) as line:
        line.send("SUBSCRIBE", "channel")
        confirmed = eventually(lambda: line.hear(0.1))
        store.client.publish("channel", "hello")
        heard = [confirmed, eventually(lambda: line.hear(0.1)), line.hear(0)]
    assert heard == [[b"subscribe", b"channel", 1], [b"message", b"channel", b"hello"], None]


def test_a_line_has_a_socket_to_wait_for(real: Store) -> None:
    with own_line(real) as line:
        assert line.fileno() > 0


# --- broken connections -----------------------------------------------------------------------------------------------


def test_a_refused_connection_is_told_within_the_budget_and_without_the_password() -> None:
    exchange = nowhere(0.05)
    began = time.monotonic()
    with pytest.raises(RedisUnavailable, match=REFUSED) as caught:
        exchange.read([("HGET", "a", "b")])
    assert ("secret" in str(caught.value), "secret" in exchange.address, time.monotonic() - began < 2) == (
        False,
        False,
        True,
    )
    assert caught.value.address == exchange.address


@pytest.mark.parametrize(
    "call",
    [
        lambda line: line.pop(["a"], 5),
        lambda line: line.send("PING"),
        lambda line: line.hear(0.01),
        lambda line: line.fileno(),
    ],
    ids=["pop", "send", "hear", "fileno"],
)
def test_what_waits_or_listens_tells_a_refused_connection_too(call: Callable[[Connection], object]) -> None:
    with pytest.raises(RedisUnavailable, match="did not answer"):
        call(nowhere(5).line())


def test_a_connection_that_the_server_cut_is_made_again(real: Store) -> None:
    run_id = one_submitted(real.ledger)
    real.client.client_kill_filter(_type="normal", skipme=True)
    assert real.ledger.get(run_id).id == run_id


def test_calls_go_on_after_the_server_was_away(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, appendonly="yes", appendfsync="always")
    store = real_store(server)
    impatient = RunLedger(store.exchange.line(budget=0.01), store.settings)
    first = one_submitted(impatient)
    server.stop()
    with pytest.raises(RedisUnavailable):
        impatient.submit(new_runs(1))
    server.start()
    second = one_submitted(impatient)
    assert queued(store) == [first, second]
    closed(store)
    server.stop()


def test_a_closed_exchange_connects_again(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.exchange.close()
    assert store.ledger.get(run_id).id == run_id


@pytest.fixture
def locked(real: Store) -> Iterator[Store]:
    """A store on a server that asks newcomers for a password."""
    real.client.config_set("requirepass", "open sesame")
    yield real
    real.client.config_set("requirepass", "")


@pytest.mark.parametrize("credentials", ["", ":wrong@", "alice:wrong@"])
def test_a_wrong_password_is_refused_at_once_in_words_that_do_not_hold_it(locked: Store, credentials: str) -> None:
    url = locked.settings.redis_url.replace("//", f"//{credentials}")
    exchange = Connections(client_for(Settings(redis_url=url)), budget=60)
    began = time.monotonic()
    with pytest.raises(RedisUnavailable, match=r"refused (INFO|greet): ") as caught:
        RunLedger(exchange, locked.settings).check()
    exchange.close()
    assert ("wrong@" in str(caught.value), time.monotonic() - began < 5) == (False, True)


def test_the_right_password_opens(locked: Store) -> None:
    url = locked.settings.redis_url.replace("//", "//:open%20sesame@")
    exchange = Connections(client_for(Settings(redis_url=url)), budget=1)
    assert exchange.read([("GET", "nothing")]) == [None]
    exchange.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://alice:secret@host",
        "redis://alice:secret@host:port/0",
        "redis://:se/cret@host:6379/0",
        "redis://alice:x@se#cret@host/0",
        "redis://[::1:secret@/0",
        "redis://host/0?password=secret&db=x",
        "",
    ],
)
def test_a_url_that_names_no_redis_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="is no address of a Redis") as caught:
        client_for(Settings(redis_url=url, allow_plain_password=True))
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://alice:secret@host:1234/5", "host:1234/5"),
        ("redis://host", "host:6379/0"),
        ("unix:///run/redis.sock?db=2", "/run/redis.sock/2"),
    ],
)
def test_an_address_names_host_port_and_database(url: str, address: str) -> None:
    settings = Settings(redis_url=url, allow_plain_password=True)
    assert Connections(client_for(settings), budget=1).address == address


# --- forks ------------------------------------------------------------------------------------------------------------


def in_a_fork(work: Callable[[], bytes]) -> bytes:
    """What this answers in a child of this process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, work())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return answer


def test_a_fork_has_connections_of_its_own_and_leaves_its_parents_alone(real: Store) -> None:
    line = real.exchange.line()

    def who() -> bytes:
        return b"%d %d" % (real.exchange.read([("CLIENT", "ID")])[0], line.read([("CLIENT", "ID")])[0])

    before = who()
    child = in_a_fork(who)
    assert (who(), len(set(before.split() + child.split()))) == (before, 4)
    line.close()


def test_a_line_that_listens_does_not_hear_for_its_fork(real: Store) -> None:
    with own_line(real) as line:
        line.send("SUBSCRIBE", "channel")
        eventually(lambda: line.hear(0.1))
        real.client.publish("channel", "hello")
        in_the_fork = in_a_fork(lambda: str(line.hear(0.1)).encode())
        assert (in_the_fork, eventually(lambda: line.hear(0.1))) == (b"None", [b"message", b"channel", b"hello"])


# --- no room ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def full(real: Store) -> Iterator[Callable[[], None]]:
    """Fills the server's memory when it is called."""
    yield lambda: real.client.config_set("maxmemory", 1)
    real.client.config_set("maxmemory", 0)


def test_without_memory_nothing_is_accepted(real: Store, full: Callable[[], None]) -> None:
    submitted(real.ledger, 2)
    before = keyspace(real)
    full()
    with pytest.raises(StorageFull, match="refused submit"):
        real.ledger.submit(new_runs(3))
    assert keyspace(real) == before


def test_without_memory_nothing_begins(real: Store, full: Callable[[], None]) -> None:
    submitted(real.ledger, 2)
    seat = seated(real.ledger)
    before = keyspace(real)
    full()
    with pytest.raises(StorageFull, match="refused cycle"):
        real.ledger.cycle(seat, [], 1)
    assert keyspace(real) == before


def test_without_memory_ends_are_recorded_and_workers_keep_their_leases(real: Store, full: Callable[[], None]) -> None:
    submitted(real.ledger, 2, delay=0.0)
    seat, claim = held_by(real.ledger)
    full()
    idle = real.ledger.cycle(seat, [], 0)
    ended = real.ledger.cycle(seat, [report(claim)], 0)
    beaten = real.ledger.beat([]).buried
    assert (idle, ended.verdicts, beaten, real.ledger.promote().moved) == (("OK", [], []), ["OK"], [], 2)
    assert fields_of(real, claim.run_id)["state_type"] == "COMPLETED"


def test_without_memory_runs_of_dead_workers_go_back(real: Store, full: Callable[[], None]) -> None:
    _, claim = held_by(real.ledger)
    full()
    assert eventually(real.ledger.reap)[0].lost == 1
    assert queued(real) == [claim.run_id]


def test_a_server_that_may_not_write_is_full_too(real: Store) -> None:
    seat, _ = held_by(real.ledger)
    real.client.config_set("min-replicas-to-write", 1)
    try:
        for call in (lambda: real.ledger.submit(new_runs(1)), lambda: real.ledger.cycle(seat, [], 0)):
            with pytest.raises(StorageFull, match="NOREPLICAS"):
                call()
    finally:
        real.client.config_set("min-replicas-to-write", 0)
    assert real.ledger.submit(new_runs(1)) == ["OK"]


def test_a_plain_client_sees_the_same_server(real: Store) -> None:
    run_id = one_submitted(real.ledger)
    seat = seated(real.ledger)
    one_begun(real.ledger, seat)
    with redis.Redis.from_url(real.settings.redis_url) as client:
        assert client.hget(f"rq:job:{run_id}", "status") == b"started"
