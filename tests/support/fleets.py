"""Fleets of real worker processes for tests, what they say, and what their bodies logged."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import redis

from orchestrator import Orchestrator
from shared import keys
from shared.settings import Settings
from shared.states import State
from tests.support.server import RedisServer
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
T = TypeVar("T")
BODIES = "tests.end_to_end.bodies"
SHORT = {"lease": 2, "beat": 0.5, "reap": 0.5, "future_sweep": 1}
"""Settings under which an ended lease is noticed within seconds."""
HASTY = {"worker_budget": 0.2, "connect_timeout": 0.2, "socket_timeout": 0.2, "idle_wait": 0.2, "watchdog": 4.4}
"""Settings with calls that never take long, and with the shortest watchdog that is then allowed."""


def environment(url: str, **settings: Any) -> dict[str, str]:
    """This process's environment, but of Baton's variables only these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
    given = {f"BATON_{name.upper()}": str(value) for name, value in {"redis_url": url, **settings}.items()}
    return {**kept, "PYTHONUNBUFFERED": "1", **given}


def command(
    *words: str | Path, url: str, cwd: Path = ROOT, seconds: float = 30, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program of this environment's bin folder, or any other by its path, to its end."""
    program = BIN / words[0] if (BIN / words[0]).exists() else words[0]
    return subprocess.run(
        [program, *words[1:]],
        cwd=cwd,
        env=environment(url, **settings),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


class Fleet:
    """A running `baton worker`: its supervisor's pid, its children, its log. Settings go into its environment.

    `given` are fields of FleetOptions. `under` is a program, with its arguments, that becomes the fleet's.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        *options: str,
        module: str = BODIES,
        cwd: Path = ROOT,
        concurrency: int = 1,
        given: Mapping[str, Any] | None = None,
        under: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        self.concurrency = concurrency
        self.folder = folder
        self._log = folder / "stderr.log"
        bodies = folder / "bodies"
        bodies.mkdir(parents=True, exist_ok=True)
        program = [BIN / "baton", "worker"]
        if given is not None:
            program = [sys.executable, "-m", "tests.support.fleet_program", json.dumps(given)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*under, *program, "-m", module, "--concurrency", str(concurrency), *options],
                cwd=cwd,
                env={**environment(url, **settings), "BODY_LOG": str(bodies)},
                stdout=log,
                stderr=log,
            )
        self.pid = self.process.pid
        self.name = (given or {}).get("name") or f"{socket.gethostname()[:30]}-{self.pid}"

    def said(self) -> str:
        """Everything that the fleet has logged so far."""
        return self._log.read_text()

    def body_log(self) -> "BodyLog":
        """What its bodies have logged."""
        return body_log(self.folder)

    def children(self) -> list[int]:
        """The pids of its present worker processes."""
        try:
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        except FileNotFoundError:
            return []

    def workers(self, client: "redis.Redis") -> dict[str, int]:
        """Name and pid of each worker of this fleet that has a lease and has gone through a cycle."""
        names = [name for name in client.zrange(keys.LEASES, 0, -1) if name.startswith(f"{self.name}-")]
        rows = {name: client.hmget(keys.worker(name), "pid", "cycle") for name in names}
        return {name: int(pid) for name, (pid, cycle) in rows.items() if pid and cycle}

    def pid_of(self, client: "redis.Redis", run_id: str) -> int:
        """The pid of the worker process that a run was begun by."""
        return eventually(lambda: self.workers(client).get(client.hget(keys.job(run_id), "worker_name")))

    def is_up(self, client: "redis.Redis") -> bool:
        """True when all its workers look for work."""
        if self.process.poll() is not None:
            raise AssertionError(f"the fleet ended with {self.process.returncode}:\n{self.said()}")
        return len(self.workers(client)) == self.concurrency

    def stop(self, seconds: float = 30) -> int:
        """Ask it to stop, and wait for its exit code."""
        self.process.terminate()
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End it by SIGKILL at once, and see its children end with it."""
        children = self.children()
        self.process.kill()
        self.process.wait(10)
        eventually(lambda: not any(is_alive(pid) for pid in children))

    def halt(self) -> list[int]:
        """SIGSTOP for all its processes, supervisor first; their pids."""
        os.kill(self.pid, signal.SIGSTOP)
        stopped = [self.pid, *self.children()]
        send(signal.SIGSTOP, stopped)
        return stopped

    def clear_away(self) -> None:
        """End what is left of it, whatever state it is in."""
        left = [self.pid, *self.children()] if self.process.poll() is None else []
        send(signal.SIGKILL, left)
        self.process.wait(10)


class Fleets:
    """Starts fleets against one server, each in a folder of its own; ends them all and shows what they said."""

    def __init__(self, url: str, client: "redis.Redis", folder: Path) -> None:
        self.folder = folder
        self.started: list[Fleet] = []
        self._url = url
        self._client = client
        self._number = count(1)

    def __call__(self, *options: str, **how: Any) -> Fleet:
        """A fleet whose workers all look for work; arguments as `Fleet` takes them."""
        fleet = self.begin(*options, **how)
        eventually(lambda: fleet.is_up(self._client), 30)
        return fleet

    def begin(self, *options: str, **how: Any) -> Fleet:
        """A fleet that has just been started, and may never come up."""
        fleet = Fleet(self._url, self.folder / f"fleet-{next(self._number)}", *options, **how)
        self.started.append(fleet)
        return fleet

    def body_log(self) -> "BodyLog":
        """What the bodies of all these fleets have logged."""
        return body_log(self.folder)

    def clear_away(self) -> None:
        """End what is left of them. What they said is printed, which pytest shows for a test that failed."""
        for fleet in self.started:
            fleet.clear_away()
            print(f"--- fleet {fleet.name} said:\n{fleet.said()}")  # noqa: T201 - for pytest's report


@dataclass(frozen=True)
class Stage:
    """A server of a test's own, which it may kill, with a producer and fleets."""

    server: RedisServer
    client: "redis.Redis"
    baton: Orchestrator
    fleet: Fleets


@contextmanager
def stage(folder: Path, **options: str) -> Iterator[Stage]:
    """A server with these options and who works with it; all of it is ended whatever happens."""
    server = RedisServer(folder, **options)
    settings = Settings.load({}, redis_url=server.url, future_sweep=1)
    try:
        with server.client() as client, Orchestrator(settings=settings) as baton:
            fleet = Fleets(server.url, client, folder)
            try:
                yield Stage(server, client, baton, fleet)
            finally:
                fleet.clear_away()
    finally:
        server.stop()


def is_heard(client: "redis.Redis", run_id: str) -> bool:
    """True while somebody is subscribed to this run's transitions."""
    channel = keys.state_channel(run_id)
    return dict(client.pubsub_numsub(channel))[channel] > 0


def in_thread(call: Callable[[], T]) -> Callable[..., T]:
    """Begin this call in another thread; the answer waits for its value, or raises what it raised."""
    pool = ThreadPoolExecutor(1)
    running = pool.submit(call)
    pool.shutdown(wait=False)
    return lambda seconds=20: running.result(seconds)


def send(number: int, pids: Iterable[int]) -> None:
    """A signal for these processes; those that are gone are left out."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def is_alive(pid: int) -> bool:
    """True while a process of this pid is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# --- what became of a run ---------------------------------------------------------------------------------------------


def told(baton: Orchestrator, run_id: str) -> list[tuple[str, str | None]]:
    """Name and message of every state that a run went through."""
    return [(state.name, state.message) for state in baton.history(run_id)]


def seconds_after(moment: float, state: State[Any]) -> float:
    """How much later than that moment of the server's clock a state was recorded."""
    return state.timestamp.timestamp() - moment


def server_time(client: "redis.Redis") -> float:
    """The server's clock."""
    seconds, microseconds = client.time()
    return seconds + microseconds / 1_000_000


# --- the log of the bodies --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A body's start or end."""

    run: str
    attempt: int
    token: int
    what: str
    at: int


BodyLog = Mapping[str, list[Entry]]


def body_log(folder: Path) -> BodyLog:
    """What every body of the fleets under this folder wrote down, by run, in the order of time."""
    lines = [line.split() for path in folder.rglob("bodies/*.log") for line in path.read_text().splitlines()]
    entries = [Entry(run, int(attempt), int(token), what, int(at)) for run, attempt, token, what, at in lines]
    by_run: dict[str, list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: entry.at):
        by_run[entry.run].append(entry)
    return by_run


def starts(log: BodyLog, run_id: str) -> int:
    """How often a run's body began."""
    return sum(entry.what == "start" for entry in log.get(run_id, ()))


def hooks_of(folder: Path, run_id: str) -> list[tuple[str, str, int]]:
    """Which hooks of a run were called, for which state, after how many tries."""
    lines = [line.split() for path in folder.rglob("bodies/*.hooks") for line in path.read_text().splitlines()]
    seen = []
    for _at, run, kind, given, recorded, tries, context in sorted(lines, key=lambda words: int(words[0])):
        if run == run_id:
            assert (recorded, context) == (given, run_id)
            seen.append((kind, given, int(tries)))
    return seen
