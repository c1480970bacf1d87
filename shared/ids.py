"""Ids of runs, states and records: UUIDv7 text that sorts by the time it was made. Knows nothing of what it names.

    01a1f879-5eda-7005-8876-23ab1bc095ff
    └ milliseconds ┘└ version 7, then a counter of 12 bits
                        └ variant, then 62 random bits

Ids of one process grow strictly, also within a millisecond and when the clock steps back: the counter starts at a
random place in its lower half and counts up; when it is full, the next millisecond is taken early.
"""

import os
import re
import threading
from collections.abc import Callable
from typing import Final
from uuid import UUID

from shared import clock
from shared.errors import InvalidValue

COUNTER_END: Final = 0xFFF
SEED_MASK: Final = 0x7FF
TAILS_AT_ONCE: Final = 256
"""Random endings prepared together, so that the system call for their bytes costs each of them next to nothing."""
TAIL_DIGITS: Final = 15

_COUNTER_TEXTS = tuple(f"{counter:03x}" for counter in range(COUNTER_END + 1))  # formatting takes longer than the rest
_CANONICAL = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class IdSource:
    """Makes ids, for any number of threads at once. A fork's child calls `reseed`, or it repeats its parent's."""

    def __init__(
        self,
        unix_nanoseconds: Callable[[], int] = clock.unix_nanoseconds,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._unix_nanoseconds = unix_nanoseconds
        self._random_bytes = random_bytes
        self.reseed()

    def reseed(self) -> None:
        """Forget what was prepared and counted. Only where no other thread makes ids, as in the child of a fork."""
        # A thread of the parent may have held the old lock when it forked. Reentrant, because a signal handler that
        # makes an id may interrupt this very code: its id then differs in the random part, which is taken in one step.
        self._lock = threading.RLock()
        self._millisecond_end = 0
        self._counter = COUNTER_END
        self._head = ""
        self._tails: list[str] = []

    def new_id(self) -> str:
        """A new id, greater than all that this source made before."""
        with self._lock:
            nanoseconds = self._unix_nanoseconds()
            if nanoseconds >= self._millisecond_end or self._counter >= COUNTER_END:
                self._begin_millisecond(nanoseconds)
            counter = self._counter = self._counter + 1
            try:
                tail = self._tails.pop()
            except IndexError:
                tails = self._tails = self._prepared_tails()
                tail = tails.pop()
            return self._head + _COUNTER_TEXTS[counter] + tail

    def _begin_millisecond(self, nanoseconds: int) -> None:
        # When the counter is full, or the clock stepped back, this is later than the clock says.
        millisecond = max(nanoseconds, self._millisecond_end) // 1_000_000
        text = f"{millisecond:012x}"
        self._head = f"{text[:8]}-{text[8:]}-7"
        self._millisecond_end = (millisecond + 1) * 1_000_000
        self._counter = int.from_bytes(self._random_bytes(2), "big") & SEED_MASK

    def _prepared_tails(self) -> list[str]:
        digits = self._random_bytes(TAILS_AT_ONCE * TAIL_DIGITS // 2).hex()
        variants = self._random_bytes(TAILS_AT_ONCE)
        starts = range(0, len(digits), TAIL_DIGITS)
        return [
            f"-{'89ab'[byte & 3]}{digits[at : at + 3]}-{digits[at + 3 : at + TAIL_DIGITS]}"
            for at, byte in zip(starts, variants, strict=True)
        ]


_source = IdSource()
os.register_at_fork(after_in_child=_source.reseed)

new_id = _source.new_id
"""A new UUIDv7 as text, greater than every earlier one of this process."""


def is_id(text: object) -> bool:
    """True for a UUID as canonical text: 36 characters, lower case, with hyphens."""
    return isinstance(text, str) and _CANONICAL.fullmatch(text) is not None


def as_id(value: str | UUID) -> str:
    """The id as canonical text, of a UUID too.

    Raises:
        InvalidValue: neither a UUID nor its canonical text.
    """
    text = str(value) if isinstance(value, UUID) else value
    if not is_id(text):
        raise InvalidValue(f"not an id: {value!r}; ids are UUIDs as lower-case text, such as {new_id()}")
    return text
