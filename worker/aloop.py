"""The loop of a worker process that executes many runs at a time, on one event loop. Knows no process and no RQ.

# Bodies share the event loop's thread. Calls of Redis are made in a thread of their own, one at a time, through the
# same hand as elsewhere; a second thread waits for tokens. Everything else happens in the loop's thread.
# A run ends: it is reported at once. What ends during that call goes with the next one, and so do begins.
# Nothing is begun while somebody waits for tokens: when its slots have been filled nobody takes a token in vain.
# Hooks of ends that scripts made are called beside the runs, one after the other; they take no slot.
"""

import asyncio
import logging
import random
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, Final

from shared.commands import AT_ONCE, Claim, Cycle, Report
from shared.errors import RedisUnavailable
from shared.failpoints import failpoint
from shared.keys import wake
from shared.settings import Settings
from shared.transport import Line
from worker.aattempt import aexecute
from worker.aslots import Slot, Slots
from worker.hand import Buried, Hand
from worker.interrupts import SIGNAL, Interrupts
from worker.left_hooks import LeftHooks
from worker.lending import lend_through
from worker.loop import Woken
from worker.page import Page
from worker.process_hooks import arun_start_hooks, arun_stop_hooks

log = logging.getLogger("baton.worker")
TICK: Final = 1.0
"""Seconds after which the loop says that it goes round."""
BEGIN_AT_ONCE: Final = 100
SPARE_THREADS: Final = 32
"""Beside one for each run: for what bodies themselves hand to threads."""


@dataclass(frozen=True, slots=True)
class _Present:
    """A run that is executed here."""

    task: "asyncio.Task[Report | None]"
    interrupts: Interrupts
    slot: Slot


class AsyncWorkLoop:
    """Works until `stop`, or until nothing is left to do with `burst`; up to `slots` runs at a time."""

    def __init__(
        self, hand: Hand, line: Line, page: Page, queues: Sequence[str], slots: int, settings: Settings
    ) -> None:
        self.stopping = False
        self.in_hooks = False
        self._hand = hand
        self._line = line
        self._page = page
        self._wake_lists = [wake(queue) for queue in queues]
        self._settings = settings
        self._left = page.most_runs() or sys.maxsize
        self._runs: dict[int, _Present] = {}
        self._ended: list[tuple[int, Report]] = []
        self._free = list(reversed(range(page.places)))
        self._failure: BaseException | None = None
        self._waits = False
        self._left_hooks = LeftHooks(hand, page, Interrupts(page), settings)
        self._hooking: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._calls = ThreadPoolExecutor(1, "baton-calls")
        self._tokens = ThreadPoolExecutor(1, "baton-tokens")
        self._loop = asyncio.new_event_loop()
        self._slots = Slots(slots, page.places, self._woken, self._loop)
        self._loop.set_default_executor(ThreadPoolExecutor(page.places + SPARE_THREADS, "baton-body"))

    # --- signals ------------------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Heed the signal that a body has to end. In the main thread of a process that is a worker's alone."""
        signal.signal(SIGNAL, self._be_told)

    def wake(self) -> None:
        """Have the loop look what there is to do. In a signal handler."""
        if self.in_hooks:
            self.in_hooks = False  # as in `WorkLoop.wake`
            raise Woken
        self._loop.call_soon_threadsafe(self._woken.set)

    def _be_told(self, _number: int, _frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._strike)

    def _strike(self) -> None:
        """End the bodies that the page names."""
        cancelled = self._page.cancelled()
        for present in self._runs.values():
            present.interrupts.strike(cancelled)

    # --- the life of the process --------------------------------------------------------------------------------------

    def start(self) -> bool:
        """Call the start hooks; False if it was told to stop before they were through.

        Raises:
            Exception: whatever a hook raised.
        """
        self._page.in_start_hooks(on=True)
        self.in_hooks = True
        try:
            # Asked only now: a signal before the line above was not told by an exception, one after it is.
            if not self.stopping:
                self._loop.run_until_complete(arun_start_hooks())
        except Woken:
            return False
        finally:
            self.in_hooks = False
        self._page.in_start_hooks(on=False)
        return not self.stopping

    def run(self, *, burst: bool = False) -> None:
        """Work, and call the stop hooks in the end. After `start`.

        Raises:
            Buried: the lease is over; what was held runs elsewhere.
        """
        main = self._loop.create_task(self._work(burst=burst))
        while not main.done():
            try:
                self._loop.run_until_complete(main)
            except (SystemExit, KeyboardInterrupt):
                # Of a task that a body started: asyncio stops the loop for it. Whoever awaits that task has it too.
                log.warning("a task of a body was interrupted", exc_info=True)
        main.result()

    async def _work(self, *, burst: bool) -> None:
        ticking = asyncio.create_task(self._tick())
        try:
            while await self._round(burst=burst):
                pass
        except Buried:
            self._abandon()
            await self._aside(self._hand.last_words)
            raise
        finally:
            ticking.cancel()
            self._hand.notes.close()
            await arun_stop_hooks()

    async def _tick(self) -> None:
        while True:
            self._page.round()
            self._slots.look_again()  # what is waited for may have become due meanwhile
            await asyncio.sleep(TICK)

    def _abandon(self) -> None:
        """The runs here are others' now: end what is in its body, and keep what has ended for the last words."""
        for place, present in self._runs.items():
            self._page.end_body(place)
            present.task.cancel()
        if self._hooking is not None:
            self._hooking.cancel()
        for _, report in self._ended:
            self._hand.done(report)

    # --- a round ------------------------------------------------------------------------------------------------------

    async def _round(self, *, burst: bool) -> bool:
        """Report and begin, or wait until there is something to do; False when the loop is to end."""
        self._woken.clear()
        if self._failure is not None:
            raise self._failure
        self._begin_left_hooks()
        is_empty = not (self._runs or self._ended or self._hooking)
        most, awaited_only = self._may_begin(looks_again=burst and is_empty)
        if most or self._ended:
            if most and awaited_only:
                await self._slots.mark()
            found_all = await self._trade(most, awaited_only=awaited_only)
            if awaited_only and not found_all:
                self._slots.look_again()
            elif most and found_all and not awaited_only:
                if burst and not (self._runs or self._ended or self._hooking):
                    return await self._left_hooks.acall_next(self._aside)
                self._wait_for_tokens()
        elif self.stopping and is_empty:
            return False
        else:
            await self._woken.wait()
        return True

    def _may_begin(self, *, looks_again: bool) -> tuple[int, bool]:
        """How many runs may be begun now, and whether only those that somebody waits for."""
        # Also a process that stops or is quiet begins what its own runs wait for: else they would not end.
        if not self._is_resting() and (free := min(self._slots.free(), self._left)):
            return 0 if self._waits and not looks_again else free, False
        return self._slots.free_for_awaited(), True

    async def _trade(self, most: int, *, awaited_only: bool) -> bool:
        """Report what has ended, begin up to so many; True if no more are there to be begun."""
        going, self._ended = self._ended[:AT_ONCE], self._ended[AT_ONCE:]
        want = min(most, BEGIN_AT_ONCE, len(self._free) + len(going))
        reports = [report for _, report in going]
        answer: Cycle = await self._aside(partial(self._hand.trade, reports, want, awaited_only=awaited_only))
        for place, _ in going:
            self._leave(place)
        for claim in answer.claims:
            self._begin(claim)
        return len(answer.claims) < want and answer.tag == "OK"

    async def _aside(self, call: Callable[[], Any]) -> Any:
        """What this call of the hand answers, made in the thread for calls."""
        return await self._loop.run_in_executor(self._calls, call)

    # --- runs ---------------------------------------------------------------------------------------------------------

    def _begin(self, claim: Claim) -> None:
        place = self._free.pop()
        self._page.start(claim.run_id, place)
        interrupts = Interrupts(self._page, place)
        slot = self._slots.take()
        task = self._loop.create_task(self._execute(claim, interrupts, slot))
        self._runs[place] = _Present(task, interrupts, slot)
        task.add_done_callback(partial(self._over, place))
        self._left -= 1
        self.stopping = self.stopping or not self._left

    async def _execute(self, claim: Claim, interrupts: Interrupts, slot: Slot) -> Report | None:
        lend_through(slot, whole_process=False)
        return await aexecute(claim, self._hand, interrupts, self._aside, self._settings)

    def _over(self, place: int, task: "asyncio.Task[Report | None]") -> None:
        self._slots.give_back(self._runs.pop(place).slot)
        self._woken.set()
        if task.cancelled():
            self._failure = RuntimeError("a run was cancelled from outside of it before it began")
        elif error := task.exception():
            self._failure = error
        elif report := task.result():
            self._ended.append((place, report))
        else:
            self._leave(place)

    def _leave(self, place: int) -> None:
        self._page.rest(place)
        self._free.append(place)

    # --- hooks of ends that scripts made ------------------------------------------------------------------------------

    def _begin_left_hooks(self) -> None:
        if self._left_hooks.are_due() and self._hooking is None and not self._is_resting():
            self._hooking = self._loop.create_task(self._call_left_hooks())
            self._hooking.add_done_callback(self._hooks_called)

    async def _call_left_hooks(self) -> None:
        while self._left_hooks.are_due() and not self._is_resting():
            await self._left_hooks.acall_next(self._aside)

    def _hooks_called(self, task: "asyncio.Task[None]") -> None:
        self._hooking = None
        self._woken.set()
        if not task.cancelled() and (error := task.exception()):
            self._failure = error

    def _is_resting(self) -> bool:
        """True if nothing but what runs here wait for may be begun."""
        return self.stopping or self._page.is_quiet()

    # --- tokens -------------------------------------------------------------------------------------------------------

    def _wait_for_tokens(self) -> None:
        """Wait for a token, or for a while, and then look again."""
        if self._waits:
            return
        self._waits = True
        seconds = self._settings.idle_wait * random.uniform(0.8, 1.0)  # noqa: S311 - spreads load, guards nothing
        waiting = self._tokens.submit(self._line.pop, self._wake_lists, seconds)
        waiting.add_done_callback(lambda done: self._loop.call_soon_threadsafe(self._waited, done))

    def _waited(self, done: "Future[bool]") -> None:
        self._waits = False
        self._woken.set()
        error = done.exception()
        if isinstance(error, RedisUnavailable):
            log.warning("%s", error)
        elif error is not None:
            self._failure = error
        elif done.result():
            failpoint("wake.taken")
