"""Answers probes of a fleet over HTTP, in the loop of its supervisor: `/livez` and `/readyz`, each with the facts.

# No thread, since the supervisor forks. Nothing here waits: what has not been sent or read at once is left, and whoever
# is slow is dropped.
"""

import contextlib
import json
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass

from shared.clock import monotonic
from shared.errors import ConfigError

MOST_BYTES = 4096
MOST_CALLERS = 16
PATIENCE = 2.0
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


@dataclass(frozen=True)
class Condition:
    """What is known of a fleet when somebody asks. Durations are seconds; `working` counts those that look for work."""

    fleet: str
    workers: int
    working: int
    wanted: int
    stuck: Sequence[str]
    since_pass: float
    since_beat: float
    is_draining: bool
    is_quiet: bool
    beat: float
    lease: float

    def is_live(self) -> bool:
        """True if the supervisor's loop goes round and no child stands still: nothing that a restart would mend."""
        return self.since_pass <= 2 * self.beat and not self.stuck

    def is_ready(self) -> bool:
        """True if runs are begun here: Redis took a beat lately, and the fleet is not leaving, quiet or unborn."""
        return self.since_beat < self.lease and self.working > 0 and not (self.is_draining or self.is_quiet)

    def body(self, *, ok: bool) -> bytes:
        """The facts as JSON; a beat that never was answered is null."""
        facts = {"ok": ok, **asdict(self)}
        facts |= {"since_pass": round(self.since_pass, 3), "since_beat": None}
        if self.since_beat != float("inf"):
            facts["since_beat"] = round(self.since_beat, 3)
        return json.dumps(facts).encode() + b"\n"


@dataclass
class _Caller:
    connection: socket.socket
    until: float
    heard: bytes = b""


class Health:
    """A listening socket, and whoever has called and is not answered yet. Without an address nothing at all."""

    def __init__(self, address: tuple[str, int] | None) -> None:
        self._address = address
        self._listener: socket.socket | None = None
        self._callers: dict[int, _Caller] = {}

    def open(self) -> None:
        """Listen.

        Raises:
            ConfigError: the address is taken, or none of this machine's.
        """
        if self._address is None:
            return
        host, port = self._address
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._listener = socket.create_server((host, port), family=family, backlog=MOST_CALLERS)
        except (OSError, UnicodeError) as error:
            raise ConfigError(f"health_port: cannot listen on {host}:{port}: {error}") from None
        self._listener.setblocking(False)

    def filenos(self) -> Collection[int]:
        """The sockets to watch."""
        return [self._listener.fileno(), *self._callers] if self._listener is not None else ()

    def due_in(self) -> float:
        """Seconds until a slow caller is to be dropped."""
        return min((caller.until for caller in self._callers.values()), default=float("inf")) - monotonic()

    def serve(self, ready: Collection[int], condition: Callable[[], Condition]) -> None:
        """Answer those of whom something has arrived; `condition` is asked only then."""
        if self._listener is None:
            return
        if self._listener.fileno() in ready:
            self._accept(self._listener)
        for fileno, caller in list(self._callers.items()):
            if fileno in ready:
                self._hear(caller, condition)
            if monotonic() >= caller.until:
                self._drop(caller)

    def close(self) -> None:
        """Listen no more."""
        for caller in list(self._callers.values()):
            self._drop(caller)
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # whoever called may have gone meanwhile
            connection, _ = listener.accept()
            connection.setblocking(False)
            if len(self._callers) >= MOST_CALLERS:
                self._drop(next(iter(self._callers.values())))
            self._callers[connection.fileno()] = _Caller(connection, monotonic() + PATIENCE)

    def _hear(self, caller: _Caller, condition: Callable[[], Condition]) -> None:
        try:
            arrived = caller.connection.recv(MOST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            arrived = b""
        caller.heard += arrived
        is_whole = b"\r\n\r\n" in caller.heard or b"\n\n" in caller.heard
        if arrived and not is_whole and len(caller.heard) < MOST_BYTES:
            return
        if is_whole or len(caller.heard) >= MOST_BYTES:
            with contextlib.suppress(OSError):
                caller.connection.send(_answer(caller.heard, condition))
        self._drop(caller)

    def _drop(self, caller: _Caller) -> None:
        self._callers.pop(caller.connection.fileno(), None)
        caller.connection.close()


def _answer(request: bytes, condition: Callable[[], Condition]) -> bytes:
    words = request.split(b"\n", 1)[0].split()
    if len(words) != 3 or not words[2].startswith(b"HTTP/") or len(request) >= MOST_BYTES:  # noqa: PLR2004
        return _response(400)
    method, path = words[0], words[1].partition(b"?")[0]
    if path not in (b"/livez", b"/readyz"):
        return _response(404)
    if method not in (b"GET", b"HEAD"):
        return _response(405)
    known = condition()
    ok = known.is_live() if path == b"/livez" else known.is_ready()
    body = known.body(ok=ok)
    return _response(200 if ok else 503, body, with_body=method == b"GET")


def _response(status: int, body: bytes = b"", *, with_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.0 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")
