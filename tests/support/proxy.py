"""A TCP proxy in front of a real server, for tests: cuts, holds and delays what goes through it, and loses replies.

One thread carries everything, so that what is asked for happens between two bytes and never in the middle of them.
"""

import queue
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

Direction = Literal["to_server", "to_client"]
CHUNK = 65536
MOST_HELD = 1 << 20
"""So many bytes of one flow lie in the proxy; then it reads no more, and whoever sends finds a full line."""


class _Flow:
    """One direction of a connection."""

    def __init__(self, source: socket.socket, target: socket.socket, direction: Direction) -> None:
        self.source = source
        self.target = target
        self.direction = direction
        self.chunks: deque[tuple[float, bytes]] = deque()
        self.size = 0
        self.has_ended = False


class _Link:
    """A client's connection and the server's. It is `marked` once its client sent the proxy's mark."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.sockets = (client, server)
        self.flows = (_Flow(client, server, "to_server"), _Flow(server, client, "to_client"))
        self.marked = False
        self.loses: threading.Event | None = None
        self.asks = False

    def close(self) -> None:
        for end in self.sockets:
            end.close()


class Proxy:
    """Listens on a free `port` of 127.0.0.1 for a server on another one.

    `marked` chooses connections: True those whose client has sent the mark at some time (by default those that
    subscribe), False the others, None all. Counts since the start: `accepted` connections, and `round_trips`, requests
    that were sent after an answer to the one before; what is sent in one go is one.
    """

    def __init__(self, server_port: int, mark: bytes = b"SUBSCRIBE") -> None:
        self.accepted = 0
        self.round_trips = 0
        self._server_port = server_port
        self._mark = mark
        self._links: list[_Link] = []
        self._held: list[tuple[Direction, bool | None]] = []
        self._delays: list[tuple[Direction, float]] = []
        self._to_lose: list[tuple[bytes, threading.Event]] = []
        self._dropped: list[bytes] = []
        self._to_tear: list[tuple[bytes, int, threading.Event]] = []
        self._refuses = False
        self._closing = False
        self._work: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._ear, self._bell = socket.socketpair()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._carry, name="proxy", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    # --- what a test can ask for --------------------------------------------------------------------------------------

    def cut(self, *, marked: bool | None = None) -> int:
        """Close these connections on both sides, with what is on its way in them; how many."""

        def close() -> int:
            chosen = [link for link in self._links if marked in (None, link.marked)]
            for link in chosen:
                self._drop(link)
            return len(chosen)

        return int(self._do(close))

    @contextmanager
    def hold(self, direction: Direction, *, marked: bool | None = None) -> Iterator[None]:
        """Carry nothing in this direction, as on a half-open link; what was sent meanwhile is carried afterwards."""
        entry = (direction, marked)
        self._do(lambda: self._held.append(entry))
        try:
            yield
        finally:
            self._do(lambda: self._held.remove(entry))

    @contextmanager
    def delay(self, direction: Direction, seconds: float) -> Iterator[None]:
        """Carry what is sent in this direction so much later."""
        entry = (direction, seconds)
        self._do(lambda: self._delays.append(entry))
        try:
            yield
        finally:
            self._do(lambda: self._delays.remove(entry))

    @contextmanager
    def refuse(self) -> Iterator[None]:
        """Hang up on whoever connects."""
        self._do(lambda: setattr(self, "_refuses", True))
        try:
            yield
        finally:
            self._do(lambda: setattr(self, "_refuses", False))

    @contextmanager
    def drop(self, request: bytes) -> Iterator[None]:
        """Let no request with these bytes in it reach the server: its connection is cut."""
        self._do(lambda: self._dropped.append(request))
        try:
            yield
        finally:
            self._do(lambda: self._dropped.remove(request))

    def lose_reply(self, request: bytes = b"") -> threading.Event:
        """Let the next request with these bytes in it reach the server, but not its reply: the connection is cut.

        The event is set when that has happened.
        """
        lost = threading.Event()
        self._do(lambda: self._to_lose.append((request, lost)))
        return lost

    def tear(self, request: bytes, size: int) -> threading.Event:
        """Carry only so many bytes of the next piece of a request with these bytes in it, then cut the connection.

        The event is set when that has happened.
        """
        torn = threading.Event()
        self._do(lambda: self._to_tear.append((request, size, torn)))
        return torn

    def close(self) -> None:
        """Close everything."""
        if not self._closing:
            self._do(lambda: setattr(self, "_closing", True))
            self._thread.join()

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _do(self, work: Callable[[], Any]) -> Any:
        """The answer of this, called in the proxy's thread."""
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._work.put(lambda: answers.put(work()))
        self._bell.send(b"!")
        return answers.get(timeout=10)

    def _carry(self) -> None:
        while not self._closing:
            flows = [(link, flow) for link in self._links for flow in link.flows]
            now = time.monotonic()
            reads = {flow.source: (link, flow) for link, flow in flows if self._takes(link, flow)}
            writes = {flow.target: (link, flow) for link, flow in flows if self._gives(link, flow, now)}
            readable, writable, _ = select.select([self._ear, self._listener, *reads], writes, [], self._next_due(now))
            if self._listener in readable:
                self._accept()
            for end in readable:
                if end in reads:
                    self._read(*reads[end])
            for end in writable:
                self._write(*writes[end])
            if self._ear in readable:
                self._ear.recv(CHUNK)
                while not self._work.empty():
                    self._work.get()()
        for link in list(self._links):
            self._drop(link)
        for end in (self._listener, self._ear, self._bell):
            end.close()

    def _is_held(self, link: _Link, flow: _Flow) -> bool:
        return any(flow.direction == held and marked in (None, link.marked) for held, marked in self._held)

    def _takes(self, link: _Link, flow: _Flow) -> bool:
        return flow.size < MOST_HELD and not flow.has_ended and not self._is_held(link, flow)

    def _gives(self, link: _Link, flow: _Flow, now: float) -> bool:
        return bool(flow.chunks) and flow.chunks[0][0] <= now and not self._is_held(link, flow)

    def _next_due(self, now: float) -> float | None:
        dues = [flow.chunks[0][0] - now for link in self._links for flow in link.flows if flow.chunks]
        return max(0.0, min(waits)) if (waits := [due for due in dues if due > 0]) else None

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        self.accepted += 1
        try:
            if self._refuses:
                raise ConnectionRefusedError
            server = socket.create_connection(("127.0.0.1", self._server_port), timeout=5)
        except OSError:
            client.close()
            return
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._links.append(_Link(client, server))

    def _read(self, link: _Link, flow: _Flow) -> None:
        if link not in self._links:
            return
        try:
            data = flow.source.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            flow.has_ended = True  # what was said before is still carried
            self._drop_if_over(link, flow)
            return
        if self._to_tear and flow.direction == "to_server" and self._to_tear[0][0] in data:
            _, size, torn = self._to_tear.pop(0)
            data, flow.has_ended = data[:size], True
            torn.set()
        elif not self._passes(link, flow, data):
            self._drop(link)
            return
        later = sum(seconds for direction, seconds in self._delays if direction == flow.direction)
        flow.chunks.append((time.monotonic() + later, data))
        flow.size += len(data)

    def _passes(self, link: _Link, flow: _Flow, data: bytes) -> bool:
        """Note what goes by; False if it is a request that is to be dropped, or a reply that is to be lost."""
        if flow.direction == "to_client":
            link.asks = False
            if link.loses is not None:
                link.loses.set()
            return link.loses is None
        if any(request in data for request in self._dropped):
            return False
        self.round_trips += not link.asks
        link.asks = True
        link.marked = link.marked or self._mark in data
        if self._to_lose and self._to_lose[0][0] in data:
            _, link.loses = self._to_lose.pop(0)
        return True

    def _write(self, link: _Link, flow: _Flow) -> None:
        if link not in self._links:
            return
        due, data = flow.chunks.popleft()
        try:
            sent = flow.target.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(link)
            return
        flow.size -= sent
        if sent < len(data):
            flow.chunks.appendleft((due, data[sent:]))
        self._drop_if_over(link, flow)

    def _drop_if_over(self, link: _Link, flow: _Flow) -> None:
        if flow.has_ended and not flow.chunks:
            self._drop(link)

    def _drop(self, link: _Link) -> None:
        with suppress(ValueError):
            self._links.remove(link)
        link.close()


@contextmanager
def proxy_to(server_port: int, mark: bytes = b"SUBSCRIBE") -> Iterator[Proxy]:
    """A proxy that is closed whatever happens."""
    proxy = Proxy(server_port, mark)
    try:
        yield proxy
    finally:
        proxy.close()
