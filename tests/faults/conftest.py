"""Fixtures of the fault tests: those of the end-to-end tests, and trials."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.end_to_end.conftest import baton, client, fleet
from tests.support.server import RedisServer
from tests.support.trial import Trial, trial_on

__all__ = ["baton", "client", "fleet", "trial"]


@pytest.fixture
def trial(server: RedisServer, client: "redis.Redis", tmp_path: Path) -> Iterator[Trial]:
    """A trial on the emptied server."""
    with trial_on(server, client, tmp_path) as trial:
        yield trial
