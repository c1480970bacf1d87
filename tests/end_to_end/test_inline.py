"""Tasks that a process runs itself, while their records lie in Redis: in a producer, in a body, in one killed."""

import signal
import subprocess
import sys
from typing import Any

import pytest
import redis

from orchestrator import Orchestrator
from shared.ids import new_id
from tests.end_to_end.inline_bodies import awaits_another_here, plus_one, runs_another_here
from tests.support.fleets import BIN, ROOT, SHORT, Fleets, environment, told
from tests.support.server import RedisServer
from tests.support.waiting import eventually
from worker.engine import run_task

NAPS = """
import sys
from tests.end_to_end.inline_bodies import naps
from worker.engine import run_task
run_task(naps, task_run_id=sys.argv[1], parameters={"seconds": 60})
"""


def test_a_producer_that_names_a_redis_records_what_it_runs_itself(baton: Orchestrator) -> None:
    run_id = new_id()
    assert run_task(plus_one, task_run_id=run_id, parameters={"x": 2}) == 3
    run = baton.get_run(run_id)
    assert (run.state.result(), run.parameters, [state.name for state in baton.history(run_id)]) == (
        3,
        {"x": 2},
        ["Pending", "Running", "Completed"],
    )


@pytest.mark.parametrize(
    ("slots", "task"),
    [
        ((), runs_another_here),
        ((), awaits_another_here),
        (("--async-slots", "2"), runs_another_here),
        (("--async-slots", "2"), awaits_another_here),
    ],
    ids=["in the main thread", "in a loop of its own", "in a thread", "on the event loop"],
)
def test_what_a_body_runs_itself_is_its_child(
    fleet: Fleets, baton: Orchestrator, slots: tuple[str, ...], task: Any
) -> None:
    fleet(*slots, module="tests.end_to_end.inline_bodies")
    future = baton.submit(task, {"x": 4})
    inner_id, value = future.result(10)
    inner = baton.get_run(inner_id)
    assert (value, inner.parent, inner.correlation, inner.state.result()) == (5, future.run_id, future.run_id, 5)
    assert inner.task_inputs["__parents__"][0].id == future.run_id


def test_a_run_whose_process_is_killed_is_crashed_by_whoever_reaps(
    fleet: Fleets, server: RedisServer, baton: Orchestrator, client: "redis.Redis"
) -> None:
    fleet(**SHORT)
    run_id = new_id()
    given = environment(server.url, **SHORT)
    process = subprocess.Popen([sys.executable, "-c", NAPS, run_id], cwd=ROOT, env=given, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: client.hget(f"rq:job:{run_id}", "state_type") == "RUNNING")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    state = baton.future(run_id).wait(10)
    assert state is not None
    assert (state.name, str(state.message).startswith("Attempt 1 was lost: the lease of inline-")) == ("Crashed", True)
    assert [name for name, _ in told(baton, run_id)] == ["Pending", "Running", "Crashed"]


def test_one_is_cancelled_from_the_command_line(
    server: RedisServer, client: "redis.Redis", baton: Orchestrator
) -> None:
    run_id = new_id()
    given = environment(server.url)
    process = subprocess.Popen([sys.executable, "-c", NAPS, run_id], cwd=ROOT, env=given, stderr=subprocess.PIPE)
    eventually(lambda: client.hget(f"rq:job:{run_id}", "state_type") == "RUNNING")
    subprocess.run([BIN / "baton", "runs", "cancel", run_id, "--yes"], env=given, check=True, capture_output=True)
    _, said = process.communicate(timeout=10)
    assert (baton.get_run(run_id).state.name, b"CancelledRun" in said) == ("Cancelled", True)
