"""Flows on a fleet of one worker, which lends its slot to their runs, and on one of many, which cancels them all."""

from collections import Counter

import redis

from orchestrator import Orchestrator
from tests.end_to_end.flow_bodies import aleaves, leaves_sums, naps, sums_of_sums
from tests.support.fleets import Fleets, seconds_after, server_time
from tests.support.waiting import eventually

BODIES = "tests.end_to_end.flow_bodies"
AT_ONCE = 50
WAITING = 500
SECONDS = 5


def test_one_worker_is_enough_for_flows_in_flows(fleet: Fleets, baton: Orchestrator) -> None:
    fleet(module=BODIES)
    left = leaves_sums.submit([1, 2])
    assert sums_of_sums.submit([[1, 2], [3]]).result(20) == [3, 3]
    assert (left.wait(20), {run.state.name for run in baton.find_runs(flow=left.run_id).runs}) == (
        left.get_state(),
        {"Completed"},
    )


def test_many_flows_wait_for_their_runs_on_one_event_loop(fleet: Fleets, baton: Orchestrator) -> None:
    fleet("--async-slots", "40", module=BODIES)
    futures = baton.submit_many((aleaves, {"depth": 1}) for _ in range(20))
    assert {str(state) for state in (future.wait(20) for future in futures)} == {"Completed()"}
    assert len(baton.find_runs(task=aleaves.spec.key, state="COMPLETED").runs) == 40


def test_a_flow_with_fifty_running_and_five_hundred_waiting_runs_is_cancelled_within_five_seconds(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis"
) -> None:
    fleet(module=BODIES, concurrency=AT_ONCE + 1)
    future = naps.submit(AT_ONCE + WAITING)
    eventually(lambda: client.zcard("baton:running") == AT_ONCE + 1, 30)
    eventually(lambda: len(baton.children.ids(future.run_id)) == AT_ONCE + WAITING, 30)
    asked_at = server_time(client)
    baton.cancel(future.run_id)
    futures = [future, *map(baton.future, baton.children.ids(future.run_id))]
    ends = [state for state in (each.wait(20) for each in futures) if state is not None]
    assert Counter(state.name for state in ends) == {"Cancelled": AT_ONCE + WAITING + 1}
    assert max(seconds_after(asked_at, state) for state in ends) <= SECONDS
