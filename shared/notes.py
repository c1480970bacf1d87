"""What the process of a run says of it meanwhile: its name, its progress, rows of its log. Values only, no I/O."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from shared.clock import EPOCH, iso, parse_iso
from shared.commands import Request, texts
from shared.scripts import SCRIPTS
from shared.transport import Argument

LONGEST_ROW: Final = 1000
"""Bytes of a row as it is stored, so that a log has room for its first 200."""
_CUT: Final = "..."


class Note(NamedTuple):
    """What was said of a run by its attempt with this token. `last` is the number of the last row."""

    run_id: str
    token: str
    name: str = ""
    progress: str = ""
    last: int = 0
    rows: Sequence[str] = ()
    rolled_back: bool = False


class LogRow(NamedTuple):
    """A row of a run's log. `number` counts within an attempt; where rows are missing, they were dropped."""

    number: int
    time: datetime
    level: str
    attempt: int
    message: str


def row(number: int, time: datetime, level: str, attempt: int, message: str) -> str:
    """A row as it is stored; a message that is too long is cut."""
    told = {"n": number, "time": iso(time), "level": level, "attempt": attempt, "message": message}
    text = json.dumps(told)
    while len(text) > LONGEST_ROW:
        # Escaped, a character takes up to twelve bytes: cut by what is too much at least, and looked at again.
        kept = max(0, len(message) - max(1, (len(text) - LONGEST_ROW) // 12) - len(_CUT))
        message = message[:kept]
        text = json.dumps({**told, "message": message + _CUT})
    return text


def read(text: bytes) -> LogRow:
    """A stored row; of one that cannot be read the text, as number 0."""
    try:
        told = json.loads(text)
        number, attempt = int(told["n"]), int(told["attempt"])
        return LogRow(number, parse_iso(told["time"]), str(told["level"]), attempt, str(told["message"]))
    except (KeyError, TypeError, ValueError, RecursionError):
        return LogRow(0, EPOCH, "?", 0, text.decode(errors="replace"))


def store(notes: Sequence[Note]) -> Request[list[str]]:
    """Store notes; the answer tells of each OK, FENCED, GONE or BROKEN."""
    arguments: list[Argument] = [len(notes)]
    for note in notes:
        arguments += (note.run_id, note.token, note.name, note.progress, "1" if note.rolled_back else "")
        arguments += (note.last, len(note.rows), *note.rows)
    return Request(SCRIPTS["note"], [], arguments, texts)
