"""Waiting for the ends of runs: who waits for which run, and reading records when something was heard of them.

One per Orchestrator and process. Everything that reads or resolves runs in the subscriber's thread.
"""

import logging
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.channels import Subscriber
from shared.errors import BatonError, Closed, RedisUnavailable, RunGone
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
    run: TaskRun | None = None
    error: BatonError | None = None


class Watch:
    """Tells waiters of a run's end, over one subscriber for all runs."""

    # Who waits and what is heard change together, under one lock: a run that is given up by one waiter and asked for by
    # the next is heard again, with a first look of its own.

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
        self._waiters: dict[str, list[End]] = {}
        self._subscriber: Subscriber | None = None

    def enter(self, run_id: str, tell: Callable[[], object]) -> End:
        """Begin to wait for a run; hand the answer to `leave` when done. `tell` is called in the subscriber's thread.

        Raises:
            Closed: no more.
        """
        return self.enter_many([run_id], lambda _end: tell())[0]

    def enter_many(self, run_ids: Sequence[str], tell: Callable[[End], object]) -> list[End]:
        """Begin to wait for several runs; `tell` is given the end of each, as it comes.

        Raises:
            Closed: no more.
        """
        ends = [End(run_id, tell) for run_id in run_ids]
        with self._lock:
            if self._closed:
                raise Closed
            if self._subscriber is None:
                self._subscriber = Subscriber(self._exchange, self._look, self._settings)
            for end in ends:
                self._waiters.setdefault(end.run_id, []).append(end)
            self._subscriber.add(run_ids)
        return ends

    def leave(self, ends: Sequence[End]) -> None:
        """Wait no more. A run that nobody waits for is not heard any longer."""
        with self._lock:
            given_up = []
            for end in ends:
                waiters = self._waiters.get(end.run_id, [])
                if end in waiters:
                    waiters.remove(end)
                if not waiters and self._waiters.pop(end.run_id, None) is not None:
                    given_up.append(end.run_id)
            if given_up and self._subscriber is not None:
                self._subscriber.drop(given_up)

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
                self._tell(end, None, Closed())

    # --- in the subscriber's thread -----------------------------------------------------------------------------------

    def _look(self, run_ids: Sequence[str]) -> None:
        """Read these records; whoever waits for one that has ended hears of it."""
        try:
            found = self._ledger.get_many(run_ids)
        except RedisUnavailable as error:
            log.warning("%s", error)  # the next reconnect or sweep looks again
            return
        ended = [run_id for run_id, run in found.items() if not isinstance(run, TaskRun) or run.state.is_final()]
        with self._lock:
            waiters = [(run_id, self._waiters.pop(run_id, [])) for run_id in ended]
            if self._subscriber is not None:
                self._subscriber.drop(ended)
        for run_id, ends in waiters:
            for end in ends:
                self._resolve(end, found[run_id])

    def _resolve(self, end: End, run: TaskRun | BatonError | None) -> None:
        if isinstance(run, TaskRun):
            self._tell(end, run, None)
        elif run is None:
            self._tell(end, None, RunGone(f"Run {end.run_id} is no longer in Redis."))
        else:
            self._tell(end, None, run)

    @staticmethod
    def _tell(end: End, run: TaskRun | None, error: BatonError | None) -> None:
        end.run, end.error = run, error
        try:
            end.tell(end)
        except Exception:
            # Such as the event loop of one that waited being closed; those after it must hear of theirs all the same.
            log.exception("run %s: somebody who waits for its end could not be told", end.run_id)


_all: weakref.WeakSet[Watch] = weakref.WeakSet()


def _begin_anew() -> None:
    for watch in _all:
        watch.begin_anew()


os.register_at_fork(after_in_child=_begin_anew)
