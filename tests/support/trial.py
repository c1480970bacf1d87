"""A trial: fleets, runs whose bodies return their token, a fault; and what became of every run, by the oracle."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from orchestrator import Orchestrator, RunFuture, Task
from orchestrator.doctor import examine
from shared import keys
from shared.connect import connect
from shared.ledger import RunLedger
from shared.settings import Settings
from shared.transport import Exchange
from tests.support.fleets import SHORT, Entry, Fleet, Fleets, seconds_after, server_time, starts, told
from tests.support.oracle import Findings, judged
from tests.support.server import RedisServer
from tests.support.waiting import eventually

BODIES = "tests.faults.bodies"
QUICK: Mapping[str, Any] = {**SHORT, "stop_grace": 2, "socket_timeout": 0.5, "connect_timeout": 0.5, "worker_budget": 1}
"""Settings of the fleets: an ended lease and a broken link are noticed within seconds."""
TO_RECOVER = SHORT["lease"] + SHORT["reap"] + 1
"""Seconds from a fleet's end to the moment at which what it held waits again."""
AHEAD = 16
"""Runs that a worker begins ahead at most."""


@dataclass(frozen=True)
class Verdict:
    """What may never be, by name; pairs of bodies that overlapped; laws that are broken. Compare it with `SOUND`."""

    wrong: Mapping[str, list[str]]
    overlaps: int
    violations: list[str]


SOUND = Verdict({}, 0, [])


class Trial:
    """Of one test: submits, strikes, and judges in the end. What is submitted elsewhere is not known to it."""

    def __init__(self, server: RedisServer, client: "redis.Redis", baton: Orchestrator, fleets: Fleets) -> None:
        self.server = server
        self.client = client
        self.baton = baton
        self.fleets = fleets
        self.acknowledged: list[str] = []

    def fleet(self, *options: str, fleets: Fleets | None = None, **how: Any) -> Fleet:
        """A fleet whose workers all look for work, with `QUICK` settings and the tasks of `BODIES`."""
        return (fleets or self.fleets)(*options, **{"module": BODIES, **QUICK, **how})

    def begin_fleet(self, *options: str, **how: Any) -> Fleet:
        """A fleet that may never come up."""
        return self.fleets.begin(*options, **{"module": BODIES, **QUICK, **how})

    # --- runs ---------------------------------------------------------------------------------------------------------

    def submit(self, task: Task[..., Any], queue: str | None = None, **parameters: Any) -> RunFuture[Any]:
        """One run."""
        return self.submit_many([(task, parameters)], queue)[0]

    def submit_many(self, calls: Iterable[Any], queue: str | None = None) -> list[RunFuture[Any]]:
        """Runs, as `Orchestrator.submit_many` takes them."""
        futures = list(self.baton.submit_many(calls, queue=queue))
        self.acknowledged += [future.run_id for future in futures]
        return futures

    def in_body(self, run_id: str, times: int = 1) -> list[Entry]:
        """Wait until the run's body has started for the so-manieth time; what it has logged."""
        eventually(lambda: starts(self.fleets.body_log(), run_id) >= times)
        return self.fleets.body_log()[run_id]

    def last_token(self, run_id: str) -> int:
        """The token of the run's body that began last."""
        return max(entry.token for entry in self.fleets.body_log()[run_id])

    def names(self, run_id: str) -> list[str]:
        """The names of the states that a run went through."""
        return [name for name, _ in told(self.baton, run_id)]

    def charged(self, run_id: str) -> tuple[int, int, int]:
        """Attempts, runs and crashes that a run was charged with."""
        run = self.baton.get_run(run_id)
        return run.attempt, run.run_count, run.crashes

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Let nothing begin meanwhile; afterwards a worker is told to look."""
        self.client.set(keys.SUSPENDED, 1)
        yield
        self.client.delete(keys.SUSPENDED)
        self.client.rpush(keys.wake("default"), 1)

    # --- faults -------------------------------------------------------------------------------------------------------

    @contextmanager
    def recovering(self, run_id: str, seconds: float = TO_RECOVER) -> Iterator[None]:
        """What is done here loses the run; it waits again within these seconds."""
        rows = len(self.baton.history(run_id))
        struck_at = server_time(self.client)
        yield
        again = eventually(lambda: self.baton.history(run_id)[rows:])[0]
        assert (again.name, seconds_after(struck_at, again) <= seconds) == ("Pending", True)

    def quarantined(self, reason: str) -> list[str]:
        """The runs in quarantine for this reason."""
        with redis.Redis(port=self.server.port) as client:  # an outcome that is kept there is no text
            rows = [entry for _, entry in client.xrange(keys.QUARANTINE)]
        return [row[b"run"].decode() for row in rows if row[b"reason"] == reason.encode()]

    def stored(self, run_id: str) -> dict[str, bytes | None]:
        """Everything that is stored of a run, byte for byte, but for how long."""
        with redis.Redis(port=self.server.port) as client:
            return {key.decode(): client.dump(key) for key in client.scan_iter(f"*{run_id}*", count=1000)}

    # --- the end ------------------------------------------------------------------------------------------------------

    def found(self) -> Findings:
        """What the oracle finds at this moment."""
        with self.exchange() as exchange:
            ledger = RunLedger(exchange, self.baton.settings)
            return judged(self.client, ledger, self.acknowledged, self.fleets.body_log())

    def verdict(self) -> Verdict:
        """What went wrong, by the oracle and by the doctor."""
        found = self.found()
        with self.exchange() as exchange:
            broken = [str(each) for each in examine(exchange, lambda: None).violations]
        return Verdict(found.wrong(), found.overlaps, broken)

    @contextmanager
    def exchange(self) -> Iterator[Exchange]:
        """The ledger's way to this server."""
        exchange = connect(self.baton.settings)
        try:
            yield exchange
        finally:
            exchange.close()


@contextmanager
def trial_on(server: RedisServer, client: "redis.Redis", folder: Path) -> Iterator[Trial]:
    """A trial on this server; its fleets are ended whatever happens."""
    fleets = Fleets(server.url, client, folder)
    with Orchestrator(settings=Settings.load({}, redis_url=server.url, future_sweep=1)) as baton:
        try:
            yield Trial(server, client, baton, fleets)
        finally:
            fleets.clear_away()
