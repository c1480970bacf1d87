"""How fields and rows must read: every damage has its text, and only damage has one."""

import pytest

from shared.run_fields import Row, faults, is_ours, row_of
from shared.state_types import StateType

TIME = "2026-11-20T09:15:00.000250Z"
PENDING = {
    "state_type": "PENDING",
    "state_name": "Pending",
    "state_time": TIME,
    "seq": "1",
    "task": "shop.add",
    "origin": "q",
    "created_at": TIME,
}


def test_a_run_that_waits_needs_few_fields() -> None:
    assert faults(PENDING) == ()


def test_every_missing_field_has_a_text_of_its_own() -> None:
    found = {name: faults({key: value for key, value in PENDING.items() if key != name}) for name in PENDING}
    assert found == {name: (f"{name} is missing",) for name in PENDING}


def test_a_run_that_was_begun_needs_its_attempt() -> None:
    names = ("token", "run_count", "worker_name", "started_at", "start_time")
    expected = tuple(f"{name} is missing" for name in names)
    assert faults(PENDING | {"seq": "3", "attempt": "1"}) == expected
    assert faults(PENDING | {"seq": "2", "state_type": "RUNNING"}) == ("attempt is missing", *expected)


def test_all_that_is_wrong_is_told() -> None:
    assert faults(PENDING | {"seq": "x", "token": "-1", "progress": "\x1b", "crashes": "²"}) == (
        "seq is 'x', not a number above 0",
        "token is '-1', not a number above 0",
        "crashes is '²', not a number",
    )


@pytest.mark.parametrize(
    ("attempt", "run_count", "text"),
    [
        ("2", "2", ()),
        ("3", "2", ("attempt is 3, which takes more transitions than the 3 that seq tells of",)),
        ("1", "2", ("run_count is 2, above the number of the attempt, 1",)),
    ],
)
def test_numbers_that_cannot_have_come_about_together_are_told(attempt: str, run_count: str, text: tuple[str]) -> None:
    begun = {"token": "7", "worker_name": "w1", "started_at": TIME, "start_time": TIME, "run_count": run_count}
    assert faults(PENDING | begun | {"seq": "3", "attempt": attempt}) == text


def test_a_long_value_is_cut() -> None:
    (text,) = faults(PENDING | {"seq": "9" * 1_000_000})
    assert len(text) < 100


@pytest.mark.parametrize(
    ("fields", "ours"),
    [({}, False), ({"status": "queued", "data": "x", "origin": "q"}, False), ({"task": ""}, True), (PENDING, True)],
)
def test_a_run_is_known_by_any_field_that_rq_does_not_have(fields: dict[str, str], ours: bool) -> None:
    assert is_ours(fields) is ours


def test_a_row_is_read_for_its_order() -> None:
    row = f'{{"seq":4,"type":"FAILED","name":"Failed","time":"{TIME}","message":"no"}}'
    assert row_of(row.encode()) == Row(4, StateType.FAILED)


@pytest.mark.parametrize(
    "row",
    [
        b"",
        b"\xff",
        b"[]",
        b"7",
        b'{"seq":1}',
        b"[" * 100_000,
        f'{{"seq":true,"type":"FAILED","name":"x","time":"{TIME}"}}'.encode(),
        f'{{"seq":1,"type":"BOGUS\\ud800","name":"x","time":"{TIME}"}}'.encode(),
        b'{"seq":1,"type":"FAILED","name":"x","time":"now"}',
        f'{{"seq":1,"type":"FAILED","name":null,"time":"{TIME}"}}'.encode(),
    ],
)
def test_a_row_that_cannot_be_read_says_why_in_a_short_text(row: bytes) -> None:
    found = row_of(row)
    assert isinstance(found, str)
    assert (len(found) <= 100, found.isprintable()) == (True, True)
