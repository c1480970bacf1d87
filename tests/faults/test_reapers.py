"""Many who bury the dead at the same time, and one that dies in the middle of it: each run goes back once."""

import signal

from shared import keys
from shared.commands import Seat
from shared.connect import connect
from shared.ledger import RunLedger
from shared.settings import Settings
from shared.upkeep import Pulse
from tests.faults.bodies import quick
from tests.support.trial import SOUND, Trial
from tests.support.waiting import eventually

DEAD = 125
EACH = 8
MANY = DEAD * EACH
"""Runs: more than one call of a reaper takes."""


def dead_workers(trial: Trial) -> None:
    """Workers whose lease is over in a moment and who have begun all runs that wait."""
    settings = Settings.load({}, redis_url=trial.server.url, lease=0.1, beat=0.04, reap=0.05, future_sweep=0.1)
    exchange = connect(settings)
    try:
        ledger = RunLedger(exchange, settings)
        names = [f"dead-{number}" for number in range(DEAD)]
        ledger.beat([Pulse(name, ["default"], {"tasks": quick.spec.key}, is_new=True) for name in names])
        assert sum(len(ledger.cycle(Seat(name, ["default"]), [], EACH).claims) for name in names) == MANY
    finally:
        exchange.close()


def test_what_a_reaper_leaves_that_is_killed_in_its_midst_others_do(trial: Trial) -> None:
    futures = trial.submit_many([(quick, {})] * MANY)
    dead_workers(trial)
    killed = trial.begin_fleet("-q", "another", failpoints="reap.batch=kill")
    assert killed.process.wait(30) == -signal.SIGKILL
    left = trial.client.zcard(keys.RUNNING)
    assert 0 < left < MANY
    trial.fleet(concurrency=2)
    assert {future.wait(20).name for future in futures} == {"Completed"}
    assert {trial.charged(future.run_id) for future in futures} == {(2, 2, 1)}
    assert trial.verdict() == SOUND


def test_fleets_that_keep_house_at_the_same_time_move_each_run_once(trial: Trial) -> None:
    futures = trial.submit_many([(quick, {})] * MANY)
    dead_workers(trial)
    due = trial.submit_many([(quick.with_options(delay=1), {})] * 500)
    fleets = [trial.begin_fleet("-q", "another") for _ in range(4)]
    eventually(lambda: trial.client.llen(keys.queue("default")) == MANY + len(due), 30)
    assert [fleet.process.poll() for fleet in fleets] == [None] * 4
    trial.fleet(concurrency=2)
    assert {future.wait(20).name for future in (*futures, *due)} == {"Completed"}
    assert {trial.charged(future.run_id) for future in futures} == {(2, 2, 1)}
    assert {trial.charged(future.run_id)[1:] for future in due} == {(1, 0)}
    assert trial.found().again == 0
    assert trial.verdict() == SOUND
