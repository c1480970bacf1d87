"""Redis has no room: no memory, no connections, or a policy that drops keys. What runs is recorded, nothing begins."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator import Orchestrator
from shared import keys
from shared.errors import StorageFull, SubmitError
from shared.settings import Settings
from tests.faults.storm_bodies import work
from tests.support.fleets import server_time, starts
from tests.support.scenes import MOST_CONNECTS, Rate, Scene, lasting, scene
from tests.support.waiting import eventually


@contextmanager
def full(at: Scene) -> Iterator[None]:
    """The server has no memory left."""
    at.on.client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        at.on.client.config_set("maxmemory", 0)


@pytest.mark.parametrize(("failpoints", "lives"), [("", True), ("room=off", False)], ids=["room", "no room"])
def test_without_memory_ends_are_recorded_nothing_begins_and_workers_live(
    tmp_path: Path, failpoints: str, lives: bool
) -> None:
    with scene(tmp_path) as at:
        workers = at.fleet(concurrency=1, failpoints=failpoints)
        held = at.held()
        short = at.short(10)
        (name,) = workers.workers(at.on.client)
        with full(at):
            stored = at.on.client.dbsize()
            with pytest.raises(SubmitError) as caught:
                at.short(1)
            assert isinstance(caught.value.__cause__, StorageFull)
            assert at.on.client.dbsize() == stored
            end_of_lease = at.on.client.zscore(keys.LEASES, name)
            at.gate.touch()
            eventually(lambda: server_time(at.on.client) > end_of_lease + 0.5)
            recorded = at.on.baton.get_run(held.run_id).state.is_completed()
            begun = sum(starts(at.on.fleet.body_log(), run.run_id) for run in short)
            renewed = (at.on.client.zscore(keys.LEASES, name) or 0) > end_of_lease + 0.5
        assert (recorded, begun, renewed) == (True, 0, lives)
        assert (at.wrong(held, *short), at.crashes(held, *short)) == ({}, 0)


# --- connections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("failpoints", "lives"), [("", True), ("repeat=off", False)], ids=["repeated", "not repeated"])
def test_without_connections_calls_are_refused_and_fleets_come_back_when_there_are_some(
    tmp_path: Path, failpoints: str, lives: bool
) -> None:
    with scene(tmp_path) as at:
        workers = at.fleet(failpoints=failpoints)
        held, short = at.held(), at.short(50)
        impatient = Settings.load({}, redis_url=at.on.server.url, producer_budget=0.5, socket_timeout=0.5)
        most = at.on.client.config_get("maxclients")["maxclients"]
        at.on.client.config_set("maxclients", 1)
        try:
            at.proxy.cut()
            rate = Rate(at.proxy, workers=2)
            began = time.monotonic()
            with Orchestrator(settings=impatient) as baton, pytest.raises(SubmitError, match="max number of clients"):
                baton.submit(work, {"seconds": 0})
            assert time.monotonic() - began < 2
            at.gate.touch()
            lasting(3 - (time.monotonic() - began))
            connects = rate.now()
        finally:
            at.on.client.config_set("maxclients", most)
        assert (at.wrong(held, *short), at.crashes(held, *short) == 0) == ({}, lives)
        assert eventually(lambda: workers.is_up(at.on.client))
        assert connects <= MOST_CONNECTS or not lives


# --- what drops keys --------------------------------------------------------------------------------------------------


def test_a_server_that_drops_keys_is_refused_with_its_remedy_and_allowed_with_a_warning(tmp_path: Path) -> None:
    options = {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}
    with scene(tmp_path, **options) as at:
        refused = at.on.fleet.begin(module="tests.faults.storm_bodies")
        assert refused.process.wait(10) == 78
        assert "may drop keys (maxmemory-policy allkeys-lru)" in refused.said()
        assert "noeviction" in refused.said()
        assert "--allow-eviction" in refused.said()
        allowed = at.on.fleet("--allow-eviction", module="tests.faults.storm_bodies")
        assert "WARNING" in allowed.said()
        assert "may drop keys (maxmemory-policy allkeys-lru)" in allowed.said()
        assert at.short(1)[0].result(10)
