"""Shows what a fleet does at this moment: each child's run, and the stack of each of its threads, on stderr.

A child prints its stacks itself, also while C code holds it. They are asked one after the other, since what several
print at the same time cannot be told apart.
"""

import logging
from collections import deque
from collections.abc import Collection

from shared.clock import monotonic
from worker.child import Child
from worker.page import in_words
from worker.posix_signals import STACKS

log = logging.getLogger("baton.fleet")
APART = 0.05
"""Seconds: a multiple of what the printing takes."""


class Stacks:
    """The children that are still to be asked."""

    def __init__(self) -> None:
        self._left: deque[Child] = deque()
        self._at = 0.0

    def begin(self, fleet: str, children: Collection[Child]) -> None:
        """Ask these, from now on. The supervisor's own stack has been printed by then."""
        log.warning("fleet %s: above are its own stacks, now come those of its %d workers", fleet, len(children))
        self._left = deque(children)

    def due_in(self) -> float:
        """Seconds until `run` has something to do."""
        return max(0.0, self._at - monotonic()) if self._left else float("inf")

    def run(self) -> None:
        """Ask the next one, if it is time."""
        if not self._left or monotonic() < self._at:
            return
        child = self._left.popleft()
        if child.is_over:
            return
        bodies = sorted(child.page.bodies(), key=lambda body: body.since)
        doing = in_words([body.run_id for body in bodies])
        doing = f"in {doing} for {monotonic() - bodies[0].since:.1f} s" if bodies else "in no run"
        in_hook_for = child.page.in_hook_for()
        if in_hook_for is not None:
            doing += f", in a hook for {in_hook_for:.1f} s"
        log.warning("worker %s (pid %d): %s", child.name, child.pid, doing)
        child.send(STACKS)
        self._at = monotonic() + APART
