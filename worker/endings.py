"""What a supervisor does about bodies that have to end: it asks, and kills those that do not answer in time.

Two reasons: somebody cancelled the run, or the body ignored its own time limit. Looks at pages, not at Redis.
"""

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from shared.clock import monotonic
from shared.settings import Settings
from worker.interrupts import SIGNAL
from worker.page import Body, Page

Attempt = tuple[str, int]
"""A run and the token of its attempt."""
DEAF: Final = "it was cancelled and its body did not end"


@dataclass
class Endings:
    """Of one child: the attempts that it was asked to end, with the time at which it is killed for them."""

    page: Page
    pid: int
    settings: Settings
    _kill_at: dict[Attempt, float] = field(default_factory=dict)

    def ask(self, attempts: Iterable[Attempt]) -> None:
        """Have these attempts ended: those in their bodies now, the others before they get there."""
        kill_at = monotonic() + self.settings.cancel_grace
        new = {attempt: kill_at for attempt in attempts if attempt not in self._kill_at}
        for run_id, token in new:
            self.page.cancel(run_id, token)
        self._kill_at |= new
        if new and any((body.run_id, body.token) in new for body in self.page.bodies()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, SIGNAL)

    def deaf(self) -> Body | None:
        """A body that was asked to end and did not, for too long."""
        if not self._kill_at:
            return None
        present, grace = monotonic(), self.settings.cancel_grace
        for body in self.page.bodies():
            kill_at = self._kill_at.get((body.run_id, body.token))
            # Asked before it entered its body: its time begins there.
            if kill_at is not None and present > max(kill_at, body.since + grace):
                return body
        return None

    def overrun(self) -> Sequence[Body]:
        """The bodies that ignored their time limits, for too long."""
        present, grace = monotonic(), self.settings.timeout_grace
        return [body for body in self.page.bodies() if body.seconds and present > body.since + body.seconds + grace]

    def forget(self) -> None:
        """Drop attempts that must have ended long ago."""
        longest = 10 * self.settings.cancel_grace
        self._kill_at = {attempt: at for attempt, at in self._kill_at.items() if monotonic() < at + longest}
