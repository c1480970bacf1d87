"""Hearing runs: one connection and one thread per process, for any number of runs, for sync and async users alike.

# What is heard is a hint to look at the record, never the truth: messages can be lost, late, double or forged.
# Order for each run: subscribe, wait for the server's confirmation, only then the first look. A transition between an
# earlier look and the confirmation would be missed.
"""

import contextlib
import logging
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from shared.clock import monotonic
from shared.errors import RedisUnavailable
from shared.keys import job, run_id_of_channel, state_channel
from shared.retries import backoff
from shared.settings import Settings
from shared.state_types import TERMINAL_STATES
from shared.transport import Exchange, Line

log = logging.getLogger("baton.channels")
AT_ONCE: Final = 500
"""Runs that one command names, and that are looked at together."""
MESSAGES: Final = 2000
"""So many are taken before something is looked at: who sends more than we read may not keep us from looking."""
FEW: Final = 16
"""Of more runs than that it is first asked which have ended: a record costs ten times as much as a state's type."""

TIDY: Final = 1.0
"""Seconds after which, at the latest, what was put down for `tidy` is done."""

_FINAL = frozenset(kind.encode() for kind in TERMINAL_STATES)
_END = re.compile(rb'"type":"(?:%s)"' % b"|".join(sorted(_FINAL)))


class Subscriber:
    """Calls `look` with the ids of runs whose record should be read now, in a thread of its own.

    That is when a run is subscribed, after a message of its end, after each reconnect, every `future_sweep` seconds.
    Where `look` raises RedisUnavailable all runs are looked at again once Redis answers. While it hears, `tidy` is
    called every second or more often, under the lock.
    """

    # The lock is the one of whoever keeps the list of waiters. It lets add and drop change together with that list, and
    # puts what is sent into the same order.

    def __init__(
        self,
        exchange: Exchange,
        look: Callable[[Sequence[str]], None],
        tidy: Callable[[], None],
        settings: Settings,
        lock: threading.Lock,
    ) -> None:
        self._exchange = exchange
        self._line: Line = exchange.line()
        self._look = look
        self._tidy = tidy
        self._settings = settings
        self._lock = lock
        self._wanted: dict[str, bytes] = {}
        self._live = False
        self._patience = min(settings.future_sweep, settings.ping, settings.pong, 2 * TIDY) / 2
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._due: deque[str] = deque()
        self._heard_at = self._pinged_at = self._swept_at = monotonic()

    def add(self, run_ids: Iterable[str]) -> None:
        """Hear these runs from now on. To be called under the lock."""
        # Encoded here, so that an id that cannot be sent is its caller's error, and not one of each reconnect.
        new = {run_id: state_channel(run_id).encode() for run_id in run_ids if run_id not in self._wanted}
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="baton-subscriber", daemon=True)
            thread.start()
            self._thread = thread
        self._wanted.update(new)
        self._tell("SUBSCRIBE", list(new.values()))

    def drop(self, run_ids: Iterable[str]) -> None:
        """Hear these runs no more. To be called under the lock."""
        self._tell("UNSUBSCRIBE", [self._wanted.pop(run_id) for run_id in run_ids if run_id in self._wanted])

    def close(self) -> None:
        """Stop hearing, and wait for the thread's end."""
        self._closed.set()
        with self._lock:
            self._wanted.clear()
            if self._live:
                # Its answer wakes the thread, which alone may close the connection that it reads from.
                with contextlib.suppress(RedisUnavailable):
                    self._line.send("PING")
        if self._thread is not None and not self.is_this_thread():
            self._thread.join(self._settings.socket_timeout)

    def is_this_thread(self) -> bool:
        """True in the thread that looks: it may not wait for what it would have to look for."""
        return self._thread is threading.current_thread()

    def _tell(self, command: str, channels: Sequence[bytes]) -> None:
        """Send from the caller's thread, so that a subscription waits for nobody; the answer comes to the subscriber's.

        While there is no connection nothing is sent: the next one subscribes to all that are wanted.
        """
        try:
            for start in range(0, len(channels) if self._live else 0, AT_ONCE):
                self._line.send(command, *channels[start : start + AT_ONCE])
        except RedisUnavailable:
            self._live = False
        except BaseException:
            self._live = False  # interrupted half way: the line was closed, and would be opened again unsubscribed
            raise

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        tries = 0
        while not self._closed.is_set():
            try:
                self._connect()
                while self._live and not self._closed.is_set():
                    self._listen()
                    tries = 0  # only now: a server that accepts and hangs up must not be called again at once
            except Exception as error:  # noqa: BLE001 - this thread may not end: everybody who waits depends on it
                self._say(error)
            with self._lock:
                self._live = False
            self._closed.wait(backoff(tries))
            tries += 1
            self._sweep_unheard()
        self._line.close()

    def _say(self, error: Exception) -> None:
        if self._closed.is_set():
            return
        if isinstance(error, RedisUnavailable):
            log.warning("%s", error)
        else:
            # Such as a caller's thread that lost the connection while this one read from it.
            log.error("hearing failed, and begins anew", exc_info=error)

    def _connect(self) -> None:
        self._line.close()
        self._line.send("PING")  # connects, which may take long: so nobody else is kept waiting, or sends before
        self._heard_at = self._pinged_at = monotonic()
        with self._lock:
            self._live = True
            self._tell("SUBSCRIBE", list(self._wanted.values()))

    def _listen(self) -> None:
        """Wait for something to look at, and look."""
        hints = self._hear()
        with self._lock:
            self._tidy()
        present = monotonic()
        self._plan_sweep(present)
        self._look_at(hints)
        self._check_pulse(present)

    def _hear(self) -> dict[str, bool]:
        """The runs that were confirmed (False) or whose end was told (True): what has arrived, up to a bound."""
        hints: dict[str, bool] = {}
        patience = 0.0 if self._due else self._patience
        for _ in range(MESSAGES):
            message = self._line.hear(patience)
            if message is None:
                break
            patience = 0.0
            self._heard_at = monotonic()
            if isinstance(message, list) and (message[0] == b"subscribe" or _tells_an_end(message)):
                hints[run_id_of_channel(message[1].decode())] = message[0] == b"message"
        return hints

    def _plan_sweep(self, present: float) -> None:
        """Have all runs looked at now and then, some at a time, so that nobody who is heard has to wait for it."""
        if not self._due and present - self._swept_at >= self._settings.future_sweep:
            self._swept_at = present
            with self._lock:
                self._due.extend(self._wanted)

    def _look_at(self, hints: dict[str, bool]) -> None:
        while self._due and len(hints) < AT_ONCE:
            hints.setdefault(self._due.popleft(), False)
        run_ids = [run_id for run_id in hints if run_id in self._wanted]
        still_open = self._still_open([run_id for run_id in run_ids if not hints[run_id]])
        run_ids = [run_id for run_id in run_ids if run_id not in still_open]
        for start in range(0, len(run_ids), AT_ONCE):
            self._look(run_ids[start : start + AT_ONCE])

    def _still_open(self, run_ids: Sequence[str]) -> set[str]:
        """Those of many runs that need no look yet; of a few none, so that one round trip brings result and all."""
        if len(run_ids) <= FEW:
            return set()
        answers = self._exchange.read([("HGET", job(run_id), "state_type") for run_id in run_ids])
        found = zip(run_ids, answers, strict=True)
        return {run_id for run_id, kind in found if isinstance(kind, bytes) and kind not in _FINAL}

    def _sweep_unheard(self) -> None:
        """A sweep needs no subscription: where that is refused or lost again and again, ends are found all the same."""
        try:
            self._plan_sweep(monotonic())
            while self._due and not self._closed.is_set():
                self._look_at({})
        except Exception as error:  # noqa: BLE001 - as in _run
            self._due.clear()
            self._say(error)

    def _check_pulse(self, present: float) -> None:
        """A half-open connection is silent for ever and never errs: so ask, and take no answer for a lost connection.

        Raises:
            RedisUnavailable: no answer in time.
        """
        if present - self._heard_at > self._settings.ping + self._settings.pong:
            raise RedisUnavailable(f"Redis at {self._line.address} fell silent", self._line.address)
        if present - max(self._heard_at, self._pinged_at) > self._settings.ping:
            self._pinged_at = present
            with self._lock:
                self._line.send("PING")


def _tells_an_end(message: list[Any]) -> bool:
    """True if somebody who waits for an end should look: on the way to it a run costs no reads."""
    return message[0] == b"message" and _END.search(message[2]) is not None
