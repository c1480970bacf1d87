"""`baton tasks list`: which tasks there are, who knows them, and how their runs ended. Changes none."""

from typing import Any

import click

from orchestrator.cli import output
from orchestrator.cli.cells import ALARM, Cell, Column, Row
from orchestrator.cli.common import checked_exchange_from, json_option, say
from orchestrator.cli.spans import span
from shared.state_types import StateType
from shared.views.tasks import TaskView, tasks

ENDS = (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)
UNKNOWN = "unknown here"
MOST_BODIES = 0.95
COLUMNS = (
    Column("task"),
    Column("workers", is_number=True),
    *(Column(kind.value.lower(), is_number=True) for kind in ENDS),
    Column("mean", is_number=True),
    Column("95 % within", is_number=True),
    Column("note"),
)


@click.command(name="list")
@json_option()
@click.pass_context
def list_tasks(ctx: click.Context, *, as_json: bool) -> None:
    """List all tasks: who knows them, how their runs ended.

    A task is `unknown here` if it was submitted and no live worker announces it: its runs wait.
    """
    with checked_exchange_from(ctx) as (exchange, _):
        look = tasks(exchange)
    if as_json:
        output.document({"tasks": [document(task) for task in look.rows]})
        return
    output.table(COLUMNS, [_cells(task) for task in look.rows])
    if not look.rows:
        say(ctx, "No task yet: none was submitted, and no live worker announces one.")


def _cells(task: TaskView) -> Row:
    bound = task.within(MOST_BODIES)
    return (
        Cell(task.key, "" if task.is_known else ALARM),
        str(task.workers) if task.is_known else Cell(UNKNOWN, ALARM),
        *(str(task.counts.get(kind, 0)) for kind in ENDS),
        "-" if task.mean is None else span(task.mean),
        "-" if bound is None else "longer" if bound == "inf" else f"{bound} s",
        Cell("; ".join(f"{key}: {why}" for key, why in task.problems.items()), ALARM),
    )


def document(task: TaskView) -> dict[str, Any]:
    """The task for `--json`."""
    return {
        "key": task.key,
        "known": task.is_known,
        "workers": task.workers,
        "submitted": task.submitted,
        "counts": dict(task.counts),
        "seconds": task.seconds,
        "mean": task.mean,
        "took": dict(task.took),
        "problems": dict(task.problems),
    }
