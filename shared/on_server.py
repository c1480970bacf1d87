"""One Redis, before anything is asked of runs: whether it can be used, what it tells of itself, how calls are sent."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from shared import keys, upkeep
from shared.commands import Request, text
from shared.errors import ConfigError, LayoutTooNew, RedisUnavailable
from shared.probing import REFUSED, probe
from shared.roles import Role
from shared.settings import Settings
from shared.transport import Transport
from shared.version import LAYOUT

T = TypeVar("T")
OLDEST_REDIS = (6, 2)


class Life(NamedTuple):
    """A server from its start on: `run_id` is new with each, `age` is in seconds, `replication` names its data set.

    What it does not tell is empty, or infinite. `at` is its clock, in seconds since 1970.
    """

    run_id: str
    age: float
    replication: str
    at: float


class OnServer:
    """What is kept in one Redis."""

    def __init__(self, transport: Transport, settings: Settings) -> None:
        self._transport = transport
        self._settings = settings

    @property
    def transport(self) -> Transport:
        """What carries its calls."""
        return self._transport

    @property
    def address(self) -> str:
        """`host:port/db` of the Redis that it is in, without credentials."""
        return self._transport.address

    def _send(self, request: Request[T]) -> T:
        return request.read(self._transport.evaluate(request.script, request.key_names, request.arguments))

    def check(self, role: Role | None = None) -> None:
        """See that this Redis can be used, by one of this role, and mark one that is new to Baton as its own.

        Without a role, as for those who only read, no rights are tried. Once in a process is enough.

        Raises:
            RedisUnavailable: no answer, or not the right to use it; says which permissions are missing.
            ConfigError: it is too old, a cluster, or LayoutTooNew: it holds data of a newer Baton.
        """
        told, stored = self._transport.read([("INFO", "server"), ("HGET", keys.META, "layout")])
        info = _rows_of(told)
        version = tuple(int(part) for part in info.get("redis_version", "7.0").split(".")[:2])
        if version < OLDEST_REDIS:
            raise ConfigError(
                f"Redis at {self._transport.address} is {info['redis_version']}; Baton needs 6.2 or newer"
            )
        if info.get("redis_mode") == "cluster":
            raise ConfigError(
                f"Redis at {self._transport.address} is a cluster: RQ's keys carry no hash tags, so Baton needs a "
                "single primary, with Sentinel or managed failover"
            )
        if isinstance(stored, Exception) and REFUSED.search(str(stored)):
            raise self._too_few_rights(["+hget", f"%R~{keys.META}"])
        layout = text(stored) if isinstance(stored, bytes) else self._greet()
        if not layout.isdigit():
            raise ConfigError(f"Redis at {self._transport.address} holds data of layout {layout!r}")
        if int(layout) > LAYOUT:
            raise LayoutTooNew(
                f"Redis at {self._transport.address} holds data of layout {layout}, this Baton knows {LAYOUT}: "
                "install that version here, nothing was touched"
            )
        if role is not None:
            self._try_rights(role)

    def _greet(self) -> str:
        try:
            return self._send(upkeep.greet())
        except RedisUnavailable as error:
            if not REFUSED.search(str(error)):
                raise
            why = f"{error}; it is new to Baton, and this user may not begin: start a fleet or a server on it first"
            raise RedisUnavailable(why, self.address) from error

    def _try_rights(self, role: Role) -> None:
        try:
            missing = self._send(probe(role))
        except RedisUnavailable as error:
            if not REFUSED.search(str(error)):
                raise
            missing = ["+eval", "+evalsha", "+time"]
        if missing:
            raise self._too_few_rights(missing)

    def _too_few_rights(self, missing: Sequence[str]) -> RedisUnavailable:
        told = (
            f"Redis at {self.address} gives this user too few rights: of {' '.join(missing)} some are missing, or all"
        )
        return RedisUnavailable(f"{told}; python -m shared.roles prints what each role needs", self.address)

    def server_version(self) -> str:
        """The server's version, as it tells it."""
        return self._info().get("redis_version", "unknown")

    def server_life(self) -> Life:
        """Which life of the server this is, and what time it has."""
        told, time = self._transport.read(
            [("INFO",), ("TIME",)]
        )  # of several sections Redis 6.2 tells only all at once
        info = _rows_of(told)
        return Life(
            info.get("run_id", ""),
            float(info.get("uptime_in_seconds", "inf")),
            info.get("master_replid", ""),
            int(time[0]) + int(time[1]) / 1_000_000,
        )

    def evicting_policy(self) -> str:
        """By which policy the server drops keys when its memory is full; '' if it drops none, or does not tell."""
        info = self._info("memory")
        policy = info.get("maxmemory_policy", "noeviction")
        return "" if policy == "noeviction" or info.get("maxmemory", "0") == "0" else policy

    def _info(self, section: str = "server") -> dict[str, str]:
        (text,) = self._transport.read([("INFO", section)])
        return _rows_of(text)


def _rows_of(info: Any) -> dict[str, str]:
    if isinstance(info, Exception):
        return {}  # the in-process server has no INFO; others may forbid it
    return dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
