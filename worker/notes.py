"""What bodies say, until it is stored: rows of logs, progress, names. One keeper per process, which sends seldom.

# Nothing is sent per line: what was said goes with the next report, or after a second, in one call for all runs.
# While Redis is away it is kept, as much of it as a log would hold; a process that dies takes a second of it along.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from queue import SimpleQueue
from typing import Final

from shared.clock import now
from shared.errors import BatonError
from shared.notes import Note, row
from shared.texts import printable

log = logging.getLogger("baton.worker")
STORE_AFTER: Final = 1.0
FIRST, MOST = 200, 1000
"""So many rows are kept of a run, of which so many are its first."""
Send = Callable[[Sequence[Note]], Sequence[str]]


@dataclass(slots=True)
class _Said:
    """What an attempt has said: rows that are not stored, and how many there were."""

    run_id: str
    token: str
    name: str = ""
    progress: str = ""
    rolled_back: bool = False
    last: int = 0
    rows: list[str] = field(default_factory=list)
    is_new: bool = True
    is_over: bool = False


class Notes:
    """Gathers what the bodies of this process say. Any thread may say something; one at a time stores."""

    def __init__(self, store: Callable[[], None]) -> None:
        self._store = store
        # A body may be interrupted at any line: what it calls here takes no lock that could stay taken.
        self._heard: deque[Callable[[], None]] = deque()
        self._calls: SimpleQueue[bool] = SimpleQueue()
        self._is_called = False
        self._said: dict[str, _Said] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.waits = False
        """True if something is to be stored."""

    def log(self, run_id: str, token: int, attempt: int, level: int, message: str) -> None:
        """A row of a run's log."""
        self._hear(partial(self._row, run_id, token, attempt, level, message, now()))

    def progress(self, run_id: str, token: int, text: str) -> None:
        """How far the run has come; only the last of these is stored."""
        self._hear(partial(self._set, run_id, token, "progress", printable(text)))

    def name(self, run_id: str, token: int, name: str) -> None:
        """What the run is called."""
        self._hear(partial(self._set, run_id, token, "name", printable(name)))

    def rolled_back(self, run_id: str, token: int) -> None:
        """The attempt, which may have ended before, was rolled back."""
        self._hear(partial(self._set, run_id, token, "rolled_back", True))
        self.ended(run_id)

    def store(self, send: Send) -> None:
        """Send what was said; what does not arrive is kept. By one thread at a time, in the order of calls."""
        with self._lock:
            self.waits = False
            while self._heard:
                self._heard.popleft()()
            notes = [
                Note(said.run_id, said.token, said.name, said.progress, said.last, tuple(said.rows), said.rolled_back)
                for said in self._said.values()
                if said.is_new
            ]
        if not notes:
            return
        try:
            send(notes)
        except BatonError as error:
            log.warning("what %d runs have said is not stored yet: %s", len(notes), error)
            self.waits = True
            return
        with self._lock:
            for note in notes:
                self._forget(note)

    def ended(self, run_id: str) -> None:
        """The run's attempt is over; what waits is stored still."""
        if self._said or self._heard:
            self._heard.append(partial(self._end, run_id))

    def close(self) -> None:
        """End the thread that stores what waits."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._calls.put(True)

    # --- under the lock -----------------------------------------------------------------------------------------------

    def _row(self, run_id: str, token: int, attempt: int, level: int, message: str, at: datetime) -> None:
        said = self._of(run_id, token)
        said.last += 1
        said.rows.append(row(said.last, at, logging.getLevelName(level), attempt, printable(message)))
        if len(said.rows) > MOST:
            del said.rows[FIRST]

    def _set(self, run_id: str, token: int, what: str, value: str | bool) -> None:
        setattr(self._of(run_id, token), what, value)

    def _end(self, run_id: str) -> None:
        said = self._said.get(run_id)
        if said is not None:
            said.is_over = True
            if not said.is_new:
                del self._said[run_id]

    def _of(self, run_id: str, token: int) -> _Said:
        text = str(token)
        said = self._said.get(run_id)
        if said is None or said.token != text:
            # An earlier attempt's rows were stored before this one began, or belong to nobody any more.
            said = self._said[run_id] = _Said(run_id, text)
        said.is_new = True
        return said

    def _forget(self, note: Note) -> None:
        said = self._said.get(note.run_id)
        if said is None or said.token != note.token:
            return
        told = (note.name, note.progress, note.rolled_back)
        if said.last == note.last and (said.name, said.progress, said.rolled_back) == told:
            said.rows, said.name, said.progress, said.rolled_back, said.is_new = [], "", "", False, False
            if said.is_over:
                del self._said[note.run_id]
        else:
            said.rows = said.rows[-(said.last - note.last) :] if said.last > note.last else []

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _hear(self, what: Callable[[], None]) -> None:
        self._heard.append(what)
        self.waits = True
        if self._thread is None or not self._thread.is_alive():  # a fork takes no thread along
            self._thread = threading.Thread(target=self._run, name="baton-notes", daemon=True)
            self._thread.start()
        if not self._is_called:
            self._is_called = True
            self._calls.put(True)

    def _run(self) -> None:
        me = threading.current_thread()
        while self._thread is me:
            self._calls.get()
            time.sleep(STORE_AFTER)
            self._is_called = False
            if self.waits and self._thread is me:
                try:
                    self._store()
                except Exception:
                    log.exception("what runs have said could not be stored")
