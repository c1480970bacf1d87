"""What becomes of the runs that a flow's body submitted when it ends. Knows runs only through whoever makes futures.

The orchestrator's package says how they are waited for; where it was never imported, no body can have submitted any.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from shared.clock import monotonic
from shared.errors import RedisUnavailable
from shared.retries import backoff
from worker.engine.steps import Gather, Gathered

log = logging.getLogger("baton.engine")
PATIENCE: Final = 60.0
"""Seconds for which Redis is asked again, as long as a run could still be reported."""
T = TypeVar("T")


class Children(Protocol):
    """Knows the runs that bodies submit. Its methods wait for a server, and may raise what a future raises."""

    def states_in(self, value: Any) -> Any:
        """The value with the final state of each future in its place, waited for."""
        ...

    def wait(self, run_id: str) -> None:
        """Wait for the ends of all runs that this one has submitted."""
        ...

    async def wait_async(self, value: Any, run_id: str | None) -> None:
        """Wait for the futures in the value, and for the runs that this one has submitted, on an event loop."""
        ...

    def cancel(self, run_id: str) -> None:
        """Cancel those that have not ended."""
        ...

    def count(self, run_id: str) -> tuple[int, int]:
        """How many there are, and how many of them have not COMPLETED."""
        ...


class _Default:
    """Who knows the runs that bodies submit: `children_with` says it."""

    def __init__(self) -> None:
        self.ask: Callable[[], Children | None] = lambda: None


_default = _Default()


def children_with(ask: Callable[[], Children | None]) -> None:
    """Ask this from now on who knows the runs that bodies submit; None: nobody can have submitted any."""
    _default.ask = ask


def gathered(run_id: str, step: Gather) -> Gathered:
    """What a flow returned, once its runs have ended, or as many as it waits for.

    Raises:
        RunGone: a run whose future was returned is not there any more.
        RedisUnavailable: no answer for longer than `PATIENCE`.
    """
    children = _default.ask()
    if children is None:
        return Gathered(step.value)
    value = _insisted(partial(children.states_in, step.value))
    if step.unfinished == "wait":
        _insisted(partial(children.wait, run_id))
    elif step.unfinished == "cancel":
        _insisted(partial(children.cancel, run_id))
    total, incomplete = _insisted(partial(children.count, run_id))
    return Gathered(value, total, 0 if step.unfinished == "leave" else incomplete)


async def agathered(run_id: str, step: Gather) -> Gathered:
    """The same as `gathered`, without holding a thread while it waits: the runs that it waits for may need those."""
    children = _default.ask()
    if children is not None:
        with suppress(RedisUnavailable):  # that is asked again below
            await children.wait_async(step.value, run_id if step.unfinished == "wait" else None)
    return await asyncio.to_thread(gathered, run_id, step)


def _insisted(call: Callable[[], T]) -> T:
    """The answer, asked for again while Redis is away: what the body has computed is not lost by that."""
    end, tries = monotonic() + PATIENCE, 0
    while True:
        try:
            return call()
        except RedisUnavailable as error:
            if monotonic() > end:
                raise
            log.warning("%s", error)
        time.sleep(backoff(tries))
        tries += 1
