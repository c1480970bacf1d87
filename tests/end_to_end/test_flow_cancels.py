"""A flow with many runs is cancelled: how soon all of them have ended."""

from collections import Counter

import redis

from orchestrator import Orchestrator
from tests.end_to_end.flow_bodies import naps
from tests.support.fleets import Fleets, seconds_after, server_time
from tests.support.waiting import eventually

AT_ONCE = 50
WAITING = 500
SECONDS = 5


def test_a_flow_with_fifty_running_and_five_hundred_waiting_runs_is_cancelled_within_five_seconds(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis"
) -> None:
    fleet(module="tests.end_to_end.flow_bodies", concurrency=AT_ONCE + 1)
    future = naps.submit(AT_ONCE + WAITING)
    eventually(lambda: client.zcard("baton:running") == AT_ONCE + 1, 30)
    eventually(lambda: len(baton.children.ids(future.run_id)) == AT_ONCE + WAITING, 30)
    asked_at = server_time(client)
    baton.cancel(future.run_id)
    futures = [future, *map(baton.future, baton.children.ids(future.run_id))]
    ends = [state for state in (each.wait(20) for each in futures) if state is not None]
    assert Counter(state.name for state in ends) == {"Cancelled": AT_ONCE + WAITING + 1}
    assert max(seconds_after(asked_at, state) for state in ends) <= SECONDS
