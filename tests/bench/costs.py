"""What a begin costs beside many runs that wait."""

import time

from orchestrator import Orchestrator, task
from shared.commands import Outcome, Report, Seat
from shared.connect import connect
from shared.ledger import RunLedger
from shared.settings import Settings
from shared.upkeep import Pulse
from tests.bench.fleets import QUEUE
from tests.support.server import RedisServer

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


def _seated(server: RedisServer) -> tuple[RunLedger, Seat]:
    settings = Settings(redis_url=server.url)
    ledger = RunLedger(connect(settings).line(), settings)
    ledger.beat([Pulse("bench", [QUEUE], {"queues": QUEUE}, is_new=True)])
    return ledger, Seat("bench", [QUEUE])
