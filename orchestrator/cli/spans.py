"""Lengths of time on the command line: how they are typed, and how they are told. Asks no clock but for `--since`."""

import math
import re
from datetime import timedelta
from typing import Final

import click

from shared.clock import now, parse_iso, to_epoch
from shared.errors import InvalidValue

_SPAN: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|min|h|d|)", re.ASCII)
_UNITS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_FORM: Final = "write a number of seconds such as 30 or 0.5, or one with a unit: 500ms, 30s, 10m, 2h, 1d"
_MINUTES_FROM: Final = 100
"""Seconds; below, hundredths matter more than minutes."""


class Span(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click only
    """A length of time in seconds."""

    name = "seconds"

    def __init__(self, *, least: float = 0.0) -> None:
        self._least = least

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds that a text means."""
        seconds = seconds_of(str(value))
        if seconds is None:
            self.fail(f"{value!r} is no length of time: {_FORM}.", param, ctx)
        if seconds < self._least:
            self.fail(f"{value!r} is too short: {self._least:g} s is the least.", param, ctx)
        return seconds


SECONDS: Final = Span(least=0.001)
SECONDS_OR_NONE: Final = Span()


class Since(click.ParamType):  # type: ignore[type-arg]  # as Span
    """A time, typed as a length of time before now or as ISO text; in seconds since 1970."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The time that a text means."""
        text = str(value)
        seconds = seconds_of(text)
        try:
            return to_epoch(parse_iso(text) if seconds is None else now() - timedelta(seconds=seconds))
        except (InvalidValue, OverflowError):
            self.fail(f"{text!r} is no time: {_FORM}, or a time such as 2026-11-20T09:15:00Z.", param, ctx)


def seconds_of(text: str) -> float | None:
    """The seconds that a text means; None if it means none."""
    match = _SPAN.fullmatch(text)
    return float(match[1]) * _UNITS[match[2]] if match else None


def span(seconds: float) -> str:
    """A length of time in the two units that matter."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < _MINUTES_FROM:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    for unit, size, small, part in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {small}"
    raise AssertionError(seconds)


def ago(seconds: float | None) -> str:
    """How long ago something was, in whole units; how soon it will be, if negative; '-' where nobody knows."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    long = abs(seconds)
    text = f"{math.floor(long)} s" if long < _MINUTES_FROM else span(long)
    return f"{text} ago" if seconds >= 0 else f"in {text}"
