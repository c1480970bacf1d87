"""Finds the children that stand still: no call, no wait and no body for too long.

# A body may last; that it ends is the matter of its time limit. So may a start hook. Hooks of runs, and other code
# of the user's that is called for a run, have a limit of their own: a child that outlives it stands still from then on.
"""

from collections.abc import Collection

from shared.clock import monotonic
from worker.child import Child

SELDOM = 1.0


class Watchdog:
    """Of one fleet. Seconds: after which a child that makes no round is stuck, and for which a hook may last."""

    def __init__(self, seconds: float, hook_timeout: float) -> None:
        self._seconds = seconds
        self._hook_timeout = hook_timeout
        self._looked_at = monotonic()
        self._seen: dict[int, tuple[int, float]] = {}

    def due_in(self) -> float:
        """Seconds until it is worth to look again."""
        return max(0.0, self._looked_at + min(SELDOM, self._seconds / 4) - monotonic())

    def stuck(self, children: Collection[Child]) -> list[Child]:
        """Those among them that have made no round for so long."""
        present = monotonic()
        if present - self._looked_at > self._seconds / 2:
            self._seen = {}  # this process stood still itself, and its children perhaps with it
        self._looked_at = present
        self._seen = {child.pid: self._look(child, present) for child in children}
        return [child for child in children if present - self._seen[child.pid][1] > self._seconds]

    def still_for(self, child: Child) -> float:
        """Seconds for which a child has been seen to stand still, at the last look."""
        return self._looked_at - self._seen.get(child.pid, (0, self._looked_at))[1]

    def _look(self, child: Child, present: float) -> tuple[int, float]:
        page = child.page
        number, _ = page.rounds()
        seen = self._seen.get(child.pid)
        if seen is None or seen[0] != number or any(page.bodies()) or page.is_in_start_hooks():
            return number, present
        in_hook_for = page.in_hook_for()
        if in_hook_for is not None and in_hook_for < self._hook_timeout:
            return number, present
        return seen
