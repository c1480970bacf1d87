"""Fixtures of the tests of commands: a ledger on an emptied real server, and a plain client of it."""

from collections.abc import Iterator

import pytest
import redis

from shared.ledger import RunLedger
from tests.support.command_line import ledger_at
from tests.support.server import RedisServer


@pytest.fixture
def ledger(server: RedisServer) -> Iterator[RunLedger]:
    """A ledger on the emptied server."""
    with ledger_at(server.url) as ledger:
        yield ledger


@pytest.fixture
def client(server: RedisServer) -> Iterator["redis.Redis"]:
    """A plain client, for looking at what is stored."""
    with server.client() as client:
        yield client
