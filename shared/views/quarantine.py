"""The quarantine as operators see it: what could not be read, what came too late, what was given up. Only reads."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared import keys
from shared.errors import RedisUnavailable
from shared.transport import Transport
from shared.walks import BATCH, text_of

ENTRY: Final = re.compile(r"\d{1,20}-\d{1,20}", re.ASCII)
"""What the id of an entry looks like."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry: its id, and its fields as they are stored. Nothing is decoded: nobody knows who wrote it."""

    id: str
    fields: Mapping[str, bytes]

    def told(self, name: str) -> str | None:
        """A field as text; bytes that are no UTF-8 become lone surrogates."""
        value = self.fields.get(name)
        return None if value is None else text_of(value)

    @property
    def reason(self) -> str:
        """Why it is here: `fenced`, `gone`, `broken`, `unreadable`, `crashed`."""
        return self.told("reason") or "?"

    @property
    def run_id(self) -> str | None:
        """The run that it is about."""
        return self.told("run")


def entries(transport: Transport, most: int, reason: str | None = None) -> tuple[int, list[Entry]]:
    """How many entries there are, and of the newest those with this reason, `most` of them at most, newest first.

    Raises:
        RedisUnavailable: no answer, or there is no quarantine but something else.
    """
    found: list[Entry] = []
    last = "+"
    while True:
        length, page = transport.read(
            [("XLEN", keys.QUARANTINE), ("XREVRANGE", keys.QUARANTINE, last, "-", "COUNT", BATCH)]
        )
        rows = [_entry(row) for row in _readable(transport, page)]
        found += (row for row in rows if reason in (None, row.reason))
        if len(rows) < BATCH or len(found) >= most:
            return _readable(transport, length), found[:most]
        last = f"({rows[-1].id}"


def named(transport: Transport, ids: Iterable[str]) -> dict[str, Entry]:
    """The entries of these ids that there are.

    Raises:
        RedisUnavailable: no answer, or there is no quarantine but something else.
    """
    wanted = list(dict.fromkeys(ids))
    found: dict[str, Entry] = {}
    for start in range(0, len(wanted), BATCH):
        pages = transport.read([("XRANGE", keys.QUARANTINE, one, one) for one in wanted[start : start + BATCH]])
        found.update((row.id, row) for page in pages for row in map(_entry, _readable(transport, page)))
    return found


def _readable(transport: Transport, answer: Any) -> Any:
    if isinstance(answer, Exception):
        told = f"{keys.QUARANTINE} of Redis at {transport.address} cannot be read: {answer}"
        raise RedisUnavailable(told, transport.address)
    return answer


def _entry(row: Any) -> Entry:
    entry_id, flat = row
    return Entry(text_of(entry_id), {text_of(flat[i]): flat[i + 1] for i in range(0, len(flat), 2)})
