"""`baton graph`: graphs as pictures. Asks no Redis and runs nothing."""

from importlib import import_module
from pathlib import Path

import click

from orchestrator.cli import output
from orchestrator.cli.common import json_option
from orchestrator.graphs import Graph
from worker.loader import load_tasks, look_in


@click.command(name="show")
@click.argument("place", metavar="MODULE:GRAPH")
@click.option("--mermaid", is_flag=True, help="In Mermaid's language instead of as a tree.")
@json_option()
def show(place: str, *, mermaid: bool, as_json: bool) -> None:
    """Show a graph that a module has drawn: each call under those that it needs."""
    if mermaid and as_json:
        raise click.UsageError("--mermaid and --json exclude each other.")
    graph = _found(place)
    if as_json:
        edges = [
            {"upstream": edge.upstream.name, "downstream": edge.downstream.name, "key": edge.key, "mapped": edge.mapped}
            for edge in graph.edges
        ]
        output.document({"name": graph.name, "nodes": [node.name for node in graph.order()], "edges": edges})
    else:
        click.echo(graph.to_mermaid() if mermaid else graph.tree())


def _found(place: str) -> Graph:
    module, _, name = place.partition(":")
    if not (module and name):
        raise click.UsageError(f"{place!r} names no graph: write MODULE:GRAPH, such as shop.flows:etl.")
    look_in(Path.cwd())
    load_tasks([module])
    graph = getattr(import_module(module), name, None)
    if not isinstance(graph, Graph):
        raise click.UsageError(f"module {module!r} has no graph {name!r}.")
    return graph
