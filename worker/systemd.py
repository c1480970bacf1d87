"""Tells systemd that a fleet is up, that its supervisor's loop goes round, and that it stops; elsewhere nothing.

A unit with `Type=notify` and `WatchdogSec=` has its fleet restarted when the loop stands still: nobody else watches it.
"""

import contextlib
import os
import socket
from collections.abc import Mapping

from shared.clock import monotonic


class Systemd:
    """The notification socket of `$NOTIFY_SOCKET`, if there is one, and when the watchdog is to hear of us."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        microseconds = environment.get("WATCHDOG_USEC", "")
        is_ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._every = int(microseconds) / 2_000_000 if self._address and microseconds.isdigit() and is_ours else 0.0
        self._at = 0.0

    def due_in(self) -> float:
        """Seconds until `alive` has something to say."""
        return max(0.0, self._at - monotonic()) if self._every else float("inf")

    def ready(self) -> None:
        """The workers are started."""
        self._say("READY=1")

    def alive(self) -> None:
        """The loop has come round."""
        if self.due_in() == 0:
            self._say("WATCHDOG=1")
            self._at = monotonic() + self._every

    def stopping(self) -> None:
        """The fleet begins to stop."""
        self._say("STOPPING=1")

    def _say(self, text: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.setblocking(False)
            line.sendto(text.encode(), self._address)
