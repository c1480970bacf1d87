"""The help of every command: it is there, quick, and imports nothing that it does not need."""

import json
import statistics
import subprocess
import sys
import time
from importlib import import_module

import click
import pytest

from orchestrator.cli import COMMANDS
from tests.support.command_line import BATON, called

LEAVES = [words for words, (place, _) in COMMANDS.items() if place]
GROUPS = [words for words, (place, _) in COMMANDS.items() if not place]
WITHOUT_JSON = {"completion", "server"}  # a script for a shell; what stays has no answer

HELPS = """
import io, json, sys
from contextlib import redirect_stdout, suppress
from orchestrator.cli import COMMANDS, main
found = {}
for words in ["", *COMMANDS]:
    with redirect_stdout(io.StringIO()), suppress(SystemExit):
        main([*words.split(), "--help"])
    found[words] = [name for name in ("redis", "rich", "rq", "fakeredis") if name in sys.modules]
print(json.dumps(found))
"""


def command_of(words: str) -> click.Command:
    module, _, name = COMMANDS[words][0].partition(":")
    command: click.Command = getattr(import_module(module), name)
    return command


def test_help_needs_neither_a_client_nor_a_drawing_library() -> None:
    told = subprocess.run([sys.executable, "-c", HELPS], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(told.stdout) == {words: [] for words in ["", *COMMANDS]}


@pytest.mark.parametrize("words", ["", "runs list", "worker", "demo"])
def test_help_is_quick(words: str) -> None:
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run([BATON, *words.split(), "--help"], capture_output=True, timeout=30, check=True)
        seconds.append(time.monotonic() - began)
    assert statistics.median(seconds) < 3  # 0.3 on an idle machine; this notices an order of magnitude


@pytest.mark.parametrize("words", LEAVES)
def test_the_line_in_the_list_is_the_first_of_the_commands_own_help(words: str) -> None:
    command = command_of(words)
    assert ((command.help or "").split("\n")[0], command.name) == (COMMANDS[words][1], words.rpartition(" ")[2])


@pytest.mark.parametrize("words", ["", *GROUPS])
def test_a_group_lists_its_commands(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = called(*words.split(), "--help")
    _, _, listed = capsys.readouterr().out.partition("\nCommands:\n")
    names = [line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "]
    begin = f"{words} " if words else ""
    expected = sorted(name.removeprefix(begin) for name in COMMANDS if name.startswith(begin))
    assert (code, names) == (0, [name for name in expected if " " not in name])


@pytest.mark.parametrize("words", LEAVES)
def test_every_option_has_its_help(words: str) -> None:
    options = [option for option in command_of(words).params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_every_command_that_answers_can_answer_in_json() -> None:
    without = {words for words in LEAVES if "as_json" not in {option.name for option in command_of(words).params}}
    assert without == WITHOUT_JSON


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["workr"], "Did you mean worker"),
        (["runs", "lst"], "Did you mean list?"),
        (["queue"], "Did you mean queues?"),
        (["runs", "list", "--sate", "FAILED"], "--state"),
        (["runs", "list", "--jsn"], "--json"),
        (["--ulr", "x", "version"], "--url"),
        (["completion", "bsh"], "bash"),
        (["runs", "list", "--state", "FAILD"], "failed"),
    ],
    ids=" ".join,
)
def test_a_near_miss_names_what_was_meant(words: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = called(*words)
    out, err = capsys.readouterr()
    assert (code, out, hint in err) == (2, "", True)


@pytest.mark.parametrize("words", [["xyzzy"], ["runs"], ["runs", "list", "extra"], ["--quiet", "--verbose", "version"]])
def test_wrong_usage_is_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = called(*words)
    assert (code, capsys.readouterr().out) == (2, "")
