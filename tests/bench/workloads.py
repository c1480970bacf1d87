"""What is measured of Baton alone: what no peer has, and how its costs grow."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from orchestrator import Orchestrator, RunFuture, as_completed
from shared import keys
from shared.runs import TaskRun
from tests.bench.costs import begin_beside
from tests.bench.engine import engine_overhead
from tests.bench.fleets import QUEUE, baton_worker, drained_by_baton
from tests.bench.noop_tasks import echo, linger, nap, noop
from tests.support.fleets import in_thread
from tests.support.imports import told_after
from tests.support.server import RedisServer
from tests.support.waiting import eventually

Measure = Callable[[RedisServer, int], float]
task = noop.with_options(queue=QUEUE)
napping = nap.with_options(queue=QUEUE)
lasting = linger.with_options(queue=QUEUE)
echoing = echo.with_options(queue=QUEUE)
IDLE_SECONDS = 10
ROUND_TRIPS = 100


@dataclass(frozen=True)
class Workload:
    """A row of the table. `size` is what the measure is given: runs, processes or bytes; `goal` what is wanted."""

    name: str
    title: str
    unit: str
    goal: str
    size: int
    measure: Measure
    times: int | None = None


# --- growth -----------------------------------------------------------------------------------------------------------


def drain_with(server: RedisServer, processes: int) -> float:
    """How many no-op runs a second so many processes drain."""
    runs = 10_000
    with Orchestrator(server.url) as baton, server.client() as client:
        baton.pause_queue(QUEUE)
        futures = baton.submit_many((task, {}) for _ in range(runs))
        with baton_worker(server, processes=processes):
            baton.resume_queue(QUEUE)
            return runs / _working_time(futures, client)


def round_trip_of(server: RedisServer, size: int) -> float:
    """Milliseconds, median, for a text of so many bytes to an idle worker and back."""
    text = "x" * size
    with baton_worker(server), Orchestrator(server.url):
        echoing.submit(text).result(10)
        return statistics.median(_took(lambda: echoing.submit(text).result(10)) for _ in range(ROUND_TRIPS)) * 1000


# --- waiting ----------------------------------------------------------------------------------------------------------


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


def beside_a_long_run(server: RedisServer, runs: int) -> float:
    """How many times longer short runs take on two workers with a run of 5 s at position 10 than without it.

    Raises:
        AssertionError: nothing was given back, so the long run held up others.
    """
    with baton_worker(server, processes=2), Orchestrator(server.url) as baton, server.client() as client:
        baton.submit_many((task, {}) for _ in range(runs)).result(60)
        without, _ = _short_ones(baton, client, runs, seconds=0)
        taken, given_back = _short_ones(baton, client, runs, seconds=5)
        if not given_back:
            raise AssertionError("no run that waited behind the long one was given back")
        return taken / without


def _short_ones(
    baton: Orchestrator, client: "redis.Redis[str]", runs: int, seconds: float
) -> tuple[float, Sequence[str]]:
    """How long the short ones took, and which of them were given back."""
    client.delete(keys.FINISHED + QUEUE)
    baton.pause_queue(QUEUE)
    futures = baton.submit_many([*[(task, {})] * 9, (lasting, {"seconds": seconds}), *[(task, {})] * (runs - 9)])
    short = [*futures[:9], *futures[10:]]
    baton.resume_queue(QUEUE)
    taken = _working_time(short, client)
    futures[9].result(60)
    return taken, [run.run_id for run in short if client.llen(keys.run_part(run.run_id, "history")) > 3]


def _working_time(futures: Sequence[RunFuture[Any]], client: "redis.Redis[str]") -> float:
    """Wait until as many runs have finished; from the first start to the last end of these."""
    eventually(lambda: client.zcard(keys.FINISHED + QUEUE) >= len(futures), 60)
    runs = [future.task_run for future in futures]
    return max(_ended(run) for run in runs) - min(run.start_time.timestamp() for run in runs if run.start_time)


def _subscriptions(client: "redis.Redis[str]") -> list[int]:
    """How many runs each connection hears that hears any."""
    rows: list[dict[str, str]] = client.client_list(_type="pubsub")
    return [int(row["sub"]) for row in rows]


def _ended(run: TaskRun) -> float:
    """When a run ended, in seconds since 1970; by the clock of the server, which is ours too."""
    if run.end_time is None:
        raise AssertionError(f"run {run.id} has not ended")
    return run.end_time.timestamp()


# --- idleness ---------------------------------------------------------------------------------------------------------


def idle_worker(server: RedisServer, _size: int) -> float:
    """Commands a second of a worker process that has nothing to do."""
    return _idle_calls(server)[0]


def idle_fleet(server: RedisServer, _size: int) -> float:
    """Commands a second of what looks after it: beats and housekeeping."""
    return _idle_calls(server)[1]


def _idle_calls(server: RedisServer) -> tuple[float, float]:
    with baton_worker(server), Orchestrator(server.url), server.client() as client:
        task.submit().result(10)
        lines = [line for line in _monitored(client) if line["client_type"] != "lua"]
    callers = [int(line["client_port"]) for line in lines]
    waiting = {int(line["client_port"]) for line in lines if keys.wake(QUEUE) in line["command"].split()}
    worker = sum(caller in waiting for caller in callers)
    return worker / IDLE_SECONDS, (len(callers) - worker) / IDLE_SECONDS


def _monitored(client: "redis.Redis[str]") -> list[dict[str, str]]:
    """Every command that the server is sent within some seconds."""
    lines: list[dict[str, str]] = []
    with client.monitor() as monitor:
        ending = in_thread(lambda: (time.sleep(IDLE_SECONDS), client.echo("end")))
        for line in monitor.listen():
            if line["command"].startswith("ECHO"):
                break
            lines.append(line)
    ending()
    return lines


# --- imports ----------------------------------------------------------------------------------------------------------


def import_ratio(_server: RedisServer, _size: int) -> float:
    """How many times longer `import orchestrator` takes than `import rq`, each in a new process, all compiled."""
    ours, theirs = (float(told_after(name, "time.process_time() - began")) for name in ("orchestrator", "rq"))
    return ours / theirs


def producer_mb(_server: RedisServer, _size: int) -> float:
    """Resident memory of a process that has imported `orchestrator`."""
    return float(told_after("orchestrator", "int(open('/proc/self/statm').read().split()[1]) * 4096 / 1048576"))


def _took(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


WORKLOADS = (
    Workload("depth", "begin beside 1,000 queued runs, p99", "us", "", 1000, begin_beside),
    Workload("depth", "begin beside 1,000,000 queued runs, p99", "us", "1.5 x the above", 1_000_000, begin_beside, 1),
    Workload("engine", "an execution without Redis and body", "us", "60", 20_000, engine_overhead),
    Workload("workers", "drain with 1 process", "/s", "", 1, drain_with),
    Workload("workers", "drain with 2 processes", "/s", "1.5 x the above", 2, drain_with),
    Workload("workers", "drain with 4 processes", "/s", "", 4, drain_with),
    Workload("payload", "round trip with 1 KB", "ms", "", 1000, round_trip_of),
    Workload("payload", "round trip with 10 KB", "ms", "", 10_000, round_trip_of),
    Workload("payload", "round trip with 100 KB", "ms", "", 100_000, round_trip_of),
    Workload("payload", "round trip with 250 KB", "ms", "", 250_000, round_trip_of),
    Workload("async", "100 async runs of 100 ms on one process", "s", "0.5", 100, async_baton),
    Workload("futures", "10,000 open futures, from the last end to the last result", "s", "1", 10_000, futures_baton),
    Workload("long", "1,000 short runs beside one of 5 s: times longer", "x", "1.5", 1000, beside_a_long_run),
    Workload("idle", "commands of an idle worker", "/s", "1.5", 0, idle_worker, 1),
    Workload("idle", "commands of its fleet's housekeeping", "/s", "3", 0, idle_fleet, 1),
    Workload("import", "`import orchestrator`, in times of `import rq`", "x", "1.4", 0, import_ratio),
    Workload("import", "memory of a producer after the import", "MB", "55", 0, producer_mb),
)
