"""Many runs, half of them dependent on others, through two fleets of which one is killed or halted all the time, behind
a proxy that loses replies: what became of them, told by the oracle. `python -m tests.faults.storm --runs 10000`.
"""

import argparse
import itertools
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import redis

from orchestrator import Orchestrator
from orchestrator.doctor import examine
from shared.connect import connect
from shared.ledger import RunLedger
from shared.settings import Settings
from tests.faults.storm_bodies import work
from tests.support.fleets import SHORT, Fleet, Fleets, body_log, send
from tests.support.oracle import Findings, judged
from tests.support.proxy import Proxy, proxy_to
from tests.support.server import RedisServer
from tests.support.waiting import eventually

HALTED_FOR = 1.5
"""Leases for which a fleet is halted: it wakes when others have taken its runs."""
WAKES_LATER = 0.5
"""Seconds for which its supervisor, who would end them, is halted longer than its children."""


@dataclass(frozen=True)
class Storm:
    """How many runs, how long their bodies last, how often what happens to the fleets. Times are seconds."""

    runs: int = 10_000
    body: float = 0.01
    long_body: float = 1.5
    strike_every: float = 2.0
    lose_every: float = 0.3
    concurrency: int = 2
    at_most: float = 300.0
    failpoints: str = ""

    def seconds_of(self, number: int) -> float:
        """How long a body lasts: fifty are long, so that most fleets are struck within one of these."""
        return self.long_body if number % max(1, self.runs // 100) == 0 else self.body


def submit_all(baton: Orchestrator, storm: Storm) -> list[str]:
    """Submit the runs, every second one dependent on the one before; the ids that were acknowledged."""
    acknowledged: list[str] = []
    for start in range(0, storm.runs // 2, 250):
        numbers = range(start, min(start + 250, storm.runs // 2))
        firsts = baton.submit_many((work, {"seconds": storm.seconds_of(number)}) for number in numbers)
        acknowledged += [future.run_id for future in firsts]
        seconds = baton.submit_many((work, {"seconds": storm.body, "needs": (first,)}) for first in firsts)
        acknowledged += [future.run_id for future in seconds]
    return acknowledged


@contextmanager
def in_background(every: float, strike: "Iterator[object]") -> Iterator[None]:
    """Take the next of `strike` all the time, so many seconds after the one before."""
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(every):
            next(strike)

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)


def losses(proxy: Proxy) -> Iterator[object]:
    """Lose the reply of one script after the other."""
    while True:
        lost = proxy.lose_reply(b"EVALSHA")
        yield lost
        while not lost.is_set():
            yield lost


def strikes(fleet: Fleets, storm: Storm, pair: list[Fleet]) -> Iterator[object]:
    """Kill a fleet and start another, then halt one for longer than its lease, and so on."""
    for number in itertools.count():
        struck = pair[number % 2]
        if number % 3 == 2:
            supervisor, *children = struck.halt()
            threading.Event().wait(HALTED_FOR * float(SHORT["lease"]))
            send(signal.SIGCONT, children)
            threading.Event().wait(WAKES_LATER)  # meanwhile they report what is not theirs any more
            send(signal.SIGCONT, [supervisor])
        else:
            struck.kill()
            pair[number % 2] = started(fleet, storm)
        yield None


def started(fleet: Fleets, storm: Storm) -> Fleet:
    failpoints = {"failpoints": storm.failpoints} if storm.failpoints else {}
    return fleet(
        module="tests.faults.storm_bodies",
        concurrency=storm.concurrency,
        socket_timeout=0.5,
        worker_budget=1.5,
        **SHORT,
        **failpoints,
    )


def blown(storm: Storm, folder: Path) -> tuple[Findings, int]:
    """Let it storm until every run has ended; what went wrong, and how many violations the doctor finds."""
    server = RedisServer(folder)
    try:
        with server.client() as client, proxy_to(server.port) as proxy:
            return _blown(storm, folder, server, client, proxy)
    finally:
        server.stop()


def _blown(
    storm: Storm, folder: Path, server: RedisServer, client: "redis.Redis", proxy: Proxy
) -> tuple[Findings, int]:
    settings = Settings.load({}, redis_url=server.url)
    fleet = Fleets(proxy.url, client, folder)
    with Orchestrator(settings=settings) as baton:
        try:
            pair = [started(fleet, storm), started(fleet, storm)]
            with (
                in_background(storm.lose_every, losses(proxy)),
                in_background(storm.strike_every, strikes(fleet, storm, pair)),
            ):
                acknowledged = submit_all(baton, storm)
                eventually(lambda: not client.hgetall("baton:counts") or all_ended(client), storm.at_most)
            started(fleet, storm)  # whoever was halted last is buried, and what it held has ended
            eventually(lambda: all_ended(client), 60)
            bodies = body_log(folder)
        finally:
            fleet.clear_away()
        exchange = connect(settings)
        found = judged(client, RunLedger(exchange, settings), acknowledged, bodies)
        return found, len(examine(exchange, lambda: None).violations)


def all_ended(client: "redis.Redis") -> bool:
    """True if no run is in a state that is not final."""
    return not any(int(number) for number in client.hgetall("baton:counts").values())


def main() -> int:
    """Let it storm as the command line says; exit code 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description="Runs through fleets that are killed and halted all the time.")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--failpoints", default="", help="such as fence=off: what a mechanism is good for")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found, violations = blown(Storm(runs=given.runs, failpoints=given.failpoints), Path(folder))
    for name, value in asdict(found).items():
        sys.stdout.write(f"{name:12} {len(value) if isinstance(value, list) else value}\n")
    sys.stdout.write(f"{'doctor':12} {violations} violations\n")
    return 1 if found.wrong() or violations else 0


if __name__ == "__main__":
    sys.exit(main())
