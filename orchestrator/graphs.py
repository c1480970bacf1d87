"""A graph: calls of tasks drawn ahead of time, with what each needs of the others. Runs nothing.

Within `with Graph("etl"):` a call of a task draws a node and returns it. Nodes among its arguments become edges, all
else stays as it is.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar, Token
from heapq import heapify, heappop, heappush
from typing import Any, Self

from orchestrator.client import current_orchestrator
from orchestrator.flow_runner import FlowRunner
from orchestrator.futures import RunFuture
from orchestrator.graph_nodes import REQUIRED, Node, is_mapped_by, nodes_in
from orchestrator.graph_runs import submitted
from shared.edges import Edge
from shared.errors import InvalidCall, InvalidValue
from shared.options import check_options
from shared.specs import TaskLike
from shared.states import State


class Graph:
    """A flow drawn ahead of time. A value: running it twice shares nothing.

    Args:
        name: for people, and by which workers find it.

    Raises:
        InvalidCall, InvalidValue: that is no name.
    """

    def __init__(self, name: str) -> None:
        self.name: str = check_options({"name": name}).get("name", "graph")
        self.nodes: list[Node] = []
        self._edges: dict[Edge[Node], None] = {}
        self._names: Counter[str] = Counter()
        self._parameters: dict[str, Node] = {}
        self._references: list[Node] | None = None
        self.terminal_state_handler: Callable[[Any, State[Any], list[State[Any]]], State[Any] | None] | None = None
        """Called with graph, final state and the states of the reference tasks where the graph is run here; may give
        another state."""
        self._goes_on = True
        self._token: Token[Graph | None] | None = None

    # --- drawing ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._token is not None:
            raise InvalidCall(f"graph {self.name!r} is being drawn already")
        self._token = _drawing.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _drawing.reset(self._token)
            self._token = None

    def draw(self, task: TaskLike[..., Any], parameters: Mapping[str, Any], *, is_mapped: bool = False) -> Node:
        """A node for a call of a task with these arguments by name.

        Raises:
            InvalidValue: one of the arguments is a node of another graph.
        """
        spec = task.spec
        node = Node(self, len(self.nodes), self._free_name(spec.name), spec, parameters, is_mapped=is_mapped)
        edges = [
            Edge(other, node, name, mapped=is_mapped and is_mapped_by(value))
            for name, value in parameters.items()
            for other in nodes_in(value)
        ]
        for edge in edges:
            self._check_is_mine(edge.upstream)
        self.nodes.append(node)
        self._edges.update(dict.fromkeys(edges))
        return node

    def parameter(self, name: str, default: Any = REQUIRED) -> Node:
        """A node that stands for a parameter of the graph; of one that is there already that node.

        Raises:
            InvalidCall, InvalidValue: that is no name.
        """
        if name in self._parameters:
            return self._parameters[name]
        check_options({"name": name})
        node = Node(self, len(self.nodes), name, None, {}, default)
        self._names[name] += 1
        self.nodes.append(node)
        self._parameters[name] = node
        return node

    def add_edge(self, upstream: Node, downstream: Node, key: str | None = None, *, mapped: bool = False) -> Edge[Node]:
        """Let one node need another one: for a parameter, or without `key` to have ended before.

        Raises:
            InvalidValue: that would close a circle (the path is named), or one is of another graph.
            ParameterBindError: the task has no such parameter.
        """
        for node in (upstream, downstream):
            self._check_is_mine(node)
        if downstream.task is None:
            raise InvalidValue(f"{downstream.name!r} is a parameter: it waits for nothing")
        if self._goes_on and upstream.index >= downstream.index:
            self._goes_on = False  # from now on an edge may lead back
        if not self._goes_on and (path := self._path(downstream, upstream)):
            names = " -> ".join(node.name for node in [*path, downstream])
            raise InvalidValue(f"graph {self.name!r} would go in a circle: {names}")
        if key is not None:
            parameters = {**downstream.parameters, key: upstream}
            downstream.task.binding.unbind(parameters)
            downstream.parameters = parameters
        edge = Edge(upstream, downstream, key, mapped)
        self._edges[edge] = None
        return edge

    def set_reference_tasks(self, nodes: Iterable[Node]) -> None:
        """Let these decide about the end of the graph; without any the terminal tasks do.

        Raises:
            InvalidValue: one is a parameter, or of another graph.
        """
        chosen = list(nodes)
        for node in chosen:
            self._check_is_mine(node)
            if node.is_parameter:
                raise InvalidValue(f"{node.name!r} is a parameter: it has no end that could decide anything")
        self._references = chosen or None

    # --- questions ----------------------------------------------------------------------------------------------------

    @property
    def edges(self) -> list[Edge[Node]]:
        """All edges, in the order of drawing."""
        return list(self._edges)

    @property
    def parameters(self) -> Mapping[str, Node]:
        """The graph's parameters by name."""
        return dict(self._parameters)

    def order(self) -> list[Node]:
        """Every node behind all that it needs; among equals in the order of drawing."""
        if self._goes_on:
            return list(self.nodes)
        needs = Counter(edge.downstream.index for edge in self._edges)
        feeds = self._feeds()
        ready = [node.index for node in self.nodes if not needs[node.index]]
        heapify(ready)
        found: list[Node] = []
        while ready:
            node = self.nodes[heappop(ready)]
            found.append(node)
            for other in feeds.get(node, ()):
                needs[other.index] -= 1
                if not needs[other.index]:
                    heappush(ready, other.index)
        return found

    def root_tasks(self) -> list[Node]:
        """Calls that need no other call."""
        needing = {edge.downstream for edge in self._edges if not edge.upstream.is_parameter}
        return [node for node in self.nodes if not node.is_parameter and node not in needing]

    def terminal_tasks(self) -> list[Node]:
        """Calls that no other one needs."""
        needed = {edge.upstream for edge in self._edges}
        return [node for node in self.nodes if not node.is_parameter and node not in needed]

    def reference_tasks(self) -> list[Node]:
        """Calls that decide about the end of the graph."""
        return self.terminal_tasks() if self._references is None else list(self._references)

    def node(self, name: str) -> Node:
        """The node of this name.

        Raises:
            InvalidValue: there is none.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise InvalidValue(
            f"graph {self.name!r} has no node {name!r}; it has {', '.join(each.name for each in self.nodes)}"
        )

    def filled(self, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
        """A value for each of the graph's parameters.

        Raises:
            InvalidValue: a required one is missing, or one is unknown.
        """
        given = dict(parameters or {})
        unknown = [name for name in given if name not in self._parameters]
        if unknown:
            known = ", ".join(self._parameters) or "none"
            raise InvalidValue(f"graph {self.name!r} has no parameter {', '.join(map(repr, unknown))}; it has {known}")
        for name, node in self._parameters.items():
            if name not in given:
                if node.default is REQUIRED:
                    raise InvalidValue(f"Missing required parameter: '{name}'.")
                given[name] = node.default
        return given

    # --- runs ---------------------------------------------------------------------------------------------------------

    def submit(self, parameters: Mapping[str, Any] | None = None) -> RunFuture[dict[str, Any]]:
        """Submit every call of the graph, 500 a round trip, and a run that ends when they have: its future.

        The runs wait in Redis for one another, no process does. That of the graph ends FAILED if a reference task did
        not complete. Its result are the ids of the reference tasks' runs by name, of a mapped one a list of ids.
        Cancelling it cancels those that have not begun.

        Raises:
            InvalidValue: a required parameter is missing or one is unknown; or a call is mapped over what a run will
                return, so that nobody knows yet how many runs that makes: `run` can.
            LimitExceeded: more than 10,000 calls end the graph.
            As `Task.submit`. What was accepted before a refusal is cancelled; where Redis does not answer any more it
                stays, and runs.
        """
        return submitted(self, self.filled(parameters), current_orchestrator())

    async def asubmit(self, parameters: Mapping[str, Any] | None = None) -> RunFuture[dict[str, Any]]:
        """The same as `submit`, without blocking the event loop. Cancelled on its way, it may go on."""
        return await asyncio.to_thread(self.submit, parameters)

    def run(self, parameters: Mapping[str, Any] | None = None) -> State[Any]:
        """Run every call here, one after the other; the state in which the graph ends. See `FlowRunner`.

        Raises:
            InvalidValue: a required parameter is missing, or one is unknown.
        """
        return FlowRunner(self).run(parameters=dict(parameters or {}))

    # --- pictures -----------------------------------------------------------------------------------------------------

    def to_mermaid(self) -> str:
        """The graph in Mermaid's language: mapped edges are thick, mere order is dotted."""
        lines = ["graph TD"]
        for node in self.nodes:
            left, right = ("([", "])") if node.is_parameter else ("[[", "]]") if node.is_mapped else ("[", "]")
            lines.append(f'    n{node.index}{left}"{_escaped(node.name)}"{right}')
        for edge in self._edges:
            arrow = "==>" if edge.mapped else "-.->" if edge.key is None else "-->"
            label = "" if edge.key is None else f"|{_escaped(edge.key)}|"
            lines.append(f"    n{edge.upstream.index} {arrow}{label} n{edge.downstream.index}")
        return "\n".join(lines)

    def tree(self) -> str:
        """The graph for a terminal: each call under those that it needs; what stands further up already ends in `^`."""
        return "\n".join([self.name, *self._branches()])

    def _branches(self) -> Iterator[str]:
        feeds, seen = self._feeds(), set[Node]()
        needing = {edge.downstream for edge in self._edges}
        tops = [node for node in self.nodes if node not in needing]
        # A stack of its own: a chain of 10,000 calls is deeper than Python's.
        stack = [(node, "", i == len(tops) - 1) for i, node in enumerate(tops)][::-1]
        while stack:
            node, indent, is_last = stack.pop()
            again = node in seen and node in feeds
            kind = " (parameter)" if node.is_parameter else " (mapped)" if node.is_mapped else ""
            yield f"{indent}{'└─' if is_last else '├─'} {node.name}{kind}{' ^' if again else ''}"
            if again:
                continue
            seen.add(node)
            below = feeds.get(node, [])
            deeper = f"{indent}{'   ' if is_last else '│  '}"
            stack += [(each, deeper, i == len(below) - 1) for i, each in enumerate(below)][::-1]

    # --- what they share ----------------------------------------------------------------------------------------------

    def _feeds(self) -> dict[Node, list[Node]]:
        feeds: dict[Node, dict[Node, None]] = {}
        for edge in self._edges:
            feeds.setdefault(edge.upstream, {})[edge.downstream] = None
        return {node: list(below) for node, below in feeds.items()}

    def _path(self, start: Node, end: Node) -> list[Node]:
        """The nodes from one to another along the edges; none if there is no way."""
        feeds, came_from, todo = self._feeds(), {start: start}, [start]
        while todo:
            node = todo.pop()
            if node is end:
                path = [node]
                while path[-1] is not start:
                    path.append(came_from[path[-1]])
                return path[::-1]
            for other in feeds.get(node, ()):
                if other not in came_from:
                    came_from[other] = node
                    todo.append(other)
        return []

    def _free_name(self, name: str) -> str:
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}-{self._names[name]}"

    def _check_is_mine(self, node: Node) -> None:
        if not isinstance(node, Node):
            raise InvalidCall(f"{node!r} is no node: call a task inside of `with Graph(...)` for one")
        if node.graph is not self:
            raise InvalidValue(f"{node!r} is of graph {node.graph.name!r}, not of {self.name!r}")

    def __repr__(self) -> str:
        return f"Graph({self.name!r})"


_drawing: ContextVar[Graph | None] = ContextVar("baton_graph", default=None)


def current_graph() -> Graph | None:
    """The graph that is drawn by this code, or None."""
    return _drawing.get()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("|", "&#124;")
