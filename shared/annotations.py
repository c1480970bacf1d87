"""Annotations around arguments: how a value is mapped, resolved or left alone. Nothing here acts on them.

They may be nested in any order, and every layer counts.
"""
# ruff: noqa: N801 - they are called like functions, around a value

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True, repr=False)
class Annotation(Generic[T]):
    """A value and what is said of it. Immutable; equal only within a class; hashable if the value is; not iterable."""

    value: T

    def unwrap(self) -> T:
        """The value."""
        return self.value

    def rewrap(self, value: U) -> "Annotation[U]":
        """The same annotation around another value."""
        return type(self)(value)  # type: ignore[arg-type, return-value] # a class of the same kind, for another type

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"


class unmapped(Annotation[T]):
    """The same value for every child of a `map`."""

    __slots__ = ()


class allow_failure(Annotation[T]):
    """Futures and states in it may end in any way; a failed one gives its exception, and the function is called."""

    __slots__ = ()


class quote(Annotation[T]):
    """The value as it is: not looked into, not resolved, no dependency found in it."""

    __slots__ = ()


class opaque(Annotation[T]):
    """The value itself is resolved if it is a future or a state; what is inside of it is not looked at."""

    __slots__ = ()
