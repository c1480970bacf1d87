"""What a graph becomes when it is submitted: a run for each call, and one that ends the graph. Waits for nothing.

# Runs are submitted in topological order, so that each finds those that it needs. The one that ends the graph comes
# last, but has its id from the beginning: the others name it as their flow, and are cancelled with it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from orchestrator.calls import MOST_UPSTREAMS, SubmitOptions, new_run
from orchestrator.client import Orchestrator
from orchestrator.futures import RunFuture
from orchestrator.graph_nodes import Node
from orchestrator.mapping import MapCall
from shared import codec
from shared.codec_walk import is_plain
from shared.collections import visit_collection
from shared.commands import NewRun
from shared.edges import Edge
from shared.errors import BatonError, InvalidValue, LimitExceeded, SubmitError
from shared.ids import new_id
from shared.references import DECIDING, WAIT_FOR, RunReference, refer, references_in
from shared.states import State
from shared.transport import Argument
from worker.context import in_no_run, inherited
from worker.graph_end import GRAPH


class Drawn(Protocol):
    """A graph, as far as it is run."""

    name: str
    nodes: list[Node]
    terminal_state_handler: Callable[[Any, State[Any], list[State[Any]]], State[Any] | None] | None

    @property
    def edges(self) -> list[Edge[Node]]:
        """All edges, in the order of drawing."""
        ...

    def order(self) -> list[Node]:
        """Every node behind all that it needs."""
        ...

    def terminal_tasks(self) -> list[Node]:
        """Calls that no other one needs."""
        ...

    def reference_tasks(self) -> list[Node]:
        """Calls that decide about the end."""
        ...

    def filled(self, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
        """A value for each of the graph's parameters."""
        ...


def submitted(graph: Drawn, parameters: Mapping[str, Any], orchestrator: Orchestrator) -> RunFuture[dict[str, Any]]:
    """Submit the graph with these parameters; see `Graph.submit`."""
    plan = _Plan(graph, parameters, orchestrator)
    for node in graph.order():
        if not node.is_parameter:
            plan.add(node)
    end = plan.end()
    try:
        futures: Sequence[RunFuture[Any]] = orchestrator.submit_runs([*plan.runs, end])
    except SubmitError as error:
        _call_off([answer.run_id for answer in error.answers if isinstance(answer, RunFuture)], orchestrator)
        raise
    return futures[-1]


def _call_off(run_ids: Sequence[str], orchestrator: Orchestrator) -> None:
    """Cancel what was accepted of a graph, last ones first: nothing would end it."""
    with suppress(BatonError):  # why it was refused is told already
        orchestrator.cancel_many(run_ids[::-1])


class _Plan:
    """The runs of one submit of a graph."""

    def __init__(self, graph: Drawn, parameters: Mapping[str, Any], orchestrator: Orchestrator) -> None:
        self.runs: list[NewRun] = []
        self._graph = graph
        self._parameters = parameters
        self._orchestrator = orchestrator
        self._settings = orchestrator.settings
        self._flow = new_id()
        self._inherited = inherited()
        self._ids: dict[Node, str | list[str]] = {}
        """Of each node the id of its run; of a mapped one those of its children."""
        self._usual: dict[int, NewRun] = {}
        self._before: dict[Node, list[Node]] = {}
        self._open: dict[Node, Node] = {}
        for edge in graph.edges:
            if edge.key is None and not edge.upstream.is_parameter:
                self._before.setdefault(edge.downstream, []).append(edge.upstream)
            if edge.mapped and not (edge.upstream.is_mapped or edge.upstream.is_parameter):
                self._open[edge.downstream] = edge.upstream

    def add(self, node: Node) -> None:
        """The run of a call, or those of its children.

        Raises:
            InvalidValue: nobody knows how many children there are.
        """
        if node in self._open:
            raise InvalidValue(
                f"{node.name!r} is mapped over what {self._open[node].name!r} will return: how many runs that makes is "
                "not known before; Graph.run finds out"
            )
        given = {name: self._filled(value) for name, value in node.parameters.items()}
        others = self._references(self._before.get(node, ()))
        if not node.is_mapped or node.task is None:
            self._ids[node] = self._run(node, node.name, given, others)
            return
        args, kwargs = node.task.binding.unbind(given)
        children = MapCall(node.task.binding, args, kwargs).children({}, to_the_shortest=True)
        self._ids[node] = [self._run(node, f"{node.name}[{i}]", child, others) for i, child in enumerate(children)]

    def end(self) -> NewRun:
        """The run that ends the graph.

        Raises:
            LimitExceeded: it would wait for too many.
        """
        deciding = self._graph.reference_tasks()
        sent: dict[str, Any] = {"ids": {node.name: self._ids[node] for node in deciding}}
        if self.runs:
            sent[DECIDING] = self._references(deciding)
            sent[WAIT_FOR] = self._references(self._graph.terminal_tasks())
        ups = list(dict.fromkeys(each.run_id for each in references_in(sent)))
        if len(ups) > MOST_UPSTREAMS:
            raise LimitExceeded(
                f"{len(ups)} runs end graph {self._graph.name!r}, at most {MOST_UPSTREAMS} are possible"
            )
        envelope = codec.encode(sent, limit=self._settings.max_parameters, where="parameters")
        fields: dict[str, Argument] = {**self._inherited, "name": self._graph.name}
        ties: list[tuple[str, Argument]] = [("up", run_id) for run_id in ups]
        queue = next((node.task.queue for node in deciding if node.task is not None), "default")
        return NewRun(self._flow, GRAPH, queue, envelope, None, fields=fields, ties=ties)

    def _run(self, node: Node, name: str, given: Mapping[str, Any], others: list[RunReference]) -> str:
        usual = self._usual.get(id(node.task)) or self._like(node)
        sent: dict[str, Any] = {}
        needed = list(others)
        for key, value in given.items():
            sent[key], found = self._sent(value)
            needed += found
        if others:
            sent[WAIT_FOR] = others
        ups = dict.fromkeys(each.run_id for each in needed)
        if len(ups) > MOST_UPSTREAMS:
            raise LimitExceeded(f"{name!r} needs {len(ups)} runs, at most {MOST_UPSTREAMS} are possible")
        envelope = codec.encode(sent, limit=self._settings.max_parameters, where="parameters")
        ties: list[tuple[str, Argument]] = [*(("up", run_id) for run_id in ups), *usual.ties]
        run = NewRun(new_id(), usual.task, usual.queue, envelope, fields={**usual.fields, "name": name}, ties=ties)
        self.runs.append(run)
        return run.id

    def _sent(self, value: Any) -> tuple[Any, Sequence[RunReference]]:
        """A value as it is sent, and the runs that it names. Most are plain, or what one call gives."""
        if isinstance(value, RunReference):
            return value, (value,)
        if is_plain({"": value}, self._settings.max_parameters):
            return value, ()
        sent = refer(value, self._orchestrator.check_is_mine)
        return sent, references_in(sent)

    def _like(self, node: Node) -> NewRun:
        """What the runs of one task have in common."""
        spec = node.task
        if spec is None:
            raise AssertionError(f"{node!r} is no call")
        check, once = self._orchestrator.check_is_mine, SubmitOptions()
        # All of them would get the key of one call, by which a flow around this finds that call again.
        run = in_no_run(lambda: new_run(spec.key, spec.queue, {}, self._settings, options=once, spec=spec, check=check))
        flow: dict[str, Argument] = {"correlation": self._flow, **self._inherited, "flow": self._flow, "ties": "1"}
        run = self._usual[id(spec)] = replace(run, fields={**run.fields, **flow})
        return run

    def _filled(self, value: Any) -> Any:
        """A value with references for the nodes in it, and what the graph's parameters were given as."""
        if isinstance(value, Node):
            return self._of(value)
        if is_plain({"": value}, self._settings.max_parameters):
            return value

        def visit(element: Any) -> Any:
            return self._of(element) if isinstance(element, Node) else element

        return visit_collection(value, visit)

    def _of(self, node: Node) -> Any:
        if node.is_parameter:
            return self._parameters[node.name]
        ids = self._ids[node]
        return RunReference(ids) if isinstance(ids, str) else [RunReference(run_id) for run_id in ids]

    def _references(self, nodes: Iterable[Node]) -> list[RunReference]:
        found: list[RunReference] = []
        for node in nodes:
            of = self._of(node)
            found += of if isinstance(of, list) else [of]
        return found
