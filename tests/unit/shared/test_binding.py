"""Arguments to parameters by name, and back."""

from collections.abc import Callable
from inspect import signature
from typing import Any

import pytest

from shared.binding import Binding
from shared.errors import ParameterBindError


def plain(a: int, b: int = 2, *, c: int = 3) -> Any:
    return a, b, c


def variadic(a: int, *rest: int, **options: int) -> Any:
    return a, rest, options


def positional(a: int, b: int = 2, /) -> Any:
    return a, b


def nothing() -> Any:
    return ()


def binding_of(fn: Callable[..., Any]) -> Binding:
    return Binding(fn.__name__, signature(fn))


CALLS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], dict[str, Any]]] = [
    (plain, (1,), {}, {"a": 1}),
    (plain, (1, 5), {"c": 7}, {"a": 1, "b": 5, "c": 7}),
    (plain, (), {"c": 7, "a": 1}, {"a": 1, "c": 7}),
    (variadic, (1, 2, 3), {"x": 4}, {"a": 1, "rest": (2, 3), "options": {"x": 4}}),
    (variadic, (1,), {}, {"a": 1}),
    (positional, (1, 5), {}, {"a": 1, "b": 5}),
    (positional, (1,), {}, {"a": 1}),
    (nothing, (), {}, {}),
]


@pytest.mark.parametrize(("fn", "args", "kwargs", "parameters"), CALLS)
def test_a_call_is_bound_by_name_and_defaults_stay_the_functions_own(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], parameters: dict[str, Any]
) -> None:
    assert binding_of(fn).bind(args, kwargs) == parameters


@pytest.mark.parametrize(("fn", "args", "kwargs", "parameters"), CALLS)
def test_bound_parameters_call_the_function_as_the_call_did(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], parameters: dict[str, Any]
) -> None:
    again_args, again_kwargs = binding_of(fn).unbind(parameters)
    assert fn(*again_args, **again_kwargs) == fn(*args, **kwargs)


@pytest.mark.parametrize(
    ("fn", "parameters", "named"),
    [
        (plain, {}, "'a'"),
        (plain, {"a": 1, "d": 4}, "'d'"),
        (nothing, {"x": 1}, "'x'"),
        (positional, {"b": 1}, "'a'"),
        (variadic, {"rest": (1,)}, "'a'"),
    ],
)
def test_parameters_that_do_not_fit_are_named(fn: Callable[..., Any], parameters: dict[str, Any], named: str) -> None:
    with pytest.raises(ParameterBindError, match=named):
        binding_of(fn).unbind(parameters)


def test_a_wrong_call_tells_function_signature_and_arguments() -> None:
    with pytest.raises(ParameterBindError) as caught:
        binding_of(plain).bind((1, 2, 3), {"e": 5})
    assert str(caught.value) == (
        "Error binding parameters for function 'plain': too many positional arguments.\n"
        "Function 'plain' has signature '(a: int, b: int = 2, *, c: int = 3) -> Any' "
        "but received args: (1, 2, 3) and kwargs: ['e']."
    )


def test_long_and_unprintable_arguments_are_cut() -> None:
    class Unprintable:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(ParameterBindError) as caught:
        binding_of(nothing).bind(("x" * 500, Unprintable()), {})
    assert "x" * 99 + "..., <unprintable Unprintable>" in str(caught.value)
