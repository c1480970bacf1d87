"""Connections to one Redis: the only module that imports the client library. Carries calls, knows nothing of runs.

# Every call that goes through here may be sent twice, since a lost reply is sent for again. So only scripts that
# recognise their repeat, plain reads, and pops of wake-up tokens (which may be lost) go through here.

Foreign exceptions end here: callers see `RedisUnavailable`, `StorageFull` and `ConfigError`.
"""

import os
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ConnectionError,
    InvalidResponse,
    NoScriptError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
    TimeoutError,
)
from redis.retry import Retry

from shared.clock import monotonic
from shared.errors import ConfigError, RedisUnavailable, StorageFull
from shared.failpoints import is_off
from shared.retries import backoff
from shared.scripts import Script
from shared.settings import WAIT_SLACK, Settings
from shared.transport import Argument, Command

T = TypeVar("T")
_REFUSALS = (ResponseError, AuthenticationError, AuthorizationError)
_PASSING = (ConnectionError, TimeoutError, BusyLoadingError, InvalidResponse, OSError)
# Of an error inside of a script, Redis 6.2 tells the code in the middle of its text.
_FULL = re.compile(r"(^|-)(OOM|MISCONF|NOREPLICAS) ")


class Connection:
    """One connection, used by one thread at a time. Remakes itself after an error and after a fork."""

    def __init__(self, pool: redis.ConnectionPool, address: str, budget: float) -> None:
        self.address = address
        self._budget = budget
        # Not from the pool's own stack: each of ours keeps it for life, and the pool counts what it hands out.
        self._connection: Any = pool.connection_class(**pool.connection_kwargs)
        self._pid = os.getpid()
        self._sleep: Callable[[float], None] = time.sleep

    def evaluate(self, script: Script, key_names: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run a script and return its answer, as `Transport.evaluate`."""
        tail = (len(key_names), *key_names, *arguments)

        def call() -> Any:
            try:
                return self._ask("EVALSHA", script.sha, *tail)
            except NoScriptError:
                return self._ask("EVAL", script.text, *tail)

        return self._insist(call, script.name)

    def read(self, commands: Sequence[Command]) -> list[Any]:
        """Send reading commands in one round trip, as `Transport.read`."""
        return self._insist(lambda: self._pipeline(commands), str(commands[0][0]))

    def pop(self, lists: Sequence[str], seconds: float) -> bool:
        """Wait for a wake-up token on any of the lists, in their order. True if there was one.

        One try only: whoever waits for work looks for it afterwards anyway.

        Raises:
            RedisUnavailable: no answer.
        """
        patience = seconds + WAIT_SLACK
        return self._once(lambda: self._ask("BLPOP", *lists, seconds, patience=patience) is not None, "BLPOP")

    def send(self, *command: Argument) -> None:
        """Send a command whose answer is read later, with `hear`.

        Raises:
            RedisUnavailable: it could not be sent.
        """
        self._once(lambda: self._own().send_command(*command, check_health=False), str(command[0]))

    def hear(self, seconds: float) -> Any | None:
        """The next message or answer, or None if there is none in this time.

        Raises:
            RedisUnavailable: the connection is lost.
        """

        def listen() -> Any | None:
            connection = self._own()
            return connection.read_response() if connection.can_read(timeout=seconds) else None

        return self._once(listen, "listening")

    def fileno(self) -> int:
        """The socket, for `select`; connects if need be.

        Raises:
            RedisUnavailable: no connection could be made.
        """
        connection = self._once(self._own, "connecting")
        return int(connection._sock.fileno())  # noqa: SLF001 - the client shows its socket nowhere else

    def close(self) -> None:
        """Close the connection; the next call would make a new one."""
        self._connection.disconnect()

    def _own(self) -> Any:
        """The connection, open, and of this process."""
        if self._pid != os.getpid():
            # The parent's socket: two processes that write to it would tear each other's commands apart.
            self._connection.disconnect()
            self._pid = os.getpid()
        if not self._connection._sock:  # noqa: SLF001 - older clients tell it in no other way
            self._connection.connect()  # fakeredis can wait for an answer only if it was connected in this way
        return self._connection

    def _ask(self, *command: Argument, patience: float | None = None) -> Any:
        connection = self._own()
        connection.send_command(*command, check_health=False)
        if patience is not None and not connection.can_read(timeout=patience):
            raise TimeoutError(f"no answer within {patience:g} s")
        try:
            return connection.read_response()
        except ResponseError as error:
            _pass_over(error)
            raise

    def _pipeline(self, commands: Sequence[Command]) -> list[Any]:
        connection = self._own()
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        return [self._answer() for _ in commands]

    def _answer(self) -> Any:
        """One answer of several; an error stays in its place, since those behind it must be read too.

        After a login that was refused there are none to read: the client library has closed the connection.
        """
        try:
            return self._connection.read_response()
        except ResponseError as error:
            _pass_over(error)
            return error.with_traceback(None)  # as a value it would keep alive all that its frames hold

    def _insist(self, call: Callable[[], T], what: str) -> T:
        give_up_at = None
        tries = 0
        while True:
            try:
                return call()
            except _REFUSALS as error:
                raise self._refused(error, what) from error
            except _PASSING as error:
                self._connection.disconnect()
                now = monotonic()
                give_up_at = give_up_at or now + self._budget
                pause = backoff(tries)
                if now + pause >= give_up_at or is_off("repeat"):
                    raise self._unavailable(error, what) from error
                tries += 1
                self._sleep(pause)
            except BaseException:
                # Interrupted half way: the reply may still come and must not be taken for the next one's.
                self._connection.disconnect()
                raise

    def _once(self, call: Callable[[], T], what: str) -> T:
        try:
            return call()
        except _REFUSALS as error:
            raise self._refused(error, what) from error
        except _PASSING as error:
            self._connection.disconnect()
            raise self._unavailable(error, what) from error
        except BaseException:
            self._connection.disconnect()
            raise

    def _unavailable(self, error: Exception, what: str) -> RedisUnavailable:
        return RedisUnavailable(f"Redis at {self.address} did not answer ({what}): {error}", self.address)

    def _refused(self, error: Exception, what: str) -> RedisUnavailable:
        text = str(error)
        kind = StorageFull if isinstance(error, OutOfMemoryError) or _FULL.search(text) else RedisUnavailable
        return kind(f"Redis at {self.address} refused {what}: {text}", self.address)


class Connections:
    """A stack of connections to one Redis, used by any number of threads; also after a fork."""

    def __init__(self, client: redis.Redis, *, budget: float, address: str | None = None) -> None:
        self._pool: redis.ConnectionPool = client.connection_pool
        self._idle: list[Connection] = []
        self._budget = budget
        self._pid = os.getpid()
        self.address = address or _address(self._pool.connection_kwargs)

    @classmethod
    def to(cls, settings: Settings, *, budget: float) -> Self:
        """As `transport.connect`."""
        return cls(client_for(settings), budget=budget)

    def line(self, budget: float | None = None) -> Connection:
        """A connection of one's own; close it after use."""
        return Connection(self._pool, self.address, self._budget if budget is None else budget)

    def evaluate(self, script: Script, key_names: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """As `Transport.evaluate`."""
        line = self._take()
        try:
            return line.evaluate(script, key_names, arguments)
        finally:
            self._idle.append(line)

    def read(self, commands: Sequence[Command]) -> list[Any]:
        """As `Transport.read`."""
        line = self._take()
        try:
            return line.read(commands)
        finally:
            self._idle.append(line)

    def close(self) -> None:
        """Close what is idle; those in use are closed by their users."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> Connection:
        if self._pid != os.getpid():
            self._idle, self._pid = [], os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return self.line()


def _pass_over(error: Exception) -> None:
    """Raise an error that passes where a server that runs somebody's long script refused everything."""
    if str(error).startswith("BUSY "):
        raise BusyLoadingError(str(error)) from error


def client_for(settings: Settings) -> redis.Redis:
    """A client without retries of its own: how often and how long is said in one place, `Connection`."""
    url = settings.redis_url
    try:
        _check_scheme(url)
        return redis.Redis.from_url(
            url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=settings.socket_timeout,
            socket_connect_timeout=settings.connect_timeout,
            socket_keepalive=True,
            health_check_interval=0,
        )
    except (ValueError, RedisError) as error:
        # A password with a raw / or # in it is taken for a port, which the error would show.
        why = "it is wrong, or its password holds what must be percent-encoded" if "@" in url else str(error)
        raise ConfigError(f"{_hidden(url)} is no address of a Redis: {why}") from None


def _check_scheme(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("write redis://host:port/db, rediss:// or unix://")
    if parts.fragment or (parts.scheme != "unix" and "@" in parts.path):
        raise ValueError("its password must be percent-encoded")  # else a part of it would be taken for the host


def _hidden(url: str) -> str:
    """The URL without credentials and options, also where it is so wrong that it cannot be taken apart."""
    scheme, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{'***' if credentials else ''}{at}{place.partition('?')[0]}"


def _address(options: dict[str, Any]) -> str:
    if path := options.get("path"):
        return f"{path}/{options.get('db', 0)}"
    return f"{options.get('host', 'localhost')}:{options.get('port', 6379)}/{options.get('db', 0)}"
