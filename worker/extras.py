"""For each body that is parked one worker more, which begins only what somebody waits for: how many, and which of them.

# A parked body holds no slot. So as many extras begin runs as bodies are parked, those of extras included; the others
# are quiet, and end when they have had nothing to do for a while. A fleet has at most `DEPTH` processes for each slot.
"""

import logging
from collections.abc import Collection
from typing import Final, Protocol, TypeVar

from shared.clock import monotonic
from worker.page import Page

log = logging.getLogger("baton.fleet")
DEPTH: Final = 50
LINGER: Final = 1.0
"""Seconds for which an extra without work is kept: runs that wait one after the other need no fork each."""


class Lent(Protocol):
    """A worker, as far as it matters here."""

    name: str
    page: Page
    told_to_stop: bool

    def quiet(self, *, on: bool) -> None:
        """Have it begin nothing more, or begin again."""

    def tell_to_stop(self) -> None:
        """Have it finish what runs, give back the rest, and end."""


W = TypeVar("W", bound=Lent)


def without_extras(workers: Collection[W]) -> list[W]:
    """Those that hold a slot of the fleet."""
    return [worker for worker in workers if not worker.page.is_extra()]


class Extras:
    """Of a fleet with so many slots. `missing`: how many are to be started, as of the last look."""

    def __init__(self, slots: int, linger: float = LINGER) -> None:
        self.missing = 0
        self._linger = linger
        self._most = slots * (DEPTH - 1)
        self._idle_since: dict[str, float] = {}
        self._told = False
        self._look_at = float("inf")

    def due_in(self) -> float:
        """Seconds until it is worth to look, though nobody parks or goes on."""
        return max(0.0, self._look_at - monotonic())

    def look(self, workers: Collection[Lent], *, at_once: bool = False) -> None:
        """Let as many begin runs as bodies are parked, and end what is idle; `at_once`, what is not needed."""
        parked = sum(worker.page.is_parked() for worker in workers)
        extras = [worker for worker in workers if worker.page.is_extra()]
        staying = [worker for worker in extras if not worker.told_to_stop]
        self.missing = max(0, min(parked - len(staying), self._most - len(extras)))
        self._tell_of_the_bound(is_reached=parked > len(staying) + self.missing)
        if not staying:
            self._idle_since, self._look_at = {}, float("inf")
            return
        staying.sort(key=_is_idle)
        for worker in staying[:parked]:
            if worker.page.is_quiet():
                worker.quiet(on=False)
        self._end_idle(staying[parked:], at_once=at_once)

    def _end_idle(self, surplus: Collection[Lent], *, at_once: bool) -> None:
        present = monotonic()
        idle = {worker.name: self._idle_since.get(worker.name, present) for worker in surplus if _is_idle(worker)}
        for worker in surplus:
            if at_once or idle.get(worker.name, present) + self._linger <= present:
                worker.tell_to_stop()
            elif not worker.page.is_quiet():
                worker.quiet(on=True)
        self._idle_since = idle
        self._look_at = present + self._linger if surplus else float("inf")

    def _tell_of_the_bound(self, *, is_reached: bool) -> None:
        if is_reached and not self._told:
            log.warning(
                "%d processes for each worker wait for other runs: no more are started, and what those wait for may "
                "never begin",
                DEPTH,
            )
        self._told = is_reached


def _is_idle(worker: Lent) -> bool:
    return not any(worker.page.bodies())
