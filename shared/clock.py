"""Times in and out: aware UTC at the API, ISO text on the wire, epoch seconds for scores. Nothing else asks a clock.

Deadlines and everything that orders runs come from Redis's TIME inside the scripts; what is read here is for people,
for values made by hand, and for measuring spans within this process.
"""

import time
from datetime import UTC, datetime
from typing import Annotated

import pendulum
from pydantic import AfterValidator, AwareDatetime, PlainSerializer

from shared.errors import InvalidValue

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

monotonic = time.monotonic
unix_nanoseconds = time.time_ns


def now() -> pendulum.DateTime:
    """The present by this machine's clock, in UTC."""
    return _relabelled(datetime.now(UTC))


def as_utc(value: datetime) -> pendulum.DateTime:
    """The same moment in UTC.

    Raises:
        InvalidValue: the value is naive (read as local time it could be hours off), or lies outside the years 1 to 9999
            once it is in UTC.
    """
    # Most times come from here and are in UTC already; pendulum's own conversions cost several microseconds.
    if type(value) is pendulum.DateTime and value.tzinfo is pendulum.UTC:
        return value
    if value.utcoffset() is None:
        raise InvalidValue(f"naive datetime {value.isoformat()}: give it a time zone, for example datetime.now(UTC)")
    try:
        return _relabelled(datetime.astimezone(value, UTC))
    except OverflowError as error:
        raise InvalidValue(f"{value.isoformat()} lies outside the years 1 to 9999 in UTC") from error


def _relabelled(value: datetime) -> pendulum.DateTime:
    """A time that is in UTC already, as pendulum's class."""
    return pendulum.DateTime(
        value.year,
        value.month,
        value.day,
        value.hour,
        value.minute,
        value.second,
        value.microsecond,
        tzinfo=pendulum.UTC,
    )


def iso(value: datetime) -> str:
    """`2026-11-20T09:15:00.000250Z`: UTC with six digits, the only form that RQ's readers parse.

    Raises:
        InvalidValue: as `as_utc`.
    """
    utc = as_utc(value)
    date = f"{utc.year:04d}-{utc.month:02d}-{utc.day:02d}"
    return f"{date}T{utc.hour:02d}:{utc.minute:02d}:{utc.second:02d}.{utc.microsecond:06d}Z"


UtcDatetime = Annotated[AwareDatetime, AfterValidator(as_utc), PlainSerializer(iso, return_type=str, when_used="json")]
"""An aware datetime, turned to UTC; in JSON the text that `iso` gives."""


def parse_iso(text: str) -> pendulum.DateTime:
    """The inverse of `iso`; also takes other ISO texts that name their offset.

    Raises:
        InvalidValue: not such a text.
    """
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidValue(f"not an ISO 8601 time: {text!r}") from error
    return _relabelled(value) if value.tzinfo is UTC else as_utc(value)


def from_epoch(seconds: float) -> pendulum.DateTime:
    """Seconds since 1970 as a time.

    Raises:
        InvalidValue: no number of the years 1 to 9999.
    """
    try:
        return _relabelled(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidValue(f"{seconds!r} seconds since 1970 are no time of the years 1 to 9999") from error


def to_epoch(value: datetime) -> float:
    """Seconds since 1970, with microseconds.

    Raises:
        InvalidValue: as `as_utc`.
    """
    return datetime.timestamp(as_utc(value))  # a difference of pendulum's times would cost twenty times as much
