"""Hooks of ends that are made where the task's code is not: a worker that knows the task calls them, whatever dies."""

import os
import signal
from pathlib import Path

import pytest
import redis

from orchestrator import Orchestrator, task
from shared.states import State
from tests.end_to_end import left
from tests.support.fleets import HASTY, SHORT, Fleet, Fleets, hooks_of, is_alive, starts
from tests.support.waiting import eventually

LEFT = "tests.end_to_end.left"
CANCELLED = [("on_cancellation", "Cancelled", 0)]
SLOTS = ("--async-slots", "2")
of_both_kinds = pytest.mark.parametrize("slots", [(), SLOTS], ids=["one run at a time", "on an event loop"])


def lines_of(fleet: Fleet) -> list[list[str]]:
    """What the hooks of this fleet's tasks wrote down."""
    path = fleet.folder / "bodies" / "waits.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def nothing_is_left(client: "redis.Redis") -> bool:
    return not client.keys("baton:hooks:*")


@of_both_kinds
def test_a_run_whose_process_was_lost_each_time_has_its_crash_hooks_called_once(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", slots: tuple[str, ...]
) -> None:
    fleet(*slots, module=LEFT, concurrency=2)
    future = baton.submit(left.hooked_poison)
    future.wait(20)
    crashed = ("on_crashed", "Crashed", 3)
    eventually(lambda: crashed in hooks_of(fleet.folder, future.run_id))
    eventually(lambda: nothing_is_left(client))
    assert [hook for hook in hooks_of(fleet.folder, future.run_id) if hook[0] != "on_running"] == [crashed]


@of_both_kinds
def test_a_run_that_is_cancelled_while_it_waits_has_its_hooks_called_by_an_idle_worker(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", slots: tuple[str, ...]
) -> None:
    fleet(*slots, module=LEFT, concurrency=2)
    future = left.hooked.with_options(delay=60).submit()
    baton.cancel(future.run_id)
    eventually(lambda: hooks_of(fleet.folder, future.run_id) == CANCELLED, 3)
    eventually(lambda: nothing_is_left(client))


@of_both_kinds
def test_hooks_that_are_due_while_there_is_no_fleet_are_called_by_the_next(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", slots: tuple[str, ...]
) -> None:
    assert fleet(module=LEFT).stop() == 0
    future = baton.submit(left.hooked)
    baton.cancel(future.run_id)
    assert (client.exists("baton:hooks:default"), hooks_of(fleet.folder, future.run_id)) == (1, [])
    ending = fleet.begin("--burst", *slots, module=LEFT)
    assert ending.process.wait(15) == 0
    assert (hooks_of(fleet.folder, future.run_id), nothing_is_left(client)) == (CANCELLED, True)


@of_both_kinds
def test_hooks_of_an_end_that_was_taken_back_are_called_for_that_end(
    fleet: Fleets, baton: Orchestrator, slots: tuple[str, ...]
) -> None:
    assert fleet(module=LEFT).stop() == 0
    future = baton.submit(left.held_back, {"path": ""}, delay=60)
    baton.cancel(future.run_id)
    baton.retry(future.run_id, delay=60)
    ending = fleet.begin("--burst", *slots, module=LEFT)
    (ending.folder / "bodies" / "gate").touch()
    assert ending.process.wait(15) == 0
    assert lines_of(ending)[0][1:] == ["begins", future.run_id, "Cancelled"]


def test_a_run_that_expires_has_its_hooks_called(fleet: Fleets, baton: Orchestrator) -> None:
    fleet(module=LEFT)
    baton.pause_queue("default")
    future = left.hooked.with_options(start_within=0.2).submit()
    eventually(lambda: hooks_of(fleet.folder, future.run_id) == [("on_cancellation", "Expired", 0)])


@of_both_kinds
def test_a_body_that_is_killed_for_its_time_limit_has_its_failure_hooks_called(
    fleet: Fleets, baton: Orchestrator, slots: tuple[str, ...]
) -> None:
    fleet(*slots, module=LEFT, timeout_grace=0.2)
    future = baton.submit(left.hooked_deaf)
    eventually(lambda: ("on_failure", "TimedOut", 1) in hooks_of(fleet.folder, future.run_id))


def test_a_body_that_is_killed_for_its_time_limit_is_not_tried_again_where_a_condition_decides(
    fleet: Fleets, baton: Orchestrator
) -> None:
    fleet(module=LEFT, timeout_grace=0.2)
    future = baton.submit(left.deaf_with_condition)
    state = future.wait(10)
    assert (state and state.name, starts(fleet.body_log(), future.run_id)) == ("TimedOut", 1)


def test_a_busy_worker_calls_hooks_between_two_runs(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    fleet(module=LEFT)
    gate = tmp_path / "gate"
    first = baton.submit(left.held_here, {"path": str(gate)})
    eventually(lambda: starts(fleet.body_log(), first.run_id) == 1)
    future = baton.submit(left.hooked)
    baton.cancel(future.run_id)
    following = baton.submit(left.held_here, {"path": str(tmp_path / "never")})
    gate.touch()
    eventually(lambda: hooks_of(fleet.folder, future.run_id) == CANCELLED)
    eventually(lambda: nothing_is_left(client))
    eventually(lambda: starts(fleet.body_log(), following.run_id) == 1)


def test_a_process_with_slots_calls_hooks_beside_its_runs(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", tmp_path: Path
) -> None:
    workers = fleet("--async-slots", "1", module=LEFT)
    held = baton.submit(left.held_here, {"path": str(tmp_path / "gate")})
    eventually(lambda: starts(workers.body_log(), held.run_id) == 1)
    blocking = baton.submit(left.held_back, {"path": ""}, delay=60)
    baton.cancel(blocking.run_id)
    eventually(lambda: lines_of(workers))
    (tmp_path / "gate").touch()
    assert held.result(10) == str(tmp_path / "gate")
    assert baton.submit(left.held_here, {"path": "/"}).result(10) == "/"
    (workers.folder / "bodies" / "gate").touch()
    eventually(lambda: [words[1] for words in lines_of(workers)] == ["begins", "ends"])
    eventually(lambda: nothing_is_left(client))


def test_a_process_with_slots_that_stops_ends_the_hook_that_it_has_begun(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis"
) -> None:
    workers = fleet(*SLOTS, module=LEFT)
    future = baton.submit(left.held_back, {"path": ""}, delay=60)
    baton.cancel(future.run_id)
    eventually(lambda: lines_of(workers))
    workers.process.terminate()
    eventually(lambda: "stopping" in workers.said())
    (workers.folder / "bodies" / "gate").touch()
    assert (workers.process.wait(10), len(lines_of(workers)), nothing_is_left(client)) == (0, 2, True)


def test_on_an_event_loop_hooks_have_their_time_limit_too(fleet: Fleets, baton: Orchestrator) -> None:
    workers = fleet(*SLOTS, module=LEFT, hook_timeout=0.3)
    before = workers.children()
    future = baton.submit(left.slow_to_tell)
    assert future.result(10) == 5
    for hook in "sleeps", "deafly_sleeps", "rests":
        eventually(lambda hook=hook: f"An error was encountered while running hook '{hook}'" in workers.said())
    assert workers.said().count("Scope timed out after 0.3 second(s).") == 3
    assert (baton.submit(left.held_here, {"path": "/"}).result(10), workers.children()) == ("/", before)


@of_both_kinds
def test_a_hook_whose_worker_is_killed_is_called_again(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", slots: tuple[str, ...]
) -> None:
    workers = fleet(*slots, module=LEFT)
    future = baton.submit(left.held_back, {"path": ""}, delay=60)
    baton.cancel(future.run_id)
    first = eventually(lambda: lines_of(workers))[0][0]
    os.kill(int(first), signal.SIGKILL)
    eventually(lambda: len(lines_of(workers)) == 2)
    second = lines_of(workers)[1][0]
    (workers.folder / "bodies" / "gate").touch()
    eventually(lambda: nothing_is_left(client))
    begins, ends = ["begins", future.run_id, "Cancelled"], ["ends", future.run_id]
    expected = [[first, *begins], [second, *begins], [second, *ends]]
    assert (lines_of(workers), is_alive(int(second))) == (expected, True)


def test_a_hook_of_a_fleet_that_is_killed_is_called_by_another_fleet(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis"
) -> None:
    first = fleet(module=LEFT, **SHORT)
    future = baton.submit(left.held_back, {"path": ""}, delay=60)
    baton.cancel(future.run_id)
    eventually(lambda: lines_of(first))
    first.kill()
    second = fleet(module=LEFT, **SHORT)
    (second.folder / "bodies" / "gate").touch()
    eventually(lambda: [words[1] for words in lines_of(second)] == ["begins", "ends"])
    eventually(lambda: nothing_is_left(client))


def test_a_hook_that_ends_its_process_each_time_is_put_aside(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis"
) -> None:
    workers = fleet(module=LEFT)
    future = baton.submit(left.poisonous, delay=60)
    baton.cancel(future.run_id)
    (entry,) = eventually(lambda: client.xrange("baton:quarantine"))
    assert (entry[1]["reason"], entry[1]["run"], entry[1]["message"]) == (
        "hooks",
        future.run_id,
        "Lost while its hooks ran: exit status 3.",
    )
    assert (len(lines_of(workers)), nothing_is_left(client)) == (3, True)


def test_a_hook_is_ended_by_its_time_limit_and_its_process_is_killed_where_that_does_not_help(
    fleet: Fleets, baton: Orchestrator
) -> None:
    workers = fleet(module=LEFT, hook_timeout=0.3, **HASTY)
    assert baton.submit(left.slow_to_tell).result(10) == 5
    eventually(lambda: "An error was encountered while running hook 'sleeps'" in workers.said())
    eventually(lambda: "its worker stood still for 4.4 s" in workers.said())
    assert "Scope timed out after 0.3 second(s)." in workers.said()
    assert baton.submit(left.held_here, {"path": "/"}).result(10) == "/"


def test_worker_threads_call_them_too() -> None:
    called: list[tuple[str, str]] = []

    @task(key="left.in_memory")
    def waits() -> None: ...

    @waits.on_cancellation
    def note(_spec: object, run: object, state: State[object]) -> None:
        called.append((getattr(run, "id", ""), state.name))

    with Orchestrator("memory:") as baton:
        future = baton.submit(waits, delay=60)
        baton.cancel(future.run_id)
        assert eventually(lambda: called) == [(future.run_id, "Cancelled")]
