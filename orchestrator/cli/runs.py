"""`baton runs`: looks at runs. Changes none."""

import json

import click

from orchestrator.cli.common import SHOWN_IDS, exchange_from, line
from orchestrator.cli.run_page import document, page
from shared.details import details, ids_like
from shared.errors import RunGone
from shared.ids import is_id
from shared.ledger import RunLedger
from shared.transport import Transport

SHORTEST_PREFIX = 8
_ANY_ID = "00000000-0000-7000-8000-000000000000"
_EXAMPLE = "01a1f879-5eda-7005-8876-23ab1bc095ff"


@click.group(name="runs")
def runs() -> None:
    """Look at runs."""


@runs.command(name="show")
@click.argument("run_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="One JSON document; nothing in it is cut.")
@click.pass_context
def show(ctx: click.Context, run_id: str, *, as_json: bool) -> None:
    """Show everything about one run.

    ID may be the beginning of an id, 8 characters or more, if only one run begins so.
    """
    with exchange_from(ctx) as (exchange, settings):
        RunLedger(exchange, settings).check()
        whole = resolved(exchange, run_id)
        found = details(exchange, whole, settings)
    if found is None:
        raise RunGone(f"Run {whole} is not in Redis: it was deleted, is past its retention, or never was.")
    if as_json:
        click.echo(json.dumps(document(found, settings)))
        return
    for text in page(found, settings):
        click.echo(text)


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
