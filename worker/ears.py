"""Hearing the fleet's channel: somebody cancelled a run that this fleet holds. Says only that it is time to look.

# What is missed costs nothing but time: the next beat tells the same.
"""

import logging
import time

from shared.clock import monotonic
from shared.errors import RedisUnavailable
from shared.keys import fleet
from shared.transport import Line

log = logging.getLogger("baton.fleet")
OPEN_AGAIN_AFTER = 1.0


class Ears:
    """One subscription, on a line of its own."""

    def __init__(self, line: Line, fleet_name: str) -> None:
        self._line = line
        self._channel = fleet(fleet_name)
        self._is_open = False
        self._open_at = 0.0

    def fileno(self) -> int | None:
        """The socket to watch, or None while there is none; subscribes if need be."""
        try:
            self._subscribe()
            return self._line.fileno() if self._is_open else None
        except RedisUnavailable as error:
            self._close(error)
            return None

    def heard(self) -> bool:
        """Take what has arrived; True if there was a message."""
        found = False
        try:
            while (message := self._line.hear(0)) is not None:
                found = found or (isinstance(message, list) and message[0] == b"message")
        except RedisUnavailable as error:
            self._close(error)
        return found

    def wait(self, seconds: float) -> bool:
        """Wait for so long, or until a message has arrived; True if there was one."""
        try:
            self._subscribe()
            if not self._is_open:
                time.sleep(min(seconds, OPEN_AGAIN_AFTER))
                return False
            message = self._line.hear(seconds)
        except RedisUnavailable as error:
            self._close(error)
            return False
        return isinstance(message, list) and message[0] == b"message"

    def close(self) -> None:
        """Hear no more."""
        self._line.close()
        self._is_open = False

    def _subscribe(self) -> None:
        if not self._is_open and monotonic() >= self._open_at:
            self._line.send("SUBSCRIBE", self._channel)
            self._is_open = True

    def _close(self, error: RedisUnavailable) -> None:
        log.warning("%s", error)
        self.close()
        self._open_at = monotonic() + OPEN_AGAIN_AFTER
