"""The demo as a user meets it: its table, its exit code, and that nothing of it stays behind."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.end_to_end.test_census import counted_here
from tests.support.command_line import in_terminal
from tests.support.own_processes import environment, needs_server, processes
from tests.support.server import RedisServer
from tests.support.waiting import eventually

BIN = Path(sys.executable).parent
BASH = shutil.which("bash") or "bash"
NOWHERE = "redis://:secret@127.0.0.1:1/0"
COMMAND = [str(BIN / "baton"), "demo"]


@pytest.fixture
def empty_path(tmp_path: Path) -> dict[str, str]:
    """An environment on whose PATH there is no server at all."""
    return environment(PATH=str(tmp_path))


def ran(env: Mapping[str, str], *options: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    words = [COMMAND[0], *before, *COMMAND[1:], *options]
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=120, check=False)


@contextmanager
def running(env: Mapping[str, str], *options: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [*COMMAND, *options], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def table(text: str) -> dict[str, tuple[int, ...]]:
    rows = re.findall(r"^  (\S.*?)((?: +[\d,]+){4})$", text, re.MULTILINE)
    return {name: tuple(int(number.replace(",", "")) for number in numbers.split()) for name, numbers in rows}


def check_what_it_told(text: str) -> None:
    expected = counted_here()
    told = table(text)
    assert told["total"] == expected["total"]
    assert told == {name: expected[name] for name in told}
    assert len(told) == 4
    files = expected["total"][0]
    assert re.search(rf"^  parse +{files + 1} of {files + 1} +{files} COMPLETED, 1 FAILED$", text, re.MULTILINE)
    assert "COMPLETED on attempt 2 (AwaitingRetry: ConnectionError: not this time)" in text
    assert re.search(r"^caught: parse\('python[\d.]*'\): SyntaxError: ", text, re.MULTILINE)
    assert re.search(rf"^{files + 4} task runs, .* s: {files + 3} COMPLETED, 1 FAILED, 1 retried$", text, re.MULTILINE)
    assert "\x1b" not in text


@needs_server
def test_with_a_server_on_path_it_brings_one_up_and_leaves_nothing_behind() -> None:
    told = ran(environment())
    assert (told.returncode, told.stderr) == (0, "")
    assert re.match(
        r"baton: no BATON_REDIS_URL; private redis-server [\d.]+ on 127\.0\.0\.1:\d+, 2 workers", told.stdout
    )
    check_what_it_told(told.stdout)
    assert processes() == set()


def test_without_a_server_it_runs_in_its_own_process_and_says_what_differs(empty_path: dict[str, str]) -> None:
    told = ran(empty_path)
    assert (told.returncode, told.stderr) == (0, "")
    lines = told.stdout.splitlines()
    assert lines[0].startswith("baton: no BATON_REDIS_URL, no redis-server or valkey-server on PATH")
    assert lines[1].startswith("what differs here: no other process sees it")
    check_what_it_told(told.stdout)
    assert processes() == set()


@pytest.mark.parametrize("source", ["BATON_REDIS_URL", "--url"])
def test_with_an_address_it_uses_that_redis(server: RedisServer, client: "redis.Redis", source: str) -> None:
    # Of two addresses the one on the command line counts.
    in_environment = server.url if source == "BATON_REDIS_URL" else NOWHERE
    words = [] if source == "BATON_REDIS_URL" else ["--url", server.url]
    told = ran(environment(BATON_REDIS_URL=in_environment), before=words)
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith(f"baton: Redis at 127.0.0.1:{server.port}/0 from {source}, 2 workers")
    check_what_it_told(told.stdout)
    assert (client.zcard("rq:failed:census"), client.smembers("rq:workers"), processes()) == (1, set(), set())


@pytest.mark.parametrize("words", [[], ["--url", NOWHERE]], ids=["in the environment", "on the command line"])
def test_an_address_that_does_not_answer_is_an_error_and_no_fall_back(words: list[str]) -> None:
    given = {} if words else {"BATON_REDIS_URL": NOWHERE}
    told = ran(environment(BATON_PRODUCER_BUDGET="0.1", **given), before=words)
    assert (told.returncode, told.stdout) == (69, "")
    assert "127.0.0.1:1/0" in told.stderr
    assert "secret" not in told.stderr


def test_what_is_in_its_own_process_cannot_be_kept(empty_path: dict[str, str]) -> None:
    told = ran(empty_path, "--keep")
    assert (told.returncode, told.stdout) == (2, "")
    assert "--keep needs a redis-server" in told.stderr


@needs_server
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_leaves_nothing_behind(number: int, code: int) -> None:
    with running(environment()) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        process.wait(30)
        assert process.returncode == code
        assert processes() == set()


@needs_server
def test_killed_it_leaves_nothing_behind_either() -> None:
    with running(environment()) as process:
        assert process.stdout is not None
        process.stdout.readline()
        eventually(lambda: len(processes()) >= 4)
        process.kill()
        process.wait(30)
        eventually(lambda: not processes())


# The commands for a second terminal.
LOOKS = [
    *("runs list --state FAILED --json", "queues list", "workers list --json", "tasks list", "check", "doctor"),
    "cheatsheet --reveal --json",
]


def looked(env: Mapping[str, str], words: str) -> tuple[int, str]:
    """Exit code and answer of a command."""
    ended = subprocess.run([BIN / "baton", *words.split()], env=env, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout


def asked_redis(line: str) -> tuple[int, str]:
    """Exit code and answer of a line for the shell."""
    ended = subprocess.run([BASH, "-c", line], capture_output=True, text=True, timeout=10, check=False)
    return ended.returncode, ended.stdout


@needs_server
def test_in_a_terminal_a_board_is_drawn_while_it_runs_and_then_cleared_away() -> None:
    code, text = in_terminal(environment(), "demo", columns=120)
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    row = r"^  \d\d:\d\d:\d\d\.\d{3}  [0-9a-f-]{36}  [A-Z]"
    assert (code, processes()) == (0, set())
    assert re.search(r"^  parse +[━╸╺ ]+ \d+/\d+ ", drawn, re.MULTILINE)
    assert re.search(r"^  (\d+ [A-Z]+ *)*\d+ COMPLETED", drawn, re.MULTILINE)
    assert re.search(row, drawn, re.MULTILINE)
    *_, last = text.split("\x1b[2K")  # each line of the board is cleared, and what comes after the last one stays
    assert re.search(row, last, re.MULTILINE) is None
    check_what_it_told(last)


@needs_server
def test_json_is_one_document_that_agrees_with_itself() -> None:
    told = ran(environment(), "--json")
    document = json.loads(told.stdout)
    files = document["total"]["files"]
    assert (told.returncode, told.stderr, document["agrees"]) == (0, "", True)
    assert (document["runs"], document["retried"]) == ({"COMPLETED": files + 3, "FAILED": 1}, 1)
    assert sum(row["files"] for row in document["packages"]) == files == counted_here()["total"][0]
    assert processes() == set()


@needs_server
def test_what_is_kept_can_be_looked_at_from_elsewhere_until_it_is_ended() -> None:
    with running(environment(), "--keep") as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        url = next(line for line in lines if line.startswith("export BATON_REDIS_URL=")).strip().partition("=")[2]
        with redis.Redis.from_url(url, decode_responses=True) as client:
            assert (client.zcard("rq:failed:census"), client.scard("rq:workers")) == (1, 2)
        look = {**environment(), "BATON_REDIS_URL": url}
        told = {words: looked(look, words) for words in LOOKS}
        assert {words: code for words, (code, _) in told.items()} == dict.fromkeys(LOOKS, 0)
        (failed,) = json.loads(told["runs list --state FAILED --json"][1])["runs"]
        assert (failed["task"], failed["error"].split(":")[0]) == ("orchestrator.census.parse", "SyntaxError")
        workers = json.loads(told["workers list --json"][1])["workers"]
        assert [worker["live"] for worker in workers] == [True, True]
        assert [row.split()[:2] for row in told["queues list"][1].splitlines()[1:]] == [["census", "0"]]
        sheet = [question["command"] for question in json.loads(told["cheatsheet --reveal --json"][1])["questions"]]
        assert [code for code, _ in map(asked_redis, sheet[:-1])] == [0] * (len(sheet) - 1)
        assert asked_redis(sheet[0]) == (0, "rq:queue:census\n")
        info = subprocess.run([BIN / "rq", "info", "-u", url], capture_output=True, text=True, check=False)
        assert ("census" in info.stdout, "2 workers" in info.stdout) == (True, True)
        in_sight = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes()]
        assert [
            line for line in in_sight if url.encode() in line or url.split("@")[0].split(":")[-1].encode() in line
        ] == []
        process.send_signal(signal.SIGINT)
        process.wait(30)
        assert (process.returncode, processes()) == (130, set())
