"""`baton worker`: start a fleet in this process and stay until it is told to stop."""

import sys
from collections.abc import Sequence
from typing import Any

import click

from orchestrator.cli import output
from orchestrator.cli.common import json_option, line, settings_from
from orchestrator.cli.spans import SECONDS, SECONDS_OR_NONE
from orchestrator.client import Orchestrator
from shared import logs
from shared.errors import ConfigError
from shared.specs import queue_name
from worker.loader import load_tasks
from worker.options import MOST_SLOTS, ORDERS, FleetOptions


@click.command(name="worker")
@click.option(
    "-m", "--module", "modules", multiple=True, required=True, help="A module with @task functions; repeatable."
)
@click.option(
    "-q", "--queue", "queues", multiple=True, default=["default"], help="Queues in order of priority: a,b or repeated."
)
@click.option("--concurrency", type=click.IntRange(1, 1000), default=1, show_default=True, help="Worker processes.")
@click.option(
    "--async-slots",
    type=click.IntRange(1, MOST_SLOTS),
    help="Runs at a time in each process, on one event loop; without it one, in the main thread.",
)
@click.option("--name", default="", help="The fleet's name; by default host and pid.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Shown with each worker; repeatable.")
@click.option(
    "--grace", type=SECONDS_OR_NONE, metavar="SECONDS", help="What runs may take so long to finish at a stop."
)
@click.option("--order", type=click.Choice(ORDERS), default="strict", show_default=True, help="Of the queues.")
@click.option("--max-runs", type=click.IntRange(1), help="Replace a worker process after so many runs.")
@click.option("--max-memory-mb", type=click.FloatRange(0, min_open=True), help="Replace one that has become larger.")
@click.option("--max-age", type=SECONDS, metavar="SECONDS", help="Replace one that is older.")
@click.option("--max-idle", type=SECONDS, metavar="SECONDS", help="Replace one that has had no run for so long.")
@click.option("--health-port", metavar="[HOST:]PORT", help="Answer /livez and /readyz there.")
@click.option("--allow-eviction", is_flag=True, help="Work on a Redis that may drop keys when its memory is full.")
@click.option("--burst", is_flag=True, help="End when the queues are empty.")
@click.option("--reload", "reloads", is_flag=True, help="Start anew when a source file changes. For development only.")
@click.option("--check", is_flag=True, help="Print the keys of the tasks and leave; asks no Redis.")
@json_option("With --check: one JSON document.")
@click.pass_context
def worker(
    ctx: click.Context,
    /,
    modules: tuple[str, ...],
    queues: tuple[str, ...],
    concurrency: int,
    *,
    burst: bool,
    check: bool,
    reloads: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Start a fleet of workers for the tasks of these modules.

    SIGTERM or Ctrl-C stops: what runs may finish within the grace, what has not started goes back.
    """
    names = list(dict.fromkeys(queue_name("--queue", name) for part in queues for name in part.split(",")))
    if as_json and not check:
        raise click.UsageError("--json goes with --check: a fleet that runs has no answer, only a log.")
    if reloads and (check or burst):
        raise click.UsageError("--reload is for a fleet that stays: it goes with neither --check nor --burst.")
    if check:
        _answer_tasks(load_tasks(modules), as_json=as_json)
        return 0
    settings, given = settings_from(ctx), FleetOptions(**options)
    logs.set_up(logs.LEVELS["quiet" if ctx.obj["quiet"] else "verbose" if ctx.obj["verbose"] else "normal"])
    if reloads:
        return _reloaded(modules)
    # Late: RQ takes half as long to import as all of Baton, and neither help nor --check needs it.
    from worker.process import run_fleet  # noqa: PLC0415

    with Orchestrator(settings=settings):  # what bodies submit goes to the Redis that their runs came from
        return run_fleet(settings, names, concurrency, load_tasks(modules), burst=burst, options=given)


def _reloaded(modules: Sequence[str]) -> int:
    """Run this same command without --reload, again and again."""
    try:
        # Late: an extra, which only development needs.
        from worker.reloading import Reloader  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigError(f"--reload needs the library {error.name}: pip install 'baton[reload]'") from None
    return Reloader([word for word in sys.argv[1:] if word != "--reload"], modules).run()


def _answer_tasks(keys: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        output.document({"tasks": list(keys)})
        return
    for key in keys:
        click.echo(line(key))
