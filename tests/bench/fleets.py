"""Worker processes of Baton's for the benchmarks, against a given server."""

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


def drained_by_baton(server: RedisServer, *options: str) -> None:
    """One process, or as many as the options say, works until its queues are empty."""
    command = _baton(server, "--burst", *options)
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def baton_worker(server: RedisServer, *options: str, processes: int = 1) -> Iterator[None]:
    """Idle worker processes of Baton's."""
    command = _baton(server, "--concurrency", str(processes), *options)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with server.client() as client:
            eventually(lambda: client.scard(keys.WORKERS) >= processes, 30)
        yield
    finally:
        process.terminate()
        process.wait(30)
