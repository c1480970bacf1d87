"""`baton workers list` and `show`: look at worker processes. Changes none."""

import math
from collections.abc import Sequence
from typing import Any

import click

from orchestrator.cli import output
from orchestrator.cli.cells import ALARM, QUIET, Cell, Column, Row
from orchestrator.cli.common import SHOWN_IDS, checked_exchange_from, json_option, line, say
from orchestrator.cli.runs_list import COLUMNS as RUN_COLUMNS
from orchestrator.cli.runs_list import document as run_document
from orchestrator.cli.runs_list import run_cells
from orchestrator.cli.spans import ago, span
from shared.views.runs import rows_of
from shared.views.workers import Worker, worker_names, workers

COLUMNS = (
    Column("worker"),
    Column("state"),
    Column("queues"),
    Column("current task"),
    Column("for", is_number=True),
    Column("held", is_number=True),
    Column("heartbeat", is_number=True),
    Column("lease", is_number=True),
    Column("note"),
)
_STYLES = {"busy": "cyan", "idle": "", "lost": ALARM, "dead": "red"}


@click.command(name="list")
@json_option()
@click.pass_context
def list_workers(ctx: click.Context, *, as_json: bool) -> None:
    """List all workers: what they do and how they are.

    A worker is `lost` when its lease is over and what it holds was not yet taken from it.
    """
    with checked_exchange_from(ctx) as (exchange, _):
        look = workers(exchange)
    if as_json:
        output.document({"workers": [document(worker) for worker in look.rows]})
        return
    output.table(COLUMNS, [_cells(worker) for worker in look.rows])
    if not look.rows:
        say(ctx, "No worker is registered.")


@click.command(name="show")
@click.argument("name", metavar="WORKER")
@json_option()
@click.pass_context
def show(ctx: click.Context, name: str, *, as_json: bool) -> int:
    """Show one worker and what it holds.

    WORKER may be the beginning of a name, if only one worker's begins so. Exit code 1: there is no such worker.
    """
    with checked_exchange_from(ctx) as (exchange, _):
        _, names = worker_names(exchange)
        matches = [name] if name in names else [known for known in names if name and known.startswith(name)]
        if len(matches) > 1:
            raise click.UsageError(_several(name, matches))
        look = workers(exchange, matches)
        held = rows_of(exchange, [run_id for worker in look.rows for run_id in worker.held])
    if not look.rows:
        say(ctx, f"No worker's name begins with {line(name, 100)!r}.")
        return 1
    (worker,) = look.rows
    if as_json:
        output.document({**document(worker), "runs": [run_document(row) for row in held]})
        return 0
    output.facts(_facts(worker))
    if held:
        click.echo("\nholds")
        output.table(RUN_COLUMNS, run_cells(held, look.at))
    return 0


def _several(name: str, matches: Sequence[str]) -> str:
    listed = "\n".join(f"  {line(match)}" for match in matches[:SHOWN_IDS])
    more = "\n  and more" if len(matches) > SHOWN_IDS else ""
    return f"Several workers' names begin with {line(name, 100)}:\n{listed}{more}"


def _cells(worker: Worker) -> Row:
    return (
        worker.name,
        Cell(worker.state, _STYLES.get(worker.state, ALARM)),
        ",".join(worker.queues) or "-",
        worker.current_task or worker.current_run or "-",
        "-" if worker.current_for is None else span(worker.current_for),
        str(len(worker.held)),
        ago(worker.heartbeat_age),
        _lease(worker),
        _note(worker),
    )


def _note(worker: Worker) -> Cell:
    if worker.problems:
        return Cell("; ".join(f"{key}: {why}" for key, why in worker.problems.items()), ALARM)
    return Cell("draining" if worker.is_draining else "")


def _lease(worker: Worker) -> Cell:
    if worker.lease_left is None:
        return Cell("none", QUIET)
    seconds = math.floor(worker.lease_left)
    return Cell(f"{seconds} s") if seconds > 0 else Cell("over", ALARM)


def _facts(worker: Worker) -> list[tuple[str, Cell | str]]:
    cells = dict(zip((column.title for column in COLUMNS), _cells(worker), strict=True))
    return [
        *((title, cells[title]) for title in ("worker", "state", "queues", "heartbeat", "lease", "note")),
        ("fleet", worker.fleet or ""),
        ("host", worker.host or ""),
        ("pid", "" if worker.pid is None else str(worker.pid)),
        ("version", worker.version or ""),
        ("born", worker.birth or ""),
        ("tasks", worker.tasks),
    ]


def document(worker: Worker) -> dict[str, Any]:
    """The worker for `--json`."""
    return {
        "name": worker.name,
        "fleet": worker.fleet,
        "host": worker.host,
        "pid": worker.pid,
        "state": worker.state,
        "live": worker.is_live,
        "queues": list(worker.queues),
        "tasks": worker.tasks.split(),
        "version": worker.version,
        "birth": worker.birth,
        "heartbeat": worker.heartbeat,
        "heartbeat_age": worker.heartbeat_age,
        "lease_left": worker.lease_left,
        "draining": worker.is_draining,
        "current_run": worker.current_run,
        "current_task": worker.current_task,
        "current_for": worker.current_for,
        "held": list(worker.held),
        "problems": dict(worker.problems),
    }
