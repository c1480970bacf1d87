"""Slots of limits that processes hold, and slots that free themselves: the calls of their scripts. Keeps nothing.

# Every call may be sent twice, since a lost reply is asked for again. What makes the repeat harmless stands with each.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, TypeVar

from shared import keys
from shared.commands import Request
from shared.scripts import SCRIPTS
from shared.transport import Argument, Line, Transport

T = TypeVar("T")
NO_ATTEMPT = "-"
LOCK = "lock:"
"""What names of locks begin with: limits of one that are there while somebody holds them or waits for them."""


class Holder(NamedTuple):
    """Who takes slots: a process with a lease, and the attempt of a run that it is in (`<id>:<token>`), if it is."""

    process: str
    attempt: str = NO_ATTEMPT


class Taken(NamedTuple):
    """What `take` answered: OK, WAIT, FULL, OVER, UNKNOWN or BURIED, and the limit that it is about."""

    tag: str
    name: str


class Rated(NamedTuple):
    """What `rate` answered: OK, LATE, OVER, UNKNOWN or FIXED, the limit that it is about, and seconds to wait."""

    tag: str
    name: str
    seconds: float


class Slots:
    """The slots of limits in one Redis."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _send(self, request: Request[T]) -> T:
        return request.read(self._transport.evaluate(request.script, request.key_names, request.arguments))

    def take(
        self,
        holder: Holder,
        hold: str,
        names: Sequence[str],
        occupy: int,
        *,
        wait: bool = True,
        strict: bool = False,
        lock: bool = False,
    ) -> Taken:
        """Take slots of all these limits, or wait for them. Repeatable: a hold is told again what it has."""
        key_names = [keys.LEASES, keys.slots(holder.process), keys.LIMITS]
        for name in names:
            key_names += (keys.limit(name), keys.limit_part(name, "holders"), keys.limit_part(name, "waiters"))
        flags = ("wait" if wait else "", "strict" if strict else "", "lock" if lock else "")
        arguments: list[Argument] = [holder.process, hold, occupy, holder.attempt, *flags, len(names), *names]
        return self._send(Request(SCRIPTS["take"], key_names, arguments, _taken))

    def free(self, holder: Holder, hold: str) -> bool:
        """Give back what is held, or wait no more; whether it was held. Repeatable: what is gone is gone."""
        return self._send(Request(SCRIPTS["free"], [keys.slots(holder.process)], [holder.process, hold], bool))

    def renew(self, process: str, holds: Collection[str], grace: float) -> int:
        """Give back all that a process has but these holds; how many. Repeatable: what is gone is gone.

        What was asked for in the last `grace` seconds is left: the process may know of it by now.
        """
        arguments: list[Argument] = [process, grace, len(holds), *holds]
        return self._send(Request(SCRIPTS["renew"], [keys.slots(process)], arguments, int))

    def rate(
        self, operation: str, names: Sequence[str], occupy: int, *, most: float | None = None, strict: bool = False
    ) -> Rated:
        """Take slots that free themselves, perhaps for later. Repeatable: an operation is told the same again."""
        key_names = [keys.rated(operation), *map(keys.limit, names)]
        patience = "" if most is None else f"{most:.6f}"
        arguments: list[Argument] = [occupy, patience, "strict" if strict else "", len(names), *names]
        return self._send(Request(SCRIPTS["rate"], key_names, arguments, _rated))

    def is_held(self, name: str) -> bool:
        """True if somebody holds a slot of this limit.

        Raises:
            RedisUnavailable: no answer.
        """
        (found,) = self._transport.read([("EXISTS", keys.limit_part(name, "holders"))])
        return bool(found == 1)


def heard(line: Line, hold: str, seconds: float) -> bool:
    """Wait for so many seconds until somebody wakes this hold. True if somebody did: ask again.

    Raises:
        RedisUnavailable: no answer.
    """
    return line.pop([keys.slot(hold)], seconds)


def _taken(answer: Any) -> Taken:
    return Taken(*(part.decode() for part in answer))


def _rated(answer: Any) -> Rated:
    tag, name, seconds = answer
    return Rated(tag.decode(), name.decode(), float(seconds))
