"""What the views share: rows of one look, and answers taken so that none makes a view fail. Names no command.

# An index that Redis does not read as what it should be ends a view: nobody can tell what is missing. Anything else
# that is damaged becomes a problem of its row.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from shared.clock import parse_iso, to_epoch
from shared.errors import InvalidValue, RedisUnavailable
from shared.transport import Transport
from shared.walks import text_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """Rows, as they were at a time of the server in seconds since 1970."""

    at: float
    rows: tuple[T, ...]


def present(transport: Transport, answer: Any) -> float:
    """The server's time, in seconds since 1970.

    Raises:
        RedisUnavailable: it was not told.
    """
    if isinstance(answer, Exception):
        raise RedisUnavailable(f"Redis at {transport.address} refuses to tell the time: {answer}", transport.address)
    return int(answer[0]) + int(answer[1]) / 1_000_000


def index(transport: Transport, key: str, answer: Any) -> list[str]:
    """The members of an index.

    Raises:
        RedisUnavailable: it cannot be read, mostly because something of another type lies there.
    """
    if isinstance(answer, Exception):
        raise RedisUnavailable(f"{key} of Redis at {transport.address} cannot be read: {answer}", transport.address)
    return [text_of(member) for member in answer]


def readable(answers: Mapping[str, Any], of: Mapping[str, str], problems: dict[str, str]) -> dict[str, Any]:
    """The answers, None for each that is an error; that is noted under the key it is about, `of[name]`."""
    for name, answer in answers.items():
        if isinstance(answer, Exception):
            problems[of[name]] = str(answer)
    return {name: None if isinstance(answer, Exception) else answer for name, answer in answers.items()}


def texts(answer: Sequence[bytes | None] | None, number: int) -> list[str | None]:
    """The answer to a question for so many fields; None for one that is not there."""
    if answer is None:
        return [None] * number
    return [None if value is None else text_of(value) for value in answer]


def moment(text: str | None) -> float | None:
    """A stored time in seconds since 1970; None where there is none, or none that can be read."""
    if text is None:
        return None
    try:
        return to_epoch(parse_iso(text))
    except InvalidValue:
        return None


def number(text: str | None) -> float | None:
    """A stored number; None where there is none, or none that can be read."""
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def whole(text: str | None) -> int | None:
    """A stored whole number; None where there is none, or none that can be read."""
    value = number(text)
    return int(value) if value is not None and value == int(value) else None


def ordered(found: Mapping[str, T], names: Iterable[str]) -> tuple[T, ...]:
    """What was found under these names, in their order."""
    return tuple(found[name] for name in names if name in found)


def chosen(names: Collection[str], wanted: Collection[str] | None) -> list[str]:
    """The names, sorted; of them only the wanted ones, unless that is None."""
    return sorted(name for name in names if wanted is None or name in wanted)
