"""Short runs are begun several at a time, and none of them waits behind a long one."""

from collections import Counter

from orchestrator import Orchestrator
from tests.end_to_end.bodies import add, nap
from tests.support.fleets import Fleets, told

BUSY = ("Pending", "Not started: the worker is busy.")


def test_short_runs_do_not_wait_for_a_long_one_that_was_begun_before_them(fleet: Fleets, baton: Orchestrator) -> None:
    # The bound of a batch is wider than usual, so that a busy machine does not make single runs of them.
    fleet(concurrency=2, busy_after=0.05)
    for future in baton.submit_many((add, {"x": number, "y": 0}) for number in range(300)):
        future.wait()
    calls = [(add, {"x": number, "y": 1}) for number in range(300)]
    calls[10] = (nap, {"seconds": 2})
    futures = baton.submit_many(calls)
    ends = [future.wait(20) for future in futures]

    long_end = ends.pop(10).timestamp
    histories = [baton.history(future.run_id) for future in futures]
    begun_together = Counter((history[1].state_details.worker, history[1].timestamp) for history in histories)
    assert all(end.is_completed() for end in ends)
    assert (long_end - max(end.timestamp for end in ends)).total_seconds() > 1
    assert any(BUSY in told(baton, future.run_id) for future in futures)
    assert 8 <= max(begun_together.values()) <= 16
