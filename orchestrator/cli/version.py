"""`baton version`: what is installed here, and what answers over there."""

import platform
from importlib.metadata import version as installed

import click

from orchestrator.cli import output
from orchestrator.cli.common import exchange_from, json_option
from shared.errors import RedisUnavailable
from shared.ledger import RunLedger
from shared.version import LAYOUT, __version__


@click.command(name="version")
@json_option()
@click.pass_context
def version(ctx: click.Context, *, as_json: bool) -> None:
    """Show the versions of Baton and of what it stands on."""
    rows = {
        "baton": __version__,
        "layout": str(LAYOUT),
        "python": platform.python_version(),
        "rq": installed("rq"),
        "redis-py": installed("redis"),
        "server": _server(ctx),
    }
    if as_json:
        output.document(rows)
    else:
        output.facts(list(rows.items()))


def _server(ctx: click.Context) -> str:
    try:
        with exchange_from(ctx) as (exchange, settings):
            return RunLedger(exchange, settings).server_version()
    except RedisUnavailable:
        return "no answer"
