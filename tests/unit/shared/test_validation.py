"""Annotations of parameters, by which arguments are checked and converted."""

import logging
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from shared.errors import ParameterBindError
from shared.specs import describe_flow


class Page(BaseModel):
    url: str
    depth: int = 1


class Plain:
    """A class of which pydantic knows nothing."""


def load(days: int, page: Page, *names: str, limit: float = 1, raw: Plain | None = None, **rest: int) -> None:
    """Never called."""


def arguments(**parameters: Any) -> dict[str, Any]:
    return dict(describe_flow(load).converted(parameters))


def test_arguments_become_what_the_annotations_say() -> None:
    raw = Plain()
    given = {"days": "3", "page": {"url": "a"}, "names": ("x",), "limit": "2", "raw": raw, "rest": {"more": "4"}}
    assert arguments(**given) == {
        "days": 3,
        "page": Page(url="a"),
        "names": ("x",),
        "limit": 2.0,
        "raw": raw,
        "rest": {"more": 4},
    }


def test_everything_that_is_wrong_is_told_at_once_and_no_value_is_shown() -> None:
    with pytest.raises(ParameterBindError) as caught:
        arguments(days="secret", page={"depth": "deep"}, names=("x", 1))
    assert str(caught.value) == (
        "Error binding parameters for function 'load':\n"
        "  days: Input should be a valid integer, unable to parse string as an integer\n"
        "  names.1: Input should be a valid string\n"
        "  page.depth: Input should be a valid integer, unable to parse string as an integer\n"
        "  page.url: Field required"
    )


def test_a_missing_argument_is_a_wrong_call() -> None:
    with pytest.raises(ParameterBindError, match="missing a required argument: 'page'"):
        arguments(days=1)


def test_unchecked_arguments_stay_as_they_are() -> None:
    spec = describe_flow(load, validate_parameters=False)
    assert spec.converted({"days": "3", "page": None}) == {"days": "3", "page": None}


def test_annotations_in_quotes_and_constraints_count() -> None:
    def fetch(url: "str", depth: "Annotated[int, Field(gt=0)]") -> None: ...

    with pytest.raises(ParameterBindError, match=r"depth: Input should be greater than 0$"):
        describe_flow(fetch).converted({"url": "a", "depth": 0})


def test_what_an_annotation_names_in_vain_is_not_checked_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    def fetch(url: "Nowhere", depth: int) -> None: ...  # noqa: F821 - as an import for type checkers only

    with caplog.at_level(logging.WARNING):
        assert describe_flow(fetch).converted({"url": 1, "depth": "2"}) == {"url": 1, "depth": 2}
    assert [record.getMessage().partition(" of ")[0] for record in caplog.records] == ["Some parameters"]
