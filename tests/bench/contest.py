"""Baton and its peers at the same work: their environments, their workers, what is measured of each.

Each peer lives in a virtual environment of its own and is asked through the same few calls, see `peers/producing.py`.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from shared import keys
from tests.bench.processes import proportional_mb, resident_mb
from tests.support.server import RedisServer
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
PEERS_FOLDER = Path(__file__).parent / "peers"
QUEUE = "bench"
Figures = dict[str, float]


@dataclass(frozen=True)
class Peer:
    """Who is measured. `worker` is its command, in which `{n}` stands for the number of processes.

    `requirements` are installed in its own environment; none: it is installed in this one. A queue of `drained` runs is
    worked off; with less than `floor` of them a second something is wrong with the set-up, not with the peer.
    """

    name: str
    adapter: str
    worker: str
    requirements: tuple[str, ...] = ()
    drained: int = 5000
    floor: int = 0
    stop: int = signal.SIGTERM


BATON = Peer("baton", "baton_peer", "baton worker -m baton_peer -q bench --concurrency {n}", drained=10_000)
_HIREDIS = "redis[hiredis]"
_FOR_CELERY = ("celery[redis]", _HIREDIS, "packaging")
_CELERY = "celery -A celery_peer worker -l WARNING -c {n}"
PEERS = {
    peer.name: peer
    for peer in (
        Peer("rq", "rq_peer", "rq worker-pool -w rq.SimpleWorker -n {n} bench", drained=1000, floor=80),
        Peer("rq-fork", "rq_peer", "rq worker-pool -n {n} bench", drained=250, floor=20),
        Peer("celery", "celery_peer", _CELERY, _FOR_CELERY, drained=2000, floor=150),
        Peer(
            "celery-threads",
            "celery_peer",
            f"{_CELERY} -P threads",
            _FOR_CELERY,
            drained=2000,
            floor=150,
        ),
        Peer("dramatiq", "dramatiq_peer", "dramatiq dramatiq_peer -p {n}", ("dramatiq[redis]", _HIREDIS), floor=600),
        Peer(
            "huey",
            "huey_peer",
            "huey_consumer huey_peer.huey -q -k process -w {n}",
            ("huey", _HIREDIS),
            floor=600,
            stop=signal.SIGINT,
        ),
    )
}


# --- environments -----------------------------------------------------------------------------------------------------


def environment_of(peer: Peer, folder: Path) -> Path:
    """The folder with the programs of the peer's environment, which is made if it is not there yet."""
    if not peer.requirements:
        return Path(sys.executable).parent
    home = folder / peer.adapter
    made_for = home / "requirements.txt"
    wanted = "\n".join(peer.requirements)
    if not made_for.exists() or made_for.read_text() != wanted:
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([home / "bin/python", "-m", "pip", "install", "-q", *peer.requirements], check=True)
        made_for.write_text(wanted)
    return home / "bin"


def version_of(peer: Peer, programs: Path) -> str:
    """The release that is measured."""
    package = peer.adapter.removesuffix("_peer")
    code = f"import importlib.metadata; print(importlib.metadata.version({package!r}))"
    return subprocess.run([programs / "python", "-c", code], check=True, capture_output=True, text=True).stdout.strip()


# --- one peer on one server -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rig:
    """A peer, the programs of its environment and the empty server that it is measured on."""

    peer: Peer
    programs: Path
    server: RedisServer
    folder: Path

    @property
    def marks(self) -> Path:
        """Where bodies note the time."""
        return self.folder / "marks"

    def produce(self, workload: str, runs: int) -> Figures:
        """Run a workload of `producing.py` in a process of its own."""
        command = [self.programs / "python", "producing.py", self.peer.adapter, workload, str(runs)]
        done = subprocess.run(command, cwd=PEERS_FOLDER, env=self._environment(), capture_output=True, text=True)  # noqa: PLW1510
        if done.returncode:
            raise RuntimeError(f"{self.peer.name}, {workload}: {done.stderr[-2000:]}")
        figures: Figures = json.loads(done.stdout)
        return figures

    @contextmanager
    def worker(self, processes: int = 1) -> Iterator[int]:
        """The peer's own worker with so many processes, told to stop in the end; its pid."""
        program, *words = self.peer.worker.format(n=processes).split()
        with (self.folder / "worker.log").open("ab") as log:
            started = subprocess.Popen(
                [self.programs / program, *words],
                cwd=PEERS_FOLDER,
                env=self._environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield started.pid
        finally:
            started.send_signal(self.peer.stop)
            try:
                started.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(started.pid, signal.SIGKILL)
                started.wait(10)

    def worked_off(self, processes: int = 1) -> float:
        """Start a worker and wait for the second mark; the seconds between both."""
        with self.worker(processes):
            eventually(lambda: self.marks.exists() and len(self.marks.read_text().split()) == 2, 120)
        first, last = sorted(float(mark) for mark in self.marks.read_text().split())
        return last - first

    def _environment(self) -> Mapping[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
        paths = [str(PEERS_FOLDER)] if self.peer.requirements else [str(PEERS_FOLDER), str(ROOT)]
        ours = {
            "BENCH_REDIS": self.server.url,
            "BENCH_MARKS": str(self.marks),
            "BATON_REDIS_URL": self.server.url,
            "RQ_REDIS_URL": self.server.url,
            "PYTHONPATH": os.pathsep.join(paths),
        }
        return {**kept, **ours}


# --- what is measured -------------------------------------------------------------------------------------------------


def submitting(rig: Rig) -> Figures:
    return rig.produce("submits", 2000)


def draining(rig: Rig) -> Figures:
    runs = rig.peer.drained
    rig.produce("queue_noops", runs)
    with rig.server.client() as client:
        before = _round_trips(client)
        seconds = rig.worked_off()
        trips = (_round_trips(client) - before) / runs
        if rig.peer is BATON:
            check_honesty(client, runs)
    return {"drain": runs / seconds, "trips": trips}


def draining_by_two(rig: Rig) -> Figures:
    runs = rig.peer.drained
    rig.produce("queue_noops", runs)
    return {"drain-2": runs / rig.worked_off(2)}


def waiting(rig: Rig) -> Figures:
    with rig.worker() as pid:
        rig.produce("warm", 20)
        memory = {"rss": resident_mb(pid), "pss": proportional_mb(pid)}
        return memory | rig.produce("waits", 300)


def storing(rig: Rig) -> Figures:
    runs = rig.peer.drained
    with rig.server.client() as client:
        empty = _memory(client)
        rig.produce("queue_texts", runs)
        queued = _memory(client)
        rig.worked_off()
        return {"queued": (queued - empty) / runs, "finished": (_memory(client) - empty) / runs}


MEASURES: Mapping[str, Callable[[Rig], Figures]] = {
    "submit": submitting,
    "drain": draining,
    "drain-2": draining_by_two,
    "wait": waiting,
    "memory": storing,
}


def check_honesty(client: "redis.Redis[str]", runs: int) -> None:
    """Nothing was switched off: of twenty runs each has its history, a result and a lifetime, and all moves were told.

    Raises:
        AssertionError: it was.
    """
    for run_id in random.sample(client.zrange(keys.FINISHED + QUEUE, 0, -1), min(20, runs)):
        rows = client.llen(keys.run_part(run_id, "history"))
        kept = client.exists(keys.run_part(run_id, "result"))
        if rows < 3 or not kept or client.ttl(keys.job(run_id)) <= 0:
            raise AssertionError(f"run {run_id}: {rows} rows of history, result {kept}, or no lifetime")
    told = client.info("commandstats")["cmdstat_publish"]["calls"]
    if told < 3 * runs:
        raise AssertionError(f"{told} transitions were published of {runs} runs")


def hold(
    peers: Sequence[Peer], venvs: Path, wanted: Sequence[str], times: int
) -> Iterator[tuple[str, Figures | Exception]]:
    """Measure so many times, each time one after the other, so that a slow minute of the machine is nobody's own.

    Gives the peer's name and its figures as they come, or why there are none: a peer that fails ends nobody's run.
    """
    programs = {peer.name: environment_of(peer, venvs) for peer in peers}
    for _ in range(times):
        for name in wanted:
            for peer in peers:
                try:
                    yield peer.name, _once(MEASURES[name], peer, programs[peer.name])
                except (AssertionError, RuntimeError) as error:
                    if peer is BATON:
                        raise
                    yield peer.name, error


def _once(measure: Callable[[Rig], Figures], peer: Peer, programs: Path) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        try:
            return measure(Rig(peer, programs, server, Path(folder)))
        finally:
            server.stop()


def _round_trips(client: "redis.Redis[str]") -> int:
    """How often the server has read from a client."""
    return int(client.info("stats")["total_reads_processed"])


def _memory(client: "redis.Redis[str]") -> int:
    return int(client.info("memory")["used_memory"])
