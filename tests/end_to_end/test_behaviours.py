"""One table of behaviours through every way in which a run is driven."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Orchestrator
from tests.end_to_end.behaviour_drivers import (
    Inline,
    Seen,
    Submitted,
    in_this_thread,
    on_a_loop,
    streamed,
    streamed_on_a_loop,
)
from tests.end_to_end.behaviours import CASES, INLINE, STREAMS, Case, Expected
from tests.support.fleets import Fleet, Fleets
from tests.support.server import RedisServer

RUN = {
    "inline": in_this_thread,
    "inline on a loop": on_a_loop,
    "redis": in_this_thread,
    "redis on a loop": on_a_loop,
    "stream": streamed,
    "stream on a loop": streamed_on_a_loop,
}
SLOTS = "slots"
MODULE = "tests.end_to_end.behaviour_bodies"


@pytest.fixture(autouse=True)
def body_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where bodies of this process write."""
    monkeypatch.setenv("BODY_LOG", str(tmp_path))


@pytest.fixture(scope="module")
def workers(module_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleets]:
    """Starts fleets for the whole module, each when it is first asked for."""
    with module_server.client() as client:
        fleets = Fleets(module_server.url, client, tmp_path_factory.mktemp("behaving"))
        yield fleets
        fleets.clear_away()


@pytest.fixture(scope="module")
def fleet_of_processes(workers: Fleets) -> Fleet:
    return workers(module=MODULE, concurrency=2, unknown_task_grace=0.5)


@pytest.fixture(scope="module")
def fleet_of_slots(workers: Fleets) -> Fleet:
    return workers("--async-slots", "4", "-q", SLOTS, module=MODULE, unknown_task_grace=0.5)


@pytest.fixture(scope="module")
def threads() -> Iterator[Orchestrator]:
    with Orchestrator("memory:") as baton:
        yield baton


def rows() -> Iterator[Any]:
    for case in CASES:
        for driver in sorted(case.drivers):
            for form in case.tasks:
                if driver not in STREAMS or form in STREAMS[driver]:
                    yield pytest.param(case, driver, form, id=f"{driver}: {case.name}, {form}")


@pytest.fixture
def seen(request: pytest.FixtureRequest, case: Case, driver: str, form: str, tmp_path: Path) -> Iterator[Seen]:
    """What came of a run of this case."""
    task = case.tasks[form]
    if driver == "fleet":
        fleet = request.getfixturevalue("fleet_of_processes")
        yield Submitted(request.getfixturevalue("baton"), fleet.folder)(case, task)
    elif driver == "async fleet":
        fleet = request.getfixturevalue("fleet_of_slots")
        yield Submitted(request.getfixturevalue("baton"), fleet.folder, SLOTS)(case, task)
    elif driver == "fleet that stops":
        workers = request.getfixturevalue("workers")
        leaving = workers("-q", "leaving", module=MODULE, stop_grace=0.3)

        def stopped() -> None:
            leaving.stop()
            workers("-q", "leaving", module=MODULE)

        yield Submitted(request.getfixturevalue("baton"), workers.folder, "leaving", stopped)(case, task)
    elif driver == "threads":
        yield Submitted(request.getfixturevalue("threads"), tmp_path)(case, task)
    else:
        baton = request.getfixturevalue("baton") if driver.startswith("redis") else None
        yield Inline(RUN[driver], tmp_path, baton)(case, task)


@pytest.mark.parametrize(("case", "driver", "form"), list(rows()))
def test_a_run_behaves_as_the_table_says(case: Case, driver: str, form: str, seen: Seen) -> None:
    result, _ = case.expected.result
    raised = case.raises if driver in INLINE else result if driver in STREAMS and result != "value" else ""
    assert (seen.expected, seen.raised) == (filled(case.on(driver, form), seen.upstream), raised)


def filled(expected: Expected, upstream: str) -> Expected:
    """The same with the id of the upstream run in its place."""
    return replace(
        expected,
        rows=tuple((kind, name, text and text.format(upstream=upstream)) for kind, name, text in expected.rows),
        result=(expected.result[0], str(expected.result[1]).format(upstream=upstream))
        if expected.result[0] == "UpstreamTaskError"
        else expected.result,
    )
