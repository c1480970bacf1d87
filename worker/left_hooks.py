"""Hooks of ends that were made where their task's code is not: called by a worker that knows the task, at least once.

Such an end is the reaper's, that of a run that was cancelled or expired while it waited, or of one that was killed.

# An entry is this worker's until it is confirmed: if the process dies before that, the reaper gives it to another.
"""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from shared.commands import Claim
from shared.errors import BatonError, RunGone
from shared.runs import TaskRun
from shared.settings import Settings
from shared.specs import TaskSpec, registry
from shared.states import State
from shared.upkeep import HooksDue
from worker.aattempt import Aside, FleetEngine
from worker.attempt import Attempt
from worker.engine.base import INTERRUPTS
from worker.engine.core import HOOKS_OF
from worker.engine.drivers import SyncTaskRunEngine
from worker.hand import Hand
from worker.interrupts import Interrupts
from worker.page import Page

log = logging.getLogger("baton.worker")


def hooked_tasks(specs: Sequence[TaskSpec[..., object]]) -> list[str]:
    """For which ends that scripts may make these tasks have hooks: texts of a state type and a task's key."""
    kinds = [(kind, name) for kind, name in HOOKS_OF.items() if kind in ("FAILED", "CRASHED", "CANCELLED")]
    return [f"{kind} {spec.key}" for spec in specs for kind, name in kinds if getattr(spec, name)]


class _Taken(NamedTuple):
    """An entry that is this worker's now.

    `given` is what an engine is given for it: None if it is for other workers, () if nothing is to be called any more.
    """

    entry: str
    run_id: str
    told: int
    state: State[Any] | None = None
    given: tuple[Any, ...] | None = ()


class LeftHooks:
    """Of one worker. In the thread that executes its runs, between two of them; or on its event loop, beside them."""

    def __init__(self, hand: Hand, page: Page, interrupts: Interrupts, settings: Settings) -> None:
        self._hand = hand
        self._page = page
        self._interrupts = interrupts
        self._settings = settings
        self._looked_at = page.hooks_told()

    def are_due(self) -> bool:
        """True if the supervisor told of some, and not all of those have been looked at."""
        return self._page.hooks_told() != self._looked_at

    def call_next(self) -> bool:
        """Call the hooks of one end; False if there are none that can be called here.

        Raises:
            Buried: the lease is over; what was taken is given to another worker.
        """
        taken = self._take()
        if taken is None:
            return False
        if taken.given:
            try:
                SyncTaskRunEngine(*taken.given).call_hooks(taken.state)
            except INTERRUPTS:
                log.exception("run %s: a hook of its end was interrupted", taken.run_id)
        return self._confirm(taken)

    async def acall_next(self, aside: Aside) -> bool:
        """The same as `call_next`, on an event loop."""
        taken = await aside(self._take)
        if taken is None:
            return False
        if taken.given:
            try:
                await FleetEngine(aside, self._settings.hook_timeout, *taken.given).call_hooks(taken.state)
            except INTERRUPTS:
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise  # the worker ends: whoever has the entry next calls all of them
                log.exception("run %s: a hook of its end was interrupted", taken.run_id)
        return bool(await aside(partial(self._confirm, taken)))

    def _take(self) -> _Taken | None:
        """The next entry; None if there is none."""
        told = self._page.hooks_told()
        due = self._hand.next_hooks()
        if not due.entry:
            self._looked_at = told
            return None
        taken = _Taken(due.entry, due.run_id, told)
        try:
            run = self._hand.look_up([due.run_id])[due.run_id]
            if not isinstance(run, TaskRun):
                log.warning("run %s: its hooks are not called: %s", due.run_id, run or "it is gone")
                return taken
            spec = registry.get(run.task)
            if spec is None:
                return taken._replace(given=None)
            state = run.state if run.seq == due.seq else self._state_at(due)
        except (BatonError, LookupError, ValueError) as error:  # an entry of others may hold anything
            log.warning("run %s: its hooks are not called: %s", due.run_id, error)
            return taken
        attempt = Attempt(_claim_of(run, state), spec, self._hand, self._interrupts, self._settings)
        attempt.state = state
        return taken._replace(state=state, given=(spec, {}, None, attempt))

    def _confirm(self, taken: _Taken) -> bool:
        """See that this entry is nobody's any more, or left to others; False for the latter."""
        is_known = taken.given is not None
        self._hand.hooks_called(taken.entry, is_for_others=not is_known)
        if not is_known:
            self._looked_at = taken.told  # until it is told again: the same one would come back at once
        return is_known

    def _state_at(self, due: HooksDue) -> State[object]:
        """The end as the run's history tells of it: since then somebody had the run retried."""
        for state in self._hand.history(due.run_id):
            if state.state_details.seq == due.seq:
                return state
        raise RunGone(f"its history has no row {due.seq} any more")


def _claim_of(run: TaskRun, state: State[object]) -> Claim:
    """What the engine has to know of a run that has ended. Its token is none: nothing can be proposed with it."""
    return Claim(
        run.id,
        "0",
        run.attempt,
        run.run_count,
        run.crashes,
        state.timestamp.isoformat(),
        run.task,
        None,
        state.type,
        name=run.name,
        parent=run.parent,
        flow=run.flow,
    )
