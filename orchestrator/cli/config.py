"""`baton config show`: every setting, its value and its source. Shows no secret, and changes nothing."""

import os
from collections.abc import Iterator
from difflib import get_close_matches

import click

from orchestrator.cli import output
from orchestrator.cli.cells import QUIET, Cell, Column
from orchestrator.cli.common import hidden, json_option, line, say, settings_from
from shared.settings import PREFIX, Settings

COLUMNS = (Column("setting", is_whole=True), Column("value"), Column("source"))
DEFAULT = "default"
URL = "redis_url"


@click.command(name="show")
@json_option()
@click.pass_context
def show(ctx: click.Context, *, as_json: bool) -> None:
    """Show every setting, its value, and where it came from.

    A setting is the environment's variable of its name in upper case behind BATON_; a password is not shown.
    """
    settings = settings_from(ctx)
    rows = [(name, _shown(name, value), _source(ctx, name)) for name, value in settings.model_dump().items()]
    if as_json:
        output.document({name: {"value": value, "source": source} for name, value, source in rows})
    else:
        output.table(
            COLUMNS,
            [(name, f"{value}", Cell(source, QUIET if source == DEFAULT else "")) for name, value, source in rows],
        )
    for text in _misspelled():
        say(ctx, text)


def _shown(name: str, value: object) -> object:
    return hidden(str(value)) if name == URL else value


def _source(ctx: click.Context, name: str) -> str:
    if name == URL and ctx.obj["url"] is not None:
        return "--url"
    variable = PREFIX + name.upper()
    return f"${variable}" if variable in os.environ else DEFAULT


def _misspelled() -> Iterator[str]:
    """Variables that read like a setting, and are none: other parts of Baton have theirs, so that is no error."""
    variables = [PREFIX + name.upper() for name in Settings.model_fields]
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in variables:
            alike = get_close_matches(name, variables, n=1, cutoff=0.85)
            if alike:
                yield f"{line(name)} is no setting. Did you mean {alike[0]}?"
