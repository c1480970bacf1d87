"""What a begin costs beside many runs that wait, and what an execution costs without Redis."""

import statistics
import time

from orchestrator import Orchestrator, task
from shared.clock import monotonic
from shared.commands import Outcome, Report, Seat
from shared.connect import connect
from shared.ledger import RunLedger
from shared.settings import Settings
from shared.upkeep import Pulse
from tests.bench.fleets import QUEUE
from tests.support.server import RedisServer
from worker.attempt import execute
from worker.hand import Hand
from worker.interrupts import Interrupts
from worker.page import Page

BEGINS, STRETCHES = 200, 5
SUBMITTED_AT_ONCE = 10_000
_DONE = Outcome("COMPLETED", "Completed", result=b"", retention=86_400, result_retention=86_400)


@task(queue=QUEUE)
def keep(text: str) -> None:
    """Take a text."""


def begin_beside(server: RedisServer, runs: int) -> float:
    """The 99th percentile, in microseconds, of ending one run and beginning the next while so many wait.

    That of the calmest stretch of several: what else the machine does only adds.
    """
    with Orchestrator(server.url) as baton:
        for start in range(0, runs, SUBMITTED_AT_ONCE):
            baton.submit_many((keep, {"text": ""}) for _ in range(start, min(start + SUBMITTED_AT_ONCE, runs)))
    ledger, seat = _seated(server)
    return min(_stretch(ledger, seat) for _ in range(STRETCHES)) * 1_000_000


def _stretch(ledger: RunLedger, seat: Seat) -> float:
    took = []
    reports: list[Report] = []
    for _ in range(BEGINS):
        began = time.perf_counter()
        claims = ledger.cycle(seat, reports, 1).claims
        took.append(time.perf_counter() - began)
        reports = [Report(claim.run_id, claim.token, _DONE) for claim in claims]
    ledger.cycle(seat, reports, 0)
    return sorted(took)[int(len(took) * 0.99)]


def overhead(server: RedisServer, runs: int) -> float:
    """Microseconds, median of the batches, from a claim to its report: all that a run costs but Redis and its body."""
    settings = Settings(redis_url=server.url)
    with Orchestrator(server.url) as baton:
        baton.submit_many((keep, {"text": ""}) for _ in range(runs))
    ledger, seat = _seated(server)
    page = Page()
    page.beaten(monotonic())
    hand, interrupts = Hand(ledger, seat, page, settings), Interrupts(page)
    took = []
    while claims := ledger.cycle(seat, [], settings.begin_ahead).claims:
        began = time.perf_counter()
        for claim in claims:
            execute(claim, hand, page, interrupts, settings)
        took.append((time.perf_counter() - began) / len(claims))
    return statistics.median(took) * 1_000_000


def _seated(server: RedisServer) -> tuple[RunLedger, Seat]:
    settings = Settings(redis_url=server.url)
    ledger = RunLedger(connect(settings).line(), settings)
    ledger.beat([Pulse("bench", [QUEUE], {"queues": QUEUE}, is_new=True)])
    return ledger, Seat("bench", [QUEUE])
