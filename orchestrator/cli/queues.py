"""`baton queues list` and `show`: look at queues. Changes none."""

from typing import Any

import click

from orchestrator.cli import complete, output
from orchestrator.cli.cells import ALARM, Cell, Column, Row
from orchestrator.cli.common import checked_exchange_from, json_option, say
from orchestrator.cli.runs_list import COLUMNS as RUN_COLUMNS
from orchestrator.cli.runs_list import document as run_document
from orchestrator.cli.runs_list import run_cells
from orchestrator.cli.spans import ago, span
from shared.clock import from_epoch, iso
from shared.specs import queue_name
from shared.views.queues import Queue, queues
from shared.views.runs import next_in

NUMBERS = ("waiting", "running", "scheduled", "deferred", "failed", "finished", "cancelled")
COLUMNS = (
    Column("queue", is_whole=True),
    *(Column(name, is_number=True) for name in (*NUMBERS, "oldest wait", "next due")),
    Column("note"),
)


@click.command(name="list")
@json_option()
@click.pass_context
def list_queues(ctx: click.Context, *, as_json: bool) -> None:
    """List all queues: what waits, runs and has ended.

    The oldest wait is that of the first ten that wait in a queue.
    """
    with checked_exchange_from(ctx) as (exchange, _):
        look = queues(exchange)
    if as_json:
        output.document({"queues": [document(queue) for queue in look.rows]})
        return
    output.table(COLUMNS, [_cells(queue, look.at) for queue in look.rows])
    if not look.rows:
        say(ctx, "No queue yet: one is there from its first run on.")


@click.command(name="show")
@click.argument("name", metavar="QUEUE", shell_complete=complete.queues)
@json_option()
@click.pass_context
def show(ctx: click.Context, name: str, *, as_json: bool) -> int:
    """Show one queue and the runs that are next.

    Exit code 1: nothing was ever submitted to a queue of this name.
    """
    queue_name("QUEUE", name)
    with checked_exchange_from(ctx) as (exchange, _):
        look = queues(exchange, [name])
        waiting = next_in(exchange, name)
    if not look.rows:
        say(ctx, f"No queue is called {name}: nothing was ever submitted to it.")
        return 1
    (queue,) = look.rows
    if as_json:
        output.document({**document(queue), "next": [run_document(row) for row in waiting]})
        return 0
    titles = [column.title for column in COLUMNS]
    output.facts(list(zip(titles, _cells(queue, look.at), strict=True)))
    if waiting:
        click.echo("\nnext")
        output.table(RUN_COLUMNS, run_cells(waiting, look.at))
    return 0


def _cells(queue: Queue, at: float) -> Row:
    numbers = (getattr(queue, name) for name in NUMBERS)
    return (
        queue.name,
        *(Cell("?", ALARM) if number is None else str(number) for number in numbers),
        "-" if queue.oldest_wait is None else span(queue.oldest_wait),
        "-" if queue.next_due is None else ago(at - queue.next_due),
        _note(queue),
    )


def _note(queue: Queue) -> Cell:
    if queue.problems:
        return Cell("; ".join(f"{key}: {why}" for key, why in queue.problems.items()), ALARM)
    cap = "" if queue.cap is None else f"at most {queue.cap}"
    if queue.paused is None:
        return Cell(cap)
    return Cell("; ".join(filter(None, (f"paused by {queue.paused_by or '?'}", cap))), "yellow")


def document(queue: Queue) -> dict[str, Any]:
    """The queue for `--json`."""
    return {
        "name": queue.name,
        **{name: getattr(queue, name) for name in NUMBERS},
        "oldest_wait": queue.oldest_wait,
        "next_due": None if queue.next_due is None else iso(from_epoch(queue.next_due)),
        "paused": queue.paused is not None,
        "paused_by": queue.paused_by,
        "paused_at": queue.paused_at,
        "cap": queue.cap,
        "problems": dict(queue.problems),
    }
