"""The slots of a worker process with many of them: a run that waits for other runs gives its own back meanwhile.

# Everything here happens in the event loop's thread, but for `Slot.lent`, which is called wherever code of a run waits.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from shared.clock import monotonic
from shared.errors import BatonError
from shared.ledger import RunLedger
from worker.lending import REPEAT, Awaited

log = logging.getLogger("baton.worker")
SHARE: Final = 2
"""One in so many places is kept for runs that others wait for."""


class Slots:
    """How many runs may be begun, of a process with so many slots, and with places for those that wait too."""

    def __init__(self, slots: int, places: int, woken: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
        self.present = 0
        self._slots = slots
        self._places = places
        self._woken = woken
        self._loop = loop
        self._parked: set[Slot] = set()
        self._is_due = False
        self._marked: dict[str, float] = {}

    def free(self) -> int:
        """How many more any runs may be begun, in as far as places are left for what those wait for."""
        return max(0, min(self._slots - self.present + len(self._parked), self._most() - self.present))

    def free_for_awaited(self) -> int:
        """How many runs may be begun that somebody here waits for; 0 if they were looked for just now."""
        if not (self._parked and self._is_due):
            return 0
        return max(0, min(self._slots - self.present + len(self._parked), self._places - self.present))

    def look_again(self) -> None:
        """There may be awaited runs again."""
        self._is_due = bool(self._parked)
        if self._is_due:
            self._woken.set()

    async def mark(self) -> None:
        """Mark what is waited for, so that it can be begun before all else; until the next `look_again`."""
        self._is_due = False
        present, marked = monotonic(), {}
        todo: dict[RunLedger, list[str]] = {}
        for slot in self._parked:
            for ledger, run_id in slot.awaited():
                marked[run_id] = self._marked.get(run_id, present)
                if run_id not in self._marked or self._marked[run_id] + REPEAT <= present:
                    marked[run_id] = present
                    todo.setdefault(ledger, []).append(run_id)
        self._marked = marked
        for ledger, run_ids in todo.items():
            try:
                await asyncio.to_thread(ledger.wait_for, list(dict.fromkeys(run_ids)))
            except BatonError as error:
                log.warning("what a run waits for could not be marked: %s", error)

    def take(self) -> "Slot":
        """A slot for a run that begins."""
        self.present += 1
        return Slot(self, self._loop)

    def give_back(self, slot: "Slot") -> None:
        """The run in this slot has ended."""
        self.present -= 1
        slot.is_over = True
        self._parked.discard(slot)

    def note(self, slot: "Slot") -> None:
        """Whether a run waits has changed."""
        if slot.is_parked() and slot not in self._parked:
            self._parked.add(slot)
            self._is_due = True
            self._woken.set()
        elif not slot.is_parked():
            self._parked.discard(slot)

    def _most(self) -> int:
        return max(self._slots, self._places // SHARE)


class Slot:
    """Of one run. Any number of its tasks and threads may wait at a time."""

    def __init__(self, slots: Slots, loop: asyncio.AbstractEventLoop) -> None:
        self.is_over = False
        self._slots = slots
        self._loop = loop
        self._waits: list[Awaited] = []

    @contextmanager
    def lent(self, awaited: Awaited) -> Iterator[None]:
        """Lend the slot while the block waits."""
        self._loop.call_soon_threadsafe(self._begin, awaited)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._end, awaited)

    def is_parked(self) -> bool:
        """True while something of the run waits for other runs."""
        return bool(self._waits) and not self.is_over

    def awaited(self) -> Iterator[tuple[RunLedger, str]]:
        """The runs that are waited for, each with the ledger where it is."""
        for awaited in self._waits:
            yield from awaited()

    def _begin(self, awaited: Awaited) -> None:
        self._waits.append(awaited)
        self._slots.note(self)

    def _end(self, awaited: Awaited) -> None:
        self._waits.remove(awaited)
        self._slots.note(self)
