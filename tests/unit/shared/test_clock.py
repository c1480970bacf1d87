from datetime import UTC, datetime, timedelta, timezone

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from shared import clock
from shared.errors import InvalidValue

MOMENT = datetime(2026, 11, 20, 9, 15, 0, 250, tzinfo=UTC)
times = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001 - hypothesis adds the zone
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=14)), timezone(-timedelta(hours=11, minutes=30))]),
)


def test_now_is_a_pendulum_time_in_utc_between_two_readings_of_the_clock() -> None:
    before, made, after = datetime.now(UTC), clock.now(), datetime.now(UTC)
    assert before <= made <= after
    assert (type(made), made.tzinfo) == (pendulum.DateTime, pendulum.UTC)


@given(times)
def test_a_time_survives_the_way_through_iso_text(moment: datetime) -> None:
    assert clock.parse_iso(clock.iso(moment)) == moment


@given(times)
def test_every_aware_time_is_the_same_moment_in_utc(moment: datetime) -> None:
    made = clock.as_utc(moment)
    assert made == moment
    assert (type(made), made.tzinfo) == (pendulum.DateTime, pendulum.UTC)


def test_a_time_that_is_in_utc_already_is_returned_itself() -> None:
    made = clock.now()
    assert clock.as_utc(made) is made


def test_a_pendulum_time_elsewhere_is_turned_to_utc() -> None:
    berlin = pendulum.datetime(2026, 7, 1, 12, tz="Europe/Berlin")
    assert clock.iso(berlin) == "2026-07-01T10:00:00.000000Z"


def test_iso_text_has_six_digits_and_a_z() -> None:
    assert clock.iso(MOMENT) == "2026-11-20T09:15:00.000250Z"
    assert clock.iso(datetime(33, 1, 2, tzinfo=UTC)) == "0033-01-02T00:00:00.000000Z"


@pytest.mark.parametrize("text", ["2026-11-20T09:15:00.000250Z", "2026-11-20T11:15:00.000250+02:00"])
def test_iso_text_with_any_offset_is_read_as_utc(text: str) -> None:
    made = clock.parse_iso(text)
    assert (made, type(made), made.tzinfo) == (MOMENT, pendulum.DateTime, pendulum.UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-20", "2026-11-20T09:15:00", "2026-13-20T09:15:00Z"])
def test_texts_that_name_no_moment_are_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        clock.parse_iso(text)


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(InvalidValue, match="naive datetime 2026-11-20T09:15:00: give it a time zone"):
        clock.as_utc(datetime(2026, 11, 20, 9, 15))  # noqa: DTZ001 - naive on purpose


def test_a_moment_before_the_first_year_in_utc_is_refused() -> None:
    with pytest.raises(InvalidValue, match="outside the years 1 to 9999"):
        clock.as_utc(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))))


@given(st.integers(min_value=0, max_value=4 * 10**15))
def test_epoch_seconds_keep_microseconds(microseconds: int) -> None:
    made = clock.EPOCH + timedelta(microseconds=microseconds)
    assert clock.from_epoch(clock.to_epoch(made)) == made


def test_epoch_seconds_count_from_1970() -> None:
    assert (clock.to_epoch(clock.EPOCH), clock.to_epoch(MOMENT)) == (0.0, 1795166100.00025)
    assert clock.from_epoch(1795166100.00025) == MOMENT


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e30])
def test_seconds_that_are_no_time_are_refused(seconds: float) -> None:
    with pytest.raises(InvalidValue):
        clock.from_epoch(seconds)


def test_a_naive_time_has_no_epoch_seconds() -> None:
    with pytest.raises(InvalidValue):
        clock.to_epoch(datetime(2026, 11, 20))  # noqa: DTZ001 - naive on purpose


def test_the_field_type_gives_json_in_the_same_form_as_iso() -> None:
    adapter: TypeAdapter[datetime] = TypeAdapter(clock.UtcDatetime)
    assert adapter.dump_python(adapter.validate_python(MOMENT), mode="json") == "2026-11-20T09:15:00.000250Z"
