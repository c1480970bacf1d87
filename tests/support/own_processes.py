"""Processes that a program under test starts by itself: found by a mark in their environment."""

import os
from pathlib import Path

import pytest

from tests.support.server import available

MARK = "BATON_TEST_PROCESS"
needs_server = pytest.mark.skipif(not available(), reason="no redis-server on PATH")


def environment(**given: str) -> dict[str, str]:
    """Ours without a Redis; `MARK` is found again in every process that is started with it."""
    kept = {name: value for name, value in os.environ.items() if name != "BATON_REDIS_URL"}
    return {**kept, MARK: str(os.getpid()), **given}


def processes() -> set[int]:
    """Every process that has the mark of this test run's environment."""
    mark = f"{MARK}={os.getpid()}".encode()
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes().split(b"\0"):
                found.add(int(path.parent.name))
        except OSError:  # it has ended meanwhile
            continue
    return found
