"""Slots of limits that code holds: taken for a hold, waited for, given back. In bodies of runs and outside of them.

# In the body of a fleet's run a hold lives under the lease of its worker, and no longer than the attempt. Elsewhere it
# lives under the lease of this process.
# Whoever waits is woken by the one who gives back, and asks; a wake-up that is lost costs two seconds.
# What could not be given back is given back with a later beat, since it is then not known any more.
"""

import asyncio
import logging
import os
import secrets
import threading
import time
from collections.abc import Sequence
from contextvars import copy_context
from typing import Final

from shared.clock import monotonic
from shared.errors import AcquireConcurrencySlotTimeoutError, Closed, ConcurrencySlotAcquisitionError, RedisUnavailable
from shared.ledger import RunLedger
from shared.retries import backoff
from shared.settings import Settings
from shared.slots import NO_ATTEMPT, Holder, Slots, Taken, heard
from shared.transport import Exchange
from worker.context import RunContext, current_context
from worker.housekeeping import Upkeep
from worker.leases import Lease, Leases

log = logging.getLogger("baton.limits")
ASK_AGAIN: Final = 2.0
"""Seconds after which one who waits asks, though nobody has woken it."""
UNKNOWN_FOR: Final = 30.0
"""Seconds for which a hold may be in Redis and not known here: a call that asked for it may be on its way."""


class Holds:
    """What this process holds of limits in one Redis. For any number of threads, also after a fork."""

    def __init__(self, exchange: Exchange, ledger: RunLedger, settings: Settings) -> None:
        self.slots = Slots(exchange)
        self.exchange = exchange
        self.leases = Leases(ledger, settings)
        self._ledger = ledger
        self._settings = settings
        self._known: dict[str, str] = {}
        self._closed = False
        self._were_any = False
        self.leases.with_each_beat(self._renew)

    def holder(self) -> tuple[Holder, Lease | None]:
        """Who the calling code takes slots as, and the lease that it has to watch over for that, if any.

        Raises:
            Closed: no more.
            RedisUnavailable: no answer.
        """
        if self._closed:
            raise Closed
        context = current_context()
        if context is not None and context.seat is not None and context.seat[1] == self.exchange.address:
            return Holder(context.seat[0], _attempt(context) or NO_ATTEMPT), None
        lease = self.leases.current()
        return Holder(lease.name), lease

    def is_here(self, holder: Holder) -> bool:
        """True in the body of the attempt that took slots as this holder."""
        attempt = _attempt(current_context())
        return attempt is not None and attempt == holder.attempt

    def upkeep(self) -> Upkeep:
        """What frees the slots of the dead where no fleet does."""
        return Upkeep(self._ledger, self._settings)

    def enter(self, hold: str, process: str) -> None:
        """This hold is asked for, or held."""
        self._known[hold] = process
        self._were_any = True

    def leave(self, hold: str) -> None:
        """It is neither."""
        self._known.pop(hold, None)

    def close(self) -> None:
        """Give up everything. Whoever waits hears `Closed` when it asks again."""
        self._closed = True
        self.leases.end()

    def _renew(self, lease: Lease) -> None:
        if self._were_any:
            known = [hold for hold, process in self._known.copy().items() if process == lease.name]
            self.slots.renew(lease.name, known, UNKNOWN_FOR)


def _attempt(context: RunContext | None) -> str | None:
    return None if context is None else f"{context.run_id}:{context.fence}"


class Hold:
    """Slots of some limits, of all or of none: `take`, then `free`, once."""

    def __init__(
        self, holds: Holds, names: Sequence[str], occupy: int = 1, *, strict: bool = False, lock: bool = False
    ) -> None:
        self.lease: Lease | None = None
        self._holds = holds
        self._names = names
        self._occupy = occupy
        self._strict = strict
        self._lock = lock
        self._name = secrets.token_hex(8)
        self._holder = Holder("")
        self._pid = os.getpid()
        self._given_up = False

    def is_lost(self) -> bool:
        """True if others may have these slots by now."""
        if self.lease is not None:
            return self.lease.is_lost()
        return not self._holds.is_here(self._holder)

    def take(self, seconds: float | None = None) -> None:
        """Wait until there are slots, for so many seconds at most; None is for ever, 0 not at all.

        Raises:
            AcquireConcurrencySlotTimeoutError: there were none in this time.
            ConcurrencySlotAcquisitionError: there never will be: a limit has fewer, or with `strict` is not there.
            RedisUnavailable: no answer to the first question.
        """
        try:
            self._wait(seconds)
        except BaseException:
            self.free()
            raise
        if self._given_up:
            self.free()

    async def atake(self, seconds: float | None = None) -> None:
        """The same as `take`, without blocking the event loop: a thread waits. Cancelled, it waits no more."""
        loop, context = asyncio.get_running_loop(), copy_context()
        done = loop.create_future()

        def tell(error: BaseException | None) -> None:
            if not done.done():
                done.set_exception(error) if error else done.set_result(None)

        def work() -> None:
            error: BaseException | None = None
            try:
                context.run(self.take, seconds)
            except BaseException as raised:  # noqa: BLE001 - whatever it is, it is raised where the task waits
                error = raised
            try:
                loop.call_soon_threadsafe(tell, error)
            except RuntimeError:  # the loop is closed: nobody is there who would give it back
                self.free()

        threading.Thread(target=work, name=f"baton-hold-{self._name}", daemon=True).start()
        try:
            await done
        except BaseException:
            # Either the thread sees this with the next answer, or what it was given is given back behind it.
            self._given_up = True
            threading.Thread(target=self.free, name=f"baton-free-{self._name}", daemon=True).start()
            raise

    def free(self) -> None:
        """Give the slots back, or wait no more. Never raises: what cannot be given back now will be soon."""
        self._holds.leave(self._name)
        if self._pid != os.getpid() or not self._holder.process:
            return  # the child of a fork has nothing of it
        try:
            self._holds.slots.free(self._holder, self._name)
        except RedisUnavailable as error:
            log.warning("slots of %s are given back later: %s", ", ".join(self._names), error)

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _wait(self, seconds: float | None) -> None:
        until = None if seconds is None else monotonic() + seconds
        answer = self._ask(wait=seconds is None or seconds > 0)
        if answer.tag == "OK":
            return
        line, upkeep = self._holds.exchange.line(), self._holds.upkeep()
        tries = 0
        try:
            while answer.tag != "OK":
                left = ASK_AGAIN if until is None else min(ASK_AGAIN, until - monotonic())
                if left <= 0 or answer.tag == "FULL":
                    raise AcquireConcurrencySlotTimeoutError(
                        f"no {self._occupy} slot(s) of {', '.join(self._names)} within {seconds:g} second(s)"
                    )
                try:
                    # 0 would be for ever.
                    is_woken = heard(line, self._name, max(left, 0.01))
                    if self._given_up:
                        return
                    if not is_woken and self.lease is not None:
                        upkeep.run()
                    answer, tries = self._ask(wait=True), 0
                except RedisUnavailable as error:
                    log.warning("waiting for slots of %s: %s", ", ".join(self._names), error)
                    time.sleep(min(backoff(tries), max(left, 0.01)))
                    tries += 1
        finally:
            line.close()

    def _ask(self, *, wait: bool) -> Taken:
        while True:
            if self.lease is None or self.lease.is_lost():
                self._holder, self.lease = self._holds.holder()
                self._holds.enter(self._name, self._holder.process)
            answer = self._holds.slots.take(
                self._holder, self._name, self._names, self._occupy, wait=wait, strict=self._strict, lock=self._lock
            )
            if answer.tag == "BURIED" and self.lease is not None:
                self.lease.lose()  # nobody here knew that yet
                continue
            if answer.tag not in ("OK", "WAIT", "FULL"):
                raise ConcurrencySlotAcquisitionError(_REFUSED[answer.tag].format(answer.name))
            return answer


_REFUSED: Final = {
    "OVER": "Slots requested is greater than the limit ({})",
    "UNKNOWN": "there is no limit {!r}",
    "BURIED": "the lease of this worker is over{}",
}
