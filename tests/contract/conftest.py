"""Fixtures of the contract suite: a ledger on a real redis-server and on fakeredis, empty for each test."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import fakeredis
import pytest
import redis

from shared.connections import Connections, client_for
from shared.settings import Settings
from tests.support.ledgers import Store, closed, opened
from tests.support.roles import add_role, url_of
from tests.support.server import RedisServer

BUDGET = 2.0


def real_store(server: RedisServer, role: str = "default", **changes: Any) -> Store:
    """A ledger on this server, of a user with the rights of this role; `default` has all."""
    if role != "default":
        with server.client() as client:
            add_role(client, role)
    return opened(
        lambda settings: Connections(client_for(settings), budget=BUDGET),
        partial(redis.Redis, port=server.port),
        redis_url=server.url if role == "default" else url_of(server, role),
        **changes,
    )


def role_of(request: pytest.FixtureRequest) -> str:
    """Whose rights a test's ledger has: a worker's, unless its module names another `ROLE`."""
    return getattr(request.module, "ROLE", "worker")


def fake_store(**changes: Any) -> Store:
    """A ledger on a server of its own, within this process."""
    client: Callable[..., redis.Redis] = partial(fakeredis.FakeRedis, server=fakeredis.FakeServer(), protocol=2)

    def connections(_settings: Settings) -> Connections:
        return Connections(client(), budget=BUDGET)

    return opened(connections, client, **changes)


@pytest.fixture(params=["redis", "fakeredis"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store on each of the two servers in turn."""
    if request.param == "fakeredis":
        found = fake_store()
    else:
        found = real_store(request.getfixturevalue("server"), role_of(request))
    yield found
    closed(found)


@pytest.fixture
def real(server: RedisServer, request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store on a real server, for what only that can do."""
    found = real_store(server, role_of(request))
    yield found
    closed(found)
