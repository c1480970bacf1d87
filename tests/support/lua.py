"""What the text of a Lua script does, read without running it: the globals it touches and the commands it can call."""

import re
from dataclasses import dataclass
from functools import partial
from io import BytesIO

from lupa.lua51 import LuaRuntime

GET_GLOBAL, SET_GLOBAL = 5, 7
_FUNCTION = re.compile(r"^local function (\w+)\((?:[^\n]*\bend$|.*?^end$)", re.MULTILINE | re.DOTALL)
_CALL = re.compile(r"\b(?:call|try)\(([^,)]*)")


@dataclass
class Globals:
    """Names of globals that a script reads and writes."""

    read: set[str]
    written: set[str]


def globals_of(text: str) -> Globals:
    """The globals of a script, from its compiled form: every function of it, also those that never run."""
    runtime = LuaRuntime(encoding=None)
    code = runtime.eval("function(text) return string.dump(assert(loadstring(text))) end")(text.encode())
    found = Globals(set(), set())
    stream = BytesIO(code)
    stream.read(12)  # signature, version and sizes: those of this machine
    _function(stream, found)
    return found


def _number(stream: BytesIO, size: int) -> int:
    return int.from_bytes(stream.read(size), "little")


def _function(stream: BytesIO, found: Globals) -> None:
    """One function in the form of Lua 5.1's `lundump.c`, with those inside of it."""
    integer, size = partial(_number, stream, 4), partial(_number, stream, 8)
    stream.read(size())
    stream.read(4 + 4 + 4)
    instructions = [integer() for _ in range(integer())]
    constants = [_constant(stream) for _ in range(integer())]
    for instruction in instructions:
        names = {GET_GLOBAL: found.read, SET_GLOBAL: found.written}.get(instruction & 0x3F)
        if names is not None:
            names.add(constants[instruction >> 14])
    for _ in range(integer()):
        _function(stream, found)
    stream.read(4 * integer())
    for _ in range(integer()):
        stream.read(size())
        stream.read(4 + 4)
    for _ in range(integer()):
        stream.read(size())


def _constant(stream: BytesIO) -> str:
    match stream.read(1)[0]:
        case 0:
            return "nil"
        case 1:
            return str(stream.read(1))
        case 3:
            return str(stream.read(8))
    return stream.read(_number(stream, 8))[:-1].decode(errors="replace")


def commands_in(text: str) -> set[str]:
    """The Redis commands that a script can call: in its main part, and in the functions that this reaches."""
    code = re.sub(r"--[^\n]*", "", text)
    bodies = {match[1]: match[0] for match in _FUNCTION.finditer(code)}
    main = _FUNCTION.sub("", code)
    reached, left = "", [main]
    while left:
        part = left.pop()
        reached += part
        named = set(re.findall(r"\w+", re.sub(r"'[^'\n]*'", "", part)))
        left += [bodies.pop(name) for name in named & bodies.keys()]
    return {word for call in _CALL.findall(reached) for word in re.findall(r"'([A-Z]+)'", call)}
