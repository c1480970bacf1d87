"""The states of a graph's calls while it is run here, and what of them a call needs. Runs nothing."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from orchestrator.graph_nodes import Node, is_mapped_by
from orchestrator.graph_runs import Drawn
from orchestrator.mapping import elements_of
from shared.collections import visit_collection
from shared.edges import Edge
from shared.errors import InvalidValue
from shared.references import RunReference, filled, refer, references_in
from shared.states import Completed, Pending, State
from worker.pipeline import children_of, value_of

Needed = tuple[dict[Edge[Any], State[Any]], dict[str, Any]]
"""The states of what a call needs, by edge; and its other arguments, by name."""


class NodeStates:
    """By node the state in which its call is, as far as it is known."""

    def __init__(self, graph: Drawn, given: Mapping[Node, State[Any]], parameters: Mapping[str, Any]) -> None:
        self.found: dict[Node, State[Any]] = dict(given)
        self._graph = graph
        self._parameters = parameters
        self._before: dict[Node, list[Node]] = {}
        for edge in graph.edges:
            if edge.key is None and not edge.upstream.is_parameter:
                self._before.setdefault(edge.downstream, []).append(edge.upstream)

    def is_settled(self, node: Node) -> bool:
        """True for a call that has ended before, and is not run again: what is cached or mapped is looked at."""
        state = self.found.get(node)
        return state is not None and state.is_final() and state.name not in ("Cached", "Mapped")

    def of(self, nodes: Iterable[Node]) -> list[State[Any]]:
        """The states of these calls, in the place of a mapped one those of its children."""
        states: list[State[Any]] = []
        for node in nodes:
            state = self.found.get(node, Pending(message="Task state not available."))
            states += children_of(state) or [state]
        return states

    def needed(self, node: Node, index: int | None = None) -> Needed:
        """What a call needs of others, and its other arguments; with an index what that child of a mapped one needs."""
        states = dict(self._ordered(node))
        constants: dict[str, Any] = {}
        for name, value in node.parameters.items():
            elements = elements_of(value) if node.is_mapped else None
            if node.is_mapped and is_mapped_by(value):
                states |= self._of_mapped(node, name, value, index)
            elif elements is not None and index is None:
                states[Edge(name, node, name, mapped=True)] = Completed(data=elements)
            else:
                chosen = elements[index] if elements is not None and index is not None else value
                found, constants[name] = self._argument(node, name, chosen)
                states |= found
                if any(edge.key == name for edge in found):
                    del constants[name]
        return states, constants

    def _ordered(self, node: Node) -> Iterator[tuple[Edge[Any], State[Any]]]:
        for other in self._before.get(node, ()):
            yield Edge(other, node), self.found[other]

    def _of_mapped(self, node: Node, name: str, value: Any, index: int | None) -> dict[Edge[Any], State[Any]]:
        upstream = _bare(value)
        state = self.found[upstream]
        if index is None:
            return {Edge(upstream, node, name, mapped=True): state}
        if state.name == "Mapped" and isinstance(state.data, list):
            return {Edge(upstream, node, name): state.data[index]}
        return {Edge(upstream, node, name): Completed(data=value_of(state)[index])}

    def _argument(self, node: Node, name: str, value: Any) -> tuple[dict[Edge[Any], State[Any]], Any]:
        """The states of the nodes in an argument, and the argument with what they gave in their places."""
        nodes = self._graph.nodes

        def visit(element: Any) -> Any:
            if not isinstance(element, Node):
                return element
            return self._parameters[element.name] if element.is_parameter else RunReference(str(element.index))

        sent = refer(visit_collection(value, visit), _refused)
        references = references_in(sent)
        is_alone = isinstance(sent, RunReference)
        states = {
            Edge(nodes[int(each.run_id)], node, name if is_alone else None): _as_good(
                self.found[nodes[int(each.run_id)]], may_fail=each.may_fail
            )
            for each in references
        }
        if is_alone:
            return states, None
        values = filled({name: sent}, lambda each: value_of(self.found[nodes[int(each.run_id)]]))
        return states, values[name]


def _bare(value: Any) -> Any:
    while not isinstance(value, Node):
        value = value.unwrap()
    return value


def _as_good(state: State[Any], *, may_fail: bool) -> State[Any]:
    """The state; of a failure that is allowed a success with the exception."""
    return Completed(data=value_of(state)) if may_fail and state.is_final() and not state.is_completed() else state


def _refused(element: Any) -> None:
    raise InvalidValue(f"{element!r} cannot stand in a graph that is run here: pass its result")
