"""Two fleets, and one of them is cut off from Redis without a word: for less than its lease, and for more."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared import keys
from tests.faults.bodies import held, nap
from tests.support import namespaces
from tests.support.fleets import Fleet, Fleets
from tests.support.namespaces import namespace
from tests.support.proxy import proxy_to
from tests.support.trial import SOUND, Trial, Verdict
from tests.support.waiting import eventually

COMPLETED = ["Pending", "Running", "Completed"]


@dataclass(frozen=True)
class Far:
    """Starts fleets that can be cut off."""

    fleet: Callable[..., Fleet]
    cut_off: Callable[[], AbstractContextManager[object]]


@contextmanager
def behind_a_proxy(trial: Trial, folder: Path) -> Iterator[Far]:
    """Links that stay open and carry nothing."""
    with proxy_to(trial.server.port) as proxy:
        fleets = Fleets(proxy.url, trial.client, folder)

        @contextmanager
        def cut_off() -> Iterator[None]:
            with proxy.hold("to_server"), proxy.hold("to_client"):
                yield

        try:
            yield Far(lambda **how: trial.fleet(fleets=fleets, **how), cut_off)
        finally:
            fleets.clear_away()


@contextmanager
def in_a_namespace(trial: Trial, folder: Path) -> Iterator[Far]:
    """A network of its own, whose cable is pulled."""
    if not namespaces.available():
        pytest.skip("no network namespaces can be made here: that takes root and iproute2")
    with namespace() as there:
        trial.client.config_set("bind", f"127.0.0.1 {there.address}")
        trial.client.config_set("protected-mode", "no")
        fleets = Fleets(f"redis://{there.address}:{trial.server.port}/0", trial.client, folder)
        try:
            yield Far(lambda **how: trial.fleet(fleets=fleets, under=there.under, **how), there.cut_off)
        finally:
            fleets.clear_away()
            trial.client.config_set("protected-mode", "yes")
            trial.client.config_set("bind", "127.0.0.1")


@pytest.fixture(params=[behind_a_proxy, in_a_namespace], ids=["proxy", "namespace"])
def far(request: pytest.FixtureRequest, trial: Trial, tmp_path: Path) -> Iterator[Far]:
    with ExitStack() as stack:
        yield stack.enter_context(request.param(trial, tmp_path / "far"))


def holds(trial: Trial, fleet: Fleet, number: int) -> bool:
    """True if each of so many workers of this fleet holds a run at least."""
    return sum(trial.client.hlen(keys.held(name)) > 0 for name in fleet.workers(trial.client)) == number


def test_a_fleet_that_is_cut_off_for_less_than_its_lease_goes_on_and_does_nothing_twice(
    trial: Trial, far: Far, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    cut = far.fleet(concurrency=2, lease=5)
    busy = trial.submit(held, gate=str(gate))
    trial.in_body(busy.run_id)
    before = cut.workers(trial.client)
    trial.fleet(concurrency=2, lease=5)
    futures = trial.submit_many([(nap, {"seconds": 0.01})] * 200)
    eventually(lambda: holds(trial, cut, 2))
    with far.cut_off():
        eventually(lambda: "beat: " in cut.said())
    gate.touch()
    ends = {future.wait(10).name for future in (busy, *futures)}
    assert (ends, trial.names(busy.run_id), cut.workers(trial.client)) == ({"Completed"}, COMPLETED, before)
    assert {trial.charged(run_id)[1:] for run_id in trial.acknowledged} == {(1, 0)}
    assert trial.found().again == 0
    assert trial.verdict() == SOUND


def test_what_a_fleet_held_that_is_cut_off_for_longer_is_done_by_another_one(
    trial: Trial, far: Far, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    cut = far.fleet(concurrency=2)
    busy = trial.submit(held, gate=str(gate))
    trial.in_body(busy.run_id)
    before = cut.workers(trial.client)
    trial.fleet(concurrency=2)
    futures = trial.submit_many([(nap, {"seconds": 0.01})] * 200)
    eventually(lambda: holds(trial, cut, 2))
    with trial.recovering(busy.run_id), far.cut_off():
        trial.in_body(busy.run_id, 2)
        Path(f"{gate}.1").touch()  # its body ends, and nobody can be told
        eventually(lambda: [entry.attempt for entry in trial.in_body(busy.run_id) if entry.what == "end"] == [1])
        assert {future.wait(10).name for future in futures} == {"Completed"}
    Path(f"{gate}.2").touch()
    assert busy.result(10) == trial.last_token(busy.run_id)
    eventually(lambda: cut.is_up(trial.client) and not before.keys() & cut.workers(trial.client).keys())
    assert trial.names(busy.run_id) == ["Pending", "Running", "Pending", "Rerunning", "Completed"]
    found = trial.verdict()
    assert found == Verdict({}, found.overlaps, [])
    assert 1 <= found.overlaps <= 2  # one body of each process that was cut off
