"""Processes with async slots: how many runs they take, what becomes of these when a process ends."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import redis

from orchestrator import Orchestrator
from shared import keys
from shared.state_types import StateType
from tests.end_to_end import async_bodies as bodies
from tests.support.async_fleets import MODULE, in_their_bodies, with_slots
from tests.support.fleets import Fleets, stage, told
from tests.support.waiting import eventually


def test_no_more_are_begun_than_there_are_slots(fleet: Fleets, baton: Orchestrator, tmp_path: Path) -> None:
    workers, gate = with_slots(fleet, 3), tmp_path / "gate"
    futures = baton.submit_many((bodies.held, {"path": str(gate)}) for _ in range(5))
    in_their_bodies(workers, *(future.run_id for future in futures[:3]))
    waiting = [state.type for state in futures.get_states()]
    gate.touch()
    assert waiting == [StateType.RUNNING] * 3 + [StateType.PENDING] * 2
    assert futures.result(timeout=10) == [1] * 5


def test_a_deaf_body_is_killed_and_its_neighbours_begin_again(
    fleet: Fleets, baton: Orchestrator, tmp_path: Path
) -> None:
    workers, gate = with_slots(fleet, 10, cancel_grace=0.5), tmp_path / "gate"
    neighbour = baton.submit(bodies.held, {"path": str(gate)})
    deaf = baton.submit(bodies.deaf, {"seconds": 60})
    in_their_bodies(workers, neighbour.run_id, deaf.run_id)
    baton.cancel(deaf.run_id)
    assert deaf.wait(10) is not None
    gate.touch()
    assert (neighbour.result(timeout=10), neighbour.task_run.crashes) == (2, 1)
    assert told(baton, deaf.run_id)[-1][0] == "Cancelled"


def test_a_thread_that_ignores_its_time_limit_is_killed_with_its_process(
    fleet: Fleets, baton: Orchestrator, tmp_path: Path
) -> None:
    workers, gate = with_slots(fleet, 10, timeout_grace=0.5), tmp_path / "gate"
    neighbour = baton.submit(bodies.held, {"path": str(gate)})
    in_their_bodies(workers, neighbour.run_id)
    late = baton.submit(bodies.oversleep_in_thread, {"seconds": 60})
    late.wait(10)
    gate.touch()
    assert told(baton, late.run_id)[-1] == ("TimedOut", "Task run exceeded timeout of 0.2 second(s)")
    assert (neighbour.result(timeout=10), late.task_run.crashes) == (2, 0)
    assert f"Attempt 1 was lost: its process was killed for run {late.run_id}: its time limit of 0.2 s" in str(
        told(baton, neighbour.run_id)
    )


def test_a_body_that_blocks_the_loop_keeps_its_lease_and_its_process(fleet: Fleets, baton: Orchestrator) -> None:
    short = {"lease": 1, "beat": 0.3, "reap": 0.3, "future_sweep": 1, "socket_timeout": 0.3, "connect_timeout": 0.3}
    workers = with_slots(fleet, 10, **short, worker_budget=0.3, idle_wait=0.2, watchdog=4.5)
    before = workers.children()
    future = baton.submit(bodies.block, {"seconds": 6})
    assert (future.result(timeout=15), future.task_run.attempt, workers.children()) == ("blocked", 1, before)


def test_of_a_killed_process_all_runs_begin_again_and_count_a_crash(
    fleet: Fleets, baton: Orchestrator, tmp_path: Path
) -> None:
    workers, gate = with_slots(fleet, 50), tmp_path / "gate"
    futures = baton.submit_many((bodies.held, {"path": str(gate)}) for _ in range(50))
    in_their_bodies(workers, *(future.run_id for future in futures))
    os.kill(workers.children()[0], signal.SIGKILL)
    gate.touch()
    assert futures.result(timeout=20) == [2] * 50
    assert [(future.task_run.crashes, future.task_run.run_count) for future in futures] == [(1, 2)] * 50
    assert "Attempt 1 was lost: killed by signal 9" in str(told(baton, futures[0].run_id))


def test_what_runs_may_finish_at_a_stop_and_nothing_is_begun(
    fleet: Fleets, baton: Orchestrator, tmp_path: Path
) -> None:
    workers, gate = with_slots(fleet, 5), tmp_path / "gate"
    running = baton.submit_many((bodies.held, {"path": str(gate)}) for _ in range(5))
    in_their_bodies(workers, *(future.run_id for future in running))
    waiting = baton.submit(bodies.rest, {"seconds": 0})
    workers.process.terminate()
    eventually(lambda: "stopping" in workers.said())
    gate.touch()
    assert (workers.process.wait(10), running.result(timeout=5)) == (0, [1] * 5)
    assert (waiting.get_state().type, waiting.task_run.attempt) == (StateType.PENDING, 0)
    assert (workers.folder / "hooks.txt").read_text().split("\n") == ["open", "warm up", "close", ""]
    assert "the on_worker_stop hook tests.end_to_end.async_hooked.fail_to_close failed" in workers.said()


def test_what_is_not_through_within_the_grace_goes_back_uncounted(fleet: Fleets, baton: Orchestrator) -> None:
    workers = with_slots(fleet, 5, "--grace", "0.3")
    futures = baton.submit_many((bodies.rest, {"seconds": 60}) for _ in range(5))
    in_their_bodies(workers, *(future.run_id for future in futures))
    assert workers.stop() == 0
    records = [future.get_state() and future.task_run for future in futures]
    assert [(run.state.type, run.crashes, run.run_count) for run in records] == [(StateType.PENDING, 0, 0)] * 5


def test_a_process_whose_lease_was_taken_away_ends_and_its_runs_begin_elsewhere(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    workers, gate = with_slots(fleet, 5), tmp_path / "gate"
    (name,) = workers.workers(client)
    futures = baton.submit_many((bodies.held, {"path": str(gate)}) for _ in range(4))
    in_their_bodies(workers, *(future.run_id for future in futures))
    client.zrem(keys.LEASES, name)
    baton.submit(bodies.rest, {"seconds": 0}).wait(0)  # its token makes the process ask
    eventually(lambda: f"worker {name} ends: its lease is over" in workers.said())
    gate.touch()
    assert futures.result(timeout=15) == [2] * 4
    assert f"Attempt 1 was lost: the lease of {name} ended." in str(told(baton, futures[0].run_id))


def test_a_quiet_process_begins_nothing_until_it_is_told_to(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis"
) -> None:
    workers = with_slots(fleet, 5)
    (name,) = workers.workers(client)
    os.kill(workers.pid, signal.SIGUSR1)
    eventually(lambda: "begins nothing more" in workers.said())
    eventually(lambda: client.hget(f"rq:worker:{name}", "quiet") == "1")
    baton.submit(bodies.rest, {"seconds": 0}).wait(0.5)  # a wait for tokens may end in a last look
    future = baton.submit(bodies.rest, {"seconds": 0})
    assert future.wait(2.5) is None
    os.kill(workers.pid, signal.SIGUSR2)
    assert future.result(timeout=10) in workers.children()


def test_a_worker_tells_how_many_slots_it_has(fleet: Fleets, client: "redis.Redis") -> None:
    (name,) = with_slots(fleet, 7).workers(client)
    assert client.hget(f"rq:worker:{name}", "slots") == "7"


def test_a_process_is_replaced_after_its_runs(fleet: Fleets, baton: Orchestrator) -> None:
    workers = with_slots(fleet, 4, "--max-runs", "10")
    before = workers.children()
    pids = baton.submit_many((bodies.rest, {"seconds": 0.01}) for _ in range(40)).result(timeout=20)
    counts = sorted(pids.count(pid) for pid in set(pids))
    assert (len(counts) >= 3, counts[-1] <= 11, before[0] in pids) == (True, True, True)


def test_an_idle_process_is_replaced_and_several_share_the_work(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis"
) -> None:
    workers = with_slots(fleet, 5, "--max-idle", "1", concurrency=2, beat=0.3)
    pids = baton.submit_many((bodies.rest, {"seconds": 0.3}) for _ in range(10)).result(timeout=10)
    assert set(pids) == set(workers.children())
    eventually(lambda: not set(pids) & set(workers.children()), 15)
    eventually(lambda: workers.is_up(client), 10)


def test_a_burst_ends_when_nothing_is_left(fleet: Fleets, baton: Orchestrator) -> None:
    futures = baton.submit_many((bodies.rest, {"seconds": 0.1}) for _ in range(20))
    workers = fleet.begin("--async-slots", "4", "--burst", module=MODULE)
    assert (workers.process.wait(20), len(futures.result(timeout=5))) == (0, 20)


def test_work_goes_on_after_redis_was_away(tmp_path: Path) -> None:
    with stage(tmp_path, appendonly="yes", appendfsync="always") as there:
        workers, gate = with_slots(there.fleet, 10), tmp_path / "gate"
        futures = there.baton.submit_many((bodies.held, {"path": str(gate)}) for _ in range(10))
        in_their_bodies(workers, *(future.run_id for future in futures))
        there.server.stop(signal.SIGKILL)
        gate.touch()
        eventually(lambda: "did not answer" in workers.said())
        there.server.start()
        assert futures.result(timeout=20) == [1] * 10


def test_a_trigger_that_takes_its_time_holds_nobody_up(fleet: Fleets, baton: Orchestrator) -> None:
    workers = with_slots(fleet, 4)
    asking = bodies.triggered.submit(wait_for=[baton.submit(bodies.rest, {"seconds": 0})])
    folder = workers.folder / "bodies"
    eventually((folder / "asked").exists)
    assert baton.submit(bodies.rest, {"seconds": 0}).result(timeout=10) in workers.children()
    (folder / "gate").touch()
    assert asking.result(timeout=10) == 5


# --- runs that wait for others ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [bodies.sum_of, bodies.sum_in_thread], ids=["awaits", "waits in a thread"])
def test_runs_that_wait_for_others_do_not_keep_these_from_the_only_slot(
    fleet: Fleets, baton: Orchestrator, task: Any
) -> None:
    with_slots(fleet, 1)
    futures = baton.submit_many((task, {"end": number}) for number in range(60))
    assert futures.result(timeout=20) == [number + 1 for number in range(60)]


def test_a_chain_of_runs_that_wait_for_each_other_needs_one_slot(fleet: Fleets, baton: Orchestrator) -> None:
    with_slots(fleet, 1)
    assert baton.submit(bodies.nested, {"depth": 40}).result(timeout=20) == 40


def test_a_process_that_stops_begins_what_its_runs_wait_for_and_nothing_else(
    fleet: Fleets, baton: Orchestrator, tmp_path: Path
) -> None:
    workers, gate = with_slots(fleet, 2), tmp_path / "gate"
    parent = baton.submit(bodies.sum_of_later, {"path": str(gate)})
    in_their_bodies(workers, parent.run_id)
    workers.process.terminate()
    eventually(lambda: "stopping" in workers.said())
    other = baton.submit(bodies.rest, {"seconds": 0})
    gate.touch()
    assert (workers.process.wait(10), parent.result(timeout=5)) == (0, 2)
    assert other.get_state().type == StateType.PENDING


def test_a_process_at_the_end_of_its_runs_begins_what_they_wait_for(fleet: Fleets, baton: Orchestrator) -> None:
    with_slots(fleet, 1, "--max-runs", "1")
    assert baton.submit(bodies.sum_of, {"end": 1}).result(timeout=20) == 2
