"""What an operator sets for one fleet, checked where it is given. Settings that all processes share are elsewhere."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from shared.errors import ConfigError, InvalidValue
from shared.keys import INLINE

Order = Literal["strict", "round-robin"]
ORDERS: Final[tuple[Order, ...]] = ("strict", "round-robin")
MOST_WORKERS: Final = 1000
MOST_SLOTS: Final = 1000
MOST_PER_SLOT: Final = 50
MOST_PLACES: Final = 5000
LOOPBACK: Final = "127.0.0.1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_LABEL = re.compile(r"([A-Za-z0-9][A-Za-z0-9_./-]{0,62})=([A-Za-z0-9_.:/@+-]{0,100})")


@dataclass(frozen=True)
class FleetOptions:
    """Of one fleet. Durations are seconds; None is "not set".

    `name`: default is host and pid. `labels`: texts `key=value`, shown with each worker. `grace` wins over the setting
    `stop_grace`. `order`: of the queues, by priority or each in turn. A worker process is replaced after `max_runs`
    runs, above `max_memory_mb` of resident memory, after `max_age`, or after `max_idle` without a run; each limit is
    drawn within 10 % for every process. `health_port`: a port, or `host:port`, for `/livez` and `/readyz`; without a
    host it is open to this machine only. `allow_eviction`: work on a Redis that may drop keys. `async_slots`: every
    worker process executes up to so many runs at a time, on one event loop; None for one at a time, in its main thread.

    Raises:
        InvalidValue: a value is none that this option takes.
        ConfigError: `health_port` is no address.
    """

    name: str = ""
    labels: Sequence[str] = ()
    grace: float | None = None
    order: Order = "strict"
    max_runs: int | None = None
    max_memory_mb: float | None = None
    max_age: float | None = None
    max_idle: float | None = None
    health_port: int | str | None = None
    allow_eviction: bool = False
    async_slots: int | None = None

    def __post_init__(self) -> None:
        if self.name and not _NAME.fullmatch(self.name):
            raise InvalidValue(
                f"the fleet's name {self.name!r}: write up to 64 letters, digits and _ . @ -, a letter or digit first"
            )
        if self.name.startswith(INLINE):
            raise InvalidValue(f"the fleet's name {self.name!r}: {INLINE}... names processes that execute runs inline")
        _check_labels(self.labels)
        if self.order not in ORDERS:
            raise InvalidValue(f"order is {self.order!r}: it is one of {', '.join(ORDERS)}")
        if self.grace is not None and not (math.isfinite(self.grace) and self.grace >= 0):
            raise InvalidValue(f"grace is {self.grace!r}: it takes seconds, 0 or more")
        if self.max_runs is not None and (isinstance(self.max_runs, bool) or self.max_runs != int(self.max_runs)):
            raise InvalidValue(f"max_runs is {self.max_runs!r}: it is a whole number")
        slots = self.async_slots
        if slots is not None and (isinstance(slots, bool) or not (1 <= slots <= MOST_SLOTS and slots == int(slots))):
            raise InvalidValue(f"async_slots is {slots!r}: a worker process has 1 to {MOST_SLOTS} of them")
        for name in ("max_runs", "max_memory_mb", "max_age", "max_idle"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InvalidValue(f"{name} is {value!r}: it is a number above 0; leave it out for no limit")
        _ = self.health_address

    @property
    def places(self) -> int:
        """How many runs may be in a worker process at a time, those that wait for other runs included."""
        slots = self.async_slots
        return 1 if slots is None else min(MOST_PER_SLOT * slots, max(slots, MOST_PLACES))

    @property
    def health_address(self) -> tuple[str, int] | None:
        """Host and port to answer probes on, or None."""
        return None if self.health_port is None else _address(str(self.health_port))


def check_concurrency(concurrency: int) -> None:
    """See that a fleet may have so many workers.

    Raises:
        InvalidValue: it may not.
    """
    if not 1 <= concurrency <= MOST_WORKERS:
        raise InvalidValue(f"concurrency is {concurrency}: a fleet has 1 to {MOST_WORKERS} workers")


def _check_labels(labels: Sequence[str]) -> None:
    if isinstance(labels, str):
        raise InvalidValue(f"labels are a list of texts key=value, got the text {labels!r}")
    seen: set[str] = set()
    for label in labels:
        match = _LABEL.fullmatch(label)
        if match is None:
            raise InvalidValue(
                f"label {label!r}: write key=value, of letters, digits and _ . / -, in the value also : @ +"
            )
        if match[1] in seen:
            raise InvalidValue(f"label {match[1]!r} is given twice")
        seen.add(match[1])


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535) or (text.count(":") and not host):  # noqa: PLR2004
        raise ConfigError(f"health_port is {text!r}: write a port from 1 to 65535, or host:port")
    return host or LOOPBACK, int(port)
