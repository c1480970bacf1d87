"""What runs cost where they are stored: bytes of a waiting and of a finished run, and begins beside many that wait."""

import time

import redis

from orchestrator import Orchestrator, task
from shared.commands import Outcome, Report, Seat
from shared.connect import connect
from shared.ledger import RunLedger
from shared.settings import Settings
from shared.upkeep import Pulse
from tests.bench.fleets import QUEUE
from tests.support.server import RedisServer

TEXT = "x" * 285
"""With its name and envelope 300 bytes of parameters."""
BEGINS = 1000
AT_ONCE = 16
_DONE = Outcome("COMPLETED", "Completed", result=b"", retention=86_400, result_retention=86_400)


@task(queue=QUEUE)
def keep(text: str) -> None:
    """Take a text."""


def bytes_queued(server: RedisServer, runs: int) -> float:
    """Memory that Redis takes for each of so many waiting runs."""
    with Orchestrator(server.url) as baton, server.client() as client:
        baton.submit(keep, {"text": TEXT})
        before = _memory(client)
        baton.submit_many((keep, {"text": TEXT}) for _ in range(runs))
        return (_memory(client) - before) / runs


def bytes_finished(server: RedisServer, runs: int) -> float:
    """Memory that Redis takes for each of so many finished runs, with three rows of history."""
    with Orchestrator(server.url) as baton, server.client() as client:
        before = _memory(client)
        baton.submit_many((keep, {"text": TEXT}) for _ in range(runs))
        ledger, seat = _seated(server)
        reports: list[Report] = []
        while (claims := ledger.cycle(seat, reports, AT_ONCE).claims) or reports:
            reports = [Report(claim.run_id, claim.token, _DONE) for claim in claims]
        return (_memory(client) - before) / runs


def begin_beside(server: RedisServer, runs: int) -> float:
    """The 99th percentile, in microseconds, of ending one run and beginning the next while so many wait."""
    with Orchestrator(server.url) as baton:
        baton.submit_many((keep, {"text": ""}) for _ in range(runs))
    ledger, seat = _seated(server)
    took = []
    reports: list[Report] = []
    for _ in range(min(BEGINS, runs)):
        began = time.perf_counter()
        claims = ledger.cycle(seat, reports, 1).claims
        took.append(time.perf_counter() - began)
        reports = [Report(claim.run_id, claim.token, _DONE) for claim in claims]
    return sorted(took)[int(len(took) * 0.99)] * 1_000_000


def _seated(server: RedisServer) -> tuple[RunLedger, Seat]:
    settings = Settings(redis_url=server.url)
    ledger = RunLedger(connect(settings).line(), settings)
    ledger.beat([Pulse("bench", [QUEUE], {"queues": QUEUE}, is_new=True)])
    return ledger, Seat("bench", [QUEUE])


def _memory(client: "redis.Redis[str]") -> int:
    return int(client.info("memory")["used_memory"])
