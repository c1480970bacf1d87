"""The Lua scripts as they are sent: prelude, what else a script stands on, the script. Sends nothing.

# Every call of a script makes its functions anew, and Lua 5.1 finds each variable that a function takes along by
# walking the list of all that were taken before. So key names are put in as constants instead of variables, and all
# that follows the prelude stands in a function of its own, which takes the prelude's variables along once.
"""

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files

from shared import keys
from shared.failpoints import is_off

_MOVES = ("prelude", "places", "attempts")
_ACCEPTS = (*_MOVES, "accepting")
_CLEARS = (*_MOVES, "clearing")
_SLOTS = ("prelude", "places", "slots")
_STANDS_ON = {
    "announce": ("prelude",),
    "await": ("prelude", "places"),
    "beat": _MOVES,
    "cancel": _MOVES,
    "continue": _MOVES,
    "cycle": _MOVES,
    "drain": ("prelude",),
    "drop": ("prelude",),
    "entrust": _ACCEPTS,
    "expire": _MOVES,
    "fire": _ACCEPTS,
    "force": _MOVES,
    "free": _SLOTS,
    "give_back": _MOVES,
    "greet": ("prelude",),
    "hooks": _MOVES,
    "keep": ("prelude",),
    "move": _CLEARS,
    "needs": ("prelude",),
    "note": ("prelude", "places"),
    "plan": ("prelude",),
    "probe": ("prelude",),
    "promote": _SLOTS,
    "propose": _MOVES,
    "purge": _CLEARS,
    "rate": ("prelude",),
    "reap": (*_MOVES, "slots"),
    "reconcile": _MOVES,
    "recount": ("prelude",),
    "renew": _SLOTS,
    "resume": _MOVES,
    "retry": _MOVES,
    "set_limit": ("prelude", "places"),
    "set_queue": ("prelude",),
    "strike": ("prelude", "places"),
    "submit": _ACCEPTS,
    "sweep": ("prelude",),
    "take": _SLOTS,
}


@dataclass(frozen=True)
class Script:
    """One command of the ledger: its name, its whole text, and the hash under which Redis knows it."""

    name: str
    text: str
    sha: str


_SWITCHES = {
    "alone": ("return run.crashes > 0 or", "return"),
    "fence": ("local is_fenced = true", "local is_fenced = false"),
    "room": (f"call('ZREM', '{keys.RUNNING}', '')", ""),
}
"""Texts of `cycle.lua` and the prelude that a test changes, and into what, to see what then goes wrong."""

# A comment or a text, as it is; or a name that may be one of a key: not a field, neither read nor in a table.
_WORD = re.compile(r"(--[^\n]*|'[^'\n]*')|(?<![.\w])([A-Z_]+)\b(?!\s*=[^=])")


def _with_key_names(source: str) -> str:
    def word(match: re.Match[str]) -> str:
        text, name = match.groups()
        return text or (f"'{keys.LUA[name]}'" if name in keys.LUA else name)

    return _WORD.sub(word, source)


@cache
def _part(name: str) -> str:
    return _with_key_names((files("shared") / "lua" / f"{name}.lua").read_text(encoding="utf-8"))


def _compose(name: str) -> Script:
    first, *others = [_part(part) for part in (*_STANDS_ON[name], name)]
    parts = ", ".join(f"'{part}'" for part in keys.RUN_PARTS)
    lines = [f"local PARTS = {{ {parts} }}", first, "return (function()", *others, "end)()", ""]
    text = "\n".join(lines)
    for switch, (here, instead) in _SWITCHES.items():
        if is_off(switch):
            text = text.replace(here, instead)
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


SCRIPTS = {name: _compose(name) for name in _STANDS_ON}
