"""`baton version`: what is installed here, and what answers over there."""

import json
import platform
from importlib.metadata import version as installed

import click

from orchestrator.cli.common import ledger_from
from shared.errors import RedisUnavailable
from shared.version import LAYOUT, __version__


@click.command(name="version")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
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
        click.echo(json.dumps(rows))
        return
    for name, value in rows.items():
        click.echo(f"{name:<9} {value}")


def _server(ctx: click.Context) -> str:
    try:
        with ledger_from(ctx) as ledger:
            return ledger.server_version()
    except RedisUnavailable:
        return "no answer"
