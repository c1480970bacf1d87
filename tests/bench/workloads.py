"""The workloads, each for Baton and for RQ: what is done and what is measured, per second or in milliseconds."""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import redis
from rq import Queue
from rq.job import Job, JobStatus

from orchestrator import Orchestrator, as_completed
from shared import keys
from shared.runs import TaskRun
from tests.bench.engine import engine_overhead
from tests.bench.fleets import QUEUE, baton_worker, drained_by_baton, drained_by_rq, rq_worker
from tests.bench.noop_tasks import nap, noop, rq_noop
from tests.bench.storage import begin_beside, bytes_finished, bytes_queued
from tests.support.fleets import in_thread
from tests.support.server import RedisServer
from tests.support.waiting import eventually

Measure = Callable[[RedisServer, int], float]
task = noop.with_options(queue=QUEUE)
napping = nap.with_options(queue=QUEUE)


@dataclass(frozen=True)
class Workload:
    """A row of the table. `runs` is how many runs a measurement takes by default; no `rq`: RQ has no such thing."""

    name: str
    unit: str
    runs: int
    baton: Measure
    rq: Measure | None

    @property
    def is_rate(self) -> bool:
        """True if more is better."""
        return self.unit == "per second"


# --- drain ------------------------------------------------------------------------------------------------------------


def drain_baton(server: RedisServer, runs: int) -> float:
    with Orchestrator(server.url) as baton:
        ids = [future.run_id for future in baton.submit_many((task, {}) for _ in range(runs))]
    drained_by_baton(server)
    with server.client() as client:
        check_honesty(client, ids)
        return runs / _seconds(client, ids)


def drain_rq(server: RedisServer, runs: int) -> float:
    with redis.Redis(port=server.port) as connection:
        jobs = _queue(connection).enqueue_many([Queue.prepare_data(rq_noop) for _ in range(runs)])
    drained_by_rq(server)
    with server.client() as client:
        return runs / _seconds(client, [job.id for job in jobs])


def check_honesty(client: "redis.Redis[str]", run_ids: Sequence[str]) -> None:
    """Nothing was switched off: twenty of the runs have their history, a result and a lifetime.

    Raises:
        AssertionError: one of them does not.
    """
    for run_id in random.sample(run_ids, min(20, len(run_ids))):
        rows = client.llen(keys.run_part(run_id, "history"))
        kept = client.exists(keys.run_part(run_id, "result"))
        if (rows, kept, client.ttl(keys.job(run_id)) > 0) != (3, 1, True):
            raise AssertionError(f"run {run_id}: {rows} rows of history, result {kept}, or no lifetime")


def _seconds(client: "redis.Redis[str]", ids: Sequence[str]) -> float:
    """From the first start to the last end. Both frameworks keep these times in the same fields."""
    with client.pipeline(transaction=False) as pipe:
        for run_id in ids:
            pipe.hmget(keys.job(run_id), "started_at", "ended_at")
        times: list[Any] = pipe.execute()
    starts = [datetime.fromisoformat(start) for start, _ in times]
    ends = [datetime.fromisoformat(end) for _, end in times]
    return (max(ends) - min(starts)).total_seconds()


# --- submit -----------------------------------------------------------------------------------------------------------


def submit_baton(server: RedisServer, runs: int) -> float:
    with Orchestrator(server.url):
        task.submit()
        return runs / _took(lambda: [task.submit() for _ in range(runs)])


def submit_rq(server: RedisServer, runs: int) -> float:
    with redis.Redis(port=server.port) as connection:
        queue = _queue(connection)
        return runs / _took(lambda: [queue.enqueue(rq_noop) for _ in range(runs)])


def bulk_baton(server: RedisServer, runs: int) -> float:
    with Orchestrator(server.url) as baton:
        task.submit()
        return runs / _took(lambda: baton.submit_many((task, {}) for _ in range(runs)))


def bulk_rq(server: RedisServer, runs: int) -> float:
    with redis.Redis(port=server.port) as connection:
        queue = _queue(connection)
        return runs / _took(lambda: queue.enqueue_many([Queue.prepare_data(rq_noop) for _ in range(runs)]))


# --- waiting ----------------------------------------------------------------------------------------------------------


def round_trip_baton(server: RedisServer, runs: int) -> float:
    with baton_worker(server), Orchestrator(server.url):
        task.submit().result(10)
        return statistics.median(_took(lambda: task.submit().result(10)) for _ in range(runs)) * 1000


def round_trip_rq(server: RedisServer, runs: int) -> float:
    with rq_worker(server), redis.Redis(port=server.port) as connection:
        queue = _queue(connection)
        return statistics.median(_took(lambda: _await(queue.enqueue(rq_noop))) for _ in range(runs)) * 1000


def fan_out_baton(server: RedisServer, runs: int) -> float:
    def gather() -> None:
        for future in baton.submit_many((task, {}) for _ in range(runs)):
            future.result(60)

    with baton_worker(server), Orchestrator(server.url) as baton:
        task.submit().result(10)
        return _took(gather) * 1000


def fan_out_rq(server: RedisServer, runs: int) -> float:
    def gather() -> None:
        for job in queue.enqueue_many([Queue.prepare_data(rq_noop) for _ in range(runs)]):
            _await(job)

    with rq_worker(server), redis.Redis(port=server.port) as connection:
        queue = _queue(connection)
        return _took(gather) * 1000


def async_baton(server: RedisServer, runs: int) -> float:
    """From the submit to the last result of runs that wait for 100 ms each, on one process with a slot for each."""
    with baton_worker(server, "--async-slots", str(runs)), Orchestrator(server.url) as baton:
        napping.submit().result(10)
        return _took(lambda: baton.submit_many((napping, {}) for _ in range(runs)).result(60))


def futures_baton(server: RedisServer, runs: int) -> float:
    """From the last finish to the moment at which the last of as many futures, all open at once, has resolved."""
    with Orchestrator(server.url) as baton, server.client() as client:
        futures = baton.submit_many((task, {}) for _ in range(runs))
        resolving = in_thread(lambda: [time.time() for _ in as_completed(futures)])
        eventually(lambda: _subscriptions(client) == [runs], 30)
        drained_by_baton(server)
        last_resolved = resolving(60)[-1]
        return last_resolved - max(_ended(future.task_run) for future in futures)


def _subscriptions(client: "redis.Redis[str]") -> list[int]:
    """How many runs each connection hears that hears any."""
    rows: list[dict[str, str]] = client.client_list(_type="pubsub")
    return [int(row["sub"]) for row in rows]


def _ended(run: TaskRun) -> float:
    """When a run ended, in seconds since 1970; by the clock of the server, which is ours too."""
    if run.end_time is None:
        raise AssertionError(f"run {run.id} has not ended")
    return run.end_time.timestamp()


def _await(job: Job) -> None:
    """RQ tells nobody of an end, so its users ask, here without a pause."""
    while job.get_status() is not JobStatus.FINISHED:
        pass


def _queue(connection: "redis.Redis[bytes]") -> Queue:
    return Queue(QUEUE, connection=connection)


def _took(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


WORKLOADS = (
    Workload("drain", "per second", 5000, drain_baton, drain_rq),
    Workload("submit", "per second", 2000, submit_baton, submit_rq),
    Workload("bulk", "per second", 5000, bulk_baton, bulk_rq),
    Workload("round-trip", "ms, median", 300, round_trip_baton, round_trip_rq),
    Workload("fan-out", "ms", 1000, fan_out_baton, fan_out_rq),
    Workload("engine", "us, target 60", 20_000, engine_overhead, None),
    Workload("async", "seconds", 100, async_baton, None),
    Workload("futures", "seconds", 10_000, futures_baton, None),
    Workload("memory", "B, waiting", 10_000, bytes_queued, None),
    Workload("memory", "B, finished", 10_000, bytes_finished, None),
    Workload("depth", "us, 1,000", 1000, begin_beside, None),
    Workload("depth", "us, 1,000,000", 1_000_000, begin_beside, None),
)
