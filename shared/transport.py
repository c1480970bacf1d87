"""What the rest of Baton needs of connections to Redis, so that it can be imported without a client library."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from shared.scripts import Script

Argument: TypeAlias = str | bytes | int | float
Command: TypeAlias = tuple[Argument, ...]


class Transport(Protocol):
    """Carries scripts and plain reads to one Redis. May send each twice: only what is repeatable goes through."""

    @property
    def address(self) -> str:
        """`host:port/db`, without credentials."""

    def evaluate(self, script: Script, key_names: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run a script and return its answer.

        Raises:
            RedisUnavailable: no answer within the retry budget, or Redis refused the connection or the command.
            StorageFull: Redis cannot take writes.
        """

    def read(self, commands: Sequence[Command]) -> list[Any]:
        """Send reading commands in one round trip; the answers in their order, an exception for one that was refused.

        Raises:
            RedisUnavailable: as for `evaluate`.
        """

    def close(self) -> None:
        """Close what is open; the next call would connect anew."""


class Line(Transport, Protocol):
    """One connection of one's own: what waits or listens cannot share it. Every method may raise RedisUnavailable."""

    def pop(self, lists: Sequence[str], seconds: float) -> bool:
        """Wait for a wake-up token on any of the lists, in their order. True if there was one."""

    def send(self, *command: Argument) -> None:
        """Send a command whose answer is read later, with `hear`."""

    def hear(self, seconds: float) -> Any | None:
        """The next message or answer, or None if there is none in this time."""

    def fileno(self) -> int:
        """The socket, for `select`; connects if need be."""


class Exchange(Transport, Protocol):
    """Connections for any number of threads."""

    def line(self, budget: float | None = None) -> Line:
        """A connection of one's own; close it after use. `budget`: seconds to go on trying a call, else the usual."""
