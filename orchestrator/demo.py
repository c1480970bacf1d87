"""The demo's course: bring up Redis and workers, run the census, tell what came of it. Draws nothing.

What it tells goes to a `Show`; the command line has one for terminals and one for plain lines.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from orchestrator.census import Counts, Row, flaky_lookup, parse, tabulate, total_of, walk
from orchestrator.client import Orchestrator
from orchestrator.futures import RunFuture
from shared.clock import monotonic
from shared.runs import TaskRun
from shared.states import State


@dataclass
class TaskLine:
    """How far the runs of one task are: how many there are, and how many ended in which state."""

    task: str
    total: int
    ends: Counter[str] = field(default_factory=Counter)
    note: str = ""

    @property
    def ended(self) -> int:
        """How many have ended."""
        return self.ends.total()

    @property
    def ends_told(self) -> str:
        """How many ended in which state, in words."""
        if self.total == 1:
            return " ".join(self.ends)
        return ", ".join(f"{number} {state}" for state, number in self.ends.most_common())


class Show(Protocol):
    """Whoever tells people of the demo. Called in this order, from the thread that runs the demo."""

    def has_found(self, python: str, files: int) -> None:
        """So many source files will be parsed."""

    def goes_on(self, lines: Sequence[TaskLine]) -> None:
        """Something has changed; called often."""

    def ends(self, summary: "Summary") -> None:
        """All is done."""


@dataclass(frozen=True)
class Summary:
    """What the demo came to. `agrees`: the table counts what the runs counted, and only the planted one failed."""

    lines: Sequence[TaskLine]
    rows: Sequence[Row]
    total: Row
    failures: Sequence[tuple[str, BaseException]]
    runs: Counter[str]
    retried: int
    seconds: float
    agrees: bool


def run_demo(baton: Orchestrator, show: Show) -> Summary:
    """Run the census on whatever fleet serves this Orchestrator."""
    course = _Course(show)
    lookup, walked = flaky_lookup.submit(), walk.submit()
    course.follow("walk", [walked])
    found: list[str] = walked.task_run.state.result()
    paths = [*found, str(Path(sys.executable).resolve())]
    show.has_found(sys.version.split()[0], len(paths) - 1)
    futures = baton.submit_many((parse, {"path": path}) for path in paths)
    course.follow("parse", futures)
    course.follow("flaky_lookup", [lookup])
    outcomes = [(path, future.result(raise_on_failure=False)) for path, future in zip(paths, futures, strict=True)]
    counted: list[tuple[str, Counts]] = [
        (path, counts) for path, counts in outcomes if not isinstance(counts, BaseException)
    ]
    failures = [(path, error) for path, error in outcomes if isinstance(error, BaseException)]
    table = tabulate.submit(counted)
    course.follow("tabulate", [table])
    course.lines["flaky_lookup"].note = _retries_of(baton.history(lookup.run_id))
    rows: list[Row] = table.task_run.state.result()
    summary = course.summary(rows, counted, failures)
    show.ends(summary)
    return summary


class _Course:
    """What has become of the demo's runs so far."""

    def __init__(self, show: Show) -> None:
        self.lines = {name: TaskLine(name, 1) for name in ("walk", "parse", "flaky_lookup", "tabulate")}
        self._show = show
        self._began = monotonic()
        self._runs: list[TaskRun] = []

    def follow(self, name: str, futures: Sequence[RunFuture[Any]]) -> None:
        """Wait for the ends of these runs of one task, and tell of each."""
        line = self.lines[name]
        line.total = len(futures)
        for future in futures:
            future.wait()
            self._runs.append(future.task_run)
            line.ends[future.task_run.state.type.value] += 1
            self._show.goes_on(list(self.lines.values()))

    def summary(
        self, rows: Sequence[Row], counted: Sequence[tuple[str, Counts]], failures: Sequence[tuple[str, BaseException]]
    ) -> Summary:
        """What it all came to."""
        total = total_of(rows)
        return Summary(
            lines=list(self.lines.values()),
            rows=rows,
            total=total,
            failures=failures,
            runs=Counter(run.state.type.value for run in self._runs),
            retried=sum(run.run_count > 1 for run in self._runs),
            seconds=monotonic() - self._began,
            agrees=(total["files"], total["lines"]) == (len(counted), sum(counts["lines"] for _, counts in counted))
            and len(failures) == 1,
        )


def _retries_of(history: Sequence[State[Any]]) -> str:
    """In words, on which attempt a run ended, and why not before."""
    waits = [state for state in history if state.name == "AwaitingRetry"]
    if not waits:
        return ""
    why = (waits[-1].message or "").removeprefix("Task run encountered an exception ")
    return f"on attempt {history[-1].state_details.attempt} (AwaitingRetry: {why})"
