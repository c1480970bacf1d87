"""`baton runs show`, `history` and `result`: look at one run. Changes none."""

import click

from orchestrator.cli import complete, output
from orchestrator.cli.cells import STATES, Cell, Column, Row
from orchestrator.cli.common import SHOWN_IDS, checked_exchange_from, json_option, line
from orchestrator.cli.ending import ending_of
from orchestrator.cli.run_page import HISTORY, document, history_row, history_table, page
from shared.details import Details, details, ids_like
from shared.errors import RunGone
from shared.ids import is_id
from shared.settings import Settings
from shared.transport import Transport

SHORTEST_PREFIX = 8
_ANY_ID = "00000000-0000-7000-8000-000000000000"
_EXAMPLE = "01a1f879-5eda-7005-8876-23ab1bc095ff"

run_argument = click.argument("run_id", metavar="ID", shell_complete=complete.run_ids)


@click.command(name="show")
@run_argument
@json_option()
@click.pass_context
def show(ctx: click.Context, run_id: str, *, as_json: bool) -> None:
    """Show everything about one run.

    ID may be the beginning of an id, 8 characters or more, if only one run begins so.
    """
    found, settings = found_run(ctx, run_id)
    if as_json:
        output.document(document(found, settings))
        return
    for text in page(found, settings):
        click.echo(text)


@click.command(name="history")
@run_argument
@json_option()
@click.pass_context
def history(ctx: click.Context, run_id: str, *, as_json: bool) -> None:
    """Show every transition of a run, with the gaps in time.

    Above 1,000 transitions the oldest but the first are not kept.
    """
    found, _ = found_run(ctx, run_id)
    if as_json:
        output.document({"id": found.id, "history": [history_row(text) for text in found.history]})
        return
    styles = [STATES.get(str(history_row(text).get("type")), "") for text in found.history]
    rows: list[Row] = [
        (seq, Cell(state, style), *rest)
        for (seq, state, *rest), style in zip(history_table(found), styles, strict=True)
    ]
    output.table([Column(title, is_number=title in ("seq", "gap", "attempt")) for title in HISTORY], rows)


@click.command(name="result")
@run_argument
@json_option()
@click.pass_context
def result(ctx: click.Context, run_id: str, *, as_json: bool) -> int:
    """Print what a run returned, or say why it did not.

    Exit code 0: it completed. 1: it has not ended, ended otherwise, or its result was not kept.
    """
    found, settings = found_run(ctx, run_id)
    return output.ending(ending_of(found, settings), as_json=as_json)


def found_run(ctx: click.Context, text: str) -> tuple[Details, Settings]:
    """What is stored of the run that an argument means, and the settings it was read by.

    Raises:
        UsageError: it is no id and no beginning of one, or several runs begin so.
        RunGone: there is no such run, or no longer.
    """
    with checked_exchange_from(ctx) as (exchange, settings):
        whole = resolved(exchange, text)
        found = details(exchange, whole, settings)
    if found is None:
        raise gone(whole)
    return found, settings


def gone(run_id: str) -> RunGone:
    """The error that there is no such run."""
    return RunGone(f"Run {run_id} is not in Redis: it was deleted, is past its retention, or never was.")


def resolved(transport: Transport, text: str) -> str:
    """The id that an argument means: itself, or the one id that begins so.

    Raises:
        UsageError: it is no id and no beginning of one, or several runs begin so.
        RunGone: no run begins so.
    """
    if is_id(text):
        return text
    if len(text) < SHORTEST_PREFIX or not is_id(text + _ANY_ID[len(text) :]):
        raise click.UsageError(
            f"{line(repr(text), 100)} is no id of a run: ids look like {_EXAMPLE}, in lower case, "
            f"and their first {SHORTEST_PREFIX} characters or more will do if no other run begins so."
        )
    matches = ids_like(transport, text, SHOWN_IDS + 1)
    if not matches:
        raise RunGone(f"No run in Redis begins with {text}: it was deleted, is past its retention, or never was.")
    if len(matches) > 1:
        listed = "\n".join(f"  {run_id}" for run_id in matches[:SHOWN_IDS])
        more = "\n  and more" if len(matches) > SHOWN_IDS else ""
        raise click.UsageError(f"Several runs begin with {text}:\n{listed}{more}")
    return matches[0]
