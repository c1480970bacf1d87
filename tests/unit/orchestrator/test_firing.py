"""What to do about a schedule that is due, by what it says of missed occurrences. No Redis, no clock."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.firing import Occurrence, occurrence
from orchestrator.recurrences import recurrence
from orchestrator.schedules import Timing, preview

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
EACH_MINUTE = Timing(recurrence(interval=60, anchor=NOON))


@pytest.mark.parametrize(
    ("catch_up", "late", "expected"),
    [
        ("latest", timedelta(0), Occurrence(NOON, NOON + MINUTE)),
        ("latest", 5 * MINUTE, Occurrence(NOON + 5 * MINUTE, NOON + 6 * MINUTE, missed=5)),
        ("all", 5 * MINUTE, Occurrence(NOON, NOON + MINUTE)),
        ("none", timedelta(seconds=59), Occurrence(NOON, NOON + MINUTE)),
        ("none", timedelta(minutes=5, seconds=30), Occurrence(NOON + 5 * MINUTE, NOON + 6 * MINUTE, missed=5)),
    ],
)
def test_what_was_missed_is_caught_up_with(catch_up: str, late: timedelta, expected: Occurrence) -> None:
    assert occurrence(EACH_MINUTE, catch_up, NOON, NOON + late) == expected


def test_with_none_an_occurrence_of_more_than_a_minute_ago_is_left_out() -> None:
    hourly = Timing(recurrence(interval=3600, anchor=NOON))
    at = NOON + timedelta(hours=2, minutes=5)
    assert occurrence(hourly, "none", NOON, at) == Occurrence(None, NOON + timedelta(hours=3), missed=3)


def test_the_latest_of_a_million_is_found_without_going_through_them() -> None:
    each_second = Timing(recurrence(interval=1, anchor=NOON))
    at = NOON + timedelta(days=12, milliseconds=500)
    found = occurrence(each_second, "latest", NOON, at)
    assert (found.due, found.next_due) == (NOON + timedelta(days=12), NOON + timedelta(days=12, seconds=1))


def test_an_end_leaves_nothing_behind_it() -> None:
    timing = Timing(EACH_MINUTE.rule, ends=NOON + MINUTE)
    assert occurrence(timing, "latest", NOON + MINUTE, NOON + MINUTE) == Occurrence(NOON + MINUTE, None)


def test_a_start_hides_what_is_before_it() -> None:
    timing = Timing(EACH_MINUTE.rule, starts=NOON + 3 * MINUTE)
    assert preview(timing, NOON, 2) == [NOON + 3 * MINUTE, NOON + 4 * MINUTE]


def test_a_preview_ends_with_its_rule() -> None:
    assert preview(Timing(EACH_MINUTE.rule, ends=NOON + MINUTE), NOON) == [NOON + MINUTE]
