"""Visiting every element of nested collections, and rebuilding what changed. Knows no futures and no states.

A visit has two parts. The walk calls the function on each object once, outermost first, and remembers the collections
as nodes. Then the nodes with a change in them are rebuilt, innermost first. Nothing recurses, so no depth of nesting
exhausts the stack, and a cycle is a node that is met again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from shared.annotations import Annotation, opaque, quote
from shared.collection_kinds import ANNOTATION, Kind, MisfitError, kind_of
from shared.errors import BatonError, InvalidCall, LimitExceeded

MAX_DEPTH: Final = 64

_SHOWN_PATH: Final = 300
# Equal atoms are often one object by chance, so each of their places is visited; any other object is visited once.
_ATOMS: Final = frozenset({type(None), bool, int, float, complex, str, bytes})


class StopVisiting(Exception):
    """Raised in the visiting function: take this value, and do not look into it."""

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self.value = value


def visit_collection(
    expr: Any,
    visit_fn: Callable[[Any], Any],
    *,
    return_data: bool = True,
    max_depth: float = MAX_DEPTH,
    remove_annotations: bool = False,
) -> Any:
    """Call `visit_fn` on `expr` and on everything in it; what the function returns takes the element's place.

    Looked into are lists, tuples, sets, frozensets, dicts (keys too), dataclass instances, pydantic models, and all
    annotations but `quote`; any other object is an element as a whole. Each object is visited once. A collection in
    which nothing changed stays the same object; one that changed is rebuilt as its own type, a dataclass without its
    `__init__`, a model without validation. Where collections contain each other in a circle, they point to what was
    rebuilt; only a tuple or set that contains itself through others keeps the original in that place.

    Args:
        expr: what to visit.
        visit_fn: is given an element, outer ones first; raises StopVisiting to have a value taken as it is.
        return_data: False only visits, and returns None.
        max_depth: so many collections may be nested.
        remove_annotations: put annotated values in the place of their annotations.

    Raises:
        LimitExceeded: the nesting is deeper.
        InvalidCall: an element cannot go back, such as an unhashable one into a set.
        InvalidValue: two keys of a dict became equal.
    """
    visit = _Visit(visit_fn, return_data=return_data, max_depth=max_depth, remove_annotations=remove_annotations)
    root = visit.walk(expr)
    return visit.rebuilt(root) if return_data else None


def objects_in(expr: Any) -> Iterator[Any]:
    """What a visit of `expr` sees, at any depth and in no order, each object once, without texts, numbers and None."""
    seen: dict[int, Any] = {}
    waiting = [expr]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        yield value
        kind = kind_of(value)
        if isinstance(value, opaque):
            yield _innermost(value)
        elif kind is not None and not isinstance(value, quote):
            waiting.extend(element for element in kind.elements(value) if type(element) not in _ATOMS)


def _innermost(value: Any) -> Any:
    while isinstance(value, Annotation) and not isinstance(value, quote):
        value = value.unwrap()
    return value


@dataclass(slots=True, eq=False)
class _Node:
    """A collection met in the walk. `entries` are its elements after the visit, those that are collections as nodes."""

    value: Any
    kind: Kind
    parent: "_Node | None"
    index: int
    depth: int
    is_opaque: bool
    elements: Sequence[Any] = ()
    entries: list[Any] = field(default_factory=list)
    parents: "list[_Node]" = field(default_factory=list)
    is_finished: bool = False
    closes_circle: bool = False
    has_changed: bool = False
    result: Any = None


class _Visit:
    """One visit: what was seen, and the nodes in the order in which they were finished, inner ones first."""

    def __init__(
        self, visit_fn: Callable[[Any], Any], *, return_data: bool, max_depth: float, remove_annotations: bool
    ) -> None:
        self._visit_fn = visit_fn
        self._return_data = return_data
        self._max_depth = max_depth
        self._remove_annotations = remove_annotations
        self._seen: dict[int, tuple[Any, Any, bool]] = {}
        self._nodes: dict[tuple[int, bool], _Node] = {}
        self._open: list[tuple[_Node, Iterator[Any]]] = []
        self._finished: list[_Node] = []

    def walk(self, expr: Any) -> Any:
        """Visit everything; returns the entry of `expr`: its value, or its node."""
        root = self._enter(expr, None)
        while self._open:
            node, elements = self._open[-1]
            opened = len(self._open)
            for element in elements:
                node.entries.append(self._enter(element, node))
                if len(self._open) > opened:
                    break
            else:
                self._open.pop()
                node.is_finished = True
                self._finished.append(node)
        return root

    def _enter(self, element: Any, parent: _Node | None) -> Any:
        value, is_stopped = self._visited(element)
        kind = None if is_stopped else kind_of(value)
        if kind is None:
            return value
        if isinstance(value, quote):
            return value.unwrap() if self._remove_annotations else value
        if parent is not None and parent.is_opaque and kind is not ANNOTATION:
            return value
        return self._node(value, kind, parent)

    def _visited(self, element: Any) -> tuple[Any, bool]:
        """What takes the element's place, and whether it is not to be looked into."""
        if type(element) in _ATOMS:
            return self._call(element)
        seen = self._seen.get(id(element))
        if seen is None:
            seen = self._seen[id(element)] = (element, *self._call(element))
        return seen[1], seen[2]

    def _call(self, element: Any) -> tuple[Any, bool]:
        try:
            value, is_stopped = self._visit_fn(element), False
        except StopVisiting as stop:
            value, is_stopped = stop.value, True
        return (value if self._return_data else element), is_stopped

    def _node(self, value: Any, kind: Kind, parent: _Node | None) -> _Node:
        """The node of a collection, which is opened when it is met for the first time."""
        is_opaque = isinstance(value, opaque) or (parent is not None and parent.is_opaque)
        node = self._nodes.get((id(value), is_opaque))
        if node is None:
            depth, index = (1, 0) if parent is None else (parent.depth + 1, len(parent.entries))
            node = _Node(value, kind, parent, index, depth, is_opaque, result=value)
            self._check_depth(node)
            node.elements = kind.elements(value)
            self._nodes[id(value), is_opaque] = node
            self._open.append((node, iter(node.elements)))
        elif not node.is_finished:
            node.closes_circle = True
        if parent is not None:
            node.parents.append(parent)
        return node

    def _check_depth(self, node: _Node) -> None:
        if node.depth > self._max_depth:
            raise LimitExceeded(
                f"{_path(node)} lies {node.depth} levels deep, and {self._max_depth} are looked into: "
                "put quote(...) around a deep value to pass it on as it is"
            )

    def rebuilt(self, root: Any) -> Any:
        """The value of an entry, with everything that changed in it put together anew."""
        self._mark_changed()
        changed = [node for node in self._finished if node.has_changed]
        for node in changed:
            if node.closes_circle and node.kind.blank is not None:
                node.result = _put_together(node, node.kind.blank, node.value)
        for node in changed:
            elements = [_result(entry) for entry in node.entries]
            if self._remove_annotations and node.kind is ANNOTATION:
                node.result = elements[0]
            elif node.closes_circle and node.kind.fill is not None:
                _put_together(node, node.kind.fill, node.result, elements)
            else:
                node.result = _put_together(node, node.kind.build, node.value, elements)
        return _result(root)

    def _mark_changed(self) -> None:
        """Mark the nodes with a change in them, and all that they are in."""
        waiting = [node for node in self._finished if self._changed_itself(node)]
        while waiting:
            node = waiting.pop()
            if not node.has_changed:
                node.has_changed = True
                waiting.extend(node.parents)

    def _changed_itself(self, node: _Node) -> bool:
        if self._remove_annotations and node.kind is ANNOTATION:
            return True
        after = (entry.value if isinstance(entry, _Node) else entry for entry in node.entries)
        return any(value is not element for value, element in zip(after, node.elements, strict=True))


def _result(entry: Any) -> Any:
    return entry.result if isinstance(entry, _Node) else entry


def _put_together(node: _Node, make: Callable[..., Any], *arguments: Any) -> Any:
    """What `make` returns; its errors name the place."""
    try:
        return make(*arguments)
    except MisfitError as error:
        place = _path(node) + list(node.kind.places(node.value))[error.index]
        raise InvalidCall(f"what was put at {place} cannot be there: {error}") from error
    except BatonError:
        raise
    except Exception as error:
        kind = type(node.value).__name__
        raise InvalidCall(f"the {kind} at {_path(node) or 'the top'} cannot be rebuilt: {error}") from error


def _path(node: _Node) -> str:
    """Where a node is, such as `parameters.items[3].owner`; empty at the top."""
    places: list[str] = []
    while node.parent is not None:
        places.append(list(node.parent.kind.places(node.parent.value))[node.index])
        node = node.parent
    path = "".join(reversed(places)).removeprefix(".")
    return path if len(path) <= _SHOWN_PATH else f"{path[:_SHOWN_PATH]}..."
