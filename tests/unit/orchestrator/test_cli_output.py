"""The parts that answers are made of: aligned lines, cells, labels of states, endings, texts from elsewhere."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from orchestrator.cli.cells import Cell, cleaned, state_label
from orchestrator.cli.common import block, clean, hidden, line
from orchestrator.cli.ending import Ending, as_json, ending_of
from orchestrator.cli.output import aligned
from shared import codec
from shared.details import Details
from shared.exceptions_as_data import ExceptionData
from shared.settings import Settings

ID = "01a1f879-5eda-7005-8876-23ab1bc095ff"


def test_columns_are_as_wide_as_their_widest_text_on_the_screen() -> None:
    rows = [("name", "n"), ("x", "1"), ("漢字かな", "100"), ("e\u0301a", "20")]
    assert list(aligned(rows, [False, True])) == [
        "name        n",
        "x           1",
        "漢字かな  100",
        "e\u0301a         20",
    ]


def test_no_space_is_left_at_the_end_of_a_line() -> None:
    assert list(aligned([("a", ""), ("bb", "c")])) == ["a", "bb  c"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[2J\r\x07", "\\x1b[2J\\r\\x07"),
        ("\u202e\u2066\u200b", "\\u202e\\u2066\\u200b"),
        ("\udcff", "\\udcff"),
        ("ä漢", "ä漢"),
    ],
)
def test_a_line_holds_nothing_unseen(text: str, shown: str) -> None:
    assert line(text) == shown


def test_a_long_text_is_cut_and_says_so() -> None:
    assert (line("x" * 10, 4), clean("ab\ncdef", 4)) == ("xxxx...", "ab\nc...")


def test_text_of_many_lines_keeps_them_and_no_other_breaks() -> None:
    assert (clean("a\r\nb\x0bc\n\x1bd"), block("a\nb")) == ("a\nb\nc\n\\x1bd", "    a\n    b")


def test_cells_are_cleaned_and_keep_their_colour() -> None:
    assert cleaned(["a\x1b", Cell("b\n", "red")]) == [Cell("a\\x1b"), Cell("b\\n", "red")]


@pytest.mark.parametrize(
    ("kind", "name", "label"),
    [
        ("FAILED", "Failed", "FAILED"),
        ("FAILED", "TimedOut", "TimedOut (FAILED)"),
        ("FAILED", None, "FAILED"),
        ("FAILED", "", "FAILED"),
        (None, "Odd", "Odd (?)"),
        (None, None, "?"),
    ],
)
def test_a_state_is_called_by_its_name_where_that_tells_more(kind: str | None, name: str | None, label: str) -> None:
    assert state_label(kind, name) == label


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://u:p@host/0?password=x", "redis://u:***@host/0"),
        ("redis://token@host", "redis://***@host"),
        ("not a url", "not a url"),
        ("redis://u:a/b@c#d@[", "redis://u:***@["),
    ],
)
def test_an_address_is_shown_without_what_is_secret(url: str, shown: str) -> None:
    assert hidden(url) == shown


# --- endings ----------------------------------------------------------------------------------------------------------


def ended(state: str | None, result: bytes | None = None, **fields: str) -> Ending:
    stored = {**({"state_type": state} if state else {}), **fields}
    return ending_of(Details(ID, stored, None, (), None, result, None, {}), Settings())


@pytest.mark.parametrize(
    ("ending", "error"),
    [
        (ended("COMPLETED", codec.encode(3)), None),
        (ended("COMPLETED"), "COMPLETED: its result was not kept, or is no longer stored"),
        (ended("COMPLETED", b"junk"), "COMPLETED: its result cannot be read: "),
        (ended("FAILED", codec.encode(ExceptionData("shop.Sold", "no tea"))), "FAILED: shop.Sold: no tea"),
        (ended("FAILED", error="ValueError: no"), "FAILED: ValueError: no"),
        (ended("CANCELLED", state_message="by alice"), "CANCELLED: by alice"),
        (ended("CRASHED"), "CRASHED: no reason is told"),
        (ended("RUNNING"), f"run {ID} has not ended: it is RUNNING"),
        (ended(None), f"run {ID} has not ended: it is unreadable"),
    ],
)
def test_an_ending_has_a_result_or_says_why_not(ending: Ending, error: str | None) -> None:
    if error is None:
        assert (ending.error, ending.value) == (None, 3)
    else:
        assert (ending.error or "").startswith(error)
        assert ending.document()["result"] is None


def test_a_result_of_text_is_shown_as_it_is_and_others_as_python_writes_them() -> None:
    assert [Ending(ID, "COMPLETED", value, None).text for value in ("a\n\x1bb", ["a"], 1.5)] == [
        "a\n\\x1bb",
        "['a']",
        "1.5",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"a": [1, 2.5, None, True, "x"]}, {"a": [1, 2.5, None, True, "x"]}),
        ((1, 2), [1, 2]),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        (datetime(2026, 11, 20, tzinfo=UTC), "2026-11-20T00:00:00+00:00"),
        (Decimal("1.5"), "Decimal('1.5')"),
        (b"ab", "b'ab'"),
        ({1: 2}, "{1: 2}"),
        ({2}, "{2}"),
    ],
    ids=str,
)
def test_what_json_does_not_have_is_told_as_python_writes_it(value: Any, shown: Any) -> None:
    assert as_json(value) == shown
