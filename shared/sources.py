"""The source of a function as a digest, so that an edit gives another one. Reads its file; calls nothing."""

# Asked for when the function is defined: the file of a process that runs for days may have been edited since, and its
# new text would then stand for the old code.

import inspect
from collections.abc import Callable
from functools import partial
from types import CodeType
from typing import Any

from shared.codec import digest
from shared.errors import HashError


def source_digest(fn: Callable[..., Any]) -> str:
    """SHA-256 over the source text of a function, or of the class of an object that is called; else over the code.

    Of a partial the arguments count too.

    Raises:
        HashError: it has neither, or such an argument has no canonical form.
    """
    bound: list[object] = []
    while isinstance(fn, partial):
        bound.append([list(fn.args), fn.keywords])
        fn = fn.func
    plain = inspect.unwrap(fn)
    owner = plain if inspect.isroutine(plain) or inspect.isclass(plain) else type(plain)
    try:
        text: object = inspect.getsource(owner)
    except (OSError, TypeError):
        text = _code_of(owner)
    return digest([text, *bound], where="source")


def _code_of(owner: Any) -> object:
    code = getattr(owner, "__code__", None) or getattr(getattr(owner, "__call__", None), "__code__", None)  # noqa: B004
    if not isinstance(code, CodeType):
        raise HashError(f"{owner!r} has neither source text nor code: leave TASK_SOURCE out")
    return _form(code)


def _form(code: CodeType) -> list[object]:
    """What the code does, without where it stands."""
    return [code.co_code, list(code.co_names), list(code.co_varnames), [_constant(value) for value in code.co_consts]]


def _constant(value: object) -> object:
    match value:
        case CodeType():
            return _form(value)
        case frozenset():
            return ["frozenset", sorted(map(repr, value))]
    return [type(value).__name__, repr(value)]
