"""Which runs a command is about: ids and beginnings of ids, or filters. Reads them, changes none.

# A filter means every run that matches it: places are read whole, not only their newest ids as for `baton runs list`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from itertools import islice
from typing import Any, TypeVar

import click

from orchestrator.cli import complete, output
from orchestrator.cli.common import SHOWN_IDS
from orchestrator.cli.runs import resolved
from orchestrator.cli.runs_list import COLUMNS, filter_options, run_cells
from shared.state_types import StateType
from shared.transport import Transport
from shared.views.queues import queue_names
from shared.views.runs import RunRow, Wanted, every, rows_of

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Question:
    """What the words of a command ask for."""

    ids: tuple[str, ...]
    wanted: Wanted
    limit: int | None
    is_all: bool


@dataclass(frozen=True, slots=True)
class Chosen:
    """The runs that a command is about, with the state of each."""

    at: float
    states: dict[str, str]
    first: tuple[RunRow, ...]
    """Those that are shown."""
    gaps: dict[str, str]

    @property
    def told(self) -> str:
        """How many there are, in words."""
        return tally(self.states.values())


def tally(states: Any) -> str:
    """How many runs there are in these states, in words."""
    counted = Counter(states)
    number = sum(counted.values())
    parts = ", ".join(f"{counted[state]} {state}" for state in sorted(counted))
    return f"{number} run{'' if number == 1 else 's'}" + (f": {parts}" if parts else "")


def selection_options(command: F) -> F:
    """Ids as arguments or the filters of `baton runs list`, as the parameter `question`."""

    @click.argument("ids", nargs=-1, metavar="[ID]...", shell_complete=complete.run_ids)
    @filter_options
    @click.option("--limit", type=click.IntRange(1), help="With a filter: no more than this, the newest.")
    @click.option("--all", "is_all", is_flag=True, help="Instead of a filter: every run.")
    @wraps(command)
    def selecting(
        *args: Any, ids: tuple[str, ...], wanted: Wanted, limit: int | None, is_all: bool, **kwargs: Any
    ) -> Any:
        question = Question(ids, wanted, limit, is_all)
        _check(question)
        return command(*args, question=question, **kwargs)

    return selecting  # type: ignore[return-value]  # the same command, called otherwise


def _check(question: Question) -> None:
    has_filter = question.wanted != Wanted()
    if question.ids and (has_filter or question.is_all or question.limit):
        raise click.UsageError("Ids or filters: not both.")
    if has_filter and question.is_all:
        raise click.UsageError("--all stands for every run: it goes without a filter.")
    if not (question.ids or has_filter or question.is_all):
        raise click.UsageError("Which runs? Give ids, or a filter such as --state or --task, or --all.")


def chosen(transport: Transport, question: Question, usual: frozenset[StateType]) -> Chosen:
    """The runs that are asked for. `usual` are the states that are meant where none is named.

    Raises:
        UsageError: an argument is no id and no beginning of one, or several runs begin so.
        RunGone: no run begins so.
    """
    at, _ = queue_names(transport)
    gaps: dict[str, str] = {}
    rows: Sequence[RunRow]
    if question.ids:
        rows = rows_of(transport, dict.fromkeys(resolved(transport, text) for text in question.ids))
        return Chosen(at, {row.id: row.state_type or "?" for row in rows}, tuple(rows[:SHOWN_IDS]), gaps)
    wanted = question.wanted if question.wanted.states else replace(question.wanted, states=usual)
    states: dict[str, str] = {}
    first: list[RunRow] = []
    for row in islice(every(transport, wanted, gaps), question.limit):
        states[row.id] = row.state_type or "?"
        if len(first) < SHOWN_IDS:
            first.append(row)
    return Chosen(at, states, tuple(first), gaps)


def show_plan(word: str, runs: Chosen, *, as_json: bool) -> None:
    """Answer with what would be done."""
    if as_json:
        output.document({"done": False, "runs": {run_id: {"state": state} for run_id, state in runs.states.items()}})
        return
    output.table(COLUMNS, run_cells(runs.first, runs.at))
    if left := len(runs.states) - len(runs.first):
        click.echo(f"and {left} more")
    click.echo(f"would {word} {runs.told}")
