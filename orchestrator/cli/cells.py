"""What a table is made of, whoever draws it: columns, cells, colours, and the words for a state. Draws nothing."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from orchestrator.cli.common import line
from shared.state_types import StateType

ALARM: Final = "bold red"
QUIET: Final = "dim"
STATES: Final[Mapping[str | None, str]] = {
    StateType.RUNNING: "cyan",
    StateType.CANCELLING: "yellow",
    StateType.COMPLETED: "green",
    StateType.FAILED: "red",
    StateType.CRASHED: ALARM,
    StateType.CANCELLED: "yellow",
}
"""The colour of each state; those that wait have none."""
GAP: Final = 2
"""Cells between two columns."""


class Column(NamedTuple):
    """A column: `whole` ones are never folded, since somebody copies from them; numbers stand at the right."""

    title: str
    is_number: bool = False
    is_whole: bool = False


class Cell(NamedTuple):
    """A text in a table, with the colour it has in a terminal."""

    text: str
    style: str = ""


Row = Sequence[Cell | str]
Cells = Sequence[Cell]


class Pencil(Protocol):
    """Draws in a terminal what `output` else writes as plain text."""

    def table(self, columns: Sequence[Column], rows: Sequence[Cells]) -> None:
        """A table."""

    def facts(self, pairs: Sequence[tuple[str, Cell]]) -> None:
        """Names and what belongs to them, a line each."""

    def entry(self, cells: Cells) -> None:
        """A line of a stream."""


def cleaned(row: Row) -> Cells:
    """The row with nothing in it that is not plainly visible."""
    return [Cell(line(text), style) for text, style in (cell if isinstance(cell, Cell) else (cell, "") for cell in row)]


def state_label(kind: str | None, name: str | None) -> str:
    """A state in words: its type, and before that its name where it tells more."""
    return f"{name} ({kind or '?'})" if name and not is_usual(name, kind) else kind or "?"


def is_usual(name: str, kind: str | None) -> bool:
    """True if a state's name tells no more than its type."""
    return name.upper() == kind
