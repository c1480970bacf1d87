"""`baton runs list`: the newest runs, filtered. Changes none."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from orchestrator.cli import complete, output
from orchestrator.cli.cells import ALARM, QUIET, STATES, Cell, Column, Row, state_label
from orchestrator.cli.common import checked_exchange_from, json_option, say
from orchestrator.cli.spans import Since, ago, span
from shared import keys
from shared.specs import queue_name
from shared.state_types import StateType
from shared.views.reading import moment
from shared.views.runs import PAGE, RunRow, Wanted, newest

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


F = TypeVar("F", bound=Callable[..., Any])


def filter_options(command: F) -> F:
    """The options that filter runs, as the parameter `wanted`."""

    @click.option(
        "--state", "states", multiple=True, type=ANY_STATE, metavar="STATE", help="Of this state; repeatable."
    )
    @click.option("--task", shell_complete=complete.task_keys, help="Of the task with this key.")
    @click.option("--tag", shell_complete=complete.tags, help="Of a task with this tag.")
    @click.option("--queue", shell_complete=complete.queues, help="Of this queue.")
    @click.option("--since", type=Since(), metavar="TIME", help="Created since: 30s, 10m, 2h, 1d, or an ISO time.")
    @wraps(command)
    def filtering(
        *args: Any,
        states: tuple[str, ...],
        task: str | None,
        tag: str | None,
        queue: str | None,
        since: float | None,
        **kwargs: Any,
    ) -> Any:
        if queue is not None:
            queue_name("--queue", queue)
        wanted = Wanted(frozenset(map(StateType, states)), task, queue, since, tag)
        return command(*args, wanted=wanted, **kwargs)

    return filtering  # type: ignore[return-value]  # the same command, called otherwise


@click.command(name="list")
@filter_options
@click.option("--limit", type=click.IntRange(1, MOST), default=20, show_default=True, help="How many at most.")
@json_option()
@click.pass_context
def list_runs(ctx: click.Context, wanted: Wanted, limit: int, *, as_json: bool) -> int:
    """List runs, newest first.

    Of each place that holds runs, or of the tag's, the newest 1,000 are looked at; where that is too few it is said.
    Exit code 1: with filters, and no run matches.
    """
    with checked_exchange_from(ctx) as (exchange, _):
        found = newest(exchange, wanted, limit)
    gaps = dict(found.gaps)
    if wanted.tag is not None and found.cursor is not None and len(found.rows) < limit:
        gaps[keys.tag_runs(wanted.tag)] = f"holds more ids than the {PAGE} that were looked at"
    if as_json:
        output.document({"runs": [document(row) for row in found.rows], "gaps": gaps})
    else:
        output.table(COLUMNS, run_cells(found.rows, found.at))
    for place, why in gaps.items():
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
