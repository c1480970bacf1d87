"""Redis is killed, stands still, is busy, cannot be reached: workers hold what they have, and nothing is doubled.

Each row has a control: without the mechanism that it is about, the same trouble leaves its marks.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from orchestrator import Orchestrator
from shared import keys
from shared.errors import RedisUnavailable, RunGone, SubmitError
from shared.settings import Settings
from tests.faults.storm_bodies import weighed, work
from tests.support.fleets import in_thread, is_heard
from tests.support.scenes import MOST_CONNECTS, Rate, Scene, lasting, scene
from tests.support.waiting import eventually

RUNS = 100


# --- killed and started again -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fsync", "away"), [("always", 1), ("everysec", 3)])
def test_a_server_that_was_killed_and_comes_back_has_lost_nothing_and_bodies_go_on(
    tmp_path: Path, fsync: str, away: float
) -> None:
    with scene(tmp_path, appendonly="yes", appendfsync=fsync) as at:
        at.fleet()
        held, short = at.held(), at.short(RUNS)
        eventually(at.has_begun_to_end)
        rate = Rate(at.proxy, workers=2)
        at.on.server.stop(signal.SIGKILL)
        lasting(away)
        connects = rate.now()
        at.on.server.start()
        submitted = at.short(1)
        assert eventually(submitted[0].done, 5)
        at.gate.touch()
        assert (at.wrong(held, *short, *submitted), at.attempts(held)) == ({}, [1])
        assert away < 3 or connects <= MOST_CONNECTS


def test_a_worker_that_did_not_repeat_its_report_would_lose_its_attempt(tmp_path: Path) -> None:
    with scene(tmp_path, appendonly="yes") as at:
        at.fleet(concurrency=1, failpoints="repeat=off")
        held = at.held()
        at.on.server.stop(signal.SIGKILL)
        at.gate.touch()
        eventually(lambda: [entry.what for entry in at.on.fleet.body_log()[held.run_id]] == ["start", "end"])
        eventually(lambda: "ends by an error" in at.behind.started[0].said())
        at.on.server.start()
        assert (at.wrong(held), at.attempts(held)) == ({}, [2])


@pytest.mark.parametrize(("failpoints", "attempts"), [("", 1), ("guard=off", 2)], ids=["guarded", "without the guard"])
def test_after_a_start_who_comes_back_first_does_not_take_the_others_for_dead(
    tmp_path: Path, failpoints: str, attempts: int
) -> None:
    with scene(tmp_path, appendonly="yes") as at:
        at.fleet(concurrency=1)
        held = at.held()
        first = at.on.fleet(
            module="tests.faults.storm_bodies",
            lease=2,
            beat=0.5,
            reap=0.5,
            future_sweep=1,
            **({"failpoints": failpoints} if failpoints else {}),
        )
        at.on.server.stop(signal.SIGKILL)
        lasting(2.2)  # longer than a lease: by the clock they are all over
        with at.proxy.refuse():
            at.on.server.start()
            (name,) = eventually(lambda: first.workers(at.on.client))
            beaten = heartbeat(at.on.client, name)
            eventually(lambda: heartbeat(at.on.client, name) > beaten)
            beaten = heartbeat(at.on.client, name)
            eventually(lambda: heartbeat(at.on.client, name) > beaten)  # so it has kept house, too
        eventually(lambda: at.proxy.round_trips and at.behind.started[0].workers(at.on.client))
        at.gate.touch()
        assert (at.wrong(held), at.attempts(held)) == ({}, [attempts])


def heartbeat(client: "redis.Redis", worker: str) -> str:
    return str(client.hget(f"rq:worker:{worker}", "last_heartbeat"))


# --- there, and no answer ---------------------------------------------------------------------------------------------


def stopped(at: Scene) -> Callable[[], object]:
    """The server stands still until this is called."""
    os.kill(at.on.server.process.pid, signal.SIGSTOP)
    return lambda: os.kill(at.on.server.process.pid, signal.SIGCONT)


def asleep(at: Scene) -> Callable[[], object]:
    """The server does for two seconds nothing else."""
    return in_thread(lambda: at.on.client.execute_command("DEBUG", "SLEEP", 2))


def busy(at: Scene) -> Callable[[], object]:
    """The server is in a script that does not end, and refuses everything, until this is called."""
    at.on.client.config_set("lua-time-limit", 100)
    running = in_thread(lambda: endless(at.on.server.client()))
    eventually(lambda: refuses(at.on.server.client()))

    def end() -> None:
        with at.on.server.client() as client:
            client.script_kill()
        assert "SCRIPT KILL" in running()

    return end


def endless(client: "redis.Redis") -> str:
    """What a script that does not end says once it has been killed."""
    with client, pytest.raises(redis.exceptions.ResponseError) as caught:
        client.eval("while true do end", 0)
    return str(caught.value)


def refuses(client: "redis.Redis") -> bool:
    with client:
        try:
            return not client.ping()
        except redis.exceptions.ResponseError:
            return True


TROUBLES = (stopped, asleep, busy)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_server_that_does_not_answer_for_a_while_delays_and_doubles_nothing(
    tmp_path: Path, trouble: Callable[[Scene], Callable[[], object]]
) -> None:
    with scene(tmp_path, **{"enable-debug-command": "yes"}) as at:
        at.fleet()
        held, short = at.held(), at.short(RUNS)
        eventually(at.has_begun_to_end)
        end = trouble(at)
        submitting = in_thread(lambda: at.short(3))
        lasting(2)
        end()
        at.gate.touch()
        assert (at.wrong(held, *short, *submitting()), at.attempts(held)) == ({}, [1])


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize(("failpoints", "lives"), [("", True), ("repeat=off", False)], ids=["repeated", "not repeated"])
def test_a_worker_outlives_a_server_that_does_not_answer_its_report(
    tmp_path: Path, trouble: Callable[[Scene], Callable[[], object]], failpoints: str, lives: bool
) -> None:
    with scene(tmp_path, **{"enable-debug-command": "yes"}) as at:
        workers = at.fleet(concurrency=1, failpoints=failpoints)
        held = at.held()
        (worker,) = workers.children()
        end = trouble(at)
        at.gate.touch()
        eventually(lambda: [entry.what for entry in at.on.fleet.body_log()[held.run_id]] == ["start", "end"])
        lasting(2)
        end()
        assert (at.wrong(held), worker in workers.children()) == ({}, lives)


@pytest.mark.parametrize("trouble", [stopped])
def test_a_call_to_a_server_that_does_not_answer_is_a_typed_error_within_its_budget(
    tmp_path: Path, trouble: Callable[[Scene], Callable[[], object]]
) -> None:
    with scene(tmp_path) as at:
        impatient = Settings.load({}, redis_url=at.on.server.url, producer_budget=1, socket_timeout=0.5)
        end = trouble(at)
        began = time.monotonic()
        with Orchestrator(settings=impatient) as baton, pytest.raises(SubmitError) as caught:
            baton.submit(work, {"seconds": 0})
        assert isinstance(caught.value.__cause__, RedisUnavailable)
        assert time.monotonic() - began < 2
        end()


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "failpoints"),
    [(1, ""), (200, ""), (60_000, ""), (200, "repeat=off")],
    ids=["a byte", "a part", "most", "a part, and not repeated"],
)
def test_a_request_that_is_torn_stores_nothing_by_halves_and_is_sent_again(
    tmp_path: Path, size: int, failpoints: str
) -> None:
    with scene(tmp_path) as at:
        at.fleet(concurrency=1, failpoints=failpoints)
        torn = [at.proxy.tear(b"\r\nCOMPLETED\r\n", min(size, 300)) for _ in range(2)]
        settings = Settings.load({}, redis_url=at.proxy.url)
        with Orchestrator(settings=settings) as baton:
            torn.append(at.proxy.tear(b"EVAL", size))
            big = baton.submit(weighed, {"load": b"x" * 100_000})
            assert big.result(10)
        short = at.short(RUNS)
        at.gate.touch()
        assert (at.wrong(big, *short), all(each.is_set() for each in torn)) == ({}, True)
        assert (at.crashes(*short, big) == 0) == (not failpoints)


@pytest.mark.parametrize(("failpoints", "lives"), [("", True), ("repeat=off", False)], ids=["repeated", "not repeated"])
def test_a_link_that_carries_requests_and_no_answers_costs_nothing_but_time(
    tmp_path: Path, failpoints: str, lives: bool
) -> None:
    with scene(tmp_path) as at:
        workers = at.fleet(failpoints=failpoints, lease=6)
        before = workers.workers(at.on.client)
        held, short = at.held(), at.short(RUNS)
        eventually(at.has_begun_to_end)
        with at.proxy.hold("to_client"):
            at.gate.touch()
            lasting(1.5)
        assert at.wrong(held, *short) == {}
        assert (workers.workers(at.on.client) == before) == lives


# --- empty ------------------------------------------------------------------------------------------------------------


def test_a_server_that_comes_back_empty_is_made_ready_again_and_who_waits_is_told(tmp_path: Path) -> None:
    with scene(tmp_path) as at:
        workers = at.fleet()
        held, lost = at.held(), at.held()
        before = workers.workers(at.on.client)
        waiting = in_thread(held.result)
        eventually(lambda: is_heard(at.on.client, held.run_id))
        at.on.server.stop(signal.SIGKILL)
        at.gate.touch()
        eventually(lambda: len(at.on.fleet.body_log()[lost.run_id]) == 2)
        at.on.server.start()
        with pytest.raises(RunGone):
            waiting(3)
        eventually(lambda: workers.is_up(at.on.client))
        assert not before.keys() & workers.workers(at.on.client).keys()
        eventually(lambda: "DataLossSuspected" in workers.said())
        short = at.short(20)
        assert (at.wrong(*short), at.on.client.hget(keys.META, "layout")) == (
            {"ghosts": sorted([held.run_id, lost.run_id])},  # their bodies ran, before
            "1",
        )
        assert workers.said().count("DataLossSuspected") == 1
