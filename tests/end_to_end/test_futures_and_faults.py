"""Futures that wait while Redis dies, comes back, comes back empty, or does not answer."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from orchestrator import Orchestrator
from shared.errors import RunGone, SubmitError
from shared.settings import Settings
from tests.end_to_end.bodies import add, held
from tests.support.fleets import SHORT, Stage, in_thread, is_heard, stage, starts, told
from tests.support.server import free_port
from tests.support.waiting import eventually


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    gate = tmp_path / "gate"
    yield gate
    gate.touch()


def held_run(on: Stage, gate: Path) -> str:
    """The id of a run that is in its body until the gate is there."""
    run_id = on.baton.submit(held, {"path": str(gate)}).run_id
    eventually(lambda: starts(on.fleet.body_log(), run_id) == 1)
    return run_id


def test_a_future_resolves_although_redis_was_killed_and_came_back(tmp_path: Path, gate: Path) -> None:
    with stage(tmp_path, appendonly="yes") as on:
        workers = on.fleet()
        run_id = held_run(on, gate)
        answer = in_thread(on.baton.future(run_id).result)
        eventually(lambda: is_heard(on.client, run_id))
        on.server.restart()
        gate.touch()
        assert answer() == str(gate)
        assert [name for name, _ in told(on.baton, run_id)] == ["Pending", "Running", "Completed"]
        assert on.baton.submit(add, {"x": 1, "y": 1}).result(timeout=20) == 2
        assert workers.is_up(on.client)


def test_a_future_is_gone_when_redis_came_back_empty(tmp_path: Path, gate: Path) -> None:
    with stage(tmp_path) as on:
        workers = on.fleet(**SHORT)
        run_id = held_run(on, gate)
        before = set(workers.workers(on.client))
        answer = in_thread(on.baton.future(run_id).result)
        eventually(lambda: is_heard(on.client, run_id))
        on.server.restart()
        with pytest.raises(RunGone, match=run_id):
            answer(seconds=5)
        assert on.baton.submit(add, {"x": 1, "y": 1}).result(timeout=20) == 2
        eventually(lambda: workers.is_up(on.client))
        assert not before & set(workers.workers(on.client))


def hearing(client: "redis.Redis") -> set[str]:
    """The connections that hear something: those of futures, and the fleets' own."""
    return {row["id"] for row in client.client_list(_type="pubsub")}


def test_a_future_resolves_although_the_message_of_the_end_was_lost(tmp_path: Path, gate: Path) -> None:
    with stage(tmp_path) as on:
        on.fleet()
        run_id = held_run(on, gate)
        others = hearing(on.client)
        answer = in_thread(on.baton.future(run_id).result)
        eventually(lambda: is_heard(on.client, run_id))
        (listener,) = hearing(on.client) - others
        on.client.client_kill_filter(_id=listener)
        gate.touch()
        assert answer() == str(gate)


def test_a_redis_that_stands_still_for_a_while_delays_and_changes_nothing(tmp_path: Path, gate: Path) -> None:
    with stage(tmp_path) as on:
        on.fleet(socket_timeout=0.3)
        run_id = held_run(on, gate)
        answer = in_thread(on.baton.future(run_id).result)
        eventually(lambda: is_heard(on.client, run_id))
        os.kill(on.server.process.pid, signal.SIGSTOP)
        gate.touch()
        eventually(lambda: [entry.what for entry in on.fleet.body_log()[run_id]] == ["start", "end"])
        eventually(lambda: "did not answer" in "".join(fleet.said() for fleet in on.fleet.started))
        os.kill(on.server.process.pid, signal.SIGCONT)
        assert answer() == str(gate)
        assert [name for name, _ in told(on.baton, run_id)] == ["Pending", "Running", "Completed"]


def test_a_submit_to_nobody_is_an_error_within_its_budget() -> None:
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    with (
        Orchestrator(settings=Settings.load({}, redis_url=url, producer_budget=1)) as baton,
        pytest.raises(SubmitError) as caught,
    ):
        in_thread(lambda: baton.submit(add, {"x": 1, "y": 1}))(seconds=3)
    assert url.rpartition("@")[2] in str(caught.value)
    assert "secret" not in str(caught.value)
