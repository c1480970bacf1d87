"""Texts made of users' objects: bounded, free of control characters, and never raising. Knows no state and no run."""

import re
from typing import Final

MESSAGE_BYTES: Final = 4096
"""The most that a message may hold, in UTF-8."""
TRACEBACK_BYTES: Final = 16_384
SHOWN_CHARACTERS: Final = 200
CUT: Final = "..."

CONTROL_CHARACTERS: Final = r"\x00-\x08\x0b-\x1f\x7f-\x9f"
"""Those that a text for people may not hold, as inside of a regular expression: all but newline and tab."""

_UNPRINTABLE = re.compile(rf"[{CONTROL_CHARACTERS}\ud800-\udfff]")


def cut(text: str, most_bytes: int = MESSAGE_BYTES) -> str:
    """The text, or as much of its beginning as fits into so many bytes with `...`. It holds no lone surrogates."""
    encoded = text[: most_bytes + 1].encode()  # no character has less than one byte
    if len(encoded) <= most_bytes:
        return text
    return encoded[: most_bytes - len(CUT)].decode(errors="ignore") + CUT


def printable(text: str, most_bytes: int = MESSAGE_BYTES) -> str:
    """The text with control characters and lone surrogates shown escaped, cut to so many bytes."""
    return cut(_UNPRINTABLE.sub(_escape, text[: most_bytes + 1]), most_bytes)


def printable_end(text: str, most_bytes: int) -> str:
    """Like `printable`, but the end is kept: that of a traceback names the exception."""
    escaped = _UNPRINTABLE.sub(_escape, text[-most_bytes - 1 :])
    encoded = escaped.encode()
    if len(encoded) <= most_bytes:
        return escaped
    kept = most_bytes - len(CUT)
    return CUT + encoded[len(encoded) - kept :].decode(errors="ignore")


def _escape(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")


def text_of(value: object) -> str:
    """`str(value)`, or `<unprintable TypeName>` where that raises."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - the user's __str__ may raise anything
        return f"<unprintable {type(value).__name__}>"


def shown(value: object, most: int = SHOWN_CHARACTERS) -> str:
    """`repr(value)` cut to so many characters followed by `...`, or `<unprintable TypeName>` where that raises."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - the user's __repr__ may raise anything
        return f"<unprintable {type(value).__name__}>"
    return text if len(text) <= most else text[:most] + CUT
