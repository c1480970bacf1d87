"""Gives back what a child began ahead of a body and cannot give back itself. Looks at pages; ends nobody.

A child's own thread does that within milliseconds, unless the body lets no other thread run or the whole child stands
still: then the runs would wait for that body while other workers are idle.

# Order: the child starts no more of a batch that has lasted `busy_after`. Only so much later, and by the token of the
# body that is seen, may another process take what is left of it.
"""

import logging
from collections.abc import Collection
from typing import Final

from shared.clock import monotonic
from shared.errors import RedisUnavailable
from shared.failpoints import is_off
from shared.ledger import RunLedger
from shared.settings import Settings
from worker.child import Child
from worker.hand import BUSY
from worker.page import Body

log = logging.getLogger("baton.fleet")
PATIENCE: Final = 1.0
"""Seconds that a child gets to give back what it holds, beyond those after which it has to."""
SELDOM: Final = 1.0


class Neighbours:
    """Of one fleet: what is begun ahead of bodies that last."""

    def __init__(self, ledger: RunLedger, settings: Settings) -> None:
        self._ledger = ledger
        self._longest = settings.busy_after + PATIENCE
        self._looked_at = monotonic()
        self._done: dict[int, int] = {}

    def due_in(self) -> float:
        """Seconds until it is worth to look again."""
        return max(0.0, self._looked_at + SELDOM - monotonic())

    def run(self, children: Collection[Child]) -> None:
        """Give back what waits behind a body that has lasted too long. An error is logged and tried again."""
        if self.due_in() > 0:
            return
        self._looked_at = monotonic()
        self._done = {child.pid: self._done[child.pid] for child in children if child.pid in self._done}
        for child in children:
            body = self._in_the_way(child)
            if body is None or self._done.get(child.pid) == body.token:
                continue
            try:
                answers = self._ledger.give_back_after(child.name, body.run_id, str(body.token), BUSY)
            except RedisUnavailable as error:
                log.warning("%s", error)
                return
            self._done[child.pid] = body.token
            if answers:
                log.warning(
                    "worker %s stands still in run %s: %d others go back", child.name, body.run_id, len(answers)
                )

    def _in_the_way(self, child: Child) -> Body | None:
        """The body that others wait behind, if it has lasted too long."""
        body = next(child.page.bodies(), None)
        if body is None or not child.page.holds_ahead() or is_off("give_back"):
            return None
        if monotonic() - body.since < self._longest:
            return None
        # Read twice: the child may have gone on between two fields of the first.
        return body if next(child.page.bodies(), None) == body else None
