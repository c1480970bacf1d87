"""A call as text, for people. Calls nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from shared.texts import shown

MOST = 100


def call_repr(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """`name(repr(arg), key=repr(value))`. The arguments are cut to 100 characters, followed by `...`."""
    name = getattr(fn, "__name__", type(fn).__name__)
    text = ""
    for part in _parts(args, kwargs):
        text = f"{text}, {part}" if text else part
        if len(text) > MOST:
            return f"{name}({text[:MOST]}...)"
    return f"{name}({text})"


def _parts(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[str]:
    """Each argument as it is asked for: of what does not fit nothing is rendered."""
    for value in args:
        yield shown(value, MOST + 1)
    for key, value in kwargs.items():
        yield f"{key}={shown(value, MOST + 1)}"
