"""What limits may be called."""

from typing import Final

from shared.errors import InvalidCall, InvalidValue
from shared.slots import LOCK

LONGEST: Final = 100
_OF_KEYS: Final = (":holders", ":waiters")


def check_limit_name(name: str) -> str:
    """The name, if a limit may be called so.

    Raises:
        InvalidCall: no text.
        InvalidValue: it may not.
    """
    if not isinstance(name, str):
        raise InvalidCall(f"the name of a limit is a text, got {name!r}")
    if not 1 <= len(name) <= LONGEST or not name.isprintable() or any(map(str.isspace, name)):
        raise InvalidValue(f"{name!r} is no name of a limit: 1 to {LONGEST} characters without white space")
    if name.endswith(_OF_KEYS):
        raise InvalidValue(f"{name!r} is no name of a limit: that end belongs to keys of Baton's own")
    if name.startswith(LOCK):
        raise InvalidValue(f"{name!r} is no name of a limit: {LOCK!r} begins those of locks")
    return name
