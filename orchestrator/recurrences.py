"""When a schedule is due: cron, interval and rrule, in a time zone. Pure: every time is an argument.

# A clock that is put forward leaves a gap of local times that never are, one that is put back repeats some. Each kind
# says in its docstring what becomes of an occurrence there.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from dateutil.rrule import rrulestr

from shared.clock import as_utc
from shared.errors import InvalidCall, InvalidValue, TaskRunTimeoutError
from worker.timeouts import timeout

LONGEST_RULE: Final = 6_500
LONGEST_SEARCH: Final = 2.0
"""Seconds: a rule of which no occurrence is found in this time has none, such as the 30th of February."""
_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
_SHORT_STEPS: Final = {"SECONDLY": timedelta(seconds=1), "MINUTELY": timedelta(minutes=1), "HOURLY": _HOUR}


class Recurrence(Protocol):
    """A rule for when something is due."""

    def after(self, moment: datetime) -> datetime | None:
        """The first occurrence after this time, in UTC; None if there is none any more."""


def zone_of(name: str) -> ZoneInfo:
    """The time zone of this IANA name.

    Raises:
        InvalidValue: there is no such zone.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise InvalidValue(f"{name!r} is no time zone: names look like 'Europe/Zurich' or 'UTC'") from None


@dataclass(frozen=True)
class Cron:
    """Five fields, or six with seconds in front; names, `L` and `#`; of two restricted day fields either will do.

    A fixed time in a gap is due at its end, a repeated one once, at its first pass. Where minute or hour has a `*`,
    nothing is due in the gap, and every repeated moment is: an hourly job stays hourly.
    """

    text: str
    zone: ZoneInfo

    def __post_init__(self) -> None:
        """Refuse what is no rule."""
        try:
            CronSim(self.text, datetime(2026, 1, 1, tzinfo=self.zone))
        except CronSimError as error:
            raise InvalidValue(f"cron {self.text!r}: {error}; it has five fields, or six with seconds first") from None

    def after(self, moment: datetime) -> datetime | None:
        """The first occurrence after this time."""
        found = next(CronSim(self.text, _plain(moment, self.zone)), None)
        return found.astimezone(UTC) if found is not None else None


@dataclass(frozen=True)
class Interval:
    """Every so often from `anchor` on. A day and more keeps the local clock; less is elapsed time.

    A local time in a gap is moved by the gap, of a repeated one it is the first.
    """

    span: timedelta
    anchor: datetime
    zone: ZoneInfo

    def __post_init__(self) -> None:
        """Refuse what does not lead on."""
        if self.span <= timedelta(0):
            raise InvalidValue(f"'interval' must be > 0, got {self.span}")

    def after(self, moment: datetime) -> datetime | None:
        """The first occurrence after this time."""
        try:
            return self._after(moment)
        except OverflowError:
            return None

    def _after(self, moment: datetime) -> datetime:
        begun = _plain(self.anchor, UTC)  # between times of one zone Python reckons by the clock on the wall
        if moment < begun:
            return begun
        if self.span < _DAY:
            return begun + ((_plain(moment, UTC) - begun) // self.span + 1) * self.span
        first = _local(self.anchor, self.zone)
        # One earlier than it would be without changes of the clock.
        number = max(0, (_local(moment, self.zone) - first) // self.span - 1)
        while (found := _utc(first + number * self.span, self.zone)) <= moment:
            number += 1
        return found


@dataclass(frozen=True)
class RRule:
    """A recurrence rule of RFC 5545, without DTSTART from `anchor` on. Its times are local ones of the zone.

    A local time in a gap is moved by the gap, of a repeated one it is the first.
    """

    text: str
    anchor: datetime
    zone: ZoneInfo

    def __post_init__(self) -> None:
        """Refuse what is no rule."""
        if len(self.text) > LONGEST_RULE:
            raise InvalidValue(f"'rrule' has {len(self.text)} characters, at most {LONGEST_RULE} are read")
        if re.search(r"INTERVAL=0+\b", self.text.upper()):
            raise InvalidValue(f"rrule {self.text!r}: an INTERVAL of 0 leads nowhere")
        _ = self._rule

    @cached_property
    def _rule(self) -> Any:
        try:
            return rrulestr(self.text, dtstart=_local(self.anchor, self.zone), ignoretz=True)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise InvalidValue(f"rrule {self.text!r}: {error}") from None

    def after(self, moment: datetime) -> datetime | None:
        """The first occurrence after this time."""
        # Local times do not grow with the time where the clock is put back: begin early enough.
        early = _local(moment, self.zone) - 3 * _HOUR
        try:
            with timeout(LONGEST_SEARCH):
                times = (_utc(local, self.zone) for local in self._from(early))
                return next((found for found in times if found > moment), None)
        except TaskRunTimeoutError:
            return None

    def _from(self, early: datetime) -> Iterator[datetime]:
        rule, step = self._rule, self._short_step
        if step is not None and (passed := early - rule._dtstart) > step:  # noqa: SLF001 - told by no other name
            # From an old anchor it would go through every second since then.
            rule = rule.replace(dtstart=rule._dtstart + (passed // step) * step)  # noqa: SLF001
        found: Iterator[datetime] = rule.xafter(early)
        return found

    @cached_property
    def _short_step(self) -> timedelta | None:
        """How far the rule can be moved without another outcome; None where it cannot, or need not."""
        rules = [part for part in self.text.upper().splitlines() if "FREQ=" in part]
        if len(rules) != 1 or not hasattr(self._rule, "_dtstart") or "COUNT=" in rules[0]:
            return None
        told = dict(pair.split("=", 1) for pair in re.findall(r"(?:FREQ|INTERVAL)=\w+", rules[0]))
        step = _SHORT_STEPS.get(told["FREQ"])
        return step * int(told.get("INTERVAL", 1)) if step is not None else None


def recurrence(
    *,
    cron: str | None = None,
    interval: timedelta | float | None = None,
    rrule: str | None = None,
    anchor: datetime,
    timezone: str = "UTC",
) -> Recurrence:
    """The rule of a schedule; one of the first three is given. A number as `interval` is seconds.

    Raises:
        InvalidCall: none or several of them are given, or one is of a wrong type.
        InvalidValue: it is no such rule, or no such zone.
    """
    given = [name for name, value in (("cron", cron), ("interval", interval), ("rrule", rrule)) if value is not None]
    if len(given) != 1:
        raise InvalidCall(f"one of cron, interval and rrule says when it is due; got {', '.join(given) or 'none'}")
    zone = zone_of(timezone)
    if cron is not None:
        return Cron(cron, zone)
    if rrule is not None:
        return RRule(rrule, anchor, zone)
    if isinstance(interval, bool) or not isinstance(interval, timedelta | int | float):
        raise InvalidCall(f"'interval' must be seconds or a timedelta, got {type(interval).__name__}")
    try:
        span = interval if isinstance(interval, timedelta) else timedelta(seconds=interval)
    except (OverflowError, ValueError):
        raise InvalidValue(f"'interval' must be a finite number of seconds, got {interval}") from None
    return Interval(span, anchor, zone)


def _plain(moment: datetime, zone: tzinfo) -> datetime:
    """The same moment in that zone, as Python's own class: others reckon otherwise."""
    utc = as_utc(moment)
    plain = datetime(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, utc.microsecond, UTC)
    return plain.astimezone(zone)


def _local(moment: datetime, zone: ZoneInfo) -> datetime:
    return _plain(moment, zone).replace(tzinfo=None)


def _utc(local: datetime, zone: ZoneInfo) -> datetime:
    # fold=0 means the first of two equal local times, and in a gap the offset of before: moved by the gap.
    return local.replace(tzinfo=zone).astimezone(UTC)
