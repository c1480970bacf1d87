"""A fleet in threads of this process: the same loop, hand and engine as in processes, for a Redis in memory.

What differs: time limits interrupt Python code only, a body that ends its process ends everything, and nobody else can
see it.
"""

import logging
import queue
import random
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from shared.clock import iso, monotonic, now
from shared.commands import Seat
from shared.connect import connect
from shared.errors import RedisUnavailable
from shared.keys import WAKE_DUE
from shared.ledger import RunLedger
from shared.retries import backoff
from shared.settings import Settings
from shared.specs import registry
from shared.transport import Exchange
from shared.upkeep import Death, Pulse
from shared.version import __version__
from worker.extras import Extras, without_extras
from worker.hand import Buried, Hand
from worker.housekeeping import Upkeep, keep_going
from worker.left_hooks import hooked_tasks
from worker.lending import lend_through
from worker.loop import WorkLoop
from worker.page import Page
from worker.process_hooks import refuse_coroutine_hooks

log = logging.getLogger("baton.fleet")
STOP_SECONDS = 5.0


class _Member:
    """One worker thread: its loop, its page, its name."""

    def __init__(self, page: Page, queues: Sequence[str], exchange: Exchange, settings: Settings) -> None:
        self.name = f"thread-{secrets.token_hex(6)}"
        self.page = page
        self.told_to_stop = False
        self.line = line = exchange.line()
        seat = Seat(self.name, queues, awaited_only=page.is_extra())
        hand = Hand(RunLedger(line, settings), seat, self.page, settings, exchange)
        self.loop = WorkLoop(hand, line, self.page, queues, settings)
        self.loop.rest = self._rest
        self._told: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, name=f"baton-{self.name}", daemon=True)

    def tell_to_stop(self) -> None:
        """Have it finish what runs, give back the rest, and end."""
        self.told_to_stop = self.loop.stopping = True

    def quiet(self, *, on: bool) -> None:
        """Have it begin nothing more, or begin again."""
        self.page.quiet(on=on)
        self._told.put(None)

    def _rest(self, seconds: float) -> None:
        with suppress(queue.Empty):
            self._told.get(timeout=seconds)

    def _work(self) -> None:
        lend_through(self.loop.lender, whole_process=False)
        try:
            if self._start():
                self.loop.run()
        except Buried as reason:
            log.warning("worker %s ends: its lease is over (%s)", self.name, reason)

    def _start(self) -> bool:
        tries = 0
        while not self.loop.stopping:
            try:
                return self.loop.start()
            except Exception:
                log.exception("worker %s cannot start yet", self.name)
            time.sleep(backoff(tries, most=1.0))
            tries += 1
        return False


def _end(members: Sequence[_Member], until: float) -> None:
    for member in members:
        member.tell_to_stop()
    for member in members:
        member.thread.join(max(0.0, until - monotonic()))


class ThreadFleet:
    """Worker threads and one that beats for them and keeps house. Runs until `close`.

    Raises:
        ConfigError: a worker hook is a coroutine function.
    """

    def __init__(self, settings: Settings, queues: Sequence[str], concurrency: int) -> None:
        refuse_coroutine_hooks()
        self._settings = settings
        self._queues = queues
        self._exchange = connect(settings)
        self._line = self._exchange.line()
        self._ledger = RunLedger(self._line, settings)
        self._closing = threading.Event()
        self._announced: list[str] = []
        self._announce()
        # Who parks only says so: a time limit may strike in its thread, in any line. And the thread that keeps house
        # waits in Redis, and nothing wakes it.
        self._rings: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._extras = Extras(concurrency)
        self._members = [self._member(self._page()) for _ in range(concurrency)]
        self._start(self._ledger, self._members)
        self._keeper = threading.Thread(target=self._keep_house, name="baton-keeper", daemon=True)
        self._lender = threading.Thread(target=self._match_parked, name="baton-extras", daemon=True)
        self._keeper.start()
        self._lender.start()

    def close(self) -> None:
        """Let what runs finish for some seconds, give back the rest, and end the threads."""
        until = monotonic() + STOP_SECONDS
        _end(without_extras(self._members), until)  # what is parked needs the extras for its end
        self._closing.set()
        self._rings.put(False)
        self._lender.join(STOP_SECONDS)
        self._keeper.join(STOP_SECONDS)
        with self._lock:
            members = self._members
        _end(members, until)
        self._bury(members)
        self._exchange.close()

    def _member(self, page: Page) -> _Member:
        return _Member(page, self._queues, self._exchange, self._settings)

    def _start(self, ledger: RunLedger, members: Sequence[_Member]) -> None:
        self._beat(ledger, members, is_new=True)
        for member in members:
            member.thread.start()

    def _page(self) -> Page:
        return Page(partial(self._rings.put, True))

    def _match_parked(self) -> None:
        """As many extras as bodies are parked, whenever somebody parks or goes on."""
        while self._rings.get():
            try:
                with self._lock:
                    self._start_missing()
            except Exception:
                log.exception("lending: an error of its own")  # without this thread a full fleet would stand still

    def _start_missing(self) -> None:
        self._extras.look(self._members)
        born = []
        for _ in range(0 if self._closing.is_set() else self._extras.missing):
            page = self._page()
            page.make_extra()
            born.append(self._member(page))
        if born:
            try:
                self._start(RunLedger(self._exchange, self._settings), born)
            except (RedisUnavailable, RuntimeError) as error:  # the latter: no more threads are to be had
                log.warning("no new worker: %s", error)  # the keeper tries again
            else:
                self._members = [*self._members, *born]

    def _bury_ended(self) -> None:
        with self._lock:
            ended = [member for member in self._members if member.page.is_extra() and not member.thread.is_alive()]
            self._members = [member for member in self._members if member not in ended]
        if ended:
            self._bury(ended)
        for member in ended:
            member.line.close()

    def _bury(self, members: Sequence[_Member]) -> None:
        self._ledger.reap([Death(member.name, "", " ".join(member.page.started())) for member in members])

    def _keep_house(self) -> None:
        upkeep = Upkeep(self._ledger, self._settings, len(self._members))
        beat_at = 0.0
        while not self._closing.is_set():
            try:
                if monotonic() >= beat_at:
                    self._beat(self._ledger, self._members)
                    beat_at = monotonic() + self._settings.beat
                upkeep.run()
                self._announce()
                self._rings.put(True)
                self._bury_ended()
                promoted = keep_going(self._ledger)
                if not {*self._queues}.isdisjoint(promoted.hooked):
                    random.choice(without_extras(self._members)).page.tell_of_hooks()  # noqa: S311 - spreads load
                due = promoted.next_due
                longest = self._settings.idle_wait if due is None else min(due, self._settings.idle_wait)
                self._line.pop([WAKE_DUE], max(longest, 0.001))
            except RedisUnavailable as error:
                log.warning("%s", error)
                self._closing.wait(1)

    def _announce(self) -> None:
        hooked = hooked_tasks(registry.specs())
        if hooked != self._announced:  # tasks may be defined at any time
            self._ledger.announce(hooked)
            self._announced = hooked

    def _beat(self, ledger: RunLedger, members: Sequence[_Member], *, is_new: bool = False) -> None:
        fields: dict[str, str | int] = {
            "queues": ",".join(self._queues),
            "version": __version__,
            "fleet": "threads",
        }  # no `tasks`: every task of this process is known here, also one that is defined later
        if is_new:
            fields |= {"birth": iso(now()), "state": "idle"}
        sent = monotonic()
        pulses = [
            Pulse(member.name, self._queues, {**fields, "slots": int(not member.page.is_extra())}, is_new)
            for member in members
        ]
        answer = ledger.beat(pulses)
        for member in members:
            member.page.beaten(sent)
            for ended in answer.to_cancel:
                if ended.worker == member.name:
                    member.page.cancel(ended.run_id, int(ended.token))
