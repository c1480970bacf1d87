"""What a worker process has begun and not reported yet: taken by its main thread, watched by its flusher.

# The lock guards the hand and the connection: whoever holds it may call the ledger. The main thread holds it to take
# its next run and to call; never while a body runs.
# A batch that has lasted `busy_after` is over: what is finished is reported, what has not started goes back.
# A call is repeated until it is answered or the lease is over: nothing that was computed is dropped before that.
"""

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from shared.clock import monotonic
from shared.commands import Claim, Cycle, Outcome, Recorded, Report, Seat
from shared.errors import BatonError, Fenced, RedisUnavailable, StorageFull
from shared.failpoints import failpoint, is_off
from shared.ledger import RunLedger
from shared.result_redis import RedisStorage
from shared.retries import backoff
from shared.runs import TaskRun
from shared.scripts import Script
from shared.settings import Settings
from shared.states import State
from shared.transport import Argument, Command, Exchange
from shared.upkeep import HooksDue
from worker.caching import Caching
from worker.locks import LimitLocks
from worker.notes import Notes
from worker.page import Page
from worker.slots import Holds

log = logging.getLogger("baton.worker")
T = TypeVar("T")
BUSY = "Not started: the worker is busy."


def _locks(exchange: Exchange, settings: Settings) -> LimitLocks:
    return LimitLocks(Holds(exchange, RunLedger(exchange, settings), settings))


class Buried(Exception):
    """The lease of this worker is over: it may report no more, and never begins again under this name."""


class Hand:
    """The runs of one process, between their begin and the answer to their report. Every method may raise `Buried`."""

    def __init__(
        self, ledger: RunLedger, seat: Seat, page: Page, settings: Settings, exchange: Exchange | None = None
    ) -> None:
        """`exchange` is for what waits for others: locks. There are none without it."""
        self._lock = threading.Lock()
        self._ledger = ledger
        self._seat = seat
        self._page = page
        self._settings = settings
        self._waiting: deque[Claim] = deque()
        self._finished: list[Report] = []
        self._want = 1
        self._since: float | None = None
        self.notes = Notes(self.store_notes)
        locks = None if exchange is None else partial(_locks, exchange, settings)
        self.caching = Caching(RedisStorage(self), settings, locks, in_script=True)

    @property
    def seat(self) -> tuple[str, str]:
        """This worker's name, and the address of the Redis in which it has its lease."""
        return self._seat.worker, self._ledger.address

    # --- the main thread's side ---------------------------------------------------------------------------------------

    def refill(self, most: int, why: str = BUSY) -> Cycle:
        """Report what is finished, give back with this reason what has not started, begin up to `most` of what is next.

        With 0 nothing is begun.
        """
        with self._lock:
            self._return_waiting(why)
            self._adapt()
            answer = self._cycle(min(self._want, most))
            self._seat.turn()
            self._page.hold_ahead(on=len(answer.claims) > 1)
            if answer.claims:
                self._since = monotonic()
            return answer

    def trade(self, reports: Sequence[Report], want: int, *, awaited_only: bool = False) -> Cycle:
        """Report these at once, and begin up to `want` runs, all of which the caller executes now."""
        with self._lock:
            self._finished += reports
            self._seat.awaited_only = awaited_only
            answer = self._cycle(want)
            self._seat.turn()
            self._waiting.clear()
            return answer

    def take(self) -> Claim | None:
        """The next run to execute, or None when it is time for `refill`."""
        with self._lock:
            if not self._waiting or self._lasted() >= self._settings.busy_after:
                return None
            return self._waiting.popleft()

    def done(self, report: Report) -> None:
        """This attempt ended; it is reported with the next call."""
        with self._lock:
            self._finished.append(report)

    def report(self, report: Report) -> str:
        """Report the end of this attempt at once, with all that is finished; its verdict, see `cycle.lua`."""
        with self._lock:
            self._finished.append(report)
            answer = self._cycle(0)
            return answer.verdicts[-1]

    def restart(self, run_id: str, token: str, outcome: Outcome) -> Recorded:
        """Begin a run's next attempt in place, after the one with this token failed."""
        operation = secrets.token_hex(6)
        worker = self._seat.worker
        with self._lock:
            self._store_notes()  # under the token that ends here
            return self._insist(lambda: self._ledger.propose(run_id, outcome, operation, token=token, worker=worker))

    def look_up(self, run_ids: Sequence[str]) -> Mapping[str, TaskRun | BatonError | None]:
        """Runs as they are now; see `RunLedger.get_many`."""
        with self._lock:
            return self._insist(lambda: self._ledger.get_many(run_ids))

    def history(self, run_id: str) -> Sequence[State[object]]:
        """Every state the run went through; see `RunLedger.history`."""
        with self._lock:
            return self._insist(lambda: self._ledger.history(run_id))

    def next_hooks(self) -> HooksDue:
        """Take the hooks of an end that are due on the worker's queues."""
        worker, queues = self._seat.worker, self._seat.queues
        with self._lock:
            due = self._insist(lambda: self._ledger.next_hooks(worker, queues))
        if due.tag == "BURIED":
            raise Buried(worker)
        return due

    def hooks_called(self, entry: str, *, is_for_others: bool) -> None:
        """Confirm what was taken, or leave it to other workers."""
        worker = self._seat.worker
        with self._lock:
            self._insist(lambda: self._ledger.hooks_called(worker, entry, is_for_others=is_for_others))

    @property
    def address(self) -> str:
        """`host:port/db` of the Redis in which it has its lease."""
        return self._ledger.address

    def evaluate(self, script: Script, key_names: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run a script that is none of a run's, as `Transport.evaluate`. Raises Fenced where the lease is over."""
        return self._carried(lambda: self._ledger.transport.evaluate(script, key_names, arguments))

    def read(self, commands: Sequence[Command]) -> list[Any]:
        """Read what is none of a run's, as `Transport.read`. Raises Fenced where the lease is over."""
        return self._carried(lambda: self._ledger.transport.read(commands))

    def _carried(self, call: Callable[[], T]) -> T:
        try:
            with self._lock:
                return self._insist(call)
        except Buried as error:
            raise Fenced(str(error)) from error

    def close(self) -> None:
        """Nothing: the connection is that of the worker's loop."""

    def store_notes(self) -> None:
        """Store what bodies have said, if Redis answers."""
        with self._lock:
            self._store_notes()

    def last_words(self) -> None:
        """Report, before leaving, what the end of the lease left unreported.

        It is recorded where nobody has taken the runs away, and kept as too late where somebody has.
        """
        with self._lock:
            if self._finished:
                try:
                    self._hear(self._ledger.cycle(self._seat, self._finished, 0))
                except RedisUnavailable as error:
                    log.warning("%s", error)

    # --- the flusher's side -------------------------------------------------------------------------------------------

    def overdue_in(self) -> float | None:
        """Seconds until this batch has lasted too long; None if there is nothing to flush."""
        since = self._since
        return None if since is None else max(0.0, since + self._settings.busy_after - monotonic())

    def flush(self) -> None:
        """A body lasts: report what is finished and give back what has not started."""
        with self._lock:
            if self.overdue_in() != 0.0:
                return  # the main thread has refilled meanwhile
            self._return_waiting(BUSY)
            self._page.hold_ahead(on=False)
            if self._finished:
                self._cycle(0)
            self._since = None
            self._want = 1

    # --- both, under the lock -----------------------------------------------------------------------------------------

    def _cycle(self, want: int) -> Cycle:
        def call() -> Cycle:
            nonlocal want
            try:
                return self._ledger.cycle(self._seat, self._finished, want)
            except StorageFull:
                want = 0  # ends are recorded at maxmemory too, but nothing new may begin
                raise

        if self.notes.waits:
            self._store_notes()
        if self._finished:
            failpoint("finish.before")
        answer = self._insist(call)
        if self._finished:
            failpoint("finish.after")
        self._hear(answer)
        self._waiting.extend(answer.claims)
        return answer

    def _store_notes(self) -> None:
        self.notes.store(self._ledger.note)

    def _hear(self, answer: Cycle) -> None:
        """What became of the reports. Those of the buried lie in quarantine."""
        verdicts = answer.verdicts or [answer.tag] * len(self._finished)
        for report, verdict in zip(self._finished, verdicts, strict=True):
            if verdict not in ("OK", "CANCELLED"):
                log.warning(
                    "run %s: its outcome %s was not recorded: %s", report.run_id, report.outcome.state_name, verdict
                )
        self._finished = []
        if answer.tag == "BURIED":
            raise Buried(self._seat.worker)

    def _return_waiting(self, why: str) -> None:
        if self._waiting and not is_off("give_back"):
            held = [(claim.run_id, claim.token) for claim in self._waiting]
            self._insist(lambda: self._ledger.give_back(self._seat.worker, held, why))
            self._waiting.clear()

    def _insist(self, call: Callable[[], T]) -> T:
        tries = 0
        while True:
            self._page.round()
            if self._page.since_beat() > self._settings.lease and not is_off("fence"):
                raise Buried(f"{self._seat.worker}: no beat has reached Redis for a lease")
            try:
                return call()
            except RedisUnavailable as error:
                if is_off("repeat"):
                    raise
                log.warning("%s", error)
            time.sleep(backoff(tries))
            tries += 1

    def _adapt(self) -> None:
        """Begin more ahead while batches are short: by half the bound, so that a doubled batch stays within it."""
        lasted = self._lasted()
        if lasted >= self._settings.busy_after:
            self._want = 1
        elif self._since is not None and lasted < self._settings.busy_after / 2:
            self._want = min(2 * self._want, self._settings.begin_ahead)
        self._since = None

    def _lasted(self) -> float:
        return monotonic() - self._since if self._since is not None else 0.0
