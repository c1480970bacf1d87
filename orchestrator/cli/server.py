"""`baton server`: housekeeping and schedules, until it is told to stop."""

import click

from orchestrator.cli.common import settings_from
from orchestrator.service import Service
from shared import logs


@click.command(name="server")
@click.pass_context
def server(ctx: click.Context) -> int:
    """Submit what schedules have due, and keep house where no fleet does.

    Any number may run at the same time. SIGTERM or Ctrl-C stops.
    """
    logs.set_up(logs.LEVELS["quiet" if ctx.obj["quiet"] else "verbose" if ctx.obj["verbose"] else "normal"])
    return Service(settings_from(ctx)).run()
