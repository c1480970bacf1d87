"""One attempt on the event loop of a worker process: what `attempt.execute` is to a process with one run at a time."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from inspect import iscoroutine, iscoroutinefunction
from typing import Any

from shared.commands import Claim, Report
from shared.errors import Fenced, TaskRunTimeoutError
from shared.settings import Settings
from shared.states import State
from shared.stepping import Do, adrive
from worker.attempt import prepared, tell_of_interrupt
from worker.context import run_context
from worker.engine.adrivers import AsyncTaskRunEngine
from worker.engine.aperforming import in_thread
from worker.engine.base import INTERRUPTS
from worker.engine.place import Place
from worker.engine.steps import Ask, Propose, Step, Take
from worker.hand import Hand
from worker.interrupts import Interrupts
from worker.timeouts import Late, text_of_limit, within
from worker.triggers import own_trigger

log = logging.getLogger("baton.worker")
Aside = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Calls this where it may wait for Redis, and answers what it answers."""


async def aexecute(claim: Claim, hand: Hand, interrupts: Interrupts, aside: Aside, settings: Settings) -> Report | None:
    """Execute an attempt; what to report, or None if that was done or is for another process that owns the run now."""
    try:
        return await _aexecute(claim, hand, interrupts, aside, settings)
    except Fenced as error:
        log.warning("run %s: %s", claim.run_id, error)
        return None
    finally:
        hand.notes.ended(claim.run_id)


async def _aexecute(
    claim: Claim, hand: Hand, interrupts: Interrupts, aside: Aside, settings: Settings
) -> Report | None:
    ready = prepared(claim, hand, interrupts, settings)
    if isinstance(ready, Report):
        return ready
    given, attempt, outcome = ready
    engine = FleetEngine(aside, settings.hook_timeout, *given)
    try:
        await adrive(engine.steps() if outcome is None else engine.end_steps(outcome), engine.perform)
    except INTERRUPTS as error:
        tell_of_interrupt(claim, error)
    return attempt.report


class FleetEngine(AsyncTaskRunEngine[..., Any]):
    """An engine whose calls of Redis leave the event loop, by a way that bodies do not share.

    So do hooks, conditions and triggers that are plain functions, in threads. `hook_timeout`: in seconds; a thread that
    takes longer is left to itself.
    """

    def __init__(self, aside: Aside, hook_timeout: float, *given: Any) -> None:
        super().__init__(*given)
        self._call_aside = aside
        self._hook_timeout = hook_timeout

    async def perform(self, step: Step) -> Any:
        """Do one step; what comes of it."""
        return await (self._answer(step) if isinstance(step, Ask) else super().perform(step))

    async def _ask_place(self, place: Place, step: Step) -> Any:
        # The way aside costs as much as all the rest of a short run, and only another attempt needs it.
        if isinstance(step, Propose) and not _may_restart(place, step.state):
            return place.propose(step.state, step.retriable)
        if isinstance(step, Take) and own_trigger(self.spec.trigger) is not None:
            return await in_thread(place.taken, step.inputs, {})
        return await super()._ask_place(place, step)

    async def _answer(self, step: Ask) -> Any:
        """What other code of the user's gives, a hook or a condition.

        Raises:
            TaskRunTimeoutError: it took too long.
        """
        with run_context(self.place.context(self.parameters)):
            try:
                return await within(self._hook_timeout, _given_by(step.fn, step.args))
            except Late as error:
                raise TaskRunTimeoutError(text_of_limit(self._hook_timeout)) from error

    async def _do_soon(self, step: Do) -> Any:
        if step.kind == "store":
            return await self._aside(step.call)
        try:
            return await within(self._hook_timeout, step.acall() if step.kind == "ahook" else in_thread(step.call))
        except Late as error:
            raise TaskRunTimeoutError(text_of_limit(self._hook_timeout)) from error

    async def _aside(self, ask: Callable[[], Any]) -> Any:
        return await self._call_aside(ask)


async def _given_by(fn: Callable[..., Any], args: Sequence[Any]) -> Any:
    returned = fn(*args) if iscoroutinefunction(fn) else await in_thread(fn, *args)
    return await returned if iscoroutine(returned) else returned


def _may_restart(place: Place, state: State[Any]) -> bool:
    return state.is_failed() or (state.is_running() and place.state is not None)
