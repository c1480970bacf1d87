"""What a role may do, tried before it is relied on: a script that is refused half way leaves its first half."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from shared import keys
from shared.commands import Request, text
from shared.roles import Role
from shared.scripts import SCRIPTS
from shared.transport import Argument

# In which words servers refuse: those of 6.2 and 7.0, and those since 7.2.
REFUSED: Final = re.compile(r"NOPERM|ACL failure|executing the script can't|has no permissions")
_NAMELESS: Final = "<probe>"
"""Of what the families go by: no id, queue or name has such characters."""
_NOWHERE: Final = keys.job(_NAMELESS)

# Words with which a command does nothing, behind the key that never is. What they make is deleted again.
_HARMLESS: Final[Mapping[str, Sequence[Argument]]] = {
    "EXPIRE": (1,),
    "EXPIREAT": (1,),
    "HDEL": ("f",),
    "HEXISTS": ("f",),
    "HGET": ("f",),
    "HINCRBY": ("f", 1),
    "HINCRBYFLOAT": ("f", 1),
    "HMGET": ("f",),
    "HSET": ("f", 1),
    "LINDEX": (0,),
    "LPOS": ("m",),
    "LPUSH": ("m",),
    "LRANGE": (0, 0),
    "LREM": (0, "m"),
    "LTRIM": (0, 0),
    "RPUSH": ("m",),
    "SADD": ("m",),
    "SET": ("m",),
    "SISMEMBER": ("m",),
    "SREM": ("m",),
    "SSCAN": (0,),
    "XADD": ("*", "f", 1),
    "XDEL": ("0-0",),
    "ZADD": (1, "m"),
    "ZRANGE": (0, 0),
    "ZRANGEBYSCORE": (0, 0),
    "ZREM": ("m",),
    "ZSCORE": ("m",),
}
_BY_OTHERS: Final = frozenset({"DEL", "PUBLISH", "TIME"})
"""What the script calls by itself, and what channels are tried with."""


def probe(role: Role) -> Request[list[str]]:
    """Try what this role may do; the permissions that are missing, as Redis's rules name them."""
    tries = dict(_tries(role))
    arguments: list[Argument] = [_NOWHERE, len(tries)]
    for words in tries.values():
        arguments += (len(words), *words)
    names = ["+del", *tries]

    def missing(answer: Any) -> list[str]:
        said = {names[answer[i]]: text(answer[i + 1]) for i in range(0, len(answer), 2)}
        return [name for name, refusal in said.items() if REFUSED.search(refusal)]

    return Request(SCRIPTS["probe"], [], arguments, missing)


def _tries(role: Role) -> Iterator[tuple[str, Sequence[Argument]]]:
    """Each permission, and the words that need it. Commands come first: others are tried with some of them."""
    for command in sorted(role.calls - _BY_OTHERS):
        yield f"+{command.lower()}", (command, _NOWHERE, *_HARMLESS.get(command, ()))
    # Takes a lifetime from what has none, or is not there.
    for family in role.touches:
        yield f"~{_named(family, '*')}", ("PERSIST", _named(family, _NAMELESS))
    for family in role.looks_at:
        yield f"%R~{_named(family, '*')}", ("TYPE", _named(family, _NAMELESS))
    for channel in role.tells:
        # Who hears all runs passes it over.
        yield f"&{_named(channel, '*')}", ("PUBLISH", _named(channel, _NAMELESS), "")


def _named(family: str, name: str) -> str:
    return re.sub(r"<[^>]*>|\*", name, family)
