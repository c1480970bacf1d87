"""How every command answers on a server with runs in every state: as JSON, as plain text, in terminals of any width."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator.cli import COMMANDS
from shared.planning import PlannedCall
from tests.support.command_line import BATON, COLOUR, answered, called, in_terminal, ledger_at
from tests.support.fleets import environment
from tests.support.ledgers import PARAMETERS
from tests.support.plants import Story, told
from tests.support.server import RedisServer

# The words after each command's own, and the exit code; what needs more than this server is tested elsewhere. What asks
# before it acts is asked where nobody can answer: it shows what it would do, and ends with 2.
ASKED = {
    "cheatsheet": ("", 0),
    "check": ("", 0),
    "completion": ("bash", 0),
    "config show": ("", 0),
    "doctor": ("", 0),
    "limits delete": ("tag:db", 2),
    "limits list": ("", 0),
    "limits set": ("tag:db 1", 0),
    "limits show": ("tag:db", 0),
    "quarantine drop": ("ENTRY", 2),
    "quarantine list": ("", 0),
    "quarantine requeue": ("ENTRY", 2),
    "quarantine show": ("ENTRY", 0),
    "queues cap": ("elsewhere none", 0),
    "queues list": ("", 0),
    "queues move": ("q elsewhere", 2),
    "queues pause": ("elsewhere", 0),
    "queues purge": ("q", 2),
    "queues resume": ("elsewhere", 0),
    "queues show": ("q", 0),
    "reconcile": ("", 0),
    "runs cancel": ("FAILED", 2),
    "runs force": ("FAILED --to cancelled --reason why", 2),
    "runs history": ("FAILED", 0),
    "runs list": ("", 0),
    "runs logs": ("FAILED", 0),
    "runs result": ("FAILED", 1),
    "runs retry": ("FAILED", 2),
    "runs show": ("FAILED", 0),
    "runs watch": ("FAILED", 1),
    "schedules create": ("shop.add --interval 1h", 0),
    "schedules delete": ("nightly", 2),
    "schedules list": ("", 0),
    "schedules pause": ("nightly", 0),
    "schedules preview": ("nightly", 0),
    "schedules resume": ("nightly", 0),
    "schedules run": ("nightly", 0),
    "submit": ("shop.add -p a=1 --queue elsewhere", 0),
    "tasks list": ("", 0),
    "tasks show": ("shop.add", 0),
    "version": ("", 0),
    "workers check": ("", 0),
    "workers drain": ("w1", 2),
    "workers list": ("", 0),
    "workers show": ("w1", 0),
}
TABLES = [words for words in ASKED if words.rpartition(" ")[2] in ("list", "show", "history", "check", "version")]
BASH = shutil.which("bash") or "bash"


@pytest.fixture(scope="module")
def story(module_server: RedisServer) -> Iterator[Story]:
    """A server with runs in every state, and workers whose leases last as long as these tests."""
    with ledger_at(module_server.url, lease=600) as ledger:
        ledger.set_limit("tag:db", 1)
        call = PlannedCall("shop.add", PARAMETERS, {}, ()).encoded()
        rule = {"task": "shop.add", "queue": "elsewhere", "interval": "3600", "anchor": "2026-01-01T00:00:00.000000Z"}
        ledger.plan("set", "nightly", next_due="4102444800", call=call, fields=rule)
        yield told(ledger)


@pytest.fixture(scope="module")
def words(story: Story, module_server: RedisServer) -> Callable[[str], list[str]]:
    """The words of a command and what follows, with the names of this story."""
    with module_server.client() as client:
        ((entry, _), *_) = client.xrange("baton:quarantine")
    names = {"FAILED": story.failed, "ENTRY": entry}
    return lambda command: [names.get(word, word) for word in f"{command} {ASKED[command][0]}".split()]


def test_every_command_is_asked_here_or_elsewhere() -> None:
    assert set(ASKED) | {"demo", "graph show", "server", "worker"} == {
        words for words, (place, _) in COMMANDS.items() if place
    }


@pytest.mark.parametrize("command", [words for words in ASKED if words != "completion"])
def test_json_is_one_document_or_one_object_a_line(
    command: str, words: Callable[[str], list[str]], module_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = answered(module_server.url, [*words(command), "--json"], capsys)
    documents = [json.loads(line) for line in out.splitlines()]
    assert (code, len(documents) if command != "runs watch" else 1) == (ASKED[command][1], 1)
    assert all(isinstance(document, dict) and document for document in documents)


@pytest.mark.parametrize("command", ASKED)
def test_where_nobody_looks_the_answer_is_plain_text(
    command: str, words: Callable[[str], list[str]], module_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = answered(module_server.url, words(command), capsys)
    assert (code, "\x1b" in out) == (ASKED[command][1], False)
    assert out or command in ("runs logs", "runs result")


@pytest.mark.parametrize("command", TABLES)
def test_a_terminal_of_twenty_columns_shows_every_id_in_one_piece(
    command: str, words: Callable[[str], list[str]], module_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    _, plain = answered(module_server.url, words(command), capsys)
    code, narrow = in_terminal(environment(module_server.url), *words(command), columns=20)
    assert (code, "\x1b" in COLOUR.sub("", narrow)) == (ASKED[command][1], False)
    assert ids_in(narrow) == ids_in(plain)


def ids_in(text: str) -> set[str]:
    """The ids of runs that a text shows in one piece."""
    text = COLOUR.sub("", text)
    return set(re.findall(r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b", text))


def test_columns_can_be_said_instead_of_measured(story: Story, module_server: RedisServer) -> None:
    _, drawn = in_terminal(environment(module_server.url), "runs", "list", columns=200, COLUMNS="20")
    rows = COLOUR.sub("", drawn).split("\n\n")
    assert len(rows) == len(ids_in(drawn)) >= 10
    assert {row.splitlines()[1].split()[0] for row in rows} == {"state"}
    assert any(story.failed in row for row in rows)


def test_a_terminal_gets_colours_and_a_drawn_table(story: Story, module_server: RedisServer) -> None:
    code, text = in_terminal(environment(module_server.url), "runs", "list", "--state", "failed", columns=160)
    assert (code, story.failed in text, "\x1b[31mFAILED" in text, "───" in text) == (0, True, True, True)


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_who_wants_no_colours_gets_plain_text(
    story: Story, module_server: RedisServer, variables: dict[str, str]
) -> None:
    code, text = in_terminal(environment(module_server.url), "runs", "list", columns=160, **variables)
    assert (code, story.failed in text, "\x1b" in text, "───" in text) == (0, True, False, False)


@pytest.mark.usefixtures("story")
def test_a_terminal_that_cannot_show_a_character_shows_its_code(module_server: RedisServer) -> None:
    env = {**environment(module_server.url), "PYTHONIOENCODING": "latin-1"}
    told = []
    for words in (["submit", "shop.add", "-p", "x=ä任", "--queue", "elsewhere"], ["runs", "list", "--queue", "ä任"]):
        ended = subprocess.run([BATON, *words], env=env, capture_output=True, timeout=30, check=False)
        told.append((ended.returncode, b"\xe4\\u4efb" in ended.stderr))
    assert told == [(0, False), (2, True)]


@pytest.mark.parametrize("words", ["runs list", "cheatsheet", "config show --json", "runs list --help"])
@pytest.mark.usefixtures("story")
def test_a_reader_who_leaves_ends_the_command_quietly(module_server: RedisServer, words: str) -> None:
    with subprocess.Popen(
        [BATON, *words.split()],
        env=environment(module_server.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait(30)) == (b"", 0)


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-"])
def test_a_stream_that_is_closed_from_the_beginning_is_no_error(module_server: RedisServer, closed: str) -> None:
    line = f"exec {BATON} runs list {closed}"
    env = environment(module_server.url)
    ended = subprocess.run([BASH, "-c", line], env=env, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr, bool(ended.stdout)) == (0, "", closed != ">&-")


@pytest.mark.usefixtures("story")
def test_quiet_talks_of_nothing_and_verbose_of_more(
    module_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for option in ("--quiet", "--verbose"):
        called("--url", module_server.url, option, "queues", "show", "nosuch")
        said.append(capsys.readouterr())
    assert said == [("", ""), ("", said[1].err)]
    assert "Redis at 127.0.0.1" in said[1].err
    assert "nosuch" in said[1].err


# --- what is told -----------------------------------------------------------------------------------------------------


def document(url: str, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    code, out = answered(url, [*words, "--json"], capsys)
    assert code == 0
    return json.loads(out)


def test_lists_tell_what_is_there(story: Story, module_server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    url = module_server.url
    failed = document(url, capsys, "runs", "list", "--state", "failed", "--state", "crashed")["runs"]
    queues = {queue["name"]: queue for queue in document(url, capsys, "queues", "list")["queues"]}
    (worker,) = document(url, capsys, "workers", "list")["workers"]
    (task,) = document(url, capsys, "tasks", "list")["tasks"]
    assert {run["id"]: run["state"]["type"] for run in failed} == {story.failed: "FAILED", story.crashed: "CRASHED"}
    assert [queues["q"][name] for name in ("waiting", "running", "failed", "finished")] == [1, 2, 2, 1]
    assert (worker["name"], set(worker["held"])) == ("w1", {story.running.run_id, story.cancelling})
    assert (task["key"], task["known"], task["counts"]["FAILED"]) == ("shop.add", False, 1)


def test_one_queue_and_one_worker_are_told_with_their_runs(
    story: Story, module_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = document(module_server.url, capsys, "queues", "show", "q")
    worker = document(module_server.url, capsys, "workers", "show", "w")
    assert [run["id"] for run in queue["next"]] == [story.pending]
    assert {run["id"] for run in worker["runs"]} == {story.running.run_id, story.cancelling}


@pytest.mark.usefixtures("story")
def test_filters_that_nothing_matches_are_exit_code_1(
    module_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = [
        called("--url", module_server.url, "runs", "list", *filters)
        for filters in (
            ["--task", "nosuch"],
            ["--queue", "nosuch"],
            ["--since", "2100-01-01T00:00:00Z"],
            ["--limit", "1"],
        )
    ]
    assert (codes, capsys.readouterr().err.count("No run matches.")) == ([1, 1, 1, 0], 3)
