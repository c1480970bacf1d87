"""A call as text, for people. Calls nothing."""

from collections.abc import Callable
from itertools import chain
from typing import Any, Final

from pydantic import SecretBytes, SecretStr

from shared.texts import shown

MOST: Final = 100
HIDDEN: Final = "***"


def call_repr(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """`name(repr(arg), key=repr(value))`. The arguments are cut to 100 characters, followed by `...`.

    Of what does not fit nothing is rendered. Secrets are shown as `***`.
    """
    name = getattr(fn, "__name__", type(fn).__name__)
    text = ""
    for label, value in chain((("", value) for value in args), ((f"{key}=", value) for key, value in kwargs.items())):
        if len(text) >= MOST:
            return f"{name}({text[:MOST]}...)"
        separator = ", " if text else ""
        text = f"{text}{separator}{label}{_shown(value)}"
    return f"{name}({text})" if len(text) <= MOST else f"{name}({text[:MOST]}...)"


def _shown(value: Any) -> str:
    return HIDDEN if isinstance(value, SecretStr | SecretBytes) else shown(value, MOST + 1)
