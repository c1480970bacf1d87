"""Runs that kill whoever executes them: each ends alone, after its third process, and takes no neighbour with it."""

import signal

from shared import keys
from shared.state_types import StateType
from tests.faults.bodies import poison, poison_fleet, quick
from tests.support.fleets import starts, told
from tests.support.trial import SOUND, Trial
from worker.hand import BUSY

LOST = "Attempt {} was lost: killed by signal 9, perhaps out of memory."


def test_a_poisonous_run_among_a_thousand_alone_ends_crashed(trial: Trial) -> None:
    futures = trial.submit_many([(quick, {})] * 500 + [(poison, {})] + [(quick, {})] * 500)
    trial.fleet(concurrency=2)
    bad = futures.pop(500)
    assert {future.wait(30).type for future in futures} == {StateType.COMPLETED}
    assert bad.wait(10).type == StateType.CRASHED
    # On a busy machine it may have been begun ahead and given back before: that attempt has a number too.
    messages = [message for _, message in told(trial.baton, bad.run_id) if message and message != BUSY]
    last = trial.baton.get_run(bad.run_id).attempt
    assert messages == [LOST.format(n) for n in (last - 2, last - 1, last)]
    assert starts(trial.fleets.body_log(), bad.run_id) == 3
    assert {trial.charged(future.run_id)[1:] for future in futures} == {(1, 0)}
    (entry,) = trial.client.xrange(keys.QUARANTINE)
    assert (entry[1]["run"], entry[1]["reason"]) == (bad.run_id, "crashed")
    assert trial.verdict() == SOUND


def test_many_poisonous_runs_hold_up_the_others_for_seconds_only(trial: Trial) -> None:
    apart = ([(quick, {})] * 20 + [(poison, {})]) * 6
    in_a_row = [(poison, {})] * 3 + [(quick, {})] * 20
    calls = apart + in_a_row
    futures = trial.submit_many(calls)
    trial.fleet()
    ends = {future.run_id: future.wait(20) for future in futures}
    expected = [StateType.CRASHED if task is poison else StateType.COMPLETED for task, _ in calls]
    assert [end and end.type for end in ends.values()] == expected
    assert {trial.charged(run_id)[1:] for run_id, end in ends.items() if end.is_completed()} == {(1, 0)}
    assert trial.verdict() == SOUND


def test_a_run_that_kills_its_fleet_each_time_ends_crashed_and_takes_no_neighbour_with_it(trial: Trial) -> None:
    futures = trial.submit_many([(quick, {})] * 10 + [(poison_fleet, {})] + [(quick, {})] * 10)
    bad = futures.pop(10)
    hasty = {"lease": 1, "beat": 0.3, "reap": 0.3, "busy_after": 60}
    codes = [trial.begin_fleet(**hasty).process.wait(30) for _ in range(3)]
    trial.fleet(**hasty)
    assert (bad.wait(10).type, starts(trial.fleets.body_log(), bad.run_id)) == (StateType.CRASHED, 3)
    assert {future.wait(10).type for future in futures} == {StateType.COMPLETED}
    assert codes == [-signal.SIGKILL] * 3
    assert max(trial.charged(future.run_id)[2] for future in futures) == 1  # once begun together, never again
    assert trial.quarantined("crashed") == [bad.run_id]
    assert trial.verdict() == SOUND
