"""`concurrency` and `rate_limit`: holding slots of named limits, and taking those that free themselves."""

import asyncio
import secrets
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

from orchestrator.client import current_orchestrator
from orchestrator.limit_names import check_limit_name
from shared.errors import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    ConfigError,
    InvalidCall,
    InvalidValue,
)
from worker.losses import Cancelling, ended_with
from worker.slots import Hold

MOST_SLOTS: Final = 1000
"""Slots that one hold can have of a limit."""
MOST_NAMES: Final = 50


def concurrency(
    names: str | Iterable[str], occupy: int = 1, timeout_seconds: float | None = None, strict: bool = False
) -> "Concurrency":
    """Hold slots of these limits for the length of a block, `with` or `async with`: of all, or of none.

    Those who wait are served first come, first served, together with the runs that wait for the same limits. Slots are
    held by the worker of the run that this is called in, else by this process, and are free when that is over. If that
    is found to be cut off from Redis for too long, others may get them: this is logged, and the block goes on, unless
    `strict`.

    Args:
        names: of limits. One that is not set counts for nothing.
        occupy: how many slots of each, 1 to 1,000.
        timeout_seconds: how long to wait; None is for ever, 0 not at all.
        strict: every name has to be that of a limit, and a block that loses its slots is ended as by a time-out.

    Raises:
        InvalidCall, InvalidValue: an argument is wrong.
        When the block is entered, ConcurrencySlotAcquisitionError (a limit never has so many slots, or is not there),
        AcquireConcurrencySlotTimeoutError, ConfigError (no current Orchestrator) or RedisUnavailable.
    """
    return Concurrency(_names(names), _occupy(occupy), _seconds(timeout_seconds), strict=strict)


class Concurrency:
    """A block that holds slots: see `concurrency`. One after the other it may be entered any number of times."""

    def __init__(self, names: Sequence[str], occupy: int, timeout: float | None, *, strict: bool) -> None:
        self._names = names
        self._occupy = occupy
        self._timeout = timeout
        self._strict = strict
        self._hold: Hold | None = None
        self._guards = ExitStack()
        self._cancelling: Cancelling | None = None

    def is_lost(self) -> bool:
        """True if others may have these slots by now."""
        return self._hold is not None and self._hold.is_lost()

    def __enter__(self) -> Self:
        hold = self._new_hold()
        try:
            hold.take(self._timeout)
            if self._strict and hold.lease is not None:
                self._guards.enter_context(ended_with(hold.lease, self._lost()))
        except BaseException:
            self._free(hold)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._guards.__exit__(kind, raised, traceback)
        finally:
            if self._hold is not None:
                self._free(self._hold)

    async def __aenter__(self) -> Self:
        hold = self._new_hold()
        try:
            await hold.atake(self._timeout)
        except BaseException:
            self._hold = None
            raise
        if self._strict and hold.lease is not None:
            self._cancelling = Cancelling(hold.lease, self._lost())
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, raised: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        hold, self._hold = self._hold, None
        cancelling, self._cancelling = self._cancelling, None
        try:
            if cancelling is not None:
                cancelling.left(raised)
        finally:
            if hold is not None:
                await asyncio.shield(asyncio.to_thread(hold.free))

    def _new_hold(self) -> Hold:
        if self._hold is not None:
            raise InvalidCall("this block of concurrency() is entered already: call concurrency() for each block")
        self._hold = Hold(current_orchestrator().holds, self._names, self._occupy, strict=self._strict)
        return self._hold

    def _free(self, hold: Hold) -> None:
        self._hold = None
        hold.free()

    def _lost(self) -> ConcurrencySlotAcquisitionError:
        return ConcurrencySlotAcquisitionError(
            f"the slots of {', '.join(self._names)} were lost: Redis is away too long"
        )


def rate_limit(
    names: str | Iterable[str], occupy: int = 1, timeout_seconds: float | None = None, strict: bool = False
) -> None:
    """Wait until this may be done, by limits whose slots free themselves: so many at once, so many per second after.

    Slots are taken by the time of the server, in the order of the calls, and never given back. A call is told at once
    when its turn is, and waits for that.

    Args:
        names: of limits with `slot_decay_per_second`. One that is not set counts for nothing.
        occupy: how many slots of each.
        timeout_seconds: how long to wait at most. A call that would wait longer takes nothing, and raises at once.
        strict: every name has to be that of a limit.

    Raises:
        AcquireConcurrencySlotTimeoutError: its turn would come too late.
        ConcurrencySlotAcquisitionError: a limit never has so many slots, or is not there.
        ConfigError: a limit's slots do not free themselves; or there is no current Orchestrator.
        InvalidCall, InvalidValue: an argument is wrong.
        RedisUnavailable: no answer.
    """
    time.sleep(_turn(_names(names), _occupy(occupy), _seconds(timeout_seconds), strict=strict))


async def arate_limit(
    names: str | Iterable[str], occupy: int = 1, timeout_seconds: float | None = None, strict: bool = False
) -> None:
    """The same as `rate_limit`, without blocking the event loop."""
    wanted = (_names(names), _occupy(occupy), _seconds(timeout_seconds))
    await asyncio.sleep(await asyncio.to_thread(_turn, *wanted, strict=strict))


def _turn(names: Sequence[str], occupy: int, timeout: float | None, *, strict: bool) -> float:
    """Seconds until it is this call's turn."""
    slots = current_orchestrator().holds.slots
    answer = slots.rate(secrets.token_hex(8), names, occupy, most=timeout, strict=strict)
    match answer.tag:
        case "OK":
            return answer.seconds
        case "LATE":
            raise AcquireConcurrencySlotTimeoutError(
                f"{', '.join(names)}: the turn would be in {answer.seconds:g} seconds, {timeout:g} may be waited"
            )
        case "FIXED":
            raise ConfigError(f"the slots of limit {answer.name!r} do not free themselves: set slot_decay_per_second")
        case "OVER":
            raise ConcurrencySlotAcquisitionError(f"Slots requested is greater than the limit ({answer.name})")
        case _:
            raise ConcurrencySlotAcquisitionError(f"there is no limit {answer.name!r}")


def _names(names: str | Iterable[str]) -> tuple[str, ...]:
    found = (names,) if isinstance(names, str) else tuple(dict.fromkeys(names))
    if len(found) > MOST_NAMES:
        raise InvalidValue(f"{len(found)} limits are named; slots of at most {MOST_NAMES} can be held at once")
    for name in found:
        check_limit_name(name)
    return found


def _occupy(occupy: int) -> int:
    if isinstance(occupy, bool) or not isinstance(occupy, int) or not 1 <= occupy <= MOST_SLOTS:
        raise InvalidValue(f"'occupy' must be a whole number from 1 to {MOST_SLOTS}, got {occupy!r}")
    return occupy


def _seconds(seconds: float | None) -> float | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
        raise InvalidValue(f"'timeout_seconds' must be a number >= 0 or None, got {seconds!r}")
    return float(seconds)
