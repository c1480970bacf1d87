"""Graphs as they are drawn: nodes, edges, order, circles, pictures. Nothing is run."""

import threading
from typing import Any

import pytest

from orchestrator import allow_failure, flow, task, unmapped
from orchestrator.graph_nodes import Node
from orchestrator.graphs import Graph, current_graph
from shared.edges import Edge
from shared.errors import InvalidCall, InvalidValue, ParameterBindError


@task(key="graphs.extract")
def extract(url: str) -> list[int]:
    raise AssertionError(url)


@task(key="graphs.double")
def double(x: Any) -> Any:
    return x


@task(key="graphs.load")
def load(rows: Any, into: Any = "db") -> Any:
    return rows, into


def diamond() -> tuple[Graph, list[Node]]:
    """a -> b, c -> d."""
    with Graph("diamond") as graph:
        a: Any = extract("u")
        b: Any = double(a)
        c: Any = double(a)
        d: Any = load([b, {"also": c}])
    return graph, [a, b, c, d]


def names(nodes: list[Node]) -> list[str]:
    return [node.name for node in nodes]


def test_a_call_draws_a_node_with_edges_to_the_nodes_among_its_arguments() -> None:
    graph, (a, b, c, d) = diamond()
    assert graph.edges == [Edge(a, b, "x"), Edge(a, c, "x"), Edge(b, d, "rows"), Edge(c, d, "rows")]
    assert (names(graph.nodes), d.parameters) == (
        ["extract", "double", "double-2", "load"],
        {"rows": [b, {"also": c}]},
    )
    assert [names(each) for each in (graph.root_tasks(), graph.terminal_tasks(), graph.reference_tasks())] == [
        ["extract"],
        ["load"],
        ["load"],
    ]


def test_outside_of_the_block_and_in_other_threads_a_call_is_a_call() -> None:
    seen: list[Any] = []
    with Graph("here"):
        other = threading.Thread(target=lambda: seen.append(double(5)))
        other.start()
        other.join()
    assert (seen, double(6), current_graph()) == ([5], 6, None)


def test_a_graph_within_a_graph_is_drawn_for_itself() -> None:
    with Graph("outer") as outer:
        extract("u")
        with Graph("inner") as inner:
            double(1)
        double(2)
    assert (names(outer.nodes), names(inner.nodes)) == (["extract", "double"], ["double"])


def test_map_draws_a_mapped_node_and_edges_that_say_what_is_mapped() -> None:
    with Graph("mapped") as graph:
        rows: Any = extract("u")
        conf: Any = extract("v")
        each: Any = load.map(rows, unmapped(conf))
    assert (each.is_mapped, graph.edges) == (True, [Edge(rows, each, "rows", mapped=True), Edge(conf, each, "into")])


def test_annotations_leave_the_edge() -> None:
    with Graph("allowed") as graph:
        a: Any = extract("u")
        b: Any = double(allow_failure(a))
    assert graph.edges == [Edge(a, b, "x")]


def test_order_without_data() -> None:
    with Graph("ordered") as graph:
        a: Any = extract("u")
        b: Any = extract("v").wait_for(a)  # type: ignore[attr-defined]
        c: Any = double.map([1], wait_for=[a, b])
    assert graph.edges == [Edge(a, b), Edge(a, c), Edge(b, c)]


def test_nodes_stand_behind_all_that_they_need_and_else_as_they_were_drawn() -> None:
    with Graph("order") as graph:
        a, b, c, d = (extract(name) for name in "abcd")
    graph.add_edge(d, b)  # type: ignore[arg-type]
    graph.add_edge(c, a)  # type: ignore[arg-type]
    assert names(graph.order()) == ["extract-3", "extract", "extract-4", "extract-2"]


def test_a_circle_is_refused_where_it_would_close_and_its_path_is_named() -> None:
    graph, (a, _, _, d) = diamond()
    with pytest.raises(InvalidValue, match=r"in a circle: extract -> double -> load -> extract|double-2"):
        graph.add_edge(d, a)
    with pytest.raises(InvalidValue, match="in a circle: load -> load"):
        d.wait_for(d)
    assert (len(graph.edges), names(graph.order())) == (4, ["extract", "double", "double-2", "load"])


def test_an_edge_for_a_parameter_is_one_of_the_function() -> None:
    graph, (a, _, _, d) = diamond()
    graph.add_edge(a, d, "into")
    assert d.parameters["into"] is a
    with pytest.raises(ParameterBindError):
        graph.add_edge(a, d, "nowhere")


def test_foreign_nodes_are_refused() -> None:
    graph, (a, *_) = diamond()
    with Graph("other") as other, pytest.raises(InvalidValue, match=r"Node\('extract'\) is of graph 'diamond'"):
        double(a)
    with pytest.raises(InvalidValue, match="is of graph"):
        other.add_edge(a, a)
    with pytest.raises(InvalidCall, match="is no node"):
        graph.add_edge(double, a)  # type: ignore[arg-type]
    assert other.nodes == []


def test_a_wrong_call_is_refused_where_it_is_drawn() -> None:
    with Graph("wrong") as graph, pytest.raises(ParameterBindError):
        extract()  # type: ignore[call-arg]
    assert graph.nodes == []


def test_parameters_are_filled_with_defaults() -> None:
    with Graph("etl") as graph:
        day, size = graph.parameter("day"), graph.parameter("size", default=5)
        load(day, size)
    assert (graph.parameter("day") is day, graph.filled({"day": "monday"})) == (True, {"day": "monday", "size": 5})
    with pytest.raises(InvalidValue, match=r"Missing required parameter: 'day'."):
        graph.filled(None)
    with pytest.raises(InvalidValue, match="no parameter 'night'; it has day, size"):
        graph.filled({"night": 1})
    with pytest.raises(InvalidValue, match="'day' is a parameter: it waits for nothing"):
        day.wait_for(size)


def test_reference_tasks_can_be_chosen() -> None:
    graph, (a, *_) = diamond()
    graph.set_reference_tasks([a])
    assert names(graph.reference_tasks()) == ["extract"]
    graph.set_reference_tasks([])
    assert names(graph.reference_tasks()) == ["load"]
    with pytest.raises(InvalidValue, match="has no end"):
        graph.set_reference_tasks([graph.parameter("day")])


def test_a_picture_for_mermaid() -> None:
    with Graph("etl") as graph:
        rows: Any = extract(graph.parameter("day"))  # type: ignore[arg-type]
        load.map(rows, unmapped(1)).wait_for(graph.node("extract"))  # type: ignore[attr-defined]
    assert graph.to_mermaid().splitlines() == [
        "graph TD",
        '    n0(["day"])',
        '    n1["extract"]',
        '    n2[["load"]]',
        "    n0 -->|url| n1",
        "    n1 ==>|rows| n2",
        "    n1 -.-> n2",
    ]


def test_a_picture_for_a_terminal() -> None:
    graph, _ = diamond()
    assert graph.tree().splitlines() == [
        "diamond",
        "└─ extract",
        "   ├─ double",
        "   │  └─ load",
        "   └─ double-2",
        "      └─ load",
    ]


def test_a_chain_deeper_than_pythons_stack_is_drawn_ordered_and_painted() -> None:
    with Graph("deep") as graph:
        node: Any = extract("u")
        for _ in range(3_000):
            node = double(node)
    assert (len(graph.order()), len(graph.tree().splitlines()), node.name) == (3_001, 3_002, "double-3000")


def test_a_node_that_is_not_there_is_told_with_those_that_are() -> None:
    graph, _ = diamond()
    with pytest.raises(InvalidValue, match="no node 'lod'; it has extract, double"):
        graph.node("lod")


@flow(key="graphs.nightly")
def nightly(day: Any) -> Any:
    raise AssertionError(day)


def test_a_call_of_a_flow_draws_a_node_too() -> None:
    with Graph("nested") as graph:
        a: Any = extract("u")
        b: Any = nightly(a, wait_for=[extract("v")])
    assert (names(graph.nodes), names(graph.terminal_tasks())) == (["extract", "extract-2", "nightly"], ["nightly"])
    assert graph.edges == [Edge(a, b, "day"), Edge(graph.node("extract-2"), b)]
