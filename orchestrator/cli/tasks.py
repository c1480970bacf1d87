"""`baton tasks list` and `show`: which tasks there are, who knows them, how their runs ended. Changes none."""

from typing import Any

import click

from orchestrator.cli import complete, output
from orchestrator.cli.cells import ALARM, Cell, Column, Row
from orchestrator.cli.common import checked_exchange_from, json_option, line, say
from orchestrator.cli.runs_list import COLUMNS as RUN_COLUMNS
from orchestrator.cli.runs_list import document as run_document
from orchestrator.cli.runs_list import run_cells
from orchestrator.cli.spans import span
from shared.state_types import StateType
from shared.views.runs import Wanted, newest
from shared.views.tasks import TaskView, tasks

ENDS = (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)
UNKNOWN = "unknown here"
MOST_BODIES = 0.95
NEWEST = 10
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


@click.command(name="show")
@click.argument("key", shell_complete=complete.task_keys)
@json_option()
@click.pass_context
def show(ctx: click.Context, key: str, *, as_json: bool) -> int:
    """Show one task and its newest runs.

    Of each place that holds runs the newest 1,000 are looked at. Exit code 1: nobody ever submitted a task of this key,
    and no live worker announces it.
    """
    with checked_exchange_from(ctx) as (exchange, _):
        look = tasks(exchange, [key])
        runs = newest(exchange, Wanted(task=key), NEWEST)
    if not look.rows:
        say(ctx, f"No task has the key {line(key, 100)}: none was submitted, and no live worker announces it.")
        return 1
    (task,) = look.rows
    if as_json:
        output.document({**document(task), "runs": [run_document(row) for row in runs.rows]})
        return 0
    output.facts(_facts(task))
    if runs.rows:
        click.echo("\nnewest")
        output.table(RUN_COLUMNS, run_cells(runs.rows, runs.at))
    return 0


def _facts(task: TaskView) -> list[tuple[str, Cell | str]]:
    bodies = ", ".join(
        f"{number} {'longer' if bound == 'inf' else f'within {bound} s'}" for bound, number in task.took.items()
    )
    titles = [column.title for column in COLUMNS]
    *facts, note = zip(titles, _cells(task), strict=True)
    return [*facts, ("bodies", bodies), ("in all", span(task.seconds) if task.seconds else ""), note]


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
