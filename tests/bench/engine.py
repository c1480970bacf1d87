"""What executing a run costs a worker without Redis: from the claim that it was given to the report that it has."""

import time

from orchestrator import task
from shared import codec
from shared.clock import iso, now
from shared.commands import Claim, Seat
from shared.connect import connect
from shared.ids import new_id
from shared.ledger import RunLedger
from shared.settings import Settings
from tests.support.server import RedisServer
from worker.attempt import execute
from worker.hand import Hand
from worker.interrupts import Interrupts
from worker.page import Page


@task
def nothing() -> None:
    """Nothing, and no hooks."""


def engine_overhead(server: RedisServer, runs: int) -> float:
    """Microseconds a run: parameters, engine, its steps and states, the report. No call of Redis is made.

    Raises:
        AssertionError: a run did not complete.
    """
    settings, page = Settings(redis_url=server.url), Page()
    exchange = connect(settings)
    line = exchange.line()
    hand = Hand(RunLedger(line, settings), Seat("bench", ["default"]), page, settings)
    page.beaten(float("inf"))
    parameters, started = codec.encode({}), iso(now())
    claims = [Claim(new_id(), str(number), 1, 1, 0, started, nothing.spec.key, parameters) for number in range(runs)]
    interrupts = Interrupts(page)
    began = time.thread_time()  # whatever else this machine does
    reports = [execute(claim, hand, page, interrupts, settings) for claim in claims]
    took = time.thread_time() - began
    line.close()
    exchange.close()
    if {report and report.outcome.state_type for report in reports} != {"COMPLETED"}:
        raise AssertionError("not every run completed")
    return took / runs * 1_000_000
