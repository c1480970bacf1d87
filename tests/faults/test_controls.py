"""What each mechanism is good for: with it switched off, what other tests promise is not kept, and the oracle sees it.

Each story is that of another test. It answers what went wrong, by name.
"""

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from shared.failpoints import SWITCHES
from tests.faults.bodies import held, poison_fleet, quick, waits
from tests.support.fleets import Fleet, is_alive, send
from tests.support.trial import TO_RECOVER, Trial
from tests.support.waiting import eventually

Wrong = Mapping[str, object]
Story = Callable[[Trial, Path, str], Wrong]


def begun(trial: Trial, gate: Path, switches: str) -> tuple[Fleet, str]:
    """A fleet with these switches, and a run in its body."""
    fleet = trial.fleet(failpoints=switches)
    run_id = trial.submit(held, gate=str(gate)).run_id
    trial.in_body(run_id)
    return fleet, run_id


def a_fleet_is_killed(trial: Trial, gate: Path, switches: str) -> Wrong:
    """What it held is at an end soon after its lease is over."""
    doomed, run_id = begun(trial, gate, switches)
    trial.fleet(failpoints=switches)
    doomed.kill()
    gate.touch()
    trial.baton.future(run_id).wait(TO_RECOVER)
    return trial.found().wrong()


def a_child_is_killed(trial: Trial, gate: Path, switches: str) -> Wrong:
    """What it held is at an end within a second."""
    workers, run_id = begun(trial, gate, switches)
    pid = workers.pid_of(trial.client, run_id)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_alive(pid))
    gate.touch()
    trial.baton.future(run_id).wait(1)
    return trial.found().wrong()


def a_supervisor_is_killed(trial: Trial, gate: Path, switches: str) -> Wrong:
    """No body of its children goes on beside the one that follows."""
    doomed, run_id = begun(trial, gate, switches)
    (child,) = doomed.children()
    trial.fleet(failpoints=switches)
    os.kill(doomed.pid, signal.SIGKILL)
    trial.in_body(run_id, 2)
    gate.touch()
    trial.baton.future(run_id).wait(10)
    eventually(lambda: not is_alive(child))
    found = trial.found()
    return {**found.wrong(), **({"overlaps": found.overlaps} if found.overlaps else {})}


def a_fleet_sleeps_beyond_its_lease(trial: Trial, gate: Path, switches: str) -> Wrong:
    """The outcome that it reports then is not the run's."""
    halted, run_id = begun(trial, gate, switches)
    pids = halted.halt()
    trial.fleet(failpoints=switches)
    trial.in_body(run_id, 2)
    Path(f"{gate}.1").touch()
    send(signal.SIGCONT, pids[1:])
    future = trial.baton.future(run_id)
    eventually(lambda: trial.quarantined("buried") or future.done())
    Path(f"{gate}.2").touch()
    future.wait(10)
    eventually(lambda: [entry.what for entry in trial.in_body(run_id)].count("end") == 2)
    return trial.found().wrong()


def a_body_lasts(trial: Trial, gate: Path, switches: str) -> Wrong:
    """What was begun ahead with it is done by another process meanwhile."""
    trial.fleet(failpoints=switches, busy_after=0.2)
    trial.submit_many([(quick, {})] * 50)[-1].wait(10)
    with trial.suspended():
        futures = [trial.submit(held, gate=str(gate)), *trial.submit_many([(quick, {})] * 15)]
    trial.in_body(futures[0].run_id)
    trial.fleet(failpoints=switches)
    futures[-1].wait(1)
    left = [run_id for run_id in trial.found().stuck if run_id != futures[0].run_id]
    gate.touch()
    for future in futures:
        future.wait(10)
    return {**trial.found().wrong(), **({"left lying": left} if left else {})}


def a_run_kills_its_fleet(trial: Trial, _gate: Path, switches: str) -> Wrong:
    """Its neighbours are charged once, and do not begin with it again."""
    futures = trial.submit_many([(quick, {})] * 10 + [(poison_fleet, {})] + [(quick, {})] * 10)
    bad = futures.pop(10)
    hasty = {"lease": 1, "beat": 0.3, "reap": 0.3, "busy_after": 60, "failpoints": switches}
    for _ in range(3):
        trial.begin_fleet(**hasty).process.wait(30)
    trial.fleet(**hasty)
    bad.wait(10)
    charged = {future.run_id: future.wait(10) and trial.charged(future.run_id)[2] for future in futures}
    twice = [run_id for run_id, crashes in charged.items() if crashes > 1]
    return {**trial.found().wrong(), **({"charged twice": twice} if twice else {})}


def a_body_waits(trial: Trial, gate: Path, switches: str) -> Wrong:
    """The run that it waits for is done on the only slot that there is."""
    trial.fleet(failpoints=switches)
    parent = trial.submit(waits, told=str(gate))
    trial.in_body(parent.run_id)
    child = trial.submit(quick)
    draft = gate.with_suffix(".draft")
    draft.write_text(child.run_id)
    draft.rename(gate)
    is_done = child.wait(1) is not None
    for future in (parent, child):
        future.wait(10)
    return {**trial.found().wrong(), **({} if is_done else {"left lying": [child.run_id]})}


STORIES: dict[str, tuple[Story, str]] = {
    "alone": (a_run_kills_its_fleet, "charged twice"),
    "death_signal": (a_supervisor_is_killed, "overlaps"),
    "deaths": (a_child_is_killed, "stuck"),
    "fence": (a_fleet_sleeps_beyond_its_lease, "zombies"),
    "give_back": (a_body_lasts, "left lying"),
    "lending": (a_body_waits, "left lying"),
    "reap": (a_fleet_is_killed, "stuck"),
}
NAME = Path(__file__).name
EACH = pytest.mark.parametrize("switch", STORIES)


@EACH
def test_without_the_mechanism_it_goes_wrong(trial: Trial, tmp_path: Path, switch: str) -> None:
    story, expected = STORIES[switch]
    assert list(story(trial, tmp_path / "gate", f"{switch}=off")) == [expected]


@EACH
@pytest.mark.soak
def test_with_the_mechanism_the_same_story_goes_well(trial: Trial, tmp_path: Path, switch: str) -> None:
    story, _ = STORIES[switch]
    assert story(trial, tmp_path / "gate", "") == {}


def test_every_switch_has_its_story_here_or_where_redis_is_away() -> None:
    elsewhere = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py") if path.name != NAME)
    assert [switch for switch in SWITCHES if switch not in STORIES and f'"{switch}=off"' not in elsewhere] == []
