"""Schedules as they are stored: when they are due, what they are for, what they have fired. Only reads."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shared import keys
from shared.transport import Transport
from shared.views.reading import Look, chosen, index, number, present, readable
from shared.walks import Steps, bytes_of, fields_of, read_all, text_of

DUE_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule. Times are seconds since 1970 (`next_due`, `next_due_text` as stored) or ISO texts."""

    id: str
    next_due: float | None
    """None for one that is paused, or that is never due again."""
    next_due_text: str
    fields: Mapping[str, str]
    problems: Mapping[str, str]

    @property
    def rule(self) -> str:
        """When it is due, in words: kind and rule."""
        return next(
            (f"{kind} {self.fields[kind]}" for kind in ("cron", "interval", "rrule") if kind in self.fields), ""
        )

    @property
    def is_paused(self) -> bool:
        """True if somebody paused it."""
        return "paused" in self.fields

    def count(self, name: str) -> int:
        """One of its counters: fired, missed, skipped."""
        return int(number(self.fields.get(name)) or 0)


def schedules(transport: Transport, only: Collection[str] | None = None) -> Look[Schedule]:
    """Every schedule, or those of these ids that there are, by id.

    Raises:
        RedisUnavailable: no answer, or the index of schedules cannot be read.
    """
    time, ids = transport.read([("TIME",), ("ZRANGE", keys.SCHEDULES, 0, -1)])
    at, names = present(transport, time), chosen(index(transport, keys.SCHEDULES, ids), only)
    return Look(at, _read(transport, names))


def due_schedules(transport: Transport) -> Look[Schedule]:
    """The 100 that are due next, whether that is now or later.

    Raises:
        RedisUnavailable: as `schedules`.
    """
    time, ids = transport.read([("TIME",), ("ZRANGE", keys.SCHEDULES, 0, DUE_AT_ONCE - 1)])
    at, names = present(transport, time), index(transport, keys.SCHEDULES, ids)
    return Look(at, _read(transport, names))


def stored_call(transport: Transport, schedule_id: str) -> bytes | None:
    """What a schedule submits, as stored; None if that is not there, or cannot be read."""
    (answer,) = transport.read([("GET", keys.schedule_call(schedule_id))])
    return None if isinstance(answer, Exception) else answer


def _read(transport: Transport, names: Sequence[str]) -> tuple[Schedule, ...]:
    found: dict[str, Schedule] = {}
    read_all(transport, (_schedule(name, found) for name in names))
    return tuple(found[name] for name in names if name in found)


def _schedule(name: str, found: dict[str, Schedule]) -> Steps[None]:
    record = keys.schedule(name)
    answers = yield [("ZSCORE", keys.SCHEDULES, bytes_of(name)), ("HGETALL", bytes_of(record))]
    problems: dict[str, str] = {}
    of = {"due": keys.SCHEDULES, "record": record}
    told = readable(dict(zip(of, answers, strict=True)), of, problems)
    due = text_of(told["due"]) if told["due"] is not None else ""
    found[name] = Schedule(name, number(due), due, fields_of(told["record"] or ()), problems)
