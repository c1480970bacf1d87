"""Code of a run that waits for other runs lends its worker slot to them: it says so in the page, and marks those runs.

What the supervisor makes of it is in `extras.py`. Waits that end soon cost a note in a queue.

# Whoever waits takes no lock here: a signal that ends the body may strike in any line, and so may a finalizer come. It
# notes that it waits, and that it does no more; a thread of the worker, which no signal reaches, does the rest.
"""

import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from shared.clock import monotonic
from shared.errors import BatonError
from shared.failpoints import is_off
from shared.ledger import RunLedger
from worker.page import Page

log = logging.getLogger("baton.worker")
LEND_AFTER = 0.005
"""Seconds of waiting that are not worth a process: most waits for a run that begins at once are shorter."""
REPEAT = 2.0
"""Seconds after which runs are marked again that have not ended: a hint can be lost."""
Awaited = Callable[[], Iterable[tuple[RunLedger, str]]]
"""Asked in another thread: the runs that are waited for still, each with the ledger where it is. What is equal to
another one tells of the same runs, or of some of them."""


@dataclass(slots=True, eq=False)
class _Wait:
    awaited: Awaited
    batch: int
    since: float
    is_over: bool = False


class Lender:
    """Of one worker. It lends between `open` and `close`, while a run of its own is executed."""

    def __init__(self, page: Page, repeat: float = REPEAT) -> None:
        self._page = page
        self._repeat = repeat
        self._pid = os.getpid()
        self._is_open = False
        self._batch = 0
        self._entered: queue.SimpleQueue[_Wait | None] = queue.SimpleQueue()
        self._lent: set[_Wait] = set()
        self._marked: dict[Awaited, float] = {}
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Runs are executed from now on."""
        self._is_open = True

    def close(self) -> None:
        """None is executed any more: whoever waits still, as threads that were left behind, has no slot to lend."""
        self._is_open = False
        self._batch += 1
        self._marked = {}
        if self._lent or self._page.is_parked():
            self._lent.clear()
            self._tell()

    def end(self) -> None:
        """No more batches will come."""
        self._entered.put(None)

    @contextmanager
    def lent(self, awaited: Awaited) -> Iterator[None]:
        """Lend the slot while the block waits, if it does so for more than a moment."""
        # The child of a fork has the page, and no thread.
        if not self._is_open or self._pid != os.getpid():
            yield
            return
        if self._thread is None or not self._thread.is_alive():  # a signal may have struck before it was started
            self._thread = threading.Thread(target=self._work, name="baton-lender", daemon=True)
            self._thread.start()
        wait = _Wait(awaited, self._batch, monotonic())
        self._entered.put(wait)
        try:
            yield
        finally:
            wait.is_over = True
            if wait in self._lent:
                self._lent.discard(wait)
                self._tell()

    def _tell(self) -> None:
        # Several threads tell. Whoever wrote last looks again afterwards, so that the last word is true.
        while True:
            is_lent = bool(self._lent)
            self._page.park(on=is_lent)
            if is_lent == bool(self._lent):
                return

    # --- in the thread beside -----------------------------------------------------------------------------------------

    def _work(self) -> None:
        pending: deque[_Wait] = deque()
        while True:
            try:
                if not self._round(pending):
                    return
            except Exception:
                log.exception("lending: an error of its own")  # without this thread a full fleet would stand still
                time.sleep(self._repeat)

    def _round(self, pending: deque[_Wait]) -> bool:
        """Lend what has waited for long enough, or else wait for the next one; False when that is the last."""
        if pending:
            time.sleep(max(0.0, pending[0].since + LEND_AFTER - monotonic()))
        with suppress(queue.Empty):
            seconds = self._repeat if self._lent else None
            while True:
                wait = self._entered.get_nowait() if pending else self._entered.get(timeout=seconds)
                if wait is None:
                    return False
                pending.append(wait)
        while pending and (pending[0].is_over or pending[0].since + LEND_AFTER <= monotonic()):
            wait = pending.popleft()
            if not wait.is_over:
                self._lent.add(wait)
        # Also those that were over before they stood there, and those whose end was lost with an interrupt.
        for wait in list(self._lent):
            if wait.is_over or wait.batch != self._batch:
                self._lent.discard(wait)
        if self._lent or self._page.is_parked():
            self._tell()
            self._mark()
        return True

    def _mark(self) -> None:
        """Mark what is waited for, but not what was marked just now: whoever waits for many runs waits often."""
        present = monotonic()
        self._marked = {awaited: at for awaited, at in self._marked.items() if at + self._repeat / 2 > present}
        todo: dict[RunLedger, dict[str, None]] = {}
        for wait in sorted(self._lent, key=lambda wait: wait.since):
            if wait.awaited not in self._marked:
                self._marked[wait.awaited] = present
                for ledger, run_id in wait.awaited():
                    todo.setdefault(ledger, {})[run_id] = None
        for ledger, run_ids in todo.items():
            try:
                ledger.wait_for(list(run_ids))
            except BatonError as error:
                log.warning("what a run waits for could not be marked: %s", error)


class Lends(Protocol):
    """Whoever has a slot to lend."""

    def lent(self, awaited: Awaited) -> AbstractContextManager[None]:
        """Lend the slot while the block waits."""
        ...


_here: ContextVar[Lends | None] = ContextVar("baton_lender", default=None)
_of_process: Lends | None = None


def lend_through(lender: Lends, *, whole_process: bool) -> None:
    """Let what this thread executes lend through this one; with `whole_process` also threads that bodies start."""
    global _of_process  # noqa: PLW0603 - such threads have no context
    if whole_process:
        _of_process = lender
    _here.set(lender)


@contextmanager
def lending(awaited: Awaited) -> Iterator[None]:
    """Put around a wait for runs. Outside of a worker it does nothing."""
    lender = _here.get() or _of_process
    if lender is None or is_off("lending"):
        yield
        return
    with lender.lent(awaited):
        yield
