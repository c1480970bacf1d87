"""Fixtures of all suites: a real redis-server per test module, empty for each test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.server import BINARY, RedisServer, available

IN_CI = os.environ.get("CI") == "true"


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A redis-server of this module; without one, tests skip at a desk and fail in CI."""
    if not available():
        reason = f"no {BINARY} on PATH; install redis-server, or name another binary in BATON_TEST_REDIS"
        if IN_CI:
            pytest.fail(reason)
        pytest.skip(reason)
    folder: Path = tmp_path_factory.mktemp("redis")
    server = RedisServer(folder)
    yield server
    server.stop()


@pytest.fixture
def server(module_server: RedisServer) -> Iterator[RedisServer]:
    """The module's server, emptied before and after."""
    with redis.Redis(port=module_server.port) as client:
        client.flushall()
        yield module_server
