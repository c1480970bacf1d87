"""The `baton` command: its table of commands, its global options, and how errors end it. Does nothing itself.

# `baton --help` must stay quick: a command's module is imported only when the command is called.
"""

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import shell_complete

from orchestrator.cli.common import (
    EXIT_CONFIG,
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    EXIT_NO,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    Options,
    clean,
    line,
)
from orchestrator.cli.groups import LateGroup
from orchestrator.cli.spans import SECONDS
from shared.errors import BatonError, ConfigError, InvalidCall, InvalidValue, RedisUnavailable
from shared.texts import text_of
from shared.version import __version__

COMPLETION = "_BATON_COMPLETE"
"""Set by the shells' completion scripts, to what they want to know."""

# Where each command lives ('' for a group), and its line in the list of commands: the first of its own help.
COMMANDS = {
    "cheatsheet": ("orchestrator.cli.cheatsheet:cheatsheet", "Print the questions that redis-cli answers."),
    "check": ("orchestrator.cli.check:check", "Ask whether this Redis is fit for Baton."),
    "completion": ("orchestrator.cli.completion:completion", "Print the completion script of a shell."),
    "config": ("", "Look at the settings."),
    "config show": ("orchestrator.cli.config:show", "Show every setting, its value, and where it came from."),
    "demo": ("orchestrator.cli.demo:demo", "Do real work on a Redis and workers of its own."),
    "doctor": ("orchestrator.cli.doctor:doctor", "Check every invariant of what is in Redis."),
    "graph": ("", "Look at graphs."),
    "graph show": (
        "orchestrator.cli.graph:show",
        "Show a graph that a module has drawn: each call under those that it needs.",
    ),
    "limits": ("", "Look at limits, and set them."),
    "limits delete": ("orchestrator.cli.limits:delete", "Delete a limit: everybody who waits for it goes on."),
    "limits list": ("orchestrator.cli.limits:list_limits", "List all limits: slots, who holds them, how many wait."),
    "limits set": ("orchestrator.cli.limits:set_limit", "Let so many runs with this limit run at the same time."),
    "limits show": (
        "orchestrator.cli.limits:show",
        "Show one limit: its holders, and the runs that wait for a slot.",
    ),
    "quarantine": ("", "Look at what was put aside."),
    "quarantine drop": (
        "orchestrator.cli.quarantine:drop",
        "Remove entries: these, all that are there for a reason, or all.",
    ),
    "quarantine list": (
        "orchestrator.cli.quarantine:list_entries",
        "List what was put aside, newest first.",
    ),
    "quarantine requeue": (
        "orchestrator.cli.quarantine:requeue",
        "Put the runs of these entries back to work, and drop the entries.",
    ),
    "quarantine show": ("orchestrator.cli.quarantine:show", "Show one entry whole."),
    "queues": ("", "Look at queues, and steer them."),
    "queues cap": ("orchestrator.cli.queues_steer:cap", "Let a queue hold so many waiting runs, or any number."),
    "queues list": ("orchestrator.cli.queues:list_queues", "List all queues: what waits, runs and has ended."),
    "queues move": ("orchestrator.cli.queues_steer:move", "Put what waits in a queue into another one."),
    "queues pause": ("orchestrator.cli.queues_steer:pause", "Begin nothing of a queue any more."),
    "queues purge": ("orchestrator.cli.queues_steer:purge", "Cancel what waits in a queue for a worker."),
    "queues resume": ("orchestrator.cli.queues_steer:resume", "Begin the runs of a queue again."),
    "queues show": ("orchestrator.cli.queues:show", "Show one queue and the runs that are next."),
    "reconcile": (
        "orchestrator.cli.reconcile:command",
        "Mend what was done by hand, by RQ's tools, or by an accident.",
    ),
    "runs": ("", "Look at runs, and steer them."),
    "runs cancel": ("orchestrator.cli.runs_steer:cancel", "Cancel runs."),
    "runs force": ("orchestrator.cli.runs_steer:force", "Write a state without asking the rules."),
    "runs history": ("orchestrator.cli.runs:history", "Show every transition of a run, with the gaps in time."),
    "runs list": ("orchestrator.cli.runs_list:list_runs", "List runs, newest first."),
    "runs logs": ("orchestrator.cli.runs_logs:logs", "Print the log of a run."),
    "runs result": ("orchestrator.cli.runs:result", "Print what a run returned, or say why it did not."),
    "runs retry": ("orchestrator.cli.runs_steer:retry", "Run again what has ended."),
    "runs show": ("orchestrator.cli.runs:show", "Show everything about one run."),
    "runs watch": ("orchestrator.cli.runs_watch:watch", "Follow the transitions of one run, or of all."),
    "schedules": ("", "Look at schedules, and steer them."),
    "schedules create": ("orchestrator.cli.schedules:create", "Have the task KEY submitted again and again."),
    "schedules delete": ("orchestrator.cli.schedules:delete", "Forget a schedule; runs that are there go on."),
    "schedules list": (
        "orchestrator.cli.schedules:list_schedules",
        "List all schedules: when they are due, what they have fired.",
    ),
    "schedules pause": (
        "orchestrator.cli.schedules:pause",
        "Fire nothing more until it is resumed; runs that are there go on.",
    ),
    "schedules preview": ("orchestrator.cli.schedules:show_preview", "Print when a schedule is due next."),
    "schedules resume": ("orchestrator.cli.schedules:resume", "Fire again from now on."),
    "schedules run": ("orchestrator.cli.schedules:run_now", "Submit a run of a schedule now, besides its occurrences."),
    "server": ("orchestrator.cli.server:server", "Submit what schedules have due, and keep house where no fleet does."),
    "submit": ("orchestrator.cli.submit:submit", "Submit one run of the task KEY."),
    "tasks": ("", "Look at tasks."),
    "tasks list": ("orchestrator.cli.tasks:list_tasks", "List all tasks: who knows them, how their runs ended."),
    "tasks show": ("orchestrator.cli.tasks:show", "Show one task and its newest runs."),
    "version": ("orchestrator.cli.version:version", "Show the versions of Baton and of what it stands on."),
    "worker": ("orchestrator.cli.worker:worker", "Start a fleet of workers for the tasks of these modules."),
    "workers": ("", "Look at workers, and have them end."),
    "workers check": ("orchestrator.cli.workers_steer:check", "Ask whether enough workers are alive."),
    "workers drain": ("orchestrator.cli.workers_steer:drain", "Have workers finish what runs, and end."),
    "workers list": ("orchestrator.cli.workers:list_workers", "List all workers: what they do and how they are."),
    "workers show": ("orchestrator.cli.workers:show", "Show one worker and what it holds."),
}


@click.group(cls=LateGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", help="Redis, as redis://host:port/db.  [env: BATON_REDIS_URL]")
@click.option("--timeout", type=SECONDS, metavar="SECONDS", help="How long to go on trying to reach Redis.")
@click.option("--quiet", is_flag=True, help="Only the answer and errors.")
@click.option("--verbose", is_flag=True, help="Say more.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="baton")
@click.pass_context
def cli(ctx: click.Context, url: str | None, timeout: float | None, *, quiet: bool, verbose: bool, debug: bool) -> None:
    """Baton runs Python functions on a fleet of workers, over Redis and RQ."""
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other.", ctx)
    ctx.obj.update(url=url, timeout=timeout, quiet=quiet, verbose=verbose, debug=debug)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    options = Options(url=None, timeout=None, quiet=False, verbose=False, debug=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an answer that cannot be shown here is one all the same
    try:
        code = _called(sys.argv[1:] if arguments is None else list(arguments), options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever it is, it ends in one line and a code
        if options["debug"]:
            traceback.print_exception(error)
        code = _ended_by(error)
    sys.exit(code)


def _called(words: list[str], options: Options) -> int:
    asked = os.environ.get(COMPLETION)
    if asked:
        return shell_complete(cli, {"obj": options}, "baton", COMPLETION, asked)
    with cli.make_context("baton", words, obj=options) as ctx:
        code: Any = cli.invoke(ctx)
    return code if isinstance(code, int) else 0


def _ended_by(error: BaseException) -> int:
    """Say what is wrong, in words that hold nothing unseen; the exit code."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return EXIT_INTERRUPTED
    if isinstance(error, BrokenPipeError):
        _forget_stdout()
        return 0
    if isinstance(error, click.ClickException):
        vars(error)["message"] = clean(error.message)  # it may quote an argument, which may hold anything
        error.show()
        return error.exit_code
    if isinstance(error, BatonError):
        click.echo(f"baton: {clean(str(error))}", err=True)
        return exit_code(error)
    told = line(f"{type(error).__name__}: {text_of(error)}")
    click.echo(f"baton: internal error: {told} (--debug shows the traceback)", err=True)
    if isinstance(error, OSError):
        _forget_stdout()
    return EXIT_INTERNAL


def _forget_stdout() -> None:
    """Let what is still buffered go nowhere: the interpreter would complain at its end that it cannot be written."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def exit_code(error: BatonError) -> int:
    """The exit code that an error ends a command with."""
    if isinstance(error, ConfigError):
        return EXIT_CONFIG
    if isinstance(error, RedisUnavailable) or isinstance(error.__cause__, RedisUnavailable):
        return EXIT_UNAVAILABLE
    return EXIT_USAGE if isinstance(error, InvalidValue | InvalidCall) else EXIT_NO
