"""Drain: queued no-op runs, one worker process; from the first start to the last end, as the records tell."""

import random
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import redis
from rq import Queue

from orchestrator import Orchestrator
from shared import keys
from tests.bench.noop_tasks import noop, rq_noop
from tests.support.server import RedisServer

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def baton(server: RedisServer, runs: int) -> float:
    """Runs per second of one Baton worker process on default settings."""
    with Orchestrator(server.url) as orchestrator:
        futures = orchestrator.submit_many((noop, {}) for _ in range(runs))
    _work(BIN / "baton", "--url", server.url, "worker", "-m", "tests.bench.noop_tasks", "--burst")
    with server.client() as client:
        check_honesty(client, [future.run_id for future in futures])
        return runs / _seconds(client, [future.run_id for future in futures])


def rq(server: RedisServer, runs: int) -> float:
    """Jobs per second of one of RQ's SimpleWorkers, its fastest."""
    with redis.Redis(port=server.port) as connection:
        queue = Queue("bench", connection=connection)
        jobs = queue.enqueue_many([Queue.prepare_data(rq_noop) for _ in range(runs)])
    _work(BIN / "rq", "worker", "--burst", "-w", "rq.SimpleWorker", "--url", server.url, "bench")
    with server.client() as client:
        return runs / _seconds(client, [job.id for job in jobs])


def check_honesty(client: "redis.Redis", run_ids: list[str]) -> None:
    """Nothing was switched off: twenty of the runs have their history, a result and a lifetime.

    Raises:
        AssertionError: one of them does not.
    """
    for run_id in random.sample(run_ids, 20):
        rows = client.llen(keys.run_part(run_id, "history"))
        kept = client.exists(keys.run_part(run_id, "result"))
        if (rows, kept, client.ttl(keys.job(run_id)) > 0) != (3, 1, True):
            raise AssertionError(f"run {run_id}: {rows} rows of history, result {kept}, or no lifetime")


def _work(*command: str | Path) -> None:
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603


def _seconds(client: "redis.Redis", ids: list[str]) -> float:
    """From the first start to the last end. Both frameworks keep these times in the same fields."""
    with client.pipeline(transaction=False) as pipe:
        for run_id in ids:
            pipe.hmget(keys.job(run_id), "started_at", "ended_at")
        times = pipe.execute()
    starts, ends = zip(
        *((datetime.fromisoformat(start), datetime.fromisoformat(end)) for start, end in times), strict=True
    )
    return (max(ends) - min(starts)).total_seconds()
