"""What a supervisor does about bodies that have to end: it asks, and kills those that do not answer in time.

Two reasons: somebody cancelled the run, or the body ignored its own time limit. Looks at pages, not at Redis.
"""

import contextlib
import os
from dataclasses import dataclass, field
from typing import Final

from shared.clock import monotonic
from shared.settings import Settings
from worker.interrupts import SIGNAL
from worker.page import Body, Page

DEAF: Final = "it was cancelled and its body did not end"


@dataclass
class Endings:
    """Of one child: the attempts that it was asked to end, with the time at which it is killed for them."""

    page: Page
    pid: int
    settings: Settings
    _kill_at: dict[int, float] = field(default_factory=dict)

    def ask(self, token: int) -> None:
        """Have the attempt with this token ended: now if it is in its body, else before it gets there."""
        if token in self._kill_at:
            return
        self.page.cancel(token)
        self._kill_at[token] = monotonic() + self.settings.cancel_grace
        body = self.page.body()
        if body is not None and body.token == token:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, SIGNAL)

    def deaf(self) -> Body | None:
        """The body that was asked to end and did not, for too long."""
        body = self.page.body()
        kill_at = self._kill_at.get(body.token) if body is not None else None
        if body is None or kill_at is None:
            return None
        # Asked before it entered its body: its time begins there.
        return body if monotonic() > max(kill_at, body.since + self.settings.cancel_grace) else None

    def overrun(self) -> Body | None:
        """The body that ignored its time limit, for too long."""
        body = self.page.body()
        if body is None or not body.seconds:
            return None
        return body if monotonic() > body.since + body.seconds + self.settings.timeout_grace else None

    def forget(self) -> None:
        """Drop attempts that must have ended long ago."""
        longest = 10 * self.settings.cancel_grace
        self._kill_at = {token: at for token, at in self._kill_at.items() if monotonic() < at + longest}
