"""Graphs that are submitted: every call a run, and one that waits for them in Redis and says how the graph ended."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from orchestrator import Orchestrator, RunFuture, allow_failure, flow, unmapped
from orchestrator.graphs import Graph
from shared import keys
from shared.errors import InvalidValue, SubmitError
from tests.end_to_end import inline_bodies
from tests.support.fleets import ROOT, Fleets, command
from tests.support.server import RedisServer, free_port
from tests.support.waiting import eventually
from worker.context import Around, RunContext, in_body, run_context

adds: Any = inline_bodies.adds
fails: Any = inline_bodies.fails
opens: Any = inline_bodies.opens
plus_one: Any = inline_bodies.plus_one
repairs: Any = inline_bodies.repairs
skips: Any = inline_bodies.skips
"""In a graph a call gives a node, which type checkers cannot know."""


@pytest.fixture
def workers(fleet: Fleets) -> None:
    fleet(module="tests.end_to_end.inline_bodies", concurrency=3)


def end_of(future: Any) -> tuple[str, str | None]:
    state = future.wait(20)
    return state.name, state.message


def results(baton: Orchestrator, future: Any) -> dict[str, Any]:
    """What the reference tasks of a graph gave."""
    ids = future.result(20)
    return {
        name: baton.future(each).result(20) if isinstance(each, str) else [baton.future(one).result(20) for one in each]
        for name, each in ids.items()
    }


def told_ids(client: Any) -> list[str]:
    """The ids of the runs that graphs have submitted, in their order."""
    jobs = [key.removeprefix(keys.job("")) for key in client.keys(keys.job("*"))]
    return sorted(run_id for run_id in jobs if client.hget(keys.job(run_id), "flow"))


GOOD, BAD = ("Completed", "All reference tasks succeeded."), ("Failed", "Some reference tasks failed.")


@pytest.mark.usefixtures("workers")
def test_a_graph_runs_with_its_parameters(baton: Orchestrator) -> None:
    with Graph("diamond") as graph:
        day = graph.parameter("day", default=1)
        a = plus_one(day)
        adds([plus_one(a), {"also": a}["also"]])
    futures = [graph.submit(), graph.submit({"day": 10})]
    assert [results(baton, future) for future in futures] == [{"adds": 5}, {"adds": 23}]
    assert [end_of(future) for future in futures] == [GOOD, GOOD]


@pytest.mark.usefixtures("workers")
def test_calls_of_one_task_are_runs_of_their_own_in_a_graph_that_a_flow_submits(baton: Orchestrator) -> None:
    @flow(key="graphs.outer")
    def outer() -> None:
        """Only its context is needed."""

    with Graph("twice") as graph:
        adds([plus_one(1), plus_one(10)])
    context = RunContext("0193-outer", "graphs.outer", 1, 1, around=Around(outer.spec))
    with run_context(in_body(context)):
        futures = [graph.submit(), graph.submit()]
    assert [results(baton, future) for future in futures] == [{"adds": 13}] * 2


@pytest.mark.usefixtures("workers")
def test_calls_are_mapped_over_parameters_constants_and_one_another(baton: Orchestrator) -> None:
    with Graph("mapped") as graph:
        numbers = graph.parameter("numbers")
        more = plus_one.map(plus_one.map(numbers))
        adds(more)
        adds.map(values=[[1], [2]])
        adds.map(unmapped([1, 2]), more=[1, 2, 3])
    assert results(baton, graph.submit({"numbers": [1, 2, 3]})) == {"adds": 12, "adds-2": [1, 2], "adds-3": [4, 5, 6]}


@pytest.mark.usefixtures("workers")
def test_reference_tasks_decide_and_triggers_hold(baton: Orchestrator) -> None:
    with Graph("repaired") as graph:
        repairs(fails())
        skipped = skips()
        plus_one(skipped)
        adds([allow_failure(fails())], count=True)
    with Graph("broken") as broken:
        bad = fails()
        plus_one(bad)
        end = plus_one(1)
    first = graph.submit()
    assert end_of(first) == GOOD
    ends = {name: baton.future(run_id).wait(20) for name, run_id in first.result(20).items()}
    assert {name: state.name for name, state in ends.items() if state} == {
        "repairs": "Completed",
        "plus_one": "Skipped",
        "adds": "Completed",
    }
    assert end_of(broken.submit()) == BAD
    broken.set_reference_tasks([end])
    assert end_of(broken.submit()) == GOOD


def test_what_has_not_begun_is_cancelled_with_its_graph(
    baton: Orchestrator, fleet: Fleets, client: "redis.Redis", tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with Graph("stopped") as graph:
        first = opens(str(gate))
        plus_one(first).wait_for(first)
    future = graph.submit()
    first_id, second_id = told_ids(client)
    fleet(module="tests.end_to_end.inline_bodies")
    eventually(lambda: baton.get_run(first_id).state.is_running() is True)
    baton.cancel(future.run_id)
    gate.touch()
    ends = [baton.future(run_id).wait(20) for run_id in (first_id, second_id)]
    assert [(state.name, state.message) for state in ends if state] == [
        ("Completed", None),
        ("Cancelled", "The parent flow run was cancelled."),
    ]


@pytest.mark.usefixtures("baton")
def test_what_nobody_knows_the_length_of_is_refused_before_anything_is_sent() -> None:
    with Graph("open") as graph:
        plus_one.map(plus_one(1))
    with pytest.raises(InvalidValue, match="'plus_one-2' is mapped over what 'plus_one' will return"):
        graph.submit()


def test_what_was_accepted_of_a_graph_is_cancelled_if_the_rest_is_refused(baton: Orchestrator) -> None:
    with Graph("crowded") as graph:
        for number in range(3):
            plus_one(number)
    baton.set_queue_cap("default", 2)
    with pytest.raises(SubmitError) as refused:
        graph.submit()
    accepted = [answer for answer in refused.value.answers if isinstance(answer, RunFuture)]
    assert [future.get_state().name for future in accepted] == ["Cancelled", "Cancelled"]


@pytest.mark.usefixtures("baton")
def test_a_missing_parameter_is_refused_before_anything_is_sent() -> None:
    with Graph("needy") as graph:
        plus_one(graph.parameter("day"))
    with pytest.raises(InvalidValue, match="Missing required parameter: 'day'"):
        graph.submit()


@pytest.mark.usefixtures("workers", "baton")
def test_a_graph_without_calls_is_complete() -> None:
    assert end_of(Graph("empty").submit()) == GOOD


# --- the example, and the command that shows a graph ------------------------------------------------------------------

EXAMPLES = ROOT / "examples"


@pytest.mark.usefixtures("baton")
def test_the_example_is_run_by_a_fleet(fleet: Fleets, server: RedisServer) -> None:
    fleet(module="graph", cwd=EXAMPLES, concurrency=2)
    told = command(sys.executable, "graph.py", url=server.url, cwd=EXAMPLES, seconds=60)
    assert (told.returncode, "All reference tasks succeeded." in told.stdout) == (0, True), told.stderr


SHOWN = {
    (): "doubled\n└─ numbers (parameter)\n   └─ double (mapped)\n      └─ total\n",
    ("--mermaid",): 'graph TD\n    n0(["numbers"])\n    n1[["double"]]\n    n2["total"]\n'
    "    n0 ==>|number| n1\n    n1 -->|numbers| n2\n",
}


@pytest.mark.parametrize(("options", "shown"), SHOWN.items(), ids=["tree", "mermaid"])
def test_a_graph_is_shown_without_redis(options: tuple[str, ...], shown: str) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}"
    told = command("baton", "graph", "show", "graph:doubled", *options, url=nowhere, cwd=EXAMPLES)
    assert (told.returncode, told.stdout) == (0, shown), told.stderr


def test_a_graph_is_told_as_one_document() -> None:
    told = command("baton", "graph", "show", "graph:doubled", "--json", url="redis://127.0.0.1:1", cwd=EXAMPLES)
    assert [json.loads(told.stdout)[name] for name in ("name", "nodes")] == ["doubled", ["numbers", "double", "total"]]


@pytest.mark.parametrize("place", ["graph", "graph:double", "graph:nothing"])
def test_what_is_no_graph_is_refused(place: str) -> None:
    told = command("baton", "graph", "show", place, url="redis://127.0.0.1:1", cwd=EXAMPLES)
    assert (told.returncode, "graph" in told.stderr) == (2, True)
