"""What bodies say while they run: logs, prints, progress and names, as others read them."""

import subprocess
from pathlib import Path

import pytest
import redis

from orchestrator import Orchestrator
from shared.ids import new_id
from tests.end_to_end.inline_bodies import plus_one, says, says_twice
from tests.support.fleets import BIN, Fleet, Fleets, environment
from tests.support.server import RedisServer
from tests.support.waiting import eventually
from worker.engine import run_task

MODULE = "tests.end_to_end.inline_bodies"


def logged(server: RedisServer, run_id: str) -> list[str]:
    """What `baton runs logs` prints, without the times."""
    told = subprocess.run(
        [BIN / "baton", "runs", "logs", run_id], env=environment(server.url), check=True, capture_output=True, text=True
    )
    return [line.partition(" ")[2] for line in told.stdout.splitlines()]


@pytest.fixture(autouse=True, params=[(), ("--async-slots", "2")], ids=["one run at a time", "on an event loop"])
def speaking(fleet: Fleets, request: pytest.FixtureRequest) -> Fleet:
    """A fleet of one worker."""
    return fleet(*request.param, module=MODULE)


def test_what_a_run_says_is_stored_with_its_end(server: RedisServer, baton: Orchestrator) -> None:
    run_id = baton.submit(says, {"what": "this"}).run_id
    baton.future(run_id).result(10)
    run = baton.get_run(run_id)
    told = ["INFO     logged this", "INFO     printed this"]
    assert (run.name, run.progress, logged(server, run_id)) == ("says this", "0.5 halfway", told)


def test_what_a_run_says_is_read_while_its_body_lasts(server: RedisServer, baton: Orchestrator, tmp_path: Path) -> None:
    future = baton.submit(says, {"what": "this", "wait_for_file": str(tmp_path / "go")})
    eventually(lambda: baton.get_run(future.run_id).progress == "0.5 halfway")
    told = (baton.get_run(future.run_id).name, len(logged(server, future.run_id)))
    (tmp_path / "go").touch()
    future.result(10)
    assert (told, len(logged(server, future.run_id))) == (("says this", 2), 2)


def test_every_attempt_adds_to_the_log(server: RedisServer, baton: Orchestrator) -> None:
    run_id = baton.submit(says_twice, {}).run_id
    baton.future(run_id).wait(10)
    assert logged(server, run_id) == ["WARNING  again"] * 2


def test_a_run_that_says_nothing_has_no_log(baton: Orchestrator, client: "redis.Redis", server: RedisServer) -> None:
    run_id = baton.submit(plus_one, {"x": 1}).run_id
    baton.future(run_id).result(10)
    assert (client.exists(f"baton:run:{run_id}:logs"), logged(server, run_id)) == (0, [])


def test_a_run_that_a_process_executes_itself_says_as_much(server: RedisServer, baton: Orchestrator) -> None:
    run_id = new_id()
    run_task(says, task_run_id=run_id, parameters={"what": "this"})
    run = baton.get_run(run_id)
    told = ["INFO     logged this", "INFO     printed this"]
    assert (run.name, run.progress, logged(server, run_id)) == ("says this", "0.5 halfway", told)
