"""Processes are killed, or end themselves, at every place of a run's way: what was lost is done again, once."""

import os
import signal
from pathlib import Path

import pytest

from orchestrator import RunFuture
from shared import keys
from shared.views import workers as view
from tests.faults.bodies import ends_process, held, quick
from tests.support.fleets import SHORT, Fleet, is_alive, seconds_after, server_time, starts, told
from tests.support.trial import AHEAD, SOUND, Trial
from tests.support.waiting import eventually

LOST_CHILD = "Attempt 1 was lost: killed by signal 9, perhaps out of memory."
AGAIN = ["Pending", "Running", "Pending", "Rerunning", "Completed"]
NEVER_BUSY: dict[str, float] = {"busy_after": 60}
"""A batch is never too long for these: they keep what they began ahead while a body lasts."""


def holding_sixteen(trial: Trial, workers: Fleet, gate: Path, queues: tuple[str, ...]) -> list[RunFuture[int]]:
    """Runs on these queues that the one worker has all begun; the first is in its body."""
    trial.submit_many([(quick, {})] * 50)[-1].wait(10)  # batches were short, so it begins more and more ahead
    with trial.suspended():
        futures = [trial.submit(held, gate=str(gate))]
        futures += [trial.submit(quick, queue) for queue in queues for _ in range((AHEAD - 1) // len(queues))]
    trial.in_body(futures[0].run_id)
    assert trial.client.hlen(keys.held(*workers.workers(trial.client))) == AHEAD
    return futures


def waiting(trial: Trial, queues: tuple[str, ...]) -> list[str]:
    """The ids that wait in these queues, in their order."""
    return [run_id for queue in queues for run_id in trial.client.lrange(keys.queue(queue), 0, -1)]


QUEUES = pytest.mark.parametrize(
    "queues", [("default",), ("default", "second", "third")], ids=["one queue", "three queues"]
)


# --- while nothing runs -----------------------------------------------------------------------------------------------


def test_an_idle_fleet_that_is_killed_is_shown_as_lost_after_its_lease_and_forgotten(trial: Trial) -> None:
    doomed = trial.fleet(concurrency=2)
    names, killed_at = set(doomed.workers(trial.client)), server_time(trial.client)
    doomed.kill()
    with trial.exchange() as exchange:
        shown = eventually(lambda: {row.name for row in view.workers(exchange).rows if row.state == view.LOST} == names)
    assert (shown, server_time(trial.client) - killed_at <= SHORT["lease"] + 0.5) == (True, True)
    well = trial.fleet()
    eventually(lambda: trial.client.zrange(keys.LEASES, 0, -1) == list(well.workers(trial.client)))
    assert not trial.client.smembers(keys.WORKERS) & {keys.worker(name) for name in names}
    assert trial.submit(quick).wait(10)
    assert trial.verdict() == SOUND


def seconds_to_begin(trial: Trial, run_id: str) -> float:
    pending, running, *_ = trial.baton.history(run_id)
    return seconds_after(pending.timestamp.timestamp(), running)


def test_a_process_that_dies_with_a_wake_up_token_delays_the_run_by_seconds(trial: Trial) -> None:
    workers = trial.fleet(failpoints="wake.taken=kill")
    futures = []
    for number in range(1, 4):
        futures.append(trial.submit(quick))
        assert futures[-1].wait(10)
        # Now and then another token lies there, left for a queue that nobody looked into while its worker was dead.
        assert number <= workers.said().count("killed by signal 9") <= 2 * number
        eventually(lambda: workers.is_up(trial.client))
    assert max(seconds_to_begin(trial, future.run_id) for future in futures) <= 3
    assert [trial.charged(future.run_id) for future in futures] == [(1, 1, 0)] * 3
    assert trial.verdict() == SOUND


def test_a_fleet_that_dies_with_a_wake_up_token_delays_the_run_by_seconds(trial: Trial) -> None:
    doomed = trial.fleet(failpoints="wake.taken=kill", idle_wait=20)
    (child,) = doomed.children()
    well = trial.fleet(idle_wait=20)  # waits behind the other, and by itself would look again too late
    os.kill(doomed.pid, signal.SIGSTOP)  # so that it does not see its child die
    future = trial.submit(quick)
    assert future.wait(10)
    assert not is_alive(child)
    assert seconds_to_begin(trial, future.run_id) <= 3
    assert trial.baton.get_run(future.run_id).worker in well.workers(trial.client)
    assert trial.verdict() == SOUND


# --- with runs begun ahead --------------------------------------------------------------------------------------------


@QUEUES
def test_a_child_that_is_killed_is_charged_the_run_in_its_body_and_the_others_go_back_in_order(
    trial: Trial, tmp_path: Path, queues: tuple[str, ...]
) -> None:
    gate = tmp_path / "gate"
    workers = trial.fleet("-q", ",".join(queues), **NEVER_BUSY)
    futures = holding_sixteen(trial, workers, gate, queues)
    pid = workers.pid_of(trial.client, futures[0].run_id)
    with trial.recovering(futures[0].run_id, 1), trial.suspended():
        os.kill(pid, signal.SIGKILL)
        back = eventually(lambda: waiting(trial, queues))
        begun = [trial.charged(future.run_id) for future in futures]
    gate.touch()
    assert all(future.wait(10).is_completed() for future in futures)
    assert back == [future.run_id for future in futures]
    assert begun == [(1, 1, 1)] + [(1, 0, 0)] * (AHEAD - 1)
    assert trial.verdict() == SOUND


@QUEUES
def test_of_a_fleet_that_is_killed_all_that_was_begun_is_charged_and_begun_alone(
    trial: Trial, tmp_path: Path, queues: tuple[str, ...]
) -> None:
    gate = tmp_path / "gate"
    doomed = trial.fleet("-q", ",".join(queues), **NEVER_BUSY)
    futures = holding_sixteen(trial, doomed, gate, queues)
    well = trial.fleet("-q", ",".join(queues), **NEVER_BUSY)
    with trial.recovering(futures[-1].run_id):
        doomed.kill()
    trial.in_body(futures[0].run_id, 2)
    at_once = trial.client.hlen(keys.held(*well.workers(trial.client)))
    gate.touch()
    assert all(future.wait(10).is_completed() for future in futures)
    assert at_once == 1
    assert [trial.charged(future.run_id) for future in futures] == [(2, 2, 1)] * AHEAD
    assert trial.verdict() == SOUND


# --- on a run's way ---------------------------------------------------------------------------------------------------


def test_a_process_that_dies_between_begin_and_body_costs_an_attempt_and_starts_no_body(trial: Trial) -> None:
    trial.fleet(failpoints="engine.before_body=kill@2")
    first, second = trial.submit(quick), trial.submit(quick)
    assert (first.wait(10).is_completed(), second.wait(10).is_completed()) == (True, True)
    assert trial.names(second.run_id) == AGAIN
    assert (starts(trial.fleets.body_log(), second.run_id), trial.charged(second.run_id)) == (1, (2, 2, 1))
    assert trial.verdict() == SOUND


def test_a_child_that_is_killed_in_a_body_is_noticed_at_once_and_replaced(trial: Trial, tmp_path: Path) -> None:
    workers, gate = trial.fleet(), tmp_path / "gate"
    future = trial.submit(held, gate=str(gate))
    trial.in_body(future.run_id)
    before = workers.workers(trial.client)
    with trial.recovering(future.run_id, 1):
        os.kill(workers.pid_of(trial.client, future.run_id), signal.SIGKILL)
    gate.touch()
    assert future.wait(10).is_completed()
    assert told(trial.baton, future.run_id)[2:4] == [("Pending", LOST_CHILD), ("Rerunning", None)]
    assert eventually(lambda: workers.is_up(trial.client))
    assert not before.keys() & workers.workers(trial.client).keys()
    assert trial.charged(future.run_id) == (2, 2, 1)
    assert trial.verdict() == SOUND


def test_children_end_with_their_fleet_in_the_middle_of_their_bodies(trial: Trial, tmp_path: Path) -> None:
    doomed = trial.fleet(concurrency=2)
    futures = [trial.submit(held, gate=str(tmp_path / name)) for name in ("a", "b")]
    for future in futures:
        trial.in_body(future.run_id)
    trial.fleet(concurrency=2)
    with trial.recovering(futures[0].run_id), trial.recovering(futures[1].run_id):
        doomed.kill()
    for name in ("a", "b"):
        (tmp_path / name).touch()
    assert all(future.wait(10).is_completed() for future in futures)
    ends = [[entry.attempt for entry in log if entry.what == "end"] for log in trial.fleets.body_log().values()]
    assert ends == [[2], [2]]
    assert trial.verdict() == SOUND


def test_a_process_that_dies_after_a_body_and_before_its_report_has_the_body_run_again(trial: Trial) -> None:
    trial.fleet(failpoints="finish.before=kill@2")
    assert trial.submit(quick).wait(10)
    second = trial.submit(quick)
    assert second.wait(10).is_completed()
    tokens = [entry.token for entry in trial.fleets.body_log()[second.run_id] if entry.what == "end"]
    assert (trial.names(second.run_id), tokens == sorted(set(tokens)), len(tokens)) == (AGAIN, True, 2)
    assert second.result() == tokens[-1]
    assert trial.verdict() == SOUND


def test_a_process_that_dies_after_its_report_has_nothing_run_again(trial: Trial) -> None:
    workers = trial.fleet(failpoints="finish.after=kill@2")
    before = workers.workers(trial.client)
    assert trial.submit(quick).wait(10)
    second = trial.submit(quick)
    assert second.wait(10).is_completed()
    eventually(lambda: workers.is_up(trial.client) and not before.keys() & workers.workers(trial.client).keys())
    assert trial.names(second.run_id) == ["Pending", "Running", "Completed"]
    assert (trial.charged(second.run_id), trial.found().again) == ((1, 1, 0), 0)
    assert trial.verdict() == SOUND


def test_bodies_that_end_their_process_are_lost_once_and_say_how(trial: Trial) -> None:
    causes = {"segfault": "killed by signal 11", "abort": "killed by signal 6", "exit 0": "exit without a report"}
    trial.fleet(concurrency=3)
    futures = {how: trial.submit(ends_process, how=how) for how in causes}
    assert all(future.wait(10).is_completed() for future in futures.values())
    messages = {how: told(trial.baton, future.run_id)[2][1] for how, future in futures.items()}
    assert messages == {how: f"Attempt 1 was lost: {cause}." for how, cause in causes.items()}
    assert trial.verdict() == SOUND
