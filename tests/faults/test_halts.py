"""Fleets and children that stand still and go on, and beats that are lost: whoever was given up changes nothing."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import RunFuture
from shared import keys
from shared.scripts import SCRIPTS
from shared.state_types import StateType
from shared.states import Failed
from tests.faults.bodies import held, held_for_a_while, hold_interpreter, quick
from tests.support.fleets import Fleet, Fleets, is_alive, send, server_time, told
from tests.support.proxy import proxy_to
from tests.support.trial import SOUND, Trial, Verdict
from tests.support.waiting import eventually

GIVEN_UP = ["Pending", "Running", "Pending", "Rerunning"]
ONE_PAUSE = Verdict({}, 1, [])


def fleet_in_body(trial: Trial, gate: Path) -> tuple[Fleet, str]:
    """A fleet, and the run that is in its body."""
    fleet = trial.fleet()
    run_id = trial.submit(held, gate=str(gate)).run_id
    trial.in_body(run_id)
    return fleet, run_id


def opened(gate: Path, attempt: int) -> None:
    Path(f"{gate}.{attempt}").touch()


def is_renewed(trial: Trial, fleet: Fleet, before: dict[str, int]) -> bool:
    """True if other workers of this fleet look for work than these."""
    return fleet.is_up(trial.client) and not before.keys() & fleet.workers(trial.client).keys()


# --- a whole fleet ----------------------------------------------------------------------------------------------------


def test_what_a_fleet_held_that_slept_beyond_its_lease_is_done_by_another_one(trial: Trial, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    halted, run_id = fleet_in_body(trial, gate)
    before = halted.workers(trial.client)
    trial.fleet()
    with trial.recovering(run_id):
        pids = halted.halt()
    trial.in_body(run_id, 2)
    opened(gate, 1)
    send(signal.SIGCONT, pids[1:])  # its child ends its body and reports before its supervisor can end it
    eventually(lambda: trial.quarantined("buried") == [run_id])
    send(signal.SIGCONT, pids[:1])
    eventually(lambda: is_renewed(trial, halted, before))
    opened(gate, 2)
    assert trial.baton.future(run_id).result(10) == trial.last_token(run_id)
    assert trial.names(run_id) == [*GIVEN_UP, "Completed"]
    assert trial.verdict() == ONE_PAUSE


def test_a_body_whose_fleet_wakes_too_late_is_ended_with_its_process(trial: Trial, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    halted, run_id = fleet_in_body(trial, gate)
    before = halted.workers(trial.client)
    pids = halted.halt()
    trial.fleet()
    trial.in_body(run_id, 2)
    send(signal.SIGCONT, pids)
    eventually(lambda: not any(is_alive(pid) for pid in pids[1:]))
    eventually(lambda: is_renewed(trial, halted, before))
    gate.touch()
    assert trial.baton.future(run_id).wait(10)
    log = trial.fleets.body_log()[run_id]
    assert [(entry.attempt, entry.what) for entry in log] == [(1, "start"), (2, "start"), (2, "end")]
    assert trial.verdict() == SOUND


def end_elsewhere(trial: Trial, gate: Path, run_id: str) -> str:
    """Another fleet takes the run over and completes it."""
    trial.fleet()
    opened(gate, 2)
    return trial.baton.future(run_id).wait(10).name


def cancel(trial: Trial, _gate: Path, run_id: str) -> str:
    """Somebody cancels it, and a fleet that does not work on its queue buries its worker."""
    trial.baton.cancel(run_id)
    trial.fleet("-q", "another")
    return trial.baton.future(run_id).wait(10).name


def force(trial: Trial, _gate: Path, run_id: str) -> str:
    """Somebody writes its end by hand, while its lease goes on."""
    return trial.baton.force(run_id, Failed(), "by hand").name


@pytest.mark.parametrize(
    ("meanwhile", "name", "reason"),
    [(end_elsewhere, "Completed", "buried"), (cancel, "Cancelled", "buried"), (force, "Failed", "fenced")],
    ids=["ended", "cancelled", "forced"],
)
def test_a_fleet_that_wakes_too_late_changes_nothing_of_a_run_that_has_ended(
    trial: Trial, tmp_path: Path, meanwhile: Callable[[Trial, Path, str], str], name: str, reason: str
) -> None:
    gate = tmp_path / "gate"
    halted, run_id = fleet_in_body(trial, gate)
    pids = halted.halt()
    assert meanwhile(trial, gate, run_id) == name
    stored = trial.stored(run_id)
    opened(gate, 1)
    send(signal.SIGCONT, pids[1:])
    eventually(lambda: trial.quarantined(reason) == [run_id])
    send(signal.SIGCONT, pids[:1])
    assert eventually(lambda: trial.stored(run_id)) == stored
    found = trial.verdict()
    assert (found.wrong, found.violations) == ({}, [])


# --- a supervisor alone -----------------------------------------------------------------------------------------------


def test_a_supervisor_that_sleeps_while_nobody_else_is_there_loses_nothing(trial: Trial, tmp_path: Path) -> None:
    gates = [tmp_path / name for name in ("a", "b")]
    workers = trial.fleet(concurrency=3)
    ends_meanwhile, lasts = (trial.submit(held, gate=str(gate)) for gate in gates)
    for future in (ends_meanwhile, lasts):
        trial.in_body(future.run_id)
    kept = trial.baton.get_run(lasts.run_id).worker
    send(signal.SIGSTOP, [workers.pid])
    eventually(lambda: workers.said().count("ends: its lease is over") == 1)  # the idle one may begin no more
    gates[0].touch()
    assert ends_meanwhile.wait(10).is_completed()  # it reports although its lease is over: nobody took it away
    send(signal.SIGCONT, [workers.pid])
    eventually(lambda: workers.is_up(trial.client))
    gates[1].touch()
    assert lasts.wait(10).is_completed()
    assert kept in workers.workers(trial.client)
    assert [trial.charged(future.run_id) for future in (ends_meanwhile, lasts)] == [(1, 1, 0)] * 2
    assert trial.verdict() == SOUND


# --- a single child ---------------------------------------------------------------------------------------------------


def test_a_child_that_stands_still_in_a_body_is_killed_after_its_time_limit(trial: Trial, tmp_path: Path) -> None:
    workers = trial.fleet(timeout_grace=0.5)
    future = trial.submit(held_for_a_while, gate=str(tmp_path / "gate"))
    trial.in_body(future.run_id)
    pid = workers.pid_of(trial.client, future.run_id)
    send(signal.SIGSTOP, [pid])
    assert future.wait(10).type == StateType.FAILED
    assert told(trial.baton, future.run_id)[-1] == ("TimedOut", "Task run exceeded timeout of 0.3 second(s)")
    eventually(lambda: not is_alive(pid) and workers.is_up(trial.client))
    assert trial.verdict() == SOUND


def test_a_child_that_stands_still_in_a_body_without_a_limit_keeps_its_run(trial: Trial, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    workers = trial.fleet(concurrency=2)
    future = trial.submit(held, gate=str(gate))
    trial.in_body(future.run_id)
    before, pid = workers.workers(trial.client), workers.pid_of(trial.client, future.run_id)
    send(signal.SIGSTOP, [pid])
    stopped_at = server_time(trial.client)
    try:
        eventually(lambda: min(score for _, score in leases(trial)) > stopped_at + 4)  # renewed for a lease since
        assert trial.names(future.run_id) == ["Pending", "Running"]
    finally:
        send(signal.SIGCONT, [pid])
    gate.touch()
    assert future.wait(10).is_completed()
    assert (trial.charged(future.run_id), workers.workers(trial.client)) == ((1, 1, 0), before)
    assert trial.verdict() == SOUND


def leases(trial: Trial) -> list[tuple[str, float]]:
    """Workers and the ends of their leases."""
    return trial.client.zrange(keys.LEASES, 0, -1, withscores=True)


# --- beats ------------------------------------------------------------------------------------------------------------


def test_a_body_that_holds_the_interpreter_for_three_leases_keeps_its_run(trial: Trial) -> None:
    hasty = {"lease": 1, "beat": 0.3, "reap": 0.3}
    trial.fleet(**hasty)
    future = trial.submit(hold_interpreter, seconds=3)
    trial.in_body(future.run_id)
    trial.fleet(**hasty)
    assert future.wait(10).is_completed()
    (start, end) = trial.fleets.body_log()[future.run_id]
    assert (end.at - start.at >= 3e9, trial.charged(future.run_id)) == (True, (1, 1, 0))
    assert trial.verdict() == SOUND


def test_a_fleet_whose_beats_are_lost_finds_itself_buried_while_its_body_lives(trial: Trial, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with proxy_to(trial.server.port) as proxy:
        behind = Fleets(proxy.url, trial.client, tmp_path / "behind")
        try:
            deaf = trial.fleet(fleets=behind)
            future = trial.submit(held, gate=str(gate))
            trial.in_body(future.run_id)
            before = deaf.workers(trial.client)
            with trial.recovering(future.run_id), proxy.drop(SCRIPTS["beat"].sha.encode()):
                trial.fleet()
                trial.in_body(future.run_id, 2)
            eventually(lambda: is_renewed(trial, deaf, before))
            gate.touch()
            assert future.result(10) == trial.last_token(future.run_id)
            assert trial.names(future.run_id) == [*GIVEN_UP, "Completed"]
            assert trial.verdict() == SOUND
        finally:
            behind.clear_away()


# --- what was begun ahead of a body -----------------------------------------------------------------------------------


def holds_interpreter(trial: Trial, _gate: Path) -> RunFuture[int]:
    return trial.submit(hold_interpreter, seconds=5)


def stands_still(trial: Trial, gate: Path) -> RunFuture[int]:
    return trial.submit(held, gate=str(gate))


@pytest.mark.parametrize(
    ("body", "busy_after"),
    [(holds_interpreter, 0.3), (stands_still, 2)],  # the second has to be halted before it gives back by itself
    ids=["it holds the interpreter", "it stands still"],
)
def test_what_was_begun_ahead_of_a_body_whose_process_can_do_nothing_is_done_by_others(
    trial: Trial, tmp_path: Path, body: Callable[[Trial, Path], RunFuture[int]], busy_after: float
) -> None:
    gate = tmp_path / "gate"
    stuck = trial.fleet(busy_after=busy_after)
    trial.submit_many([(quick, {})] * 50)[-1].wait(10)
    with trial.suspended():
        long, ahead = body(trial, gate), trial.submit_many([(quick, {})] * 15)
    trial.in_body(long.run_id)
    halted = stuck.children() if body is stands_still else []
    send(signal.SIGSTOP, halted)
    trial.fleet()
    assert all(future.wait(10) for future in ahead)
    assert not long.done()
    send(signal.SIGCONT, halted)
    gate.touch()
    assert long.wait(10)
    assert f"in run {long.run_id}: 15 others go back" in stuck.said()
    assert {trial.charged(future.run_id) for future in ahead} == {(2, 1, 0)}
    assert trial.submit(quick).wait(10)
    assert trial.found().again == 0
    assert trial.verdict() == SOUND
