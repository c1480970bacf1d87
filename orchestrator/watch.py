"""Waiting for the ends of runs: who waits for which run, and reading records when something was heard of them.

One per Orchestrator and process. Everything that reads or resolves runs in the subscriber's thread.
"""

import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.channels import Subscriber
from shared.errors import BadEnvelope, BatonError, Closed, RunGone, WouldDeadlock
from shared.ledger import RunLedger
from shared.runs import TaskRun
from shared.settings import Settings
from shared.transport import Exchange

log = logging.getLogger("baton.watch")


@dataclass(slots=True, eq=False)
class End:
    """What becomes of one watched run: its final record, or why there will be none. Told once, by calling `tell`."""

    run_id: str
    tell: "Callable[[End], object]"
    found: TaskRun | BatonError | None = None


class Watch:
    """Tells waiters of a run's end, over one subscriber for all runs."""

    # Who waits and what is heard change together, under one lock: a run that is given up by one waiter and asked for by
    # the next is heard again, with a first look of its own.
    # Whoever leaves takes no lock. Finalizers leave too, and garbage is collected at any allocation, in any thread:
    # also in the middle of what is done here under the lock.

    def __init__(self, ledger: RunLedger, exchange: Exchange, settings: Settings) -> None:
        self._ledger = ledger
        self._exchange = exchange
        self._settings = settings
        self._closed = False
        self.begin_anew()
        _all.add(self)

    def begin_anew(self) -> None:
        """Forget everything, in the child of a fork: who waits, hears, or holds the lock is not here."""
        self._lock = threading.Lock()
        self._left: deque[Sequence[End]] = deque()
        self._waiters: dict[str, list[End]] = {}
        self._subscriber: Subscriber | None = None

    def enter(self, run_ids: Sequence[str], tell: Callable[[End], object]) -> list[End]:
        """Begin to wait for these runs; hand the answer to `leave` when done.

        `tell` is called in the subscriber's thread, once for each run that ends, with what was found of it.

        Raises:
            Closed: no more.
        """
        ends = [End(run_id, tell) for run_id in run_ids]
        with self._lock:
            self.check_open()
            self._tidy()
            if self._subscriber is None:
                self._subscriber = Subscriber(self._exchange, self._look, self._tidy, self._settings, self._lock)
            self._subscriber.add(run_ids)
            for end in ends:
                self._waiters.setdefault(end.run_id, []).append(end)
        return ends

    def leave(self, ends: Sequence[End]) -> None:
        """Wait no more. A run that nobody waits for is not heard any longer, within a second."""
        if any(end.found is None for end in ends):
            self._left.append(ends)

    def _tidy(self) -> None:
        """Forget those who left. Under the lock."""
        given_up = []
        while self._left:
            for end in self._left.popleft():
                waiters = self._waiters.get(end.run_id, [])
                if end in waiters:
                    waiters.remove(end)
                    if not waiters:
                        del self._waiters[end.run_id]
                        given_up.append(end.run_id)
        if given_up and self._subscriber is not None:
            self._subscriber.drop(given_up)

    def check_open(self) -> None:
        """Refuse to go on after `close`.

        Raises:
            Closed: no more.
        """
        if self._closed:
            raise Closed

    def check_thread(self) -> None:
        """Refuse to wait in the thread that would have to tell of the end: in a callback that it calls.

        Raises:
            WouldDeadlock: this is that thread.
        """
        subscriber = self._subscriber
        if subscriber is not None and subscriber.is_this_thread():
            raise WouldDeadlock(
                "a callback would wait for another run in the thread that hears of all ends: "
                "give that run a callback too, or wait in another thread"
            )

    def close(self) -> None:
        """Tell everybody who waits that this Orchestrator is closed."""
        with self._lock:
            self._closed = True
            subscriber, self._subscriber = self._subscriber, None
            waiters, self._waiters = self._waiters, {}
        if subscriber is not None:
            subscriber.close()
        for ends in waiters.values():
            for end in ends:
                self._tell(end, Closed())

    # --- in the subscriber's thread -----------------------------------------------------------------------------------

    def _look(self, run_ids: Sequence[str]) -> None:
        """Read these records; whoever waits for one that has ended hears of it.

        Raises:
            RedisUnavailable: no answer.
        """
        found = self._ledger.get_many(run_ids)
        ended = [run_id for run_id, run in found.items() if not isinstance(run, TaskRun) or run.state.is_final()]
        with self._lock:
            waiters = [(run_id, self._waiters.pop(run_id, [])) for run_id in ended]
            if self._subscriber is not None:
                self._subscriber.drop(ended)
        for run_id, ends in waiters:
            for end in ends:
                self._tell(end, as_found(run_id, found[run_id]))

    @staticmethod
    def _tell(end: End, found: TaskRun | BatonError) -> None:
        end.found = found
        try:
            end.tell(end)
        except BaseException:
            # SystemExit too: a callback that ends this thread would leave everybody else waiting.
            log.exception("run %s: somebody who waits for its end could not be told", end.run_id)


def as_found(run_id: str, run: TaskRun | BadEnvelope | None) -> TaskRun | BatonError:
    """What the ledger read, as one hears of it; errors are new ones, since each of those who raise it adds to it."""
    if isinstance(run, TaskRun):
        return run
    if run is None:
        return RunGone(f"Run {run_id} is not in Redis: it was deleted, is past its retention, or never was.")
    return BadEnvelope(str(run))


_all: weakref.WeakSet[Watch] = weakref.WeakSet()


def _begin_anew() -> None:
    for watch in _all:
        watch.begin_anew()


os.register_at_fork(after_in_child=_begin_anew)
