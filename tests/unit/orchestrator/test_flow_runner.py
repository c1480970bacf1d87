"""FlowRunner: graphs that are run here, and what decides how they end; no server."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import allow_failure, get_run_context, task, unmapped
from orchestrator.flow_runner import FlowRunner
from orchestrator.graphs import Graph
from shared.clock import now
from shared.errors import ENDRUN, InvalidCall, InvalidValue
from shared.states import Cancelled, Completed, Failed, Pending, Running, Scheduled, State
from worker.engine.recording import PrivateRecorder, record_with
from worker.signals import SKIP
from worker.triggers import any_failed

Told = tuple[str, str | None]
GOOD, BAD = ("Completed", "All reference tasks succeeded."), ("Failed", "Some reference tasks failed.")


def called(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A task whose calls are nodes, which type checkers cannot know."""
    return task(**options)


@called(key="runner.add")
def add(x: Any, y: Any = 1) -> Any:
    return x + y


@called(key="runner.total")
def total(values: Any) -> Any:
    return sum(values)


@called(key="runner.pair")
def pair() -> list[int]:
    return [7, 8]


@called(key="runner.fails")
def fails(x: object = None) -> None:
    raise ValueError(x)


@called(key="runner.repairs", trigger=any_failed)
def repairs(x: object) -> str:
    return type(x).__name__


@called(key="runner.skips")
def skips() -> None:
    raise SKIP("not now")


@called(key="runner.names")
def kind_of(x: object) -> str:
    return type(x).__name__


@pytest.fixture(autouse=True)
def recorder() -> Iterator[PrivateRecorder]:
    """Where the runs of a test are recorded."""
    kept = PrivateRecorder()
    before = record_with(lambda: kept)
    yield kept
    record_with(before)


def told(state: State[Any]) -> Told:
    return state.name, state.message


def values(graph: Graph, *nodes: Any, **parameters: Any) -> list[Any]:
    """What these calls gave."""
    state = FlowRunner(graph).run(return_tasks=nodes, parameters=parameters)
    return [state.result()[node].result(raise_on_failure=False) for node in nodes]


def test_a_graph_runs_here_with_its_parameters() -> None:
    with Graph("sum") as graph:
        day = graph.parameter("day", default=1)
        first = add(day)
        last = total([first, {"also": add(first, y=first)}["also"]])
    assert (told(graph.run()), values(graph, last), values(graph, last, day=10)) == (GOOD, [6], [33])


def test_calls_are_mapped_to_the_shortest() -> None:
    with Graph("mapped") as graph:
        first = add.map([1, 2, 3], graph.parameter("more"))
        second = add.map(first, unmapped(100))
        end = total(second)
        of_result = add.map(pair())
    found = FlowRunner(graph).run(return_tasks=[first, end, of_result], parameters={"more": [10, 20]}).result()
    assert [child.result() for child in found[first].data] == [11, 22]
    assert (found[end].result(), [child.result() for child in found[of_result].data]) == (233, [8, 9])


@pytest.mark.parametrize(
    ("draw", "end"),
    [
        (lambda: add(1), GOOD),
        (fails, BAD),
        (lambda: add(fails()), BAD),
        (lambda: repairs(fails()), GOOD),
        (lambda: add(skips()), GOOD),
        (lambda: fails.map([1, 2]), BAD),
        (lambda: add.map(5), ("Failed", "Some reference tasks failed.")),
        (lambda: kind_of(allow_failure(fails())), GOOD),
    ],
    ids=["good", "bad", "after a bad one", "repaired", "skipped", "bad children", "unmappable", "allowed"],
)
def test_the_terminal_tasks_decide(draw: Callable[[], Any], end: Told) -> None:
    with Graph("ends") as graph:
        draw()
    assert told(graph.run()) == end


def test_reference_tasks_decide_instead_if_they_are_set() -> None:
    with Graph("chosen") as graph:
        good = add(1)
        fails(good)
    assert told(graph.run()) == BAD
    graph.set_reference_tasks([good])
    assert told(graph.run()) == GOOD


def test_a_handler_may_have_the_last_word() -> None:
    with Graph("handled") as graph:
        fails()
    seen: list[tuple[str, list[str]]] = []

    def handler(_graph: Graph, state: State[Any], references: list[State[Any]]) -> State[Any]:
        seen.append((state.name, [each.name for each in references]))
        return Completed(message="well enough", data=None)

    graph.terminal_state_handler = handler
    assert (told(graph.run()), seen) == (("Completed", "well enough"), [("Failed", ["Failed"])])


GIVEN = [
    (None, GOOD),
    (Pending(name="Submitted", data=Pending()), GOOD),
    (Scheduled(scheduled_time=now() + timedelta(hours=1), message="later"), ("Scheduled", "later")),
    (Failed(message="before"), ("Failed", "before")),
    (Running(message="there"), GOOD),
]


@pytest.mark.parametrize(("given", "end"), GIVEN, ids=[f"{i}-{end[0]}" for i, (_, end) in enumerate(GIVEN)])
def test_what_comes_of_a_state_that_is_given(given: State[Any] | None, end: Told) -> None:
    with Graph("given") as graph:
        add(1)
    assert told(FlowRunner(graph).run(given)) == end


def test_final_states_that_are_given_are_taken_over_and_only_missing_children_run() -> None:
    with Graph("again") as graph:
        first = fails()
        mapped = add.map([1, 2, 3])
        last = total(mapped)
        after = add(first)
    given = {
        fails: Completed(data=5),
        mapped: Completed(name="Mapped", data=[Completed(data=100), None, Failed()]),
    }
    found = FlowRunner(graph).run(task_states=given, return_tasks=[last, after])
    assert [found.result()[node].result() for node in (last, after)] == [107, 6]


@pytest.mark.parametrize("option", ["task_states", "return_tasks", "task_contexts"])
def test_what_is_no_call_of_the_graph_is_refused(option: str) -> None:
    with Graph("small") as graph:
        add(1)
        add(2)
    for other in (fails, add):
        given: Any = [other] if option == "return_tasks" else {other: Pending() if option == "task_states" else {}}
        with pytest.raises(InvalidValue, match="is no call of graph 'small', or more than one"):
            FlowRunner(graph).run(**{option: given})


def test_handlers_see_the_moves_of_the_graph_and_of_its_calls(recorder: PrivateRecorder) -> None:
    with Graph("seen") as graph:
        add(1)
    seen: list[tuple[str, str, str]] = []

    def handler(runner: Any, old: State[Any], new: State[Any]) -> None:
        seen.append((type(runner).__name__, old.name, new.name))

    one = FlowRunner(graph, [handler])
    one.run(task_runner_state_handlers=[handler])
    assert seen == [
        ("FlowRunner", "Pending", "Running"),
        ("TaskRunner", "Pending", "Running"),
        ("TaskRunner", "Running", "Completed"),
        ("FlowRunner", "Running", "Completed"),
    ]
    assert [told(state) for state in recorder.history(one.context["flow_run_id"])] == [
        ("Pending", None),
        ("Running", "Running flow."),
        GOOD,
    ]


def test_handlers_that_are_no_sequence_and_executors_that_are_none_are_refused() -> None:
    graph = Graph("refused")
    with pytest.raises(InvalidCall, match="state_handlers should be iterable"):
        FlowRunner(graph, 1)  # type: ignore[arg-type] # what is tested
    with pytest.raises(InvalidValue, match="'executor' must be 'inline' or None"):
        FlowRunner(graph).run(executor="dask")  # type: ignore[arg-type] # what is tested


def test_a_graph_that_is_to_end_runs_no_more_calls() -> None:
    wanted: list[int] = []

    class Event:
        def is_set(self) -> bool:
            return bool(wanted)

    @called(key="runner.stops")
    def stops() -> None:
        wanted.append(1)

    @called(key="runner.never")
    def never(_x: object) -> None:
        raise AssertionError

    with Graph("stopped") as graph:
        never(stops())
    state = FlowRunner(graph).run(context={"cancel_event": Event()})
    assert told(state) == ("Cancelled", "Flow run is cancelled")


def test_calls_know_their_graph_by_its_id_and_its_context() -> None:
    @called(key="runner.about")
    def about() -> str | None:
        return get_run_context().flow

    with Graph("about") as graph:
        node = about()
    one = FlowRunner(graph)
    found = one.run(return_tasks=[about])
    assert found.result()[about].result() == one.context["flow_run_id"]
    assert (node.name, len(one.context["today"]), len(one.context["tomorrow_nodash"])) == ("about", 10, 8)


def test_an_error_that_nobody_expected_fails_the_graph() -> None:
    with Graph("broken") as graph:
        add(1)

    def handler(_graph: Graph, _state: State[Any], _references: list[State[Any]]) -> State[Any]:
        raise ValueError("x")

    graph.terminal_state_handler = handler
    assert told(graph.run()) == ("Failed", "Unexpected error while running flow: ValueError('x')")


def test_a_handler_may_end_the_graph_before_it_runs() -> None:
    with Graph("ended") as graph:
        fails()

    def handler(_runner: object, _old: State[Any], new: State[Any]) -> None:
        if isinstance(new, State) and new.is_running():
            raise ENDRUN(Cancelled(message="not today"))

    assert told(FlowRunner(graph, [handler]).run()) == ("Cancelled", "not today")
