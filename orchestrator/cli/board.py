"""What the demo shows in a terminal while it runs: a bar per task, runs per state, the latest transitions."""

import contextlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from itertools import islice

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from orchestrator.cli.cells import STATES, state_label
from orchestrator.cli.common import line
from orchestrator.cli.run_page import history_row
from orchestrator.demo import TaskLine
from shared.connect import connect
from shared.errors import RedisUnavailable
from shared.follow import Overheard
from shared.settings import Settings

LATEST = 5
"""Transitions that are shown."""
TIME_OF_DAY = slice(11, 23)
"""Of a time as it is stored: hours to milliseconds."""
MOST_AT_ONCE = 2000
"""Transitions that are heard before one drawing; on a busy Redis the rest waits for the next."""


class LiveBoard:
    """Is drawn over and over until it is stopped, and then gone."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("  {task.description:<14}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[ends]}")
        )
        self._bars: dict[str, TaskID] = {}
        self._states: dict[str, str] = {}
        self._latest: deque[Text] = deque(maxlen=LATEST)
        self._overheard: Overheard | None = None
        self._live = Live(get_renderable=self._drawn, console=Console(highlight=False), transient=True)

    def begins(self, settings: Settings) -> None:
        """Hear this Redis, and draw."""
        self._exchange = connect(settings)
        self._overheard = Overheard(self._exchange)
        self._live.start()

    def goes_on(self, lines: Sequence[TaskLine]) -> None:
        """Move the bars."""
        for task in lines:
            if task.task not in self._bars:
                self._bars[task.task] = self._progress.add_task(task.task, total=task.total, ends="")
            self._progress.update(self._bars[task.task], total=task.total, completed=task.ended, ends=task.ends_told)

    def stop(self) -> None:
        """Clear the board away."""
        self._live.stop()
        if self._overheard is not None:
            self._overheard.close()
            self._exchange.close()
            self._overheard = None

    def _drawn(self) -> Group:
        # Rich draws from one thread at a time, so one at a time hears.
        with contextlib.suppress(RedisUnavailable):  # who waits for the runs says so, this is only for the eye
            self._hear()
        counts = Counter(self._states.values())
        states = [
            part for kind, number in sorted(counts.items()) for part in (f"  {number} ", (kind, STATES.get(kind, "")))
        ]
        return Group(self._progress, Text(), Text.assemble(*states), Text(), *self._latest)

    def _hear(self) -> None:
        if self._overheard is None:
            return
        for run_id, told in islice(self._overheard.heard(), MOST_AT_ONCE):
            row = history_row(told)
            self._states[run_id] = line(str(row.get("type", "?")), 64)
            self._latest.append(Text.assemble(*_entry(run_id, row)))


def _entry(run_id: str, row: dict[str, object]) -> Iterator[str | tuple[str, str]]:
    kind = str(row.get("type", "?"))
    yield f"  {line(str(row.get('time', '?')), 64)[TIME_OF_DAY]}  {line(run_id, 64)}  "
    yield line(state_label(kind, str(row.get("name", ""))), 64), STATES.get(kind, "")
