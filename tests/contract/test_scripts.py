"""The texts of the Lua scripts: what their headers promise, what they keep to themselves, and how they are sent."""

import hashlib
import re
from importlib.resources import files

import pytest

from shared.scripts import SCRIPTS, Script
from tests.support.ledgers import Store
from tests.support.lua import commands_in, globals_of

ALLOWED_GLOBALS = {"redis", "KEYS", "ARGV", "tonumber", "type", "pairs", "ipairs", "unpack", "math", "string", "table"}
each_script = pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())


def header_of(script: Script) -> str:
    """The comment on top of a script's own file, as one line."""
    text = (files("shared") / "lua" / f"{script.name}.lua").read_text(encoding="utf-8")
    lines = re.match(r"(--[^\n]*\n)+", text)
    assert lines is not None
    return " ".join(line.removeprefix("--").strip() for line in lines[0].splitlines())


@each_script
def test_a_header_says_what_the_script_takes_answers_and_calls(script: Script) -> None:
    parts = re.findall(r"(^\w+|KEYS|ARGV|Answer[^:]*|Calls):", header_of(script))
    assert [part.split()[0] for part in parts] == [script.name, "KEYS", "ARGV", "Answer", "Calls"]


@each_script
def test_a_header_lists_exactly_the_commands_that_the_script_can_call(script: Script) -> None:
    listed = header_of(script).partition("Calls: ")[2].split()
    assert (set(listed), len(set(listed))) == (commands_in(script.text), len(listed))


@each_script
def test_every_command_that_a_script_calls_is_one_of_the_server(real: Store, script: Script) -> None:
    known = {name.upper() for name in real.client.command()}
    assert commands_in(script.text) - known == set()


@each_script
def test_a_script_sets_no_global_and_reads_none_that_only_some_servers_have(script: Script) -> None:
    found = globals_of(script.text)
    assert (found.written, found.read - ALLOWED_GLOBALS) == (set(), set())


@each_script
def test_a_script_calls_redis_and_answers_errors_and_does_nothing_else_with_it(script: Script) -> None:
    assert set(re.findall(r"redis\.(\w+)", script.text)) <= {"call", "pcall", "error_reply"}
    assert not script.text.startswith("#!")


@each_script
def test_a_script_is_known_to_the_server_by_its_hash(real: Store, script: Script) -> None:
    assert real.client.script_load(script.text) == script.sha == hashlib.sha1(script.text.encode()).hexdigest()  # noqa: S324 - Redis's choice


def test_the_reader_of_scripts_finds_what_it_is_asked_for() -> None:
    text = """
local call = redis.call
local function unused() call('GET', 'a') end
local function inner()
  leaked = os.time()
end
local function used(kind)
  inner()
  call(kind and 'SET' or 'DEL', 'a')
end
-- call('INCR')
used()
"""
    found = globals_of(text)
    assert (commands_in(text), found.written, found.read) == ({"SET", "DEL"}, {"leaked"}, {"redis", "os"})
