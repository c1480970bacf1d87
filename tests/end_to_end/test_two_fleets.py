"""Two fleets share the work, and one of them is killed in the middle of it."""

from collections import Counter

import redis

from orchestrator import Orchestrator
from shared import keys
from shared.state_types import StateType
from tests.end_to_end.bodies import nap
from tests.support.fleets import SHORT, Fleet, Fleets, command, is_alive, starts
from tests.support.server import RedisServer
from tests.support.waiting import eventually


def holds_a_run(fleet: Fleet, client: "redis.Redis") -> bool:
    """True if a run is recorded as RUNNING by a worker of this fleet."""
    held = [run_id for name in fleet.workers(client) for run_id in client.hkeys(keys.held(name))]
    return any(client.hget(keys.job(run_id), "state_type") == "RUNNING" for run_id in held)


def test_a_fleet_that_is_killed_takes_no_run_with_it(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", server: RedisServer
) -> None:
    well, doomed = fleet(concurrency=2, **SHORT), fleet(concurrency=2, **SHORT)
    futures = baton.submit_many((nap, {"seconds": 0.02}) for _ in range(1000))
    eventually(lambda: client.zcard(keys.FINISHED + "default") > 400)
    eventually(lambda: holds_a_run(doomed, client))
    children = doomed.children()
    doomed.kill()

    ends = Counter(future.wait(60).type for future in futures)
    histories = {future.run_id: baton.history(future.run_id) for future in futures}
    begun = {run_id: sum(state.is_running() for state in history) for run_id, history in histories.items()}
    log = fleet.body_log()
    assert (len(children), [pid for pid in children if is_alive(pid)]) == (2, [])
    assert ends == {StateType.COMPLETED: 1000}
    assert {sum(state.is_final() for state in history) for history in histories.values()} == {1}
    assert max(begun.values()) >= 2
    assert [run_id for run_id, attempts in begun.items() if not 1 <= starts(log, run_id) <= attempts] == []
    assert len(well.workers(client)) == 2
    diagnosis = command("baton", "doctor", url=server.url)
    assert diagnosis.returncode == 0, diagnosis.stdout
