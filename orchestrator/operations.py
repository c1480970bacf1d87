"""What an operator or a producer does to runs, queues and limits that are there. Decides nothing: the scripts do.

Every call is one step in Redis and names its actor in the history. Each has a twin prefixed `a` for event loops.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

from orchestrator.acting import actor, cancelled, state_after
from orchestrator.finding import RunPage, Since, States, find, wanted_from
from orchestrator.limit_names import check_limit_name
from shared.commands import AT_ONCE
from shared.errors import InvalidValue
from shared.ledger import RunLedger
from shared.reporting import outcome_of
from shared.settings import Settings
from shared.specs import queue_name
from shared.state_types import StateType
from shared.states import State
from shared.steering import Cleared, Steered
from shared.texts import printable
from shared.transport import Transport
from shared.views.queues import queues

TRIES: Final = 10
"""How often a change is tried on a run that moves meanwhile."""
_NOT_TO_BE_FORCED: Final = (StateType.RUNNING, StateType.CANCELLING)


class Operations:
    """Steers what is in one Redis. `Orchestrator` is one."""

    def __init__(self, transport: Transport, settings: Settings) -> None:
        self._transport = transport
        self._ledger = RunLedger(transport, settings)
        self.settings = settings

    # --- runs ---------------------------------------------------------------------------------------------------------

    def find_runs(
        self,
        state: States | None = None,
        task: str | None = None,
        tag: str | None = None,
        queue: str | None = None,
        flow: str | None = None,
        since: Since | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> RunPage:
        """The newest runs that have all these properties, a page of them.

        Without a tag the newest 1,000 ids of each place that holds such runs are looked at, and `gaps` tells where more
        lie; with one its index is followed page by page, and nothing is missed.

        Args:
            state: a type of state, or several: `"FAILED"`, `StateType.FAILED`.
            task: the key of a task.
            tag: one of the tags of its task.
            queue: the queue it is of.
            flow: the id of the flow run it belongs to.
            since: created since then, or within such a time before now.
            limit: runs in a page, 1 to 1,000.
            cursor: that of the page before, with the same question.

        Raises:
            InvalidValue: one of these is wrong.
        """
        wanted = wanted_from(state, task, tag, queue, flow, since)
        return find(self._transport, self._ledger, wanted, limit, cursor)

    async def afind_runs(
        self,
        state: States | None = None,
        task: str | None = None,
        tag: str | None = None,
        queue: str | None = None,
        flow: str | None = None,
        since: Since | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> RunPage:
        """The same as `find_runs`, without blocking the event loop."""
        return await asyncio.to_thread(self.find_runs, state, task, tag, queue, flow, since, limit, cursor)

    def cancel(self, run_id: str, message: str = "") -> State[Any]:
        """Cancel a run: one that waits at once, one that runs is CANCELLING until its process has ended it.

        Runs that it submitted are cancelled too. Cancelling twice changes nothing.

        Returns:
            The state that now holds.

        Raises:
            TransitionRefused: it has ended otherwise.
            RunGone: there is no such run, or no longer.
        """
        return cancelled(self._ledger, run_id, message)

    async def acancel(self, run_id: str, message: str = "") -> State[Any]:
        """The same as `cancel`, without blocking the event loop."""
        return await asyncio.to_thread(self.cancel, run_id, message)

    def cancel_many(self, run_ids: Sequence[str], message: str = "") -> list[Steered]:
        """Cancel runs, 500 a round trip. An answer for each, in their order; none of them raises.

        Returns:
            Tags: OK (it is CANCELLED or CANCELLING), TERMINAL (it has ended otherwise), GONE, BROKEN (unreadable); and
            the state that now holds.
        """
        return self._ledger.cancel(run_ids, actor=actor(), message=printable(message))

    async def acancel_many(self, run_ids: Sequence[str], message: str = "") -> list[Steered]:
        """The same as `cancel_many`, without blocking the event loop."""
        return await asyncio.to_thread(self.cancel_many, run_ids, message)

    def retry(self, run_id: str, *, delay: float = 0, message: str = "", rerun: bool = False) -> State[Any]:
        """Have a run that did not complete run again, as a new attempt with all its tries; after `delay` seconds.

        With `rerun` also one that completed: its result is dropped. Futures that have resolved keep what they saw.

        Raises:
            TransitionRefused: it has not ended, or completed and `rerun` was not given.
            RunGone: there is no such run, or no longer.
            InvalidValue: a negative delay.
        """
        if not 0 <= delay < float("inf"):
            raise InvalidValue(f"'delay' must be a finite number >= 0, got {delay}")
        operation = secrets.token_hex(6)
        told = printable(message)

        def ask(seq: int) -> Steered:
            return self._ledger.retry(run_id, seq, operation, actor=actor(), message=told, delay=delay, rerun=rerun)

        return state_after(self._ledger, run_id, self._on_what_holds(run_id, ask), "retried")

    async def aretry(self, run_id: str, *, delay: float = 0, message: str = "", rerun: bool = False) -> State[Any]:
        """The same as `retry`, without blocking the event loop."""
        return await asyncio.to_thread(self.retry, run_id, delay=delay, message=message, rerun=rerun)

    def force(self, run_id: str, state: State[Any], reason: str) -> State[Any]:
        """Write a state without asking the rules. Whoever runs the run is fenced: its outcome will not be recorded.

        Any state but RUNNING and CANCELLING, which only a process can be in.

        Raises:
            InvalidValue: no reason, or such a state.
            RunGone: there is no such run, or no longer.
        """
        if not reason.strip():
            raise InvalidValue("'reason' is empty: it goes into the history, where somebody will look for it")
        if state.type in _NOT_TO_BE_FORCED:
            raise InvalidValue(f"a run cannot be forced to be {state.type}: only a process can be in that state")
        outcome = outcome_of(state, self.settings, delay=_delay_of(state))._replace(message=printable(reason))
        operation = secrets.token_hex(6)

        def ask(seq: int) -> Steered:
            return self._ledger.force(run_id, seq, operation, outcome, actor=actor())

        return state_after(self._ledger, run_id, self._on_what_holds(run_id, ask), "forced")

    async def aforce(self, run_id: str, state: State[Any], reason: str) -> State[Any]:
        """The same as `force`, without blocking the event loop."""
        return await asyncio.to_thread(self.force, run_id, state, reason)

    def resume(self, run_id: str) -> State[Any]:
        """Let a paused run go on.

        Raises:
            TransitionRefused: it is not paused, or its time is over.
            RunGone: there is no such run, or no longer.
        """
        operation = secrets.token_hex(6)

        def ask(seq: int) -> Steered:
            return self._ledger.resume(run_id, seq, operation, actor=actor())

        return state_after(self._ledger, run_id, self._on_what_holds(run_id, ask), "resumed")

    async def aresume(self, run_id: str) -> State[Any]:
        """The same as `resume`, without blocking the event loop."""
        return await asyncio.to_thread(self.resume, run_id)

    def _on_what_holds(self, run_id: str, ask: Callable[[int], Steered]) -> Steered:
        """Ask with the seq that holds, again while the run moves in between."""
        answer = Steered("CHANGED")
        for _ in range(TRIES):
            answer = ask(self._ledger.get(run_id).seq)
            if answer.tag != "CHANGED":
                break
        return answer

    # --- queues -------------------------------------------------------------------------------------------------------

    def pause_queue(self, queue: str) -> bool:
        """Begin nothing of this queue any more; what runs goes on. True if it was not paused yet."""
        return self._ledger.set_queue(queue_name("queue", queue), "pause", actor())

    def resume_queue(self, queue: str) -> bool:
        """Begin runs of this queue again. True if it was paused."""
        return self._ledger.set_queue(queue_name("queue", queue), "resume")

    def set_queue_cap(self, queue: str, cap: int | None) -> bool:
        """Let a queue hold so many waiting runs; a submit to a full one raises QueueFull. None: any number.

        Returns:
            True if that was not so yet.

        Raises:
            InvalidValue: a negative cap.
        """
        if cap is None:
            return self._ledger.set_queue(queue_name("queue", queue), "uncap")
        return self._ledger.set_queue(queue_name("queue", queue), "cap", _count("cap", cap))

    async def apause_queue(self, queue: str) -> bool:
        """The same as `pause_queue`, without blocking the event loop."""
        return await asyncio.to_thread(self.pause_queue, queue)

    async def aresume_queue(self, queue: str) -> bool:
        """The same as `resume_queue`, without blocking the event loop."""
        return await asyncio.to_thread(self.resume_queue, queue)

    async def aset_queue_cap(self, queue: str, cap: int | None) -> bool:
        """The same as `set_queue_cap`, without blocking the event loop."""
        return await asyncio.to_thread(self.set_queue_cap, queue, cap)

    def purge_queue(self, queue: str, message: str = "") -> int:
        """Cancel what waits in this queue for a worker; each run's history tells.

        What runs, is due later, or waits for other runs or for a slot is left alone.

        Returns:
            How many runs were cancelled.
        """
        name, told, by = queue_name("queue", queue), printable(message) or f"Purged from queue {queue}.", actor()
        return self._page_by_page(name, lambda: self._ledger.purge(name, actor=by, message=told))

    async def apurge_queue(self, queue: str, message: str = "") -> int:
        """The same as `purge_queue`, without blocking the event loop."""
        return await asyncio.to_thread(self.purge_queue, queue, message)

    def move_queue(self, queue: str, to: str) -> int:
        """Put what waits in this queue into another, behind what waits there; each run's history tells.

        Also what is due later or waits for other runs. What runs, is paused or waits for a slot of a limit stays, and
        comes back to its own queue: moving again takes it along. A cap of the other queue refuses nothing here.

        Returns:
            How many runs were moved.

        Raises:
            InvalidValue: both are the same queue.
        """
        name, target, by = queue_name("queue", queue), queue_name("to", to), actor()
        if name == target:
            raise InvalidValue(f"queue {name} cannot be moved to itself")
        return self._page_by_page(name, lambda: self._ledger.move(name, target, actor=by))

    async def amove_queue(self, queue: str, to: str) -> int:
        """The same as `move_queue`, without blocking the event loop."""
        return await asyncio.to_thread(self.move_queue, queue, to)

    def _page_by_page(self, queue: str, clear: Callable[[], Cleared]) -> int:
        """Clear a queue of what lies in it now: others may go on filling it, so as many pages as that takes."""
        look = queues(self._transport, [queue]).rows
        there = sum((row.waiting or 0) + (row.scheduled or 0) + (row.deferred or 0) for row in look)
        done = 0
        for _ in range(there // AT_ONCE + 1):
            page = clear()
            done += page.runs
            if page.looked_at < AT_ONCE:
                break
        return done

    # --- limits -------------------------------------------------------------------------------------------------------

    def set_limit(self, name: str, slots: int | None, slot_decay_per_second: float | None = None) -> int:
        """Let so many slots of this limit be taken at once; `tag:<tag>` limits the runs with a tag. None: no limit.

        It holds at once; lowering it takes no slot away from one who has it.

        Args:
            name: what `concurrency` and `rate_limit` call it.
            slots: how many there are.
            slot_decay_per_second: how many that were taken by `rate_limit` free themselves each second.

        Returns:
            How many runs and processes wait for it still.

        Raises:
            InvalidValue: a negative number, no rate above 0, or what is no name of a limit.
        """
        check_limit_name(name)
        decay = None if slot_decay_per_second is None else _rate("slot_decay_per_second", slot_decay_per_second)
        return self._ledger.set_limit(name, None if slots is None else _count("slots", slots), decay)

    async def aset_limit(self, name: str, slots: int | None, slot_decay_per_second: float | None = None) -> int:
        """The same as `set_limit`, without blocking the event loop."""
        return await asyncio.to_thread(self.set_limit, name, slots, slot_decay_per_second)


def _count(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidValue(f"{name!r} must be a whole number >= 0, got {value!r}")
    return value


def _rate(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InvalidValue(f"{name!r} must be a number above 0, got {value!r}")
    return float(value)


def _delay_of(state: State[Any]) -> float:
    due = state.state_details.scheduled_time if state.is_scheduled() else None
    return max(0.0, (due - state.timestamp).total_seconds()) if due else 0.0
