"""Fixtures of the end-to-end tests: a producer, and fleets that are ended whatever happens."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from orchestrator import Orchestrator
from shared.settings import Settings
from tests.support.fleets import Fleet, Fleets
from tests.support.server import RedisServer


@pytest.fixture
def client(module_server: RedisServer) -> Iterator["redis.Redis"]:
    """A plain client, for looking at what is stored."""
    with module_server.client() as client:
        yield client


@pytest.fixture
def baton(module_server: RedisServer) -> Iterator[Orchestrator]:
    """A producer that looks again at its futures every second."""
    with Orchestrator(settings=Settings.load({}, redis_url=module_server.url, future_sweep=1)) as baton:
        yield baton


@pytest.fixture
def fleet(server: RedisServer, client: "redis.Redis", tmp_path: Path) -> Iterator[Fleets]:
    """Starts fleets on the emptied server."""
    fleets = Fleets(server.url, client, tmp_path)
    yield fleets
    fleets.clear_away()


@pytest.fixture(scope="module")
def resident(module_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One fleet of two workers for all tests of a module, which leave it as it is."""
    with module_server.client() as client:
        fleets = Fleets(module_server.url, client, tmp_path_factory.mktemp("resident"))
        try:
            yield fleets(concurrency=2, unknown_task_grace=0.5)
        finally:
            fleets.clear_away()
