"""Hearing runs: one connection and one thread per process, for any number of runs, for sync and async users alike.

# What is heard is a hint to look at the record, never the truth: messages can be lost, late, double or forged.
# Order for each run: subscribe, wait for the server's confirmation, only then the first look. A transition between an
# earlier look and the confirmation would be missed.
"""

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from shared.clock import monotonic
from shared.errors import RedisUnavailable
from shared.keys import run_id_of_channel, state_channel
from shared.retries import backoff
from shared.settings import Settings
from shared.state_types import TERMINAL_STATES
from shared.transport import Exchange, Line

log = logging.getLogger("baton.channels")
AT_ONCE = 500


_END = re.compile(rb'"type":"(?:%s)"' % "|".join(sorted(TERMINAL_STATES)).encode())


class Subscriber:
    """Calls `look` with the ids of runs whose record should be read now, in a thread of its own.

    That is when a run is subscribed, after a message of its end, after each reconnect, every `future_sweep` seconds.
    """

    def __init__(self, exchange: Exchange, look: Callable[[Sequence[str]], None], settings: Settings) -> None:
        self._line: Line = exchange.line()
        self._look = look
        self._settings = settings
        self._lock = threading.Lock()
        self._wanted: dict[str, None] = {}
        self._live = False
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._heard_at = self._pinged_at = self._swept_at = monotonic()

    def add(self, run_ids: Iterable[str]) -> None:
        """Hear these runs from now on."""
        with self._lock:
            new = [run_id for run_id in run_ids if run_id not in self._wanted]
            self._wanted.update(dict.fromkeys(new))
            self._tell("SUBSCRIBE", new)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="baton-subscriber", daemon=True)
                self._thread.start()

    def drop(self, run_ids: Iterable[str]) -> None:
        """Hear these runs no more."""
        with self._lock:
            known = [run_id for run_id in run_ids if run_id in self._wanted]
            for run_id in known:
                del self._wanted[run_id]
            self._tell("UNSUBSCRIBE", known)

    def close(self) -> None:
        """Stop hearing, and wait for the thread's end."""
        self._closed.set()
        with self._lock:
            self._wanted.clear()
            if self._live:
                # Its answer wakes the thread, which alone may close the connection that it reads from.
                with contextlib.suppress(RedisUnavailable):
                    self._line.send("PING")
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(self._settings.socket_timeout)

    def _tell(self, command: str, run_ids: Sequence[str]) -> None:
        """Send from the caller's thread, so that a subscription waits for nobody; the answer comes to the subscriber's.

        While there is no connection nothing is sent: the next one subscribes to all that are wanted.
        """
        try:
            for start in range(0, len(run_ids) if self._live else 0, AT_ONCE):
                self._line.send(command, *map(state_channel, run_ids[start : start + AT_ONCE]))
        except RedisUnavailable:
            self._live = False

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        tries = 0
        while not self._closed.is_set():
            try:
                self._connect()
                while self._live and not self._closed.is_set():
                    self._listen()
                    tries = 0  # only now: a server that accepts and hangs up must not be called again at once
            except RedisUnavailable as error:
                if not self._closed.is_set():
                    log.warning("%s", error)
            except Exception:
                # This thread may not end: everybody who waits depends on it. A caller's thread that loses the
                # connection while this one reads from it leaves the client library in any state.
                log.exception("hearing failed; it begins anew")
            with self._lock:
                self._live = False
            self._closed.wait(backoff(tries))
            tries += 1
        self._line.close()

    def _connect(self) -> None:
        with self._lock:
            self._line.close()
            self._live = True
            self._heard_at = self._pinged_at = self._swept_at = monotonic()
            self._line.send("PING")
            self._tell("SUBSCRIBE", list(self._wanted))

    def _listen(self) -> None:
        """Wait for something to look at, and look."""
        hints = self._hear()
        present = monotonic()
        if present - self._swept_at >= self._settings.future_sweep:
            self._swept_at = present
            with self._lock:
                hints = dict.fromkeys(self._wanted)
        if hints:
            self._look(list(hints))
        self._check_pulse(present)

    def _hear(self) -> dict[str, None]:
        """The runs that were confirmed or had a transition; what has arrived is taken at once, up to a bound."""
        hints: dict[str, None] = {}
        patience = min(self._settings.future_sweep, self._settings.ping, self._settings.pong) / 2
        message = self._line.hear(patience)
        while message is not None:
            self._heard_at = monotonic()
            if isinstance(message, list) and (message[0] == b"subscribe" or _tells_an_end(message)):
                hints[run_id_of_channel(message[1].decode())] = None
            message = self._line.hear(0) if len(hints) < AT_ONCE else None
        return hints

    def _check_pulse(self, present: float) -> None:
        """A half-open connection is silent for ever and never errs: so ask, and take no answer for a lost connection.

        Raises:
            RedisUnavailable: no answer in time.
        """
        if present - self._heard_at > self._settings.ping + self._settings.pong:
            self._line.close()
            raise RedisUnavailable(f"Redis at {self._line.address} fell silent", self._line.address)
        if present - max(self._heard_at, self._pinged_at) > self._settings.ping:
            with self._lock:
                self._pinged_at = present
                self._line.send("PING")


def _tells_an_end(message: list[Any]) -> bool:
    """True if somebody who waits for an end should look: on the way to it a run costs no reads."""
    return message[0] == b"message" and _END.search(message[2]) is not None
