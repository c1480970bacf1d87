"""What every command that destroys something, or changes many runs at once, asks before it acts: whether it shall."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def yes_option() -> Callable[[F], F]:
    """The option `--yes`, as the parameter `yes`."""
    return click.option("--yes", is_flag=True, help="Do it, without asking.")


def agreed(ctx: click.Context, question: str, *, yes: bool, as_json: bool) -> bool:
    """True if it shall be done. What would be done has been shown.

    Raises:
        UsageError: nobody can answer here, and there is no `--yes`.
    """
    if yes:
        return True
    if as_json or sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError("Nobody can answer here: with --yes it is done.", ctx)
    return click.confirm(question, err=True)
