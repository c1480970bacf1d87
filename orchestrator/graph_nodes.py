"""The nodes of a graph: calls that were drawn and not made, and the parameters of the graph. Knows no graph."""

from collections.abc import Mapping
from typing import Any, Final, Self

from shared.annotations import Annotation, unmapped
from shared.collections import visit_collection
from shared.specs import TaskSpec

REQUIRED: Final = ...
"""Where a parameter has no default."""


class Node:
    """A call of a task in a graph, or a parameter of the graph. Equal to itself alone."""

    def __init__(
        self,
        graph: Any,
        index: int,
        name: str,
        task: TaskSpec[..., Any] | None,
        parameters: Mapping[str, Any],
        default: Any = REQUIRED,
        *,
        is_mapped: bool = False,
    ) -> None:
        self.graph = graph
        self.index = index
        self.name = name
        self.task = task
        self.parameters = parameters
        self.default = default
        self.is_mapped = is_mapped

    @property
    def is_parameter(self) -> bool:
        """True for a parameter of the graph."""
        return self.task is None

    def wait_for(self, *others: "Node") -> Self:
        """Begin only after these have ended; itself, for more of the same.

        Raises:
            InvalidValue: that would close a circle, or one is of another graph.
        """
        for other in others:
            self.graph.add_edge(other, self)
        return self

    def __repr__(self) -> str:
        return f"Node({self.name!r})"


def nodes_in(value: Any) -> list[Node]:
    """Every node in it, each once, in their order."""
    found: dict[Node, None] = {}

    def visit(element: Any) -> Any:
        if isinstance(element, Node):
            found[element] = None
        return element

    visit_collection(value, visit, return_data=False)
    return list(found)


def is_mapped_by(value: Any) -> bool:
    """True if an argument of `map` is mapped over: a node itself, and none that is `unmapped`."""
    while isinstance(value, Annotation):
        if isinstance(value, unmapped):
            return False
        value = value.unwrap()
    return isinstance(value, Node)
