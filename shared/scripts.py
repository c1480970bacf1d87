"""The Lua scripts as they are sent: key names, prelude, what else a script stands on, the script. Sends nothing."""

from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files

from shared import keys

_ATTEMPTS = ("prelude", "attempts")
_STANDS_ON = {
    "beat": ("prelude",),
    "cycle": _ATTEMPTS,
    "give_back": _ATTEMPTS,
    "greet": ("prelude",),
    "promote": ("prelude",),
    "propose": _ATTEMPTS,
    "reap": _ATTEMPTS,
    "submit": ("prelude",),
    "sweep": ("prelude",),
}


@dataclass(frozen=True)
class Script:
    """One command of the ledger: its name, its whole text, and the hash under which Redis knows it."""

    name: str
    text: str
    sha: str


def _names() -> str:
    parts = ", ".join(f"'{part}'" for part in keys.RUN_PARTS)
    return "\n".join(
        [*(f"local {name} = '{key}'" for name, key in keys.LUA.items()), f"local PARTS = {{ {parts} }}", ""]
    )


def _compose(name: str) -> Script:
    folder = files("shared") / "lua"
    sources = [(folder / f"{part}.lua").read_text(encoding="utf-8") for part in (*_STANDS_ON[name], name)]
    text = "\n".join([_names(), *sources])
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


SCRIPTS = {name: _compose(name) for name in _STANDS_ON}
