"""Worker processes for the benchmarks: one of Baton's or one of RQ's, against a given server."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared import keys
from tests.support.server import RedisServer
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
TASKS = "tests.bench.noop_tasks"
QUEUE = "bench"


def _baton(server: RedisServer, *options: str) -> list[str | Path]:
    return [BIN / "baton", "--url", server.url, "worker", "-m", TASKS, "-q", f"{QUEUE},default", *options]


def _rq(server: RedisServer, *options: str) -> list[str | Path]:
    """RQ's fastest worker: it forks for no job."""
    return [BIN / "rq", "worker", "-w", "rq.SimpleWorker", "--url", server.url, *options, QUEUE]


def drained_by_baton(server: RedisServer) -> None:
    """One process works until its queues are empty."""
    _run(_baton(server, "--burst"))


def drained_by_rq(server: RedisServer) -> None:
    """One process works until its queue is empty."""
    _run(_rq(server, "--burst"))


@contextmanager
def baton_worker(server: RedisServer, *options: str) -> Iterator[None]:
    """One idle worker process of Baton's."""
    with _started(_baton(server, *options), server):
        yield


@contextmanager
def rq_worker(server: RedisServer) -> Iterator[None]:
    """One idle worker process of RQ's."""
    with _started(_rq(server), server):
        yield


def _run(command: list[str | Path]) -> None:
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def _started(command: list[str | Path], server: RedisServer) -> Iterator[None]:
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with server.client() as client:
            eventually(lambda: client.scard(keys.WORKERS), 30)
        yield
    finally:
        process.terminate()
        process.wait(30)
