"""What a fleet answers to probes, as it works, rests, leaves, and loses its Redis."""

import http.client
import json
import signal
from pathlib import Path
from typing import Any

import redis

from orchestrator import Orchestrator
from tests.end_to_end.bodies import held
from tests.support.fleets import SHORT, Fleets, stage, starts
from tests.support.server import free_port
from tests.support.waiting import eventually


def asked(port: int, path: str) -> tuple[int, dict[str, Any]]:
    """Status and facts."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def statuses(port: int) -> tuple[int, int]:
    """Of `/livez` and `/readyz`."""
    return asked(port, "/livez")[0], asked(port, "/readyz")[0]


def test_a_fleet_tells_that_it_is_live_and_whether_it_begins_runs(
    fleet: Fleets, baton: Orchestrator, tmp_path: Path
) -> None:
    port, gate = free_port(), tmp_path / "gate"
    workers = fleet(given={"health_port": port, "name": "probed"}, concurrency=2)
    status, facts = asked(port, "/readyz")
    assert (status, facts["ok"], facts["fleet"], facts["working"], facts["stuck"]) == (200, True, "probed", 2, [])
    assert (asked(port, "/livez")[0], facts["since_beat"] < 10) == (200, True)

    workers.process.send_signal(signal.SIGUSR1)
    eventually(lambda: statuses(port) == (200, 503))
    assert asked(port, "/readyz")[1]["is_quiet"] is True
    workers.process.send_signal(signal.SIGUSR2)
    eventually(lambda: statuses(port) == (200, 200))

    future = baton.submit(held, {"path": str(gate)})
    eventually(lambda: starts(fleet.body_log(), future.run_id) == 1)
    workers.process.terminate()
    eventually(lambda: statuses(port) == (200, 503))
    assert asked(port, "/readyz")[1]["is_draining"] is True
    gate.touch()
    assert workers.process.wait(5) == 0


def test_a_fleet_without_its_redis_is_live_and_not_ready(tmp_path: Path) -> None:
    with stage(tmp_path) as on:
        port = free_port()
        on.fleet(given={"health_port": f"127.0.0.1:{port}"}, **SHORT)
        on.server.stop(signal.SIGKILL)
        eventually(lambda: statuses(port) == (200, 503))
        assert asked(port, "/readyz")[1]["since_beat"] >= SHORT["lease"]
        on.server.start()
        eventually(lambda: statuses(port) == (200, 200))


def test_a_fleet_whose_workers_cannot_start_is_not_ready(fleet: Fleets, tmp_path: Path) -> None:
    (tmp_path / "wait").touch()
    port = free_port()
    workers = fleet.begin(module="tests.end_to_end.hooked", given={"health_port": port})
    eventually(lambda: "workers on default" in workers.said())
    assert statuses(port) == (200, 503)
    (tmp_path / "wait").unlink()
    eventually(lambda: statuses(port) == (200, 200))


def test_a_port_that_is_taken_or_none_is_refused_and_nothing_is_started(fleet: Fleets, client: "redis.Redis") -> None:
    port = free_port()
    first = fleet(given={"health_port": port})
    taken, none = fleet.begin(given={"health_port": port}), fleet.begin(given={"health_port": "x:y"})
    assert (taken.process.wait(10), none.process.wait(10)) == (78, 78)
    assert f"health_port: cannot listen on 127.0.0.1:{port}" in taken.said()
    assert "health_port is 'x:y': write a port from 1 to 65535, or host:port" in none.said()
    assert len(first.workers(client)) == len(client.zrange("baton:leases", 0, -1)) == 1


def test_the_port_is_free_again_after_its_fleet_was_killed(fleet: Fleets) -> None:
    port = free_port()
    fleet(given={"health_port": port}).kill()
    fleet(given={"health_port": port})
    assert statuses(port) == (200, 200)


def test_no_worker_process_holds_the_port(fleet: Fleets) -> None:
    port = free_port()
    workers = fleet(given={"health_port": port})
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (listener,) = (row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A")
    holders = {pid for pid in [workers.pid, *workers.children()] if f"socket:[{listener}]" in opened(pid)}
    assert holders == {workers.pid}


def opened(pid: int) -> set[str]:
    """What the descriptors of a process stand for."""
    return {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}
