"""Reads many keys side by side: each reading is a generator of commands, and their commands go out in batches.

Knows no command and no key. What Redis says in bytes becomes text here, and text becomes the same bytes again.
"""

import contextlib
from collections.abc import Generator, Iterable, Sequence
from sys import intern
from typing import Any, Final, TypeAlias, TypeVar

from shared.transport import Command, Transport

T = TypeVar("T")
Steps: TypeAlias = Generator[Sequence[Command], Sequence[Any], T]
"""Yields commands, is sent their answers, returns what it found."""

BATCH: Final = 500
"""Commands in one round trip."""


class Refused(Exception):
    """Redis does not read this key so: mostly, it is of another type."""


def text_of(data: bytes) -> str:
    """Bytes as text; what is no UTF-8 becomes lone surrogates."""
    return data.decode(errors="surrogateescape")


def bytes_of(text: str) -> bytes:
    """The inverse of `text_of`."""
    return text.encode(errors="surrogateescape")


def accepted(answer: Any) -> Any:
    """The answer.

    Raises:
        Refused: it is an error.
    """
    if isinstance(answer, Exception):
        raise Refused(str(answer))
    return answer


def read_all(transport: Transport, readings: Iterable[Steps[None]]) -> None:
    """Drive readings to their ends, side by side.

    Raises:
        RedisUnavailable: no answer.
    """
    waiting, size = iter(readings), 0
    going: list[tuple[Steps[None], Sequence[Command]]] = []
    while True:
        while size < BATCH and (reading := next(waiting, None)) is not None:
            commands = next(reading, None)
            if commands is not None:
                going.append((reading, commands))
                size += len(commands)
        if not going:
            return
        answers = _answers(transport, [command for _, commands in going for command in commands])
        going = _sent(going, answers)
        size = sum(len(commands) for _, commands in going)


def _answers(transport: Transport, commands: Sequence[Command]) -> list[Any]:
    starts = range(0, len(commands), BATCH)
    return [answer for start in starts for answer in transport.read(commands[start : start + BATCH])]


def _sent(
    going: Iterable[tuple[Steps[None], Sequence[Command]]], answers: Sequence[Any]
) -> list[tuple[Steps[None], Sequence[Command]]]:
    """Give each reading its answers; those that go on, with their next commands."""
    left, at = [], 0
    for reading, commands in going:
        end = at + len(commands)
        with contextlib.suppress(StopIteration):
            left.append((reading, reading.send(answers[at:end])))
        at = end
    return left


def fields_of(flat: Sequence[bytes]) -> dict[str, str]:
    """The answer to HGETALL as a mapping."""
    # Every run has the same names: interned, a million runs share them.
    return {intern(text_of(flat[i])): text_of(flat[i + 1]) for i in range(0, len(flat), 2)}
