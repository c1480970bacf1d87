"""Ten thousand runs on the settings that users have, and the fleet that does them is killed in their midst."""

import signal

import pytest

from shared import keys
from shared.clock import monotonic
from tests.faults.bodies import nap
from tests.support.fleets import Fleet, command, send
from tests.support.trial import BODIES, SOUND, Trial
from tests.support.waiting import eventually

WITHIN = 60.0
"""Seconds after the kill: a lease of 30, a reaper's round of 5, and the work itself."""


def is_halted_with_runs(trial: Trial, fleet: Fleet) -> bool:
    """Let the fleet stand still; True if each of its workers holds runs at that moment, else it goes on."""
    pids = fleet.halt()
    if all(trial.client.hlen(keys.held(name)) for name in fleet.workers(trial.client)):
        return True
    send(signal.SIGCONT, pids)
    return False


@pytest.mark.soak
def test_runs_of_a_fleet_that_is_killed_on_default_settings_are_all_completed_within_a_minute(trial: Trial) -> None:
    doomed, _ = (trial.fleets(module=BODIES, concurrency=2) for _ in range(2))
    futures = trial.submit_many([(nap, {"seconds": 0.002})] * 10_000)
    eventually(lambda: trial.client.zcard(f"{keys.FINISHED}default") > 4_000, 60)
    eventually(lambda: is_halted_with_runs(trial, doomed))
    doomed.kill()
    killed_at = monotonic()
    ends = {future.wait(max(0.0, killed_at + WITHIN - monotonic())) for future in futures}
    assert {end and end.name for end in ends} == {"Completed"}
    begun = [trial.charged(future.run_id)[1] for future in futures]
    assert (min(begun), max(begun)) == (1, 2)
    assert trial.verdict() == SOUND
    diagnosis = command("baton", "doctor", url=trial.server.url)
    assert diagnosis.returncode == 0, diagnosis.stdout
