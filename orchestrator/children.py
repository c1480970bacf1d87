"""The runs that a flow's body has submitted, as the worker's engine asks for them when it ends. Executes nothing."""

import asyncio
from collections.abc import Callable
from typing import Any

from orchestrator.acting import actor
from orchestrator.futures import RunFuture
from orchestrator.gathering import wait, wait_async
from orchestrator.resolve import aresolve_futures_to_states, resolve_futures_to_states
from shared.ledger import RunLedger
from shared.runs import TaskRun

DISMISSED = "The flow that submitted it ended."


class FlowChildren:
    """The children of runs in one Redis. `future_of` makes the future of a run."""

    def __init__(self, ledger: RunLedger, future_of: Callable[[str], RunFuture[Any]]) -> None:
        self._ledger = ledger
        self._future_of = future_of

    def ids(self, run_id: str) -> list[str]:
        """The ids of the runs that this one has submitted, in no order."""
        return self._ledger.children(run_id)

    def states_in(self, value: Any) -> Any:
        """The value with the final state of each future in its place, waited for.

        Raises:
            RunGone: a run is not there any more.
        """
        return resolve_futures_to_states(value)

    def wait(self, run_id: str) -> None:
        """Wait for the ends of all runs that this one has submitted, also of those that come to it meanwhile."""
        waited_for = set[str]()
        while ids := set(self.ids(run_id)) - waited_for:
            wait(self._future_of(child) for child in ids)
            waited_for |= ids

    async def wait_async(self, value: Any, run_id: str | None) -> None:
        """Wait for the futures in the value, and for all runs that this one has submitted, without blocking the loop.

        Raises:
            RunGone: as `states_in`.
        """
        await aresolve_futures_to_states(value)
        waited_for = set[str]()
        while run_id and (ids := set(await asyncio.to_thread(self.ids, run_id)) - waited_for):
            await wait_async(self._future_of(child) for child in ids)
            waited_for |= ids

    def cancel(self, run_id: str) -> None:
        """Cancel those that have not ended; one that runs ends when its process has heard of it."""
        self._ledger.cancel(self.ids(run_id), actor=actor(), message=DISMISSED)

    def count(self, run_id: str) -> tuple[int, int]:
        """How many there are, and how many of them have not COMPLETED; those whose record is gone are left out."""
        found = self._ledger.get_many(self.ids(run_id)).values()
        runs = [run for run in found if isinstance(run, TaskRun)]
        return len(runs), sum(not run.state.is_completed() for run in runs)
