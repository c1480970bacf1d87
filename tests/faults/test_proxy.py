"""The proxy of the fault tests does what its words say, with a plain client on a real server."""

import time
from collections.abc import Callable, Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, TimeoutError
from redis.retry import Retry

from tests.support.fleets import in_thread
from tests.support.proxy import Proxy, proxy_to
from tests.support.server import RedisServer
from tests.support.waiting import eventually

PATIENCE = 0.2


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with proxy_to(server.port) as proxy:
        yield proxy


@pytest.fixture
def connected(proxy: Proxy) -> Iterator[Callable[[], redis.Redis]]:
    """Makes clients with one connection each, which try nothing twice."""
    clients: list[redis.Redis] = []

    def connect() -> redis.Redis:
        client = redis.Redis(
            port=proxy.port,
            socket_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 0),
            single_connection_client=True,
            decode_responses=True,
        )
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


def test_it_carries_both_ways_and_counts(proxy: Proxy, connected: Callable[[], redis.Redis]) -> None:
    client = connected()
    client.ping()
    before = proxy.round_trips
    client.set("key", "x" * 3_000_000)
    answers = client.mget(["key"] * 3)
    assert ([len(answer) for answer in answers], proxy.round_trips - before, proxy.accepted) == ([3_000_000] * 3, 2, 1)


def test_a_cut_ends_connections_and_new_ones_are_made(proxy: Proxy, connected: Callable[[], redis.Redis]) -> None:
    first, second = connected(), connected()
    first.ping()
    second.ping()
    assert proxy.cut() == 2
    with pytest.raises(ConnectionError):
        first.ping()
    assert (first.ping(), proxy.accepted) == (True, 3)


def test_marked_connections_are_told_apart(proxy: Proxy, connected: Callable[[], redis.Redis]) -> None:
    client = connected()
    with redis.Redis(port=proxy.port) as other, other.pubsub() as hears:
        hears.subscribe("channel")
        eventually(hears.get_message)
        client.ping()
        assert (proxy.cut(marked=True), client.ping(), proxy.cut(marked=False)) == (1, True, 1)


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
def test_what_is_held_is_carried_afterwards(
    proxy: Proxy, connected: Callable[[], redis.Redis], server: RedisServer, direction: str
) -> None:
    client = connected()
    client.ping()
    with server.client() as direct:
        with proxy.hold(direction):
            with pytest.raises(TimeoutError):
                client.incr("counter")
            arrived = direct.get("counter")
        assert eventually(lambda: direct.get("counter")) == "1"
        assert arrived == (None if direction == "to_server" else "1")


def test_what_is_delayed_comes_later(proxy: Proxy, connected: Callable[[], redis.Redis]) -> None:
    client = connected()
    client.ping()
    began = time.monotonic()
    with proxy.delay("to_client", PATIENCE / 4):
        client.ping()
    assert time.monotonic() - began >= PATIENCE / 4


def test_the_reply_that_is_lost_is_that_of_the_named_request(
    proxy: Proxy, connected: Callable[[], redis.Redis], server: RedisServer
) -> None:
    client = connected()
    lost = proxy.lose_reply(b"INCR")
    assert (client.ping(), lost.is_set()) == (True, False)
    with pytest.raises(ConnectionError):
        client.incr("counter")
    with server.client() as direct:
        assert (lost.is_set(), direct.get("counter"), client.incr("counter")) == (True, "1", 2)


def test_a_request_that_is_dropped_does_not_arrive(
    proxy: Proxy, connected: Callable[[], redis.Redis], server: RedisServer
) -> None:
    client = connected()
    with proxy.drop(b"INCR"):
        assert client.ping()
        with pytest.raises(ConnectionError):
            client.incr("counter")
    with server.client() as direct:
        assert (direct.get("counter"), client.incr("counter")) == (None, 1)


def test_whoever_is_refused_is_hung_up_on(proxy: Proxy, connected: Callable[[], redis.Redis]) -> None:
    with proxy.refuse(), pytest.raises(ConnectionError):
        connected().ping()
    assert connected().ping()


def test_a_connection_that_the_server_ends_is_ended_here_too(connected: Callable[[], redis.Redis]) -> None:
    client, killer = connected(), connected()
    number = client.client_id()
    killed = in_thread(lambda: killer.client_kill_filter(_id=number))
    assert killed() == 1
    with pytest.raises(ConnectionError):
        client.ping()


def test_a_request_that_is_torn_reaches_the_server_in_part_and_does_nothing(
    proxy: Proxy, connected: Callable[[], redis.Redis], server: RedisServer
) -> None:
    client = connected()
    client.ping()
    torn = proxy.tear(b"INCR", 15)
    with pytest.raises(ConnectionError):
        client.incr("counter")
    with server.client() as direct:
        assert (torn.is_set(), direct.get("counter"), client.incr("counter")) == (True, None, 1)
