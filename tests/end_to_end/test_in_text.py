"""A run as it goes by, seen with redis-cli and rq alone: everything is readable text."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator import Orchestrator
from tests.end_to_end.bodies import held
from tests.support.fleets import Fleets, command
from tests.support.server import RedisServer
from tests.support.waiting import eventually

REDIS_CLI = shutil.which("redis-cli")
pytestmark = pytest.mark.skipif(REDIS_CLI is None, reason="no redis-cli on PATH")


def typed(server: RedisServer, *words: str) -> list[str]:
    """What redis-cli prints, by lines."""
    done = subprocess.run(
        [str(REDIS_CLI), "-p", str(server.port), *words], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.splitlines()


@contextmanager
def overheard(server: RedisServer, channel: str, path: Path) -> Iterator[Path]:
    """A file to which a redis-cli that is subscribed to this channel writes, from its confirmation on."""
    with path.open("w") as heard:
        listener = subprocess.Popen([str(REDIS_CLI), "-p", str(server.port), "SUBSCRIBE", channel], stdout=heard)
    try:
        eventually(lambda: channel in path.read_text())
        yield path
    finally:
        listener.kill()
        listener.wait(10)


def types_in(path: Path) -> list[str]:
    return [json.loads(line)["type"] for line in path.read_text().splitlines() if line.startswith("{")]


def test_a_run_can_be_followed_with_redis_cli_and_rq(
    fleet: Fleets, baton: Orchestrator, server: RedisServer, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    future = baton.submit(held, {"path": str(gate)}, delay=0.5)
    run_id = future.run_id
    with overheard(server, f"baton:run:{run_id}:state", tmp_path / "heard") as heard:
        workers = fleet(concurrency=2)
        eventually(lambda: "RUNNING" in types_in(heard))
        flat = typed(server, "HGETALL", f"rq:job:{run_id}")
        info = command("rq", "info", "-u", server.url, url=server.url)
        gate.touch()
        future.wait(10)
        eventually(lambda: "COMPLETED" in types_in(heard))
    rows = [json.loads(line) for line in typed(server, "LRANGE", f"baton:run:{run_id}:history", "0", "-1")]

    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    shown = {name: fields[name] for name in ("task", "state_type", "state_name", "status", "origin", "attempt", "seq")}
    assert shown == {
        "task": "tests.end_to_end.bodies.held",
        "state_type": "RUNNING",
        "state_name": "Running",
        "status": "started",
        "origin": "default",
        "attempt": "1",
        "seq": "3",
    }
    assert all(value.isprintable() for name, value in fields.items() if name != "data")
    assert [(row["seq"], row["type"]) for row in rows] == [
        (1, "SCHEDULED"),
        (2, "PENDING"),
        (3, "RUNNING"),
        (4, "COMPLETED"),
    ]
    assert types_in(heard) == ["PENDING", "RUNNING", "COMPLETED"]
    assert info.returncode == 0
    assert re.search(r"^default +\|.* 0, 1 executing", info.stdout, re.MULTILINE)
    states = re.findall(rf"^{workers.name}-\S+ .*: (\w+) default", info.stdout, re.MULTILINE)
    assert sorted(states) == ["busy", "idle"]
