"""`baton workers drain` and `check`, on fleets that work."""

import json
from pathlib import Path
from typing import Any

import redis

from orchestrator import Orchestrator
from shared.connect import connect
from shared.ledger import RunLedger
from shared.settings import Settings
from tests.end_to_end.bodies import add, held
from tests.support.fleets import SHORT, Fleets, command, starts
from tests.support.server import RedisServer
from tests.support.waiting import eventually
from worker.leases import Leases


def asked(server: RedisServer, *words: str) -> tuple[int, Any]:
    """Exit code and answer of a command about workers."""
    ended = command("baton", "workers", *words, "--json", url=server.url)
    return ended.returncode, json.loads(ended.stdout) if ended.stdout else ended.stderr


def test_a_fleet_that_is_drained_finishes_what_runs_gives_back_the_rest_and_ends(
    server: RedisServer, fleet: Fleets, baton: Orchestrator, tmp_path: Path
) -> None:
    gate, workers = tmp_path / "gate", fleet(concurrency=2, given={"name": "mail"})
    running = baton.submit(held, {"path": str(gate)})
    eventually(lambda: starts(workers.body_log(), running.run_id) == 1)
    code, answer = asked(server, "drain", "mail", "--yes")
    eventually(lambda: len(workers.children()) == 1)
    waiting = baton.submit(add, {"x": 1, "y": 2})
    checked = asked(server, "check", "--fleet", "mail")
    gate.touch()
    assert (code, len(answer["asked"])) == (0, 2)
    assert checked == (1, {"ok": False, "alive": 0, "at_least": 1, "fleet": "mail"})
    assert workers.process.wait(10) == 0
    assert running.result(timeout=5) == str(gate)
    assert waiting.get_state().name == "Pending"


def test_one_worker_is_drained_and_not_replaced(
    server: RedisServer, fleet: Fleets, baton: Orchestrator, client: "redis.Redis"
) -> None:
    workers = fleet(concurrency=2)
    first, second = sorted(workers.workers(client))
    assert asked(server, "drain", first, "--yes", "--wait", "10") == (
        0,
        {"done": True, "asked": [first], "left": []},
    )
    assert baton.submit(add, {"x": 1, "y": 2}).result(timeout=10) == 3
    assert list(workers.workers(client)) == [second]
    assert asked(server, "check", "--at-least", "2")[0] == 1
    assert asked(server, "check")[0] == 0


def test_a_fleet_that_does_not_hear_of_it_is_told_by_its_beat(fleet: Fleets, client: "redis.Redis") -> None:
    workers = fleet(**SHORT)
    (name,) = workers.workers(client)
    client.hset(f"rq:worker:{name}", "drain", "fleet")
    assert workers.process.wait(10) == 0


def test_all_are_drained_and_whoever_outlives_the_wait_is_told(
    server: RedisServer, fleet: Fleets, baton: Orchestrator, tmp_path: Path
) -> None:
    idle, busy = fleet("-q", "other"), fleet()
    running = baton.submit(held, {"path": str(tmp_path / "gate")})
    eventually(lambda: starts(busy.body_log(), running.run_id) == 1)
    code, answer = asked(server, "drain", "--all", "--yes", "--wait", "1")
    assert (code, len(answer["asked"]), len(answer["left"])) == (1, 2, 1)
    assert idle.process.wait(10) == 0
    (tmp_path / "gate").touch()
    assert busy.process.wait(10) == 0


def test_nobody_is_drained_by_a_name_that_nobody_has_or_without_consent(
    server: RedisServer, fleet: Fleets, client: "redis.Redis"
) -> None:
    workers = fleet(concurrency=2)
    assert asked(server, "drain", "nobody", "--yes") == (1, "No live worker or fleet is called 'nobody'.\n")
    assert asked(server, "drain", f"{workers.name}-", "--yes")[0] == 2
    assert asked(server, "drain", workers.name)[0] == 2
    assert asked(server, "drain")[0] == 2
    assert workers.is_up(client)


def test_a_process_that_holds_a_lease_and_is_no_worker_counts_as_none(server: RedisServer) -> None:
    settings = Settings.load({}, redis_url=server.url)
    exchange = connect(settings)
    leases = Leases(RunLedger(exchange, settings), settings)
    name = leases.current().name
    checked, drained = asked(server, "check"), asked(server, "drain", "--all", "--yes")
    by_name = asked(server, "drain", name, "--yes")
    leases.end()
    exchange.close()
    assert (checked[1]["alive"], drained, by_name[0]) == (0, (1, "No worker is alive.\n"), 1)
