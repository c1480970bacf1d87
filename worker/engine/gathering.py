"""What becomes of the runs that a flow's body submitted when it ends. Knows runs only through whoever makes futures.

The orchestrator's package says how they are waited for; where it was never imported, no body can have submitted any.
"""

from collections.abc import Callable
from typing import Any, Protocol

from worker.engine.steps import Gather, Gathered


class Children(Protocol):
    """Knows the runs that bodies submit. Its methods wait for a server, and may raise what a future raises."""

    def states_in(self, value: Any) -> Any:
        """The value with the final state of each future in its place, waited for."""
        ...

    def wait(self, run_id: str) -> None:
        """Wait for the ends of all runs that this one has submitted."""
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
    """What a flow returned, once its runs have ended, or as many as it waits for."""
    children = _default.ask()
    if children is None:
        return Gathered(step.value)
    value = children.states_in(step.value)
    if step.unfinished == "wait":
        children.wait(run_id)
    elif step.unfinished == "cancel":
        children.cancel(run_id)
    total, incomplete = children.count(run_id)
    return Gathered(value, total, 0 if step.unfinished == "leave" else incomplete)
