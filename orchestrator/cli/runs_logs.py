"""`baton runs logs`: what a run's bodies have said. Changes nothing."""

from collections.abc import Iterator, Sequence

import click

from orchestrator.cli import output
from orchestrator.cli.common import checked_exchange_from, json_option, line
from orchestrator.cli.runs import found_run, run_argument
from shared import clock
from shared.ledger import RunLedger
from shared.notes import LogRow


@click.command(name="logs")
@run_argument
@json_option()
@click.pass_context
def logs(ctx: click.Context, run_id: str, *, as_json: bool) -> None:
    """Print the log of a run.

    It is what its bodies have logged, and with log_prints what they have printed. Of a long log the first 200 rows and
    the last 800 are kept; the answer tells where some are missing.
    """
    found, settings = found_run(ctx, run_id)
    with checked_exchange_from(ctx) as (exchange, _):
        rows = RunLedger(exchange, settings).logs(found.id)
    if as_json:
        output.document({"id": found.id, "logs": [_document(row) for row in rows]})
        return
    for text in told(rows):
        click.echo(text)


def told(rows: Sequence[LogRow]) -> Iterator[str]:
    """The rows for people, line by line; also how many are missing between two of them."""
    last = (0, 0)
    for row in rows:
        attempt, number = last
        if row.attempt == attempt and row.number > number + 1:
            yield f"... {row.number - number - 1} rows were not kept"
        last = (row.attempt, row.number)
        for text in row.message.splitlines() or [""]:
            yield f"{clock.iso(row.time)} {row.level:<8} {line(text)}"


def _document(row: LogRow) -> dict[str, object]:
    return {**row._asdict(), "time": clock.iso(row.time)}
