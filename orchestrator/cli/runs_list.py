"""`baton runs list`: the newest runs, filtered. Changes none."""

from typing import Any

import click

from orchestrator.cli import complete, output
from orchestrator.cli.cells import ALARM, QUIET, STATES, Cell, Column, Row, state_label
from orchestrator.cli.common import checked_exchange_from, json_option, say
from orchestrator.cli.spans import Since, ago, span
from shared.specs import queue_name
from shared.state_types import StateType
from shared.views.reading import moment
from shared.views.runs import RunRow, Wanted, newest

COLUMNS = (
    Column("run", is_whole=True),
    Column("state"),
    Column("task"),
    Column("queue"),
    Column("created", is_number=True),
    Column("ran", is_number=True),
    Column("note"),
)
MOST = 1000
ANY_STATE = click.Choice([kind.value for kind in StateType], case_sensitive=False)


@click.command(name="list")
@click.option("--state", "states", multiple=True, type=ANY_STATE, metavar="STATE", help="Of this state; repeatable.")
@click.option("--task", shell_complete=complete.task_keys, help="Of the task with this key.")
@click.option("--queue", shell_complete=complete.queues, help="Of this queue.")
@click.option("--since", type=Since(), metavar="TIME", help="Created since: 30s, 10m, 2h, 1d, or an ISO time.")
@click.option("--limit", type=click.IntRange(1, MOST), default=20, show_default=True, help="How many at most.")
@json_option()
@click.pass_context
def list_runs(
    ctx: click.Context,
    states: tuple[str, ...],
    task: str | None,
    queue: str | None,
    since: float | None,
    limit: int,
    *,
    as_json: bool,
) -> int:
    """List runs, newest first.

    Of each place that holds runs the newest 1,000 are looked at; where that is too few it is said. Exit code 1: with
    filters, and no run matches.
    """
    if queue is not None:
        queue_name("--queue", queue)
    wanted = Wanted(frozenset(map(StateType, states)), task, queue, since)
    with checked_exchange_from(ctx) as (exchange, _):
        found = newest(exchange, wanted, limit)
    if as_json:
        output.document({"runs": [document(row) for row in found.rows], "gaps": dict(found.gaps)})
    else:
        output.table(COLUMNS, run_cells(found.rows, found.at))
    for place, why in found.gaps.items():
        say(ctx, f"{place} {why}")
    if found.rows or wanted == Wanted():
        return 0
    say(ctx, "No run matches.")
    return 1


def run_cells(rows: tuple[RunRow, ...] | list[RunRow], at: float) -> list[Row]:
    """The runs as rows of a table with `COLUMNS`."""
    return [_cells(row, at) for row in rows]


def _cells(row: RunRow, at: float) -> Row:
    created = moment(row.created)
    note = row.problem or row.error or row.message or ""
    return (
        row.id,
        Cell(state_label(row.state_type, row.state_name), STATES.get(row.state_type, "")),
        row.task or "-",
        row.queue or "-",
        ago(None if created is None else at - created),
        _ran(row, at),
        Cell(note, ALARM if row.problem else QUIET),
    )


def _ran(row: RunRow, at: float) -> str:
    """How long its bodies have run, in all attempts."""
    before = row.total_run_time or 0.0
    since = moment(row.state_time) if row.state_type in (StateType.RUNNING, StateType.CANCELLING) else None
    seconds = before + max(0.0, at - since) if since is not None else before
    return span(seconds) if seconds else "-"


def document(row: RunRow) -> dict[str, Any]:
    """The run for `--json`, under the names that `runs show` gives them too."""
    return {
        "id": row.id,
        "task": row.task,
        "name": row.name,
        "queue": row.queue,
        "state": {
            "type": row.state_type,
            "name": row.state_name,
            "message": row.message,
            "time": row.state_time,
        },
        "attempt": row.attempt,
        "worker": row.worker,
        "created": row.created,
        "start_time": row.started,
        "end_time": row.ended,
        "total_run_time": row.total_run_time,
        "error": row.error,
        "problem": row.problem,
    }
