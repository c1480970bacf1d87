"""The `baton` command: its groups, how errors end it, and what is loaded when. Does nothing itself.

# `baton --help` must stay quick: a command's module is imported only when the command is called.
"""

import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from shared.errors import BatonError, ConfigError, InvalidCall, InvalidValue, RedisUnavailable
from shared.texts import printable
from shared.version import __version__

EXIT_NO = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 69
EXIT_INTERNAL = 70
EXIT_CONFIG = 78

# Where each command lives, and its line in the list of commands.
COMMANDS = {
    "doctor": ("orchestrator.cli.doctor:doctor", "Check every invariant of what is in Redis."),
    "runs": ("orchestrator.cli.runs:runs", "Look at runs."),
    "version": ("orchestrator.cli.version:version", "Show the versions of Baton and of what it stands on."),
    "worker": ("orchestrator.cli.worker:worker", "Start a fleet of workers."),
}


class LateGroup(click.Group):
    """A group that imports a command when it is called; its list of commands needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, sorted."""
        return sorted({*COMMANDS, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported now."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is asked for; where there is none, the error names those that are spelled alike."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            alike = get_close_matches(args[0], self.list_commands(ctx))
            if not alike:
                raise
            raise click.UsageError(f"{error.message} Did you mean {' or '.join(alike)}?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=LateGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", envvar="BATON_REDIS_URL", help="Redis, as redis://host:port/db.  [env: BATON_REDIS_URL]")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="baton")
@click.pass_context
def cli(ctx: click.Context, url: str | None, *, debug: bool) -> None:
    """Baton runs Python functions on a fleet of workers, over Redis and RQ."""
    ctx.obj = {"url": url, "debug": debug}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    given: Sequence[str] = sys.argv[1:] if arguments is None else arguments
    try:
        code: Any = cli.main(list(given), prog_name="baton", standalone_mode=False)
    except click.exceptions.Exit as end:
        code = end.exit_code
    except click.Abort:
        code = 130
    except click.ClickException as error:
        vars(error)["message"] = printable(error.message)  # it may quote an argument, which may hold anything
        error.show()
        code = error.exit_code
    except BatonError as error:
        if "--debug" in given:
            traceback.print_exc()
        click.echo(f"baton: {printable(str(error))}", err=True)
        code = exit_code(error)
    except Exception:  # noqa: BLE001 - an error of ours: told apart from "the answer is no", which is 1
        traceback.print_exc()
        code = EXIT_INTERNAL
    sys.exit(code if isinstance(code, int) else 0)


def exit_code(error: BatonError) -> int:
    """The exit code that an error ends a command with."""
    if isinstance(error, ConfigError):
        return EXIT_CONFIG
    if isinstance(error, RedisUnavailable):
        return EXIT_UNAVAILABLE
    return EXIT_USAGE if isinstance(error, InvalidValue | InvalidCall) else EXIT_NO
