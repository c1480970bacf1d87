"""What others than Baton do to runs is found by any fleet, while it works, and mended."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shared import keys
from tests.support.fleets import told
from tests.support.scenes import Scene, scene
from tests.support.waiting import eventually

OFTEN = {"reconcile": 0.2}


def taken_out_of_its_queue(at: Scene, run_id: str) -> None:
    assert at.on.client.lrem(keys.queue("default"), 0, run_id) == 1


def parked_by_a_worker_that_died(at: Scene, _run_id: str) -> None:
    queue = keys.queue("default")
    assert at.on.client.lmove(queue, queue + keys.INTERMEDIATE, "LEFT", "LEFT")


DEEDS = (taken_out_of_its_queue, parked_by_a_worker_that_died)


@pytest.mark.parametrize("deed", DEEDS)
def test_a_run_that_is_in_no_queue_is_put_back_and_begun(tmp_path: Path, deed: Callable[[Scene, str], None]) -> None:
    with scene(tmp_path) as at:
        at.fleet(concurrency=1, **OFTEN)
        at.on.client.set(keys.SUSPENDED, 1)  # so that the deed comes before the begin
        (lost,) = at.short(1)
        deed(at, lost.run_id)
        at.on.client.delete(keys.SUSPENDED)
        assert lost.result(8)
        assert (at.wrong(lost), at.attempts(lost)) == ({}, [1])


def test_without_a_patrol_it_stays_where_it_is(tmp_path: Path) -> None:
    with scene(tmp_path) as at:
        workers = at.fleet(concurrency=1, failpoints="reconcile=off", **OFTEN)
        at.on.client.set(keys.SUSPENDED, 1)
        (lost,) = at.short(1)
        taken_out_of_its_queue(at, lost.run_id)
        at.on.client.delete(keys.SUSPENDED)
        (name,) = workers.workers(at.on.client)
        for _ in range(3):
            beaten = at.on.client.hget(keys.worker(name), "last_heartbeat")
            eventually(lambda beaten=beaten: at.on.client.hget(keys.worker(name), "last_heartbeat") > beaten)
        assert told(at.on.baton, lost.run_id) == [("Pending", None)]
