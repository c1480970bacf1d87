"""How commands answer: one JSON document, a drawn table in a terminal, plain aligned text elsewhere. Asks nobody.

# Nothing from Redis or from users is shown but through `line`: no markup, no control character, no mark of direction.
# Where nobody looks (a pipe, a file) and with NO_COLOR, nothing is coloured, drawn or cut.
"""

import json
import os
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import click

from orchestrator.cli.cells import GAP, Cell, Column, Pencil, Row, cleaned
from orchestrator.cli.common import line
from orchestrator.cli.ending import Ending


def document(value: Any) -> None:
    """Answer with one JSON document, on one line."""
    click.echo(json.dumps(value))


def ending(told: Ending, *, as_json: bool) -> int:
    """Answer with what a run returned, or say on stderr why there is nothing; the exit code."""
    if as_json:
        document(told.document())
    elif told.error is None:
        click.echo(told.text)
    if told.error is not None:
        click.echo(line(told.error), err=True)
    return 0 if told.error is None else 1


def table(columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Answer with a table."""
    cells = [cleaned(row) for row in rows]
    if not is_plain():
        _pencil().table(columns, cells)
        return
    texts = [[column.title for column in columns], *([cell.text for cell in row] for row in cells)]
    for text in aligned(texts, [column.is_number for column in columns]):
        click.echo(text)


def facts(pairs: Sequence[tuple[str, Cell | str]]) -> None:
    """Answer with names and what belongs to them, a line each; empty ones are left out."""
    names, told = zip(*pairs, strict=True)
    shown = [(name, cell) for name, cell in zip(names, cleaned(told), strict=True) if cell.text]
    if not is_plain():
        _pencil().facts(shown)
        return
    width = max(len(name) for name, _ in shown)
    for name, cell in shown:
        click.echo(f"{name:<{width}}  {cell.text}")


def entry(cells: Row) -> None:
    """One line of a stream: its parts, as long as they are."""
    told = cleaned(cells)
    if not is_plain():
        _pencil().entry(told)
        return
    click.echo("  ".join(cell.text for cell in told))


def is_plain() -> bool:
    """True if the answer goes where nobody looks, or where colours are not wanted."""
    stdout = sys.stdout
    is_terminal = stdout is not None and stdout.isatty() and os.environ.get("TERM") != "dumb"
    return not is_terminal or bool(os.environ.get("NO_COLOR"))


def _pencil() -> Pencil:
    # Late: rich takes a tenth of a second, which help, pipes and completion need not wait for.
    from orchestrator.cli import drawing  # noqa: PLC0415

    return drawing


def aligned(rows: Sequence[Sequence[str]], numbers: Sequence[bool] = ()) -> Iterator[str]:
    """The rows as lines, each column as wide as its widest text; `numbers` says which stand at the right."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    right = [*numbers, *([False] * (len(widths) - len(numbers)))]
    for row in rows:
        parts = [_padded(text, width, at_right) for text, width, at_right in zip(row, widths, right, strict=True)]
        yield (" " * GAP).join(parts).rstrip()


def _padded(text: str, width: int, at_right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if at_right else text + space


def _width(text: str) -> int:
    """How many cells of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text if not _is_on_top(char))


def _is_on_top(char: str) -> bool:
    return unicodedata.category(char) in ("Mn", "Me")
