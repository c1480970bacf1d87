"""How a call is shown."""

from functools import partial
from typing import Any

import pytest
from pydantic import SecretBytes, SecretStr

from orchestrator import call_repr, task


def add(*_: Any, **__: Any) -> None: ...


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError


class Called:
    def __call__(self) -> None: ...


class NeverAsked:
    def __repr__(self) -> str:
        raise SystemExit("it was rendered")


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, "add()"),
        ((1, "two"), {}, "add(1, 'two')"),
        ((1,), {"b": [2, 3]}, "add(1, b=[2, 3])"),
        ((), {"b": None}, "add(b=None)"),
        ((Unprintable(),), {"x": Unprintable()}, "add(<unprintable Unprintable>, x=<unprintable Unprintable>)"),
        ((SecretStr("geheim"),), {"key": SecretBytes(b"geheim")}, "add(***, key=***)"),
    ],
)
def test_a_call_is_shown_with_its_arguments(args: tuple[Any, ...], kwargs: dict[str, Any], text: str) -> None:
    assert call_repr(add, *args, **kwargs) == text


def test_a_task_is_shown_by_its_name() -> None:
    assert call_repr(task(key="test_call_text.add")(add), 1) == "add(1)"


@pytest.mark.parametrize(("fn", "text"), [(partial(add, 1), "partial(2)"), (Called(), "Called(2)")])
def test_what_has_no_name_is_shown_by_its_type(fn: Any, text: str) -> None:
    assert call_repr(fn, 2) == text


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("x" * 98,), f"add('{'x' * 98}')"),
        (("x" * 99,), f"add('{'x' * 99}...)"),
        (("x" * 1000,), f"add('{'x' * 99}...)"),
        (("x" * 98, NeverAsked()), f"add('{'x' * 98}'...)"),
        (("x" * 200, NeverAsked()), f"add('{'x' * 99}...)"),
        (("x" * 96, 2), f"add('{'x' * 96}', ...)"),
    ],
)
def test_arguments_are_cut_to_a_hundred_characters_and_what_does_not_fit_is_not_rendered(
    args: tuple[Any, ...], text: str
) -> None:
    assert call_repr(add, *args) == text
