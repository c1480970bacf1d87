"""Lengths of time as they are typed and as they are told."""

from datetime import UTC, datetime

import click
import pytest

from orchestrator.cli.spans import SECONDS, SECONDS_OR_NONE, Since, ago, seconds_of, span


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("0", 0), ("30", 30), ("0.5", 0.5), ("500ms", 0.5), ("30s", 30), ("10m", 600), ("10min", 600)),
        *(("2h", 7200), ("1d", 86_400), ("1.5h", 5400)),
        *((text, None) for text in ("", "s", "-1", "+1", "1 s", "1e3", "nan", "inf", ".5", "1S", "1w", "٣", "9" * 13)),
    ],
)
def test_a_length_of_time_is_a_number_with_a_unit(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(("kind", "text"), [(SECONDS, "0"), (SECONDS, "x"), (SECONDS_OR_NONE, "-1")])
def test_what_is_none_is_refused(kind: click.ParamType, text: str) -> None:
    with pytest.raises(click.BadParameter):
        kind.convert(text, None, None)


def test_no_time_at_all_is_allowed_where_that_means_something() -> None:
    assert SECONDS_OR_NONE.convert("0", None, None) == 0


def test_since_is_a_length_before_now_or_a_time() -> None:
    given = Since().convert("2026-11-20T09:15:00Z", None, None)
    before = datetime.now(UTC).timestamp() - Since().convert("1h", None, None)
    assert (given, before) == (1_795_166_100, pytest.approx(3600, abs=5))


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-02-30T00:00:00Z", "999999999999d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Since().convert(text, None, None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.00025, "0.25 ms"),
        (0.9994, "999 ms"),
        (1.5, "1.50 s"),
        (99.994, "99.99 s"),
        (125, "2 min 5 s"),
        (7325, "2 h 2 min"),
        (180_000, "2 d 2 h"),
    ],
)
def test_spans_are_told_in_the_units_that_matter(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((None, "-"), (float("inf"), "-"), (float("nan"), "-")),
        *((0, "0 s ago"), (99.9, "99 s ago"), (125, "2 min 5 s ago"), (-5, "in 5 s"), (-7325, "in 2 h 2 min")),
    ],
)
def test_how_long_ago_or_how_soon(seconds: float | None, text: str) -> None:
    assert ago(seconds) == text
