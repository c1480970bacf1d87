"""Redis and workers that an Orchestrator brings along, for scripts, demos and tests: `embedded:` and `memory:`.

`embedded:` takes the first that works: the Redis of `$BATON_REDIS_URL`, else a private server found on PATH (both with
worker processes), else a Redis in this process with worker threads. `memory:` is always the last.
"""

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from orchestrator.owned import OwnedProgram
from orchestrator.private_server import PrivateServer, find_binary
from shared.connect import connect
from shared.errors import ConfigError
from shared.ids import new_id
from shared.ledger import RunLedger
from shared.settings import Settings, names_a_redis
from shared.specs import TaskSpec, registry
from shared.transport import Exchange
from worker.threads import ThreadFleet

log = logging.getLogger("baton")
WORKERS = 2
# How long bodies may go on after their producer is done with them.
GRACE_SECONDS = 2.0
# Set in the workers of an embedded Orchestrator: the script they import must not bring up workers of its own.
INSIDE = "BATON_EMBEDDED_WORKER"


class Embedded(Protocol):
    """A Redis with workers. `title`, `workers` and `differs` say in words what it is."""

    settings: Settings
    title: str
    workers: str
    differs: str

    def serve(self) -> None:
        """Have workers for every task that is registered here, on every queue that these tasks name."""

    def close(self) -> None:
        """End the workers, then the Redis if it is ours."""


def open_embedded(settings: Settings, workers: int = WORKERS) -> Embedded:
    """The first of the three that works.

    Raises:
        RedisUnavailable: `$BATON_REDIS_URL` is set and does not answer.
        ConfigError: called where a worker imports the script that it belongs to.
    """
    if INSIDE in os.environ:
        raise ConfigError(
            "a worker imports this module to find its tasks: put what submits runs under `if __name__ == '__main__':`"
        )
    if names_a_redis():
        exchange = connect(settings)
        RunLedger(exchange, settings).check()
        exchange.close()
        return ProcessFleet(settings, f"Redis at {exchange.address} from BATON_REDIS_URL", workers)
    binary = find_binary()
    if binary is None:
        return InMemory(settings, workers)
    server = PrivateServer(binary)
    title = f"no BATON_REDIS_URL; private {server.title} on 127.0.0.1:{server.port}"
    return ProcessFleet(settings.model_copy(update={"redis_url": server.url}), title, workers, server)


class InMemory:
    """A Redis and worker threads in this process."""

    def __init__(self, settings: Settings, workers: int = WORKERS) -> None:
        # Asking costs no round trip here, a thread cannot be woken to stop, and hears of a cancel with a beat only.
        changes = {"redis_url": f"memory:{new_id()}", "idle_wait": 0.2, "beat": min(settings.beat, 0.5)}
        self.settings = settings.model_copy(update=changes)
        self.title = "no BATON_REDIS_URL, no redis-server or valkey-server on PATH; a Redis in this process (fakeredis)"
        self.workers = f"{workers} worker threads"
        self.differs = "no other process sees it, nor redis-cli; time limits of sync code cannot interrupt"
        # This Redis lives as long as there are connections to it.
        self._anchor: Exchange | None = connect(self.settings)
        self._concurrency = workers
        self._fleet: ThreadFleet | None = None
        self._served: frozenset[str] = frozenset()

    def serve(self) -> None:
        """As `Embedded.serve`."""
        queues = _queues()
        if self._fleet is not None and self._served >= queues:
            return
        if self._fleet is not None:
            self._fleet.close()
        self._fleet = ThreadFleet(self.settings, sorted(queues), self._concurrency)
        self._served = queues

    def close(self) -> None:
        """As `Embedded.close`."""
        if self._fleet is not None:
            self._fleet.close()
        self._anchor = None


class ProcessFleet:
    """Worker processes beside a Redis that is reached over the network, or that we started."""

    def __init__(self, settings: Settings, title: str, workers: int, server: PrivateServer | None = None) -> None:
        self.settings = settings
        self.title = title
        self.workers = f"{workers} workers"
        self.differs = ""
        self._concurrency = workers
        self._server = server
        self._fleet: OwnedProgram | None = None
        self._served: tuple[frozenset[str], frozenset[str]] = frozenset(), frozenset()

    def serve(self) -> None:
        """As `Embedded.serve`.

        Raises:
            ConfigError: a task was defined where a worker cannot import it.
        """
        modules, queues = frozenset(map(_module_of, registry.specs())), _queues()
        if self._fleet is not None and self._served[0] >= modules and self._served[1] >= queues:
            return
        if self._fleet is not None:
            self._fleet.close(GRACE_SECONDS + 1)
        command = [sys.executable, "-m", "orchestrator.cli", "worker", "--concurrency", str(self._concurrency)]
        for module in sorted(modules):
            command += ["-m", module]
        for queue in sorted(queues):
            command += ["-q", queue]
        self._fleet = OwnedProgram(command, environment=self._environment())
        self._served = modules, queues

    def close(self) -> None:
        """As `Embedded.close`."""
        if self._fleet is not None:
            self._fleet.close(GRACE_SECONDS + 1)
        if self._server is not None:
            self._server.close()

    def _environment(self) -> Mapping[str, str]:
        script = getattr(sys.modules.get("__main__"), "__file__", None)
        places = [*([str(Path(script).resolve().parent)] if script else []), *sys.path]
        return {
            **os.environ,
            "BATON_REDIS_URL": self.settings.redis_url,
            "BATON_STOP_GRACE": str(GRACE_SECONDS),
            "PYTHONPATH": os.pathsep.join(place for place in places if place),
            INSIDE: "1",
        }


def _queues() -> frozenset[str]:
    return frozenset({"default", *(spec.queue for spec in registry.specs())})


def _module_of(spec: TaskSpec[..., Any]) -> str:
    """The name under which another process can import the module of a task."""
    module = spec.fn.__module__
    if module != "__main__":
        return module
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is None:
        raise ConfigError(
            f"task '{spec.key}' was defined where no file is, so no worker process can import it: "
            "define it in a module, or use Orchestrator('memory:')"
        )
    return Path(script).stem
