import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.texts import CUT, cut, printable, printable_end, shown, text_of

any_text = st.text(st.characters(exclude_categories=())).map(str)


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__


@given(any_text, st.integers(min_value=3, max_value=50))
def test_a_printable_text_fits_its_limit_and_holds_no_control_characters(text: str, most: int) -> None:
    made = printable(text, most)
    assert len(made.encode()) <= most
    assert not [one for one in made if unicodedata.category(one) == "Cc" and one not in "\n\t"]


@given(any_text, st.integers(min_value=3, max_value=50))
def test_the_end_of_a_text_fits_its_limit_too(text: str, most: int) -> None:
    assert len(printable_end(text, most).encode()) <= most


def test_control_characters_and_lone_surrogates_are_shown_escaped() -> None:
    assert printable("a\x1b[31m\r\n\tb\x85\ud800") == "a\\x1b[31m\\r\n\tb\\x85\\ud800"


def test_a_long_text_is_cut_at_a_whole_character() -> None:
    assert printable("ä" * 10, 10) == "äää..."
    assert printable_end("ä" * 10, 10) == "...äää"


def test_a_text_that_just_fits_is_kept() -> None:
    assert (cut("ä" * 5, 10), printable("ä" * 5, 10), printable_end("ä" * 5, 10)) == ("ä" * 5,) * 3


@pytest.mark.parametrize("length", [1_000_000, 10_000_000])
def test_a_huge_text_is_cut_to_its_beginning_or_its_end(length: int) -> None:
    text = f"begin{'x' * length}end"
    assert printable(text, 100) == f"begin{'x' * 92}{CUT}"
    assert printable_end(text, 100) == f"{CUT}{'x' * 94}end"


def test_an_object_without_text_is_shown_by_its_type() -> None:
    assert (shown(Unprintable()), text_of(Unprintable())) == ("<unprintable Unprintable>",) * 2


def test_a_shown_object_is_cut_after_200_characters() -> None:
    assert shown("x" * 198) == repr("x" * 198)
    assert shown("x" * 199) == f"'{'x' * 199}..."
