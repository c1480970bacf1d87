"""When a worker process is replaced by a fresh one: by its runs, its memory, its age, or for being idle.

# Never many at once: limits are drawn for each process, and until those who were replaced last have successors that
# work, no more than a quarter of the fleet (one at least) is on its way.
"""

import os
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.clock import monotonic
from shared.errors import ConfigError
from worker.child import Child
from worker.extras import without_extras
from worker.options import FleetOptions

JITTER = 0.1
MEGABYTE = 1024 * 1024
SHARE = 4


def drawn(limit: float) -> float:
    """This limit for one process: within 10 % of it, so that those that started together do not end together."""
    return limit * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, guards nothing


def resident_mb(pid: int) -> float:
    """Megabytes (of 2^20 bytes) of a process that are in memory, pages it shares included.

    Raises:
        OSError: there is no such process, or this system does not tell.
    """
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


def _is_leaving(child: Child) -> bool:
    return child.told_to_stop and not any(child.page.bodies())


@dataclass
class _Limits:
    """Of one process. `runs` and `busy_at` are what was last seen of its work."""

    memory_mb: float
    age: float
    idle: float
    runs: int
    busy_at: float


class Recycling:
    """Looks at the children of one fleet, on its beat."""

    def __init__(self, options: FleetOptions) -> None:
        self._options = options
        self._limits: dict[int, _Limits] = {}

    def check(self) -> None:
        """See that the memory limit can be kept. After the modules were imported, in the process that forks.

        Raises:
            ConfigError: this system does not tell a process's memory, or a process is born above the limit.
        """
        most = self._options.max_memory_mb
        if most is None:
            return
        try:
            own = resident_mb(os.getpid())
        except OSError as error:
            raise ConfigError(f"max_memory_mb needs /proc/<pid>/statm, which cannot be read here: {error}") from None
        if own > (1 - JITTER) * most:
            raise ConfigError(
                f"max_memory_mb is {most:g}, and a worker takes {own:.0f} MB before its first run: "
                f"set at least {1.5 * own:.0f}"
            )

    def most_runs(self) -> int:
        """After how many runs the next child is to end; 0 for any number."""
        most = self._options.max_runs
        return 0 if most is None else max(1, round(drawn(most)))

    def due(self, children: Collection[Child], wanted: int) -> list[tuple[Child, str]]:
        """The children to be replaced now, of a fleet that is to have so many; each with the reason in words."""
        self._limits = {child.pid: self._limits.get(child.pid) or self._draw(child) for child in children}
        # One that was told and is in a body works still, perhaps for hours.
        working = sum(child.page.rounds()[0] > 0 and not _is_leaving(child) for child in without_extras(children))
        most = max(1, wanted // SHARE) - (wanted - working)
        over = [(child, why) for child in children if not child.told_to_stop and (why := self._why(child))]
        return over[: max(0, most)]

    def _draw(self, child: Child) -> _Limits:
        given = self._options
        memory_mb, age, idle = (
            drawn(limit) if limit is not None else float("inf")
            for limit in (given.max_memory_mb, given.max_age, given.max_idle)
        )
        return _Limits(memory_mb, age, idle, child.page.runs(), monotonic())

    def _why(self, child: Child) -> str:
        return next(self._reasons(child, self._limits[child.pid]), "")

    def _reasons(self, child: Child, limits: _Limits) -> Iterator[str]:
        runs, present = child.page.runs(), monotonic()
        if runs != limits.runs or child.page.started():
            limits.runs, limits.busy_at = runs, present
        if self._options.max_memory_mb is not None and (taken := resident_mb(child.pid)) > limits.memory_mb:
            yield f"it takes {taken:.0f} MB"
        if child.age() > limits.age:
            yield f"it is {child.age():.0f} s old"
        if present - limits.busy_at > limits.idle:
            yield f"it has been idle for {present - limits.busy_at:.0f} s"
