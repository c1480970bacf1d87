"""Tables and lines in a terminal, with colours. The only module of tables that needs rich; `output` imports it late."""

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.cli.cells import GAP, Cell, Cells, Column

_NARROWEST = 5
"""Cells below which a column cannot be read any more; a table that would come to that is written row by row."""


def table(columns: Sequence[Column], rows: Sequence[Cells]) -> None:
    """As `Pencil.table`; in a terminal that is too narrow for columns, each cell on a line of its own."""
    console = _console()
    if console.width < _least_width(columns, rows):
        _draw_rows(console, columns, rows)
    else:
        _draw_table(console, columns, rows)


def facts(pairs: Sequence[tuple[str, Cell]]) -> None:
    """As `Pencil.facts`."""
    width = max(len(name) for name, _ in pairs)
    for name, cell in pairs:
        _console().print(Text.assemble((f"{name:<{width}}  ", "bold"), cell), soft_wrap=True)


def entry(cells: Cells) -> None:
    """As `Pencil.entry`."""
    parts = [part for cell in cells for part in (cell, "  ")]
    _console().print(Text.assemble(*parts[:-1]), soft_wrap=True)


def _console() -> Console:
    return Console(highlight=False, markup=False, emoji=False)


def _least_width(columns: Sequence[Column], rows: Sequence[Cells]) -> int:
    widths = [
        max((cell_len(row[i].text) for row in rows), default=0) if column.is_whole else _NARROWEST
        for i, column in enumerate(columns)
    ]
    return sum(widths) + GAP * (len(columns) - 1)


def _draw_table(console: Console, columns: Sequence[Column], rows: Sequence[Cells]) -> None:
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, GAP, 0, 0), show_edge=False)
    for column in columns:
        drawn.add_column(
            Text(column.title),
            justify="right" if column.is_number else "left",
            no_wrap=column.is_whole,
            overflow="fold",
        )
    for row in rows:
        drawn.add_row(*(Text(cell.text, cell.style) for cell in row))
    console.print(drawn)


def _draw_rows(console: Console, columns: Sequence[Column], rows: Sequence[Cells]) -> None:
    for i, row in enumerate(rows):
        if i:
            console.print()
        for column, cell in zip(columns, row, strict=True):
            if cell.text:
                console.print(Text.assemble((f"{column.title} ", "bold"), cell), soft_wrap=True)
