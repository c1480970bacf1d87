"""Fifty idle worker processes: what idling costs, what a submit costs, and how soon its run begins."""

import logging
import re
import signal
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
import redis

from orchestrator import Orchestrator
from shared import keys
from shared.scripts import SCRIPTS
from tests.end_to_end.bodies import add
from tests.support.fleets import Fleet, Fleets, send
from tests.support.server import RedisServer

log = logging.getLogger(__name__)
WORKERS = 50
CYCLE = rf"EVALSHA {SCRIPTS['cycle'].sha} "
WAIT = rf"BLPOP (?!{keys.WAKE_DUE} )"
Calls = list[tuple[float, str]]


@pytest.fixture(scope="module")
def fifty(module_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with module_server.client() as client:
        fleets = Fleets(module_server.url, client, tmp_path_factory.mktemp("fifty"))
        try:
            yield fleets(concurrency=WORKERS)
        finally:
            fleets.clear_away()


def heard(monitor: "redis.client.Monitor", is_last: Callable[[Calls], bool]) -> Calls:
    """What clients called, by the server's clock, up to the call that is the last one."""
    calls: Calls = []
    while not calls or not is_last(calls):
        told = monitor.next_command()
        if told["client_type"] != "lua":
            calls.append((told["time"], told["command"]))
    return calls


def number_of(pattern: str, calls: Calls) -> int:
    return sum(re.match(pattern, call) is not None for _, call in calls)


def seconds_of(calls: Calls) -> float:
    return calls[-1][0] - calls[0][0]


def idle_calls(client: "redis.Redis") -> Calls:
    """Four seconds in which nobody asks for anything."""
    with client.monitor() as monitor:
        return heard(monitor, lambda calls: seconds_of(calls) >= 4)


def milliseconds_to_begin(baton: Orchestrator, run_id: str) -> float:
    """From the row that says PENDING to the row that says RUNNING."""
    pending, running, *_ = baton.history(run_id)
    return (running.timestamp - pending.timestamp).total_seconds() * 1000


def test_an_idle_worker_makes_hardly_any_calls(fifty: Fleet, client: "redis.Redis") -> None:
    calls = idle_calls(client)
    by_workers = number_of(CYCLE, calls) + number_of(WAIT, calls)
    housekeeping = len(calls) - by_workers
    of_each, of_fleet = by_workers / WORKERS / seconds_of(calls), housekeeping / seconds_of(calls)
    log.info("idle: %.2f calls a second of a worker, %.2f of its fleet's housekeeping", of_each, of_fleet)
    assert fifty.is_up(client)
    assert of_each <= 1.5
    assert of_fleet <= 3


def test_a_submit_wakes_few_of_the_idle_and_its_run_begins_at_once(
    fifty: Fleet, baton: Orchestrator, client: "redis.Redis"
) -> None:
    idle = idle_calls(client)
    # What else the machine does may disturb a round: then another one is measured, by the same bounds.
    rounds = (woken(fifty, baton, client, idle) for _ in range(3))
    assert any(cycles <= 2.5 and p99 <= 10 for cycles, p99 in rounds)


def woken(fifty: Fleet, baton: Orchestrator, client: "redis.Redis", idle: Calls) -> tuple[float, float]:
    """Cycles for each of 300 submits one by one, beyond those of the idle, and in how many ms 99 % of them begin."""
    mark = str(uuid4())
    with client.monitor() as monitor:
        futures = []
        for number in range(300):
            futures.append(baton.submit(add, {"x": number, "y": 0}))
            futures[-1].wait()
        client.echo(mark)
        busy = heard(monitor, lambda calls: mark in calls[-1][1])

    without = number_of(CYCLE, idle) / seconds_of(idle) * seconds_of(busy)
    cycles = (number_of(CYCLE, busy) - without) / len(futures)
    begun = sorted(milliseconds_to_begin(baton, future.run_id) for future in futures)
    p50, p99 = begun[149], begun[296]
    log.info("%.2f cycles a submit; begun after %.2f ms p50, %.2f ms p99, %.2f ms at most", cycles, p50, p99, begun[-1])
    assert fifty.is_up(client)
    return cycles, p99


def test_runs_begin_although_most_of_the_idle_are_stopped(
    fifty: Fleet, baton: Orchestrator, client: "redis.Redis"
) -> None:
    stopped = sorted(fifty.workers(client).values())[:45]
    send(signal.SIGSTOP, stopped)
    try:
        futures = []
        for number in range(20):
            futures.append(baton.submit(add, {"x": number, "y": 0}))
            assert futures[-1].result(timeout=10) == number
    finally:
        send(signal.SIGCONT, stopped)
    slowest = max(milliseconds_to_begin(baton, future.run_id) for future in futures)
    log.info("with 45 of 50 stopped: begun after %.0f ms at most", slowest)
    assert slowest <= 3000
