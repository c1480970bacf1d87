"""An edge of a graph: which call needs which other one, and for what. Knows nothing of either."""

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Edge(Generic[T]):
    """`downstream` needs `upstream`: for its parameter `key`, or without one to have ended before.

    `mapped`: what the upstream gives is mapped over.
    """

    upstream: T
    downstream: T
    key: str | None = None
    mapped: bool = False
