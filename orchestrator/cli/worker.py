"""`baton worker`: start a fleet in this process and stay until it is told to stop."""

import click

from orchestrator.cli.common import settings_from
from orchestrator.client import Orchestrator
from shared import logs
from shared.specs import queue_name
from worker.loader import load_tasks
from worker.process import run_fleet


@click.command(name="worker")
@click.option(
    "-m", "--module", "modules", multiple=True, required=True, help="A module with @task functions; repeatable."
)
@click.option(
    "-q", "--queue", "queues", multiple=True, default=["default"], help="Queues in order of priority: a,b or repeated."
)
@click.option("--concurrency", type=click.IntRange(1, 1000), default=1, show_default=True, help="Worker processes.")
@click.option("--burst", is_flag=True, help="End when the queues are empty.")
@click.pass_context
def worker(
    ctx: click.Context, modules: tuple[str, ...], queues: tuple[str, ...], concurrency: int, *, burst: bool
) -> int:
    """Start a fleet of workers for the tasks of these modules.

    SIGTERM or Ctrl-C stops: what runs may finish within the grace, what has not started goes back.
    """
    logs.set_up()
    settings = settings_from(ctx)
    names = list(dict.fromkeys(queue_name("--queue", name) for part in queues for name in part.split(",")))
    with Orchestrator(settings=settings):  # what bodies submit goes to the Redis that their runs came from
        return run_fleet(settings, names, concurrency, load_tasks(modules), burst=burst)
