"""Groups of commands that import a command only when it is called. Which there are is told by a table; knows none."""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

Table = Mapping[str, tuple[str, str]]
"""Per command, by its words joined by spaces: where it lives as `module:name`, '' for a group; its line in the help."""


class LateGroup(click.Group):
    """The commands of a table whose words begin with `path`; the list of them and its help import none."""

    def __init__(self, *, table: Table, path: str = "", **attributes: Any) -> None:
        super().__init__(**attributes)
        self._table = table
        self._path = path

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, sorted."""
        names = (words.removeprefix(self._path) for words in self._table if words.startswith(self._path))
        return sorted(name for name in names if " " not in name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """The command of this name, imported now."""
        words = self._path + cmd_name
        if words not in self._table or " " in cmd_name:
            return None
        place, told = self._table[words]
        if not place:
            return LateGroup(table=self._table, path=f"{words} ", name=cmd_name, help=told)
        module, _, attribute = place.partition(":")
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
            formatter.write_dl([(name, self._line(name)) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands that begin so, from the table, and the group's own options."""
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return [
            *(CompletionItem(name, help=self._line(name)) for name in names),
            *click.Command.shell_complete(self, ctx, incomplete),
        ]

    def _line(self, name: str) -> str:
        return self._table[self._path + name][1]
