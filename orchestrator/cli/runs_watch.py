"""`baton runs watch`: follows transitions as they happen. Changes nothing."""

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import click

from orchestrator.cli import output
from orchestrator.cli.cells import ALARM, STATES, Cell, state_label
from orchestrator.cli.common import checked_exchange_from, json_option, say
from orchestrator.cli.complete import run_ids
from orchestrator.cli.run_page import history_row
from orchestrator.cli.runs import resolved
from shared.follow import follow, follow_all
from shared.state_types import StateType


@click.command(name="watch")
@click.argument("run_id", metavar="[ID]", required=False, shell_complete=run_ids)
@click.option("--count", type=click.IntRange(min=1), help="Without an ID: end after so many transitions.")
@json_option("One JSON object a line.")
@click.pass_context
def watch(ctx: click.Context, run_id: str | None, count: int | None, *, as_json: bool) -> int:
    """Follow the transitions of one run, or of all.

    With an ID: its transitions so far, then each new one, until it has ended. Exit code 0: it completed. 1: it did not.

    Without: those of all runs from now on, until Ctrl-C.
    """
    if run_id is not None and count is not None:
        raise click.UsageError("--count goes without an ID: a run that is watched ends by itself.")
    with checked_exchange_from(ctx) as (exchange, settings):
        if run_id is None:
            say(ctx, "Following all runs; Ctrl-C ends it.")
            heard = ((run, history_row(told)) for run, told in follow_all(exchange, settings))
            for run, row in islice(heard, count):
                _tell(run, row, as_json=as_json)
            return 0
        whole = resolved(exchange, run_id)
        last = ""
        for row in map(history_row, follow(exchange, whole, settings)):
            _tell(whole, row, as_json=as_json)
            last = str(row.get("type"))
    return 0 if last == StateType.COMPLETED else 1


def _tell(run_id: str, row: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({**row, "run": run_id}))
    else:
        output.entry(list(_cells(run_id, row)))


def _cells(run_id: str, row: dict[str, Any]) -> Iterator[Cell | str]:
    if "unreadable" in row:
        yield from (run_id, Cell(f"cannot be read: {row['unreadable']}", ALARM))
        return
    kind = str(row.get("type", "?"))
    yield str(row.get("time", "?"))
    yield run_id
    yield Cell(state_label(kind, str(row.get("name", ""))), STATES.get(kind, ""))
    if "attempt" in row:
        yield f"attempt {row['attempt']}"
    for part in ("worker", "message", "actor"):
        if part in row:
            yield str(row[part])
