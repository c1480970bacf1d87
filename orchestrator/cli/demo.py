"""`baton demo`: real work on Redis and workers that need no preparation, and what came of it."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import click

from orchestrator.cli import output
from orchestrator.cli.common import checked_exchange_from, json_option, settings_from
from orchestrator.client import Orchestrator
from orchestrator.demo import Summary, TaskLine, run_demo
from orchestrator.embedded import WORKERS, Embedded, InMemory, ProcessFleet, open_embedded
from shared.errors import InvalidCall
from shared.settings import Settings
from shared.texts import printable

FIRST_ROWS = 3
EXIT_TERMINATED = 143


@click.command(name="demo")
@click.option("--keep", is_flag=True, help="Afterwards keep Redis and workers up, for a look from a second terminal.")
@json_option()
@click.pass_context
def demo(ctx: click.Context, *, keep: bool, as_json: bool) -> int:
    """Do real work on a Redis and workers of its own.

    Counts the Python standard library with a task run per source file. Uses --url or $BATON_REDIS_URL if one is given,
    else a private redis-server or valkey-server from PATH, else a Redis in this process. Nothing stays behind.
    """
    if keep and as_json:
        raise click.UsageError("--keep goes without --json: it tells where Redis is when all else is told.")
    with _ending_orderly():
        embedded = _opened(ctx)
        try:
            return _run(embedded, keep=keep, as_json=as_json)
        finally:
            embedded.close()


def _opened(ctx: click.Context) -> Embedded:
    if ctx.obj["url"] is None:
        return open_embedded(settings_from(ctx))
    with checked_exchange_from(ctx) as (exchange, _):
        return ProcessFleet(settings_from(ctx), f"Redis at {exchange.address} from --url", WORKERS)


def _run(embedded: Embedded, *, keep: bool, as_json: bool) -> int:
    if keep and isinstance(embedded, InMemory):
        raise InvalidCall(
            "--keep needs a redis-server or valkey-server on PATH, or BATON_REDIS_URL: "
            "what is in this process nobody else can look at"
        )
    with Orchestrator(settings=embedded.settings) as baton, _shown(embedded, as_json=as_json) as show:
        embedded.serve()
        summary = run_demo(baton, show)
    if as_json:
        output.document(document(summary))
    if keep:
        click.echo(f"\nexport BATON_REDIS_URL={embedded.settings.redis_url}\nCtrl-C ends it.")
        signal.pause()
    return 0 if summary.agrees else 1


@contextmanager
def _ending_orderly() -> Iterator[None]:
    """Let SIGTERM end this command as an error would: what it brought up is taken down."""

    def end(_number: int, _frame: FrameType | None) -> None:
        sys.exit(EXIT_TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Board(Protocol):
    """What is drawn in a terminal while the runs go on."""

    def begins(self, settings: Settings) -> None:
        """Redis is there."""

    def goes_on(self, lines: Sequence[TaskLine]) -> None:
        """More runs have ended."""

    def stop(self) -> None:
        """Clear the board away; may be called twice."""


class Show:
    """Tells of the demo in plain lines; in a terminal there is a board while it runs."""

    def __init__(self, tell: Callable[[str], None], board: Board | None) -> None:
        self._tell = tell
        self._board = board

    def begins(self, embedded: Embedded) -> None:
        """Redis is there."""
        self._tell(f"baton: {embedded.title}, {embedded.workers}, stopped at the end")
        if embedded.differs:
            self._tell(f"what differs here: {embedded.differs}")
        if self._board is not None:
            self._board.begins(embedded.settings)

    def has_found(self, python: str, files: int) -> None:
        """So many source files will be parsed."""
        what = f"{files} source files, and one file that is no source"
        self._tell(f"census of the Python {python} standard library: {what}")

    def goes_on(self, lines: Sequence[TaskLine]) -> None:
        """Progress is for terminals."""
        if self._board is not None:
            self._board.goes_on(lines)

    def ends(self, summary: Summary) -> None:
        """The board goes, the lines stay."""
        self.stop()
        self._tell("\n".join(["", *_task_lines(summary), "", *_table(summary), "", *_last_lines(summary)]))

    def stop(self) -> None:
        """Leave the terminal as it was."""
        if self._board is not None:
            self._board.stop()


@contextmanager
def _shown(embedded: Embedded, *, as_json: bool) -> Iterator[Show]:
    show = Show(_say_nothing, None) if as_json else Show(click.echo, None if output.is_plain() else _board())
    try:
        show.begins(embedded)
        yield show
    finally:
        show.stop()


def _say_nothing(_text: str) -> None:
    """What would be told stands in the document."""


def _board() -> Board:
    # Late: rich takes a tenth of a second, which help and pipes need not wait for.
    from orchestrator.cli.board import LiveBoard  # noqa: PLC0415

    return LiveBoard()


def document(summary: Summary) -> dict[str, Any]:
    """What the demo came to, for `--json`."""
    return {
        "agrees": summary.agrees,
        "seconds": summary.seconds,
        "tasks": [
            {"task": task.task, "total": task.total, "ends": task.ends, "note": task.note} for task in summary.lines
        ],
        "packages": list(summary.rows),
        "total": summary.total,
        "failures": [{"path": path, "error": f"{type(error).__name__}: {error}"} for path, error in summary.failures],
        "runs": summary.runs,
        "retried": summary.retried,
    }


def _task_lines(summary: Summary) -> list[str]:
    return [
        f"  {task.task:<15}{f'{task.ended} of {task.total}':<12}{task.ends_told} {task.note}".rstrip()
        for task in summary.lines
    ]


def _table(summary: Summary) -> list[str]:
    left = len(summary.rows) - FIRST_ROWS
    rows = [*summary.rows[:FIRST_ROWS], summary.total]
    width = max(len(row["package"]) for row in rows)
    lines = [
        f"  {row['package']:<{width}}{row['files']:>9,}{row['lines']:>10,}{row['functions']:>11,}{row['classes']:>9,}"
        for row in rows
    ]
    lines.insert(FIRST_ROWS, f"  ... {left} more")
    return [f"  {'package':<{width}}{'files':>9}{'lines':>10}{'functions':>11}{'classes':>9}", *lines]


def _last_lines(summary: Summary) -> list[str]:
    caught = [
        f"caught: parse({Path(path).name!r}): {printable(f'{type(error).__name__}: {error}')}"
        for path, error in summary.failures
    ]
    ends = ", ".join(f"{number} {state}" for state, number in summary.runs.most_common())
    told = f"{summary.runs.total()} task runs, {summary.seconds:.1f} s: {ends}, {summary.retried} retried"
    return [*caught, told, "try: baton demo --keep   then   baton runs list --state FAILED   and   baton cheatsheet"]
