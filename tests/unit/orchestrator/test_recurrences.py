"""When schedules are due, above all where clocks change. In Zurich that is on 29 March and on 25 October 2026."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from orchestrator.recurrences import Recurrence, recurrence
from shared.clock import as_utc
from shared.errors import InvalidCall, InvalidValue

ZURICH = ZoneInfo("Europe/Zurich")
ANCHOR = datetime(2026, 1, 1, 2, 30, tzinfo=ZURICH)
SPRING = datetime(2026, 3, 29, 0, 0, tzinfo=ZURICH)
AUTUMN = datetime(2026, 10, 25, 0, 0, tzinfo=ZURICH)


def rule(**given: Any) -> Recurrence:
    return recurrence(**{"anchor": ANCHOR, "timezone": "Europe/Zurich", **given})


def local(given: Recurrence, since: datetime, many: int = 4) -> list[str]:
    """The next occurrences, as day, time and offset on the wall."""
    found: list[str] = []
    moment: datetime | None = since
    while len(found) < many and moment is not None and (moment := given.after(moment)) is not None:
        found.append(moment.astimezone(ZURICH).strftime("%d %H:%M %z"))
    return found


@pytest.mark.parametrize(
    ("given", "since", "expected"),
    [
        pytest.param(
            {"cron": "30 2 * * *"}, SPRING, ["29 03:00 +0200", "30 02:30 +0200"], id="cron: a fixed time in the gap"
        ),
        pytest.param(
            {"cron": "30 2 * * *"}, AUTUMN, ["25 02:30 +0200", "26 02:30 +0100"], id="cron: a fixed time repeated"
        ),
        pytest.param(
            {"cron": "30 * * * *"},
            SPRING + timedelta(hours=1),
            ["29 01:30 +0100", "29 03:30 +0200"],
            id="cron: hourly over the gap",
        ),
        pytest.param(
            {"cron": "30 * * * *"},
            AUTUMN + timedelta(hours=2),
            ["25 02:30 +0200", "25 02:30 +0100", "25 03:30 +0100"],
            id="cron: hourly while repeated",
        ),
        pytest.param(
            {"cron": "0 0 1 * MON"}, SPRING, ["30 00:00 +0200", "01 00:00 +0200"], id="cron: either day will do"
        ),
        pytest.param({"cron": "*/20 0 2 L * *"}, SPRING, ["31 02:00 +0200", "31 02:00 +0200"], id="cron: six fields"),
        pytest.param(
            {"interval": 86_400}, SPRING, ["29 03:30 +0200", "30 02:30 +0200"], id="interval: a day keeps the clock"
        ),
        pytest.param(
            {"interval": 86_400}, AUTUMN, ["25 02:30 +0200", "26 02:30 +0100"], id="interval: the first of two"
        ),
        pytest.param(
            {"interval": timedelta(hours=12)},
            SPRING,
            ["29 03:30 +0200", "29 15:30 +0200"],
            id="interval: less than a day is elapsed time",
        ),
        pytest.param(
            {"rrule": "FREQ=DAILY"}, SPRING, ["29 03:30 +0200", "30 02:30 +0200"], id="rrule: moved by the gap"
        ),
        pytest.param(
            {"rrule": "FREQ=DAILY"}, AUTUMN, ["25 02:30 +0200", "26 02:30 +0100"], id="rrule: the first of two"
        ),
        pytest.param(
            {"rrule": "DTSTART:20260328T090000\nRRULE:FREQ=DAILY;COUNT=3"},
            SPRING,
            ["29 09:00 +0200", "30 09:00 +0200"],
            id="rrule: nine o'clock stays nine, and it ends",
        ),
        pytest.param(
            {"rrule": "FREQ=SECONDLY;INTERVAL=7200"},
            SPRING,
            ["29 00:30 +0100", "29 03:30 +0200"],
            id="rrule: seconds from an old anchor",
        ),
    ],
)
def test_what_is_due_next(given: dict[str, Any], since: datetime, expected: list[str]) -> None:
    assert local(rule(**given), since, len(expected)) == expected


def test_an_anchor_that_lies_ahead_is_the_first_occurrence() -> None:
    ahead = datetime(2027, 1, 1, tzinfo=UTC)
    found = [rule(anchor=ahead, **given).after(SPRING) for given in ({"interval": 60}, {"rrule": "FREQ=HOURLY"})]
    assert found == [ahead, ahead]


def test_a_rule_moves_on_from_each_of_its_occurrences() -> None:
    given = [rule(cron="* * * * *"), rule(interval=0.25), rule(rrule="FREQ=MINUTELY")]
    for one in given:
        first = one.after(AUTUMN)
        assert first is not None
        second = one.after(first)
        assert second is not None
        assert AUTUMN < first < second


def test_times_of_pendulum_which_reckons_otherwise_give_the_same() -> None:
    for one in (rule(cron="30 2 * * *"), rule(interval=86_400), rule(interval=60), rule(rrule="FREQ=DAILY")):
        plain = local(one, SPRING, 3)
        assert (local(one, as_utc(SPRING), 3), type(one.after(as_utc(SPRING)))) == (plain, datetime)


@pytest.mark.parametrize("text", ["FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "FREQ=DAILY;UNTIL=20260101T000000"])
def test_a_rule_without_a_time_left_has_none(text: str) -> None:
    assert rule(rrule=text).after(SPRING) is None


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({}, InvalidCall, "one of cron, interval and rrule.* got none"),
        ({"cron": "* * * * *", "interval": 5}, InvalidCall, "got cron, interval"),
        ({"cron": "61 * * * *"}, InvalidValue, "Bad minute"),
        ({"cron": "0 0 30 2 *"}, InvalidValue, "Bad day-of-month"),
        ({"cron": "whenever"}, InvalidValue, "five fields, or six"),
        ({"interval": 0}, InvalidValue, "'interval' must be > 0"),
        ({"interval": -5}, InvalidValue, "'interval' must be > 0"),
        ({"interval": float("inf")}, InvalidValue, "finite"),
        ({"interval": float("nan")}, InvalidValue, "finite"),
        ({"interval": True}, InvalidCall, "seconds or a timedelta, got bool"),
        ({"rrule": "whenever"}, InvalidValue, "rrule 'whenever'"),
        ({"rrule": "FREQ=DAILY;BYDAY=XX"}, InvalidValue, "BYDAY"),
        ({"rrule": "FREQ=DAILY;INTERVAL=0"}, InvalidValue, "INTERVAL"),
        ({"rrule": "FREQ=DAILY;" * 600}, InvalidValue, "at most 6500"),
        ({"cron": "* * * * *", "timezone": "Europe/Nowhere"}, InvalidValue, "no time zone"),
        ({"cron": "* * * * *", "timezone": "../etc/passwd"}, InvalidValue, "no time zone"),
    ],
)
def test_what_is_no_rule_says_why(given: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        rule(**given)
