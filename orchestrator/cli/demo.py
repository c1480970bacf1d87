"""`baton demo`: real work on Redis and workers that need no preparation, and what came of it."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from orchestrator.cli.common import settings_from
from orchestrator.client import Orchestrator
from orchestrator.demo import Summary, TaskLine, run_demo
from orchestrator.embedded import Embedded, InMemory, open_embedded
from shared.errors import InvalidCall
from shared.texts import printable

FIRST_ROWS = 3
EXIT_TERMINATED = 143


@click.command(name="demo")
@click.option("--keep", is_flag=True, help="Afterwards keep Redis and workers up, for a look from a second terminal.")
@click.pass_context
def demo(ctx: click.Context, *, keep: bool) -> int:
    """Count the Python standard library with a task run per source file.

    Uses $BATON_REDIS_URL if it is set, else a private redis-server or valkey-server from PATH, else a Redis in this
    process. Nothing stays behind.
    """
    with _ending_orderly():
        embedded = open_embedded(settings_from(ctx))
        try:
            return _run(embedded, keep=keep)
        finally:
            embedded.close()


def _run(embedded: Embedded, *, keep: bool) -> int:
    if keep and isinstance(embedded, InMemory):
        raise InvalidCall(
            "--keep needs a redis-server or valkey-server on PATH, or BATON_REDIS_URL: "
            "what is in this process nobody else can look at"
        )
    with Orchestrator(settings=embedded.settings) as baton, _show() as show:
        embedded.serve()
        show.begins(embedded)
        summary = run_demo(baton, show)
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


class PlainShow:
    """Tells of the demo in plain lines, when there is something to tell."""

    def begins(self, embedded: Embedded) -> None:
        """Redis and workers are there."""
        click.echo(f"baton: {embedded.title}, {embedded.workers}, stopped at the end")
        if embedded.differs:
            click.echo(f"what differs here: {embedded.differs}")

    def has_found(self, python: str, files: int) -> None:
        """So many source files will be parsed."""
        told = f"census of the Python {python} standard library: {files} source files, and one file that is no source"
        click.echo(told)

    def goes_on(self, lines: Sequence[TaskLine]) -> None:
        """Progress is for terminals."""

    def ends(self, summary: Summary) -> None:
        """All is done."""
        click.echo("\n" + "\n".join([*_task_lines(summary), "", *_table(summary), "", *_last_lines(summary)]))


class LiveShow(PlainShow):
    """Draws a bar per task while the demo runs."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("  {task.description:<14}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[ends]}")
        )
        self._bars: dict[str, TaskID] = {}
        self.live = Live(self._progress, console=console, transient=True)

    def goes_on(self, lines: Sequence[TaskLine]) -> None:
        """Move the bars."""
        for line in lines:
            if line.task not in self._bars:
                self._bars[line.task] = self._progress.add_task(line.task, total=line.total, ends="")
            self._progress.update(self._bars[line.task], total=line.total, completed=line.ended, ends=_ends(line))

    def ends(self, summary: Summary) -> None:
        """The bars go, the lines stay."""
        self.live.stop()
        super().ends(summary)


@contextmanager
def _show() -> Iterator[PlainShow]:
    console = Console()
    if not console.is_terminal or console.no_color:
        yield PlainShow()
        return
    show = LiveShow(console)
    with show.live:
        yield show


def _ends(line: TaskLine) -> str:
    if line.total == 1:
        return " ".join(line.ends)
    return ", ".join(f"{number} {state}" for state, number in line.ends.most_common())


def _task_lines(summary: Summary) -> list[str]:
    return [
        f"  {line.task:<15}{f'{line.ended} of {line.total}':<12}{_ends(line)} {line.note}".rstrip()
        for line in summary.lines
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
