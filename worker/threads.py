"""A fleet in threads of this process: the same loop, hand and engine as in processes, for a Redis in memory.

What differs: time limits cannot interrupt, a body that ends its process ends everything, and nobody else can see it.
"""

import logging
import random
import secrets
import threading
import time
from collections.abc import Sequence

from shared.clock import iso, monotonic, now
from shared.commands import Seat
from shared.connect import connect
from shared.errors import RedisUnavailable
from shared.keys import WAKE_DUE
from shared.ledger import RunLedger
from shared.retries import backoff
from shared.settings import Settings
from shared.specs import registry
from shared.transport import Line
from shared.upkeep import Death, Pulse
from shared.version import __version__
from worker.hand import Buried, Hand
from worker.housekeeping import Upkeep, keep_going
from worker.left_hooks import hooked_tasks
from worker.loop import WorkLoop
from worker.page import Page

log = logging.getLogger("baton.fleet")
STOP_SECONDS = 5.0


class _Member:
    """One worker thread: its loop, its page, its name."""

    def __init__(self, name: str, queues: Sequence[str], line: Line, settings: Settings) -> None:
        self.name = name
        self.page = Page()
        hand = Hand(RunLedger(line, settings), Seat(name, queues), self.page, settings)
        self.loop = WorkLoop(hand, line, self.page, queues, settings)
        self.thread = threading.Thread(target=self._work, name=f"baton-{name}", daemon=True)

    def _work(self) -> None:
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


class ThreadFleet:
    """Worker threads and one that beats for them and keeps house. Runs until `close`."""

    def __init__(self, settings: Settings, queues: Sequence[str], concurrency: int) -> None:
        self._settings = settings
        self._queues = queues
        self._exchange = connect(settings)
        self._line = self._exchange.line()
        self._ledger = RunLedger(self._line, settings)
        self._closing = threading.Event()
        self._announced: list[str] = []
        names = [f"thread-{number + 1}-{secrets.token_hex(4)}" for number in range(concurrency)]
        self._members = [_Member(name, queues, self._exchange.line(), settings) for name in names]
        self._announce()
        self._beat(is_new=True)
        self._keeper = threading.Thread(target=self._keep_house, name="baton-keeper", daemon=True)
        for member in self._members:
            member.thread.start()
        self._keeper.start()

    def close(self) -> None:
        """Let what runs finish for some seconds, give back the rest, and end the threads."""
        for member in self._members:
            member.loop.stopping = True
        for member in self._members:
            member.thread.join(STOP_SECONDS)
        self._closing.set()
        self._keeper.join(STOP_SECONDS)
        self._ledger.reap([Death(member.name, "", member.page.started()) for member in self._members])
        self._exchange.close()

    def _keep_house(self) -> None:
        upkeep = Upkeep(self._ledger, self._settings, len(self._members))
        beat_at = 0.0
        while not self._closing.is_set():
            try:
                if monotonic() >= beat_at:
                    self._beat()
                    beat_at = monotonic() + self._settings.beat
                upkeep.run()
                self._announce()
                promoted = keep_going(self._ledger)
                if not {*self._queues}.isdisjoint(promoted.hooked):
                    random.choice(self._members).page.tell_of_hooks()  # noqa: S311 - spreads load
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

    def _beat(self, *, is_new: bool = False) -> None:
        fields: dict[str, str | int] = {
            "queues": ",".join(self._queues),
            "version": __version__,
            "fleet": "threads",
            "slots": 1,
        }  # no `tasks`: every task of this process is known here, also one that is defined later
        if is_new:
            fields |= {"birth": iso(now()), "state": "idle"}
        sent = monotonic()
        answer = self._ledger.beat([Pulse(member.name, self._queues, fields, is_new) for member in self._members])
        for member in self._members:
            member.page.beaten(sent)
            for ended in answer.to_cancel:
                if ended.worker == member.name:
                    member.page.cancel(int(ended.token))
