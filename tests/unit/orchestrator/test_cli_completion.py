"""Completion as a shell asks for it: words of the table, words of Redis, and silence where there is no Redis."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.cli import COMMANDS
from shared.ledger import RunLedger
from shared.upkeep import Pulse
from tests.support.command_line import BATON, called, ledger_at
from tests.support.fleets import environment
from tests.support.ledgers import one_submitted, seated
from tests.support.server import RedisServer
from tests.support.waiting import eventually

SHELLS = ("bash", "zsh", "fish")
NOBODY = "redis://127.0.0.1:1/0"


def completed(shell: str, url: str, *words: str) -> list[str]:
    """What the completion script of a shell is told about a line whose last word is not finished."""
    asked = {
        "_BATON_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": " ".join(["baton", *words]),
        "COMP_CWORD": words[-1] if shell == "fish" else str(len(words)),
    }
    ended = subprocess.run(
        [BATON], env={**environment(url), **asked}, capture_output=True, text=True, timeout=30, check=True
    )
    assert ended.stderr == ""
    lines = ended.stdout.strip().splitlines()
    if shell == "zsh":  # three lines each: kind, word, help
        return lines[1::3]
    return [line.partition(",")[2].partition("\t")[0] for line in lines]


def completed_from_redis(shell: str, url: str, *words: str) -> list[str]:
    """The first answer that is not empty: on a busy machine Redis may be slower than a shell should wait."""
    return eventually(lambda: completed(shell, url, *words), 30)


@pytest.fixture(scope="module")
def seeded(module_server: RedisServer) -> Iterator[dict[str, list[str]]]:
    """A server with two queues, three tasks and two runs."""
    with ledger_at(module_server.url) as ledger, module_server.client() as client:
        yield {"ids": seed(ledger, client)}


def seed(ledger: RunLedger, client: Any) -> list[str]:
    """Two queues and runs, four tasks, two tags and a limit, and names that no shell should be told."""
    tags = [("tag", "daily"), ("tag", "\x1b[2J")]
    ids = [
        one_submitted(ledger, queue="mail", task="shop.mail", ties=tags),
        one_submitted(ledger, queue="main", task="shop.add"),
    ]
    ledger.set_limit("tag:db", 1)
    seated(ledger, "w1", "mail")
    ledger.beat([Pulse("w1", ("mail",), {"tasks": "shop.more census.parse"})])
    client.sadd("baton:tasks", "two words", "\x1b[2J", "$(touch x)", "x,y")
    client.sadd("rq:queues", "rq:queue:\x1b[2J")
    return ids


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_are_completed_without_any_redis(shell: str) -> None:
    groups = completed(shell, NOBODY, "ru")
    commands = completed(shell, NOBODY, "runs", "")
    expected = sorted(words.removeprefix("runs ") for words in COMMANDS if words.startswith("runs "))
    assert (groups, commands) == (["runs"], expected)


@pytest.mark.parametrize("shell", SHELLS)
def test_options_and_their_values_are_completed(shell: str) -> None:
    options = completed(shell, NOBODY, "runs", "list", "--s")
    values = completed(shell, NOBODY, "runs", "list", "--state", "C")
    assert (options, [value.lower() for value in values]) == (
        ["--state", "--since"],
        ["completed", "cancelled", "crashed", "cancelling"],
    )


@pytest.mark.parametrize(
    ("shell", "words", "expected"),
    [
        ("bash", ["queues", "show", ""], ["mail", "main"]),
        ("zsh", ["runs", "list", "--queue", "mai"], ["mail", "main"]),
        ("fish", ["submit", "x", "--queue", "mail"], ["mail"]),
        ("bash", ["submit", "shop."], ["shop.add", "shop.mail", "shop.more"]),
        ("zsh", ["runs", "list", "--task", "c"], ["census.parse"]),
        ("fish", ["runs", "cancel", "--tag", ""], ["daily"]),
        ("bash", ["limits", "show", "tag:"], ["tag:db"]),
        ("zsh", ["queues", "move", "mail", "mai"], ["mail", "main"]),
        ("fish", ["tasks", "show", "shop."], ["shop.add", "shop.mail", "shop.more"]),
    ],
    ids=str,
)
@pytest.mark.usefixtures("seeded")
def test_words_of_redis_are_completed(
    module_server: RedisServer, shell: str, words: list[str], expected: list[str]
) -> None:
    assert completed_from_redis(shell, module_server.url, *words) == expected


@pytest.mark.parametrize("command", ["show", "history", "logs", "result", "watch", "cancel", "retry", "force"])
def test_the_newest_runs_are_completed(module_server: RedisServer, seeded: dict[str, list[str]], command: str) -> None:
    told = completed_from_redis("bash", module_server.url, "runs", command, seeded["ids"][0][:4])
    assert told == sorted(seeded["ids"], reverse=True)


def test_a_url_on_the_line_is_the_one_that_is_asked(module_server: RedisServer, seeded: dict[str, list[str]]) -> None:
    assert seeded
    line = ["--url", module_server.url, "queues", "show", ""]
    assert completed_from_redis("bash", NOBODY, *line) == ["mail", "main"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (NOBODY, ["queues", "show", ""]),
        ("nonsense", ["submit", ""]),
        ("redis://:secret@127.0.0.1:70000/0", ["runs", "show", ""]),
    ],
)
def test_without_a_redis_nothing_is_completed_and_nothing_is_said(url: str, words: list[str]) -> None:
    assert completed("bash", url, *words) == []


@pytest.mark.parametrize("words", [["queues", "show", ""], ["runs", "show", ""]], ids=" ".join)
def test_a_server_that_never_answers_costs_a_fraction_of_a_second(words: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        before = time.monotonic()
        completed("bash", NOBODY, *words)
        usual = time.monotonic() - before
        before = time.monotonic()
        told = completed("bash", f"redis://127.0.0.1:{silent.getsockname()[1]}/0", *words)
        more = time.monotonic() - before - usual
    assert (told, more < 2) == ([], True)  # 0.07 s; this notices the two seconds that a command would wait


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_a_shell_is_one_that_it_reads(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = called("completion", shell)
    script = capsys.readouterr().out
    assert (code, f"_BATON_COMPLETE={shell}_complete" in script) == (0, True)
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} on PATH")
    option = "--no-execute" if shell == "fish" else "-n"
    read = subprocess.run([program, option], input=script, capture_output=True, text=True, timeout=10, check=False)
    assert (read.returncode, read.stderr) == (0, "")


@pytest.mark.usefixtures("seeded")
def test_bash_completes_a_line_with_the_script(module_server: RedisServer) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on PATH")
    line = """
eval "$(baton completion bash)"
COMP_WORDS=(baton queues show mai) COMP_CWORD=3
_baton_completion baton
printf '%s\\n' "${COMPREPLY[@]}"
"""
    env = {**environment(module_server.url), "PATH": f"{BATON.parent}{os.pathsep}{os.environ['PATH']}"}

    def replies() -> list[str]:
        return subprocess.run([bash, "-c", line], env=env, capture_output=True, text=True, check=True).stdout.split()

    assert eventually(replies, 30) == ["mail", "main"]
