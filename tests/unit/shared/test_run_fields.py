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


def test_a_run_that_was_begun_needs_its_attempt_and_one_in_its_body_also_its_worker() -> None:
    begun = ("token", "run_count", "start_time")
    in_body = ("attempt", *begun, "worker_name", "started_at")
    assert faults(PENDING | {"seq": "3", "attempt": "1"}) == tuple(f"{name} is missing" for name in begun)
    assert faults(PENDING | {"seq": "2", "state_type": "RUNNING"}) == tuple(f"{name} is missing" for name in in_body)


def test_what_a_process_holds_before_its_start_needs_its_token_and_worker() -> None:
    assert faults(PENDING | {"place": "held", "ties": "1"}) == ("token is missing", "worker_name is missing")


@pytest.mark.parametrize(
    ("state", "place", "right"),
    [
        ("PENDING", "deferred", True),
        ("PENDING", "passed", True),
        ("PENDING", "limit:db", False),
        ("SCHEDULED", "limit:tag:db", True),
        ("SCHEDULED", "passed", False),
        ("PAUSED", "deferred", False),
        ("COMPLETED", "passed", False),
    ],
)
def test_a_place_is_one_of_its_state(state: str, place: str, right: bool) -> None:
    found = faults(PENDING | {"state_type": state, "place": place, "ties": "1", "ended_at": TIME})
    assert found == (() if right else (f"place is {place!r}, where no run that is {state} lies",))


@pytest.mark.parametrize("place", ["", "heldx", "limit:", "elsewhere"])
def test_a_place_is_one_that_there_is(place: str) -> None:
    text = f"place is {place!r}, not held, deferred, passed or limit:<name>"
    assert faults(PENDING | {"place": place, "ties": "1"}) == (text,)


@pytest.mark.parametrize(
    ("name", "value"),
    [("consumers", "2"), ("kids", "1"), ("limits", "tag:db"), ("idem", "k"), ("start_within", "0.5"), ("kind", "flow")],
)
def test_what_ties_a_run_is_marked_as_a_tie(name: str, value: str) -> None:
    found = faults(PENDING | {name: value}), faults(PENDING | {name: value, "ties": "1"})
    assert found == (("ties is missing",), ())


def test_what_rqs_tools_leave_empty_counts_as_not_there() -> None:
    emptied = {"started_at": "", "ended_at": "", "worker_name": ""}
    failed = PENDING | {"state_type": "FAILED"} | emptied
    assert (faults(PENDING | emptied), faults(failed), faults(failed | {"status": "queued"})) == (
        (),
        ("ended_at is missing",),
        (),
    )


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
    later = row.replace("}", ',"attempt":2}')
    assert (row_of(row.encode()), row_of(later.encode())) == (Row(4, StateType.FAILED), Row(4, StateType.FAILED, 2))


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
        f'{{"seq":1,"type":"FAILED","name":"x","time":"{TIME}","attempt":"2"}}'.encode(),
    ],
)
def test_a_row_that_cannot_be_read_says_why_in_a_short_text(row: bytes) -> None:
    found = row_of(row)
    assert isinstance(found, str)
    assert (len(found) <= 100, found.isprintable()) == (True, True)
