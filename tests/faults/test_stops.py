"""Fleets that are stopped in the middle of many runs: they end in time, and no run is lost, doubled or charged."""

import signal
from pathlib import Path

import pytest

from shared import keys
from tests.faults.bodies import held, nap, quick
from tests.support.fleets import is_alive, seconds_after, server_time
from tests.support.trial import SOUND, Trial
from tests.support.waiting import eventually


@pytest.mark.parametrize(
    ("signals", "grace", "at_most"),
    [
        ([signal.SIGTERM], 1, 3),
        ([signal.SIGINT], 1, 3),
        ([signal.SIGHUP], 1, 3),
        ([signal.SIGTERM, signal.SIGTERM], 30, 2),
        ([signal.SIGHUP, signal.SIGINT], 30, 2),
    ],
    ids=["TERM", "INT", "HUP", "TERM twice", "HUP and INT"],
)
def test_a_fleet_that_is_stopped_in_the_middle_of_many_runs_ends_in_time_and_charges_nobody(
    trial: Trial, tmp_path: Path, signals: list[signal.Signals], grace: int, at_most: int
) -> None:
    gate = tmp_path / "gate"
    stopped = trial.fleet(concurrency=2, stop_grace=grace)
    long = trial.submit(held, gate=str(gate))
    trial.in_body(long.run_id)
    futures = trial.submit_many([(nap, {"seconds": 0.01})] * 50 + [(quick, {})] * 450)
    eventually(lambda: trial.client.zcard(f"{keys.FINISHED}default") > 20)
    children, asked_at = stopped.children(), server_time(trial.client)
    for number in signals:
        stopped.process.send_signal(number)
        eventually(lambda: "stopping" in stopped.said())
    assert stopped.process.wait(10) == 0
    given_back = trial.baton.history(long.run_id)[-1]
    assert (given_back.message, seconds_after(asked_at, given_back) <= at_most) == (
        "Given back: the worker stopped.",
        True,
    )
    assert (trial.client.zcard(keys.LEASES), [pid for pid in children if is_alive(pid)]) == (0, [])
    gate.touch()
    trial.fleet(concurrency=2)
    assert {future.wait(10).name for future in (long, *futures)} == {"Completed"}
    assert {trial.charged(run_id)[1:] for run_id in trial.acknowledged} == {(1, 0)}
    assert trial.verdict() == SOUND


def test_a_fleet_that_is_stopped_drains_what_runs_and_ends_before_its_grace(trial: Trial) -> None:
    stopped = trial.fleet(concurrency=2, stop_grace=30)
    long = trial.submit_many([(nap, {"seconds": 1})] * 2)
    for future in long:
        trial.in_body(future.run_id)
    asked_at = server_time(trial.client)
    assert stopped.stop(5) == 0
    ends = [trial.baton.history(future.run_id)[-1] for future in long]
    assert [(end.name, seconds_after(asked_at, end) <= 2) for end in ends] == [("Completed", True)] * 2
    assert trial.verdict() == SOUND
