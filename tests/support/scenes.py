"""Fleets of one server behind a proxy, and the runs that they are to bring through what happens between them."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import RunFuture
from shared import keys
from tests.faults.storm_bodies import gated, work
from tests.support.fleets import SHORT, Fleet, Fleets, Stage, stage, starts
from tests.support.oracle import trial
from tests.support.proxy import Proxy, proxy_to
from tests.support.waiting import eventually

TIGHT = {
    **SHORT,
    "socket_timeout": 0.5,
    "connect_timeout": 0.5,
    "producer_budget": 5,
    "worker_budget": 5,
    "stop_grace": 2,
    "retention_finished": 600,
}
"""Settings under which a fleet notices within a second that Redis is away, and within two that a lease is over."""


@dataclass
class Scene:
    """A stage with a proxy. `behind` are the fleets that reach the server through it."""

    on: Stage
    proxy: Proxy
    behind: Fleets
    gate: Path

    def fleet(self, *, concurrency: int = 2, failpoints: str = "", **how: Any) -> Fleet:
        """A fleet behind the proxy."""
        return self.behind(
            module="tests.faults.storm_bodies",
            concurrency=concurrency,
            **{**TIGHT, **how},
            **({"failpoints": failpoints} if failpoints else {}),
        )

    def held(self, **how: Any) -> RunFuture:
        """A run that is in its body until the gate is opened."""
        future = self.on.baton.submit(gated, {"path": str(self.gate)}, **how)
        eventually(lambda: starts(self.on.fleet.body_log(), future.run_id) == 1)
        return future

    def short(self, number: int, seconds: float = 0.01) -> Sequence[RunFuture]:
        """Runs whose bodies last so long."""
        return list(self.on.baton.submit_many((work, {"seconds": seconds}) for _ in range(number)))

    def has_begun_to_end(self) -> bool:
        """True once the first run has ended."""
        return bool(self.on.client.zcard(f"{keys.FINISHED}default"))

    def attempts(self, *futures: RunFuture) -> list[int]:
        """How many attempts each of these runs took."""
        return [self.on.baton.get_run(future.run_id).attempt for future in futures]

    def crashes(self, *futures: RunFuture) -> int:
        """How many attempts of these runs were lost, which counts against them; those that were given back do not."""
        return sum(self.on.baton.get_run(future.run_id).crashes for future in futures)

    def wrong(self, *futures: RunFuture) -> dict[str, object]:
        """The oracle's findings once all has ended; {} is what is wanted."""
        return trial(self.on, [future.run_id for future in futures])


@contextmanager
def scene(folder: Path, **options: str) -> Iterator[Scene]:
    """A scene on a server with these options; all of it is ended whatever happens."""
    gate = folder / "gate"
    with stage(folder, **options) as on, proxy_to(on.server.port) as proxy:
        behind = Fleets(proxy.url, on.client, folder / "behind")
        try:
            yield Scene(on, proxy, behind, gate)
        finally:
            gate.touch()
            behind.clear_away()


def lasting(seconds: float) -> None:
    """What was done to the server lasts so long."""
    threading.Event().wait(seconds)


MOST_CONNECTS = 3.0
"""Connections a second and process in the first three: two on average, and chance."""


class Rate:
    """How often a proxy was connected to from now on, per second and process of one fleet."""

    def __init__(self, proxy: Proxy, workers: int) -> None:
        self._proxy = proxy
        self._processes = workers + 1
        self._since = time.monotonic()
        self._before = proxy.accepted

    def now(self) -> float:
        return (self._proxy.accepted - self._before) / (time.monotonic() - self._since) / self._processes
