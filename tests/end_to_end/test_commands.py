"""Commands beside a real fleet: what one submits, another shows, while it happens and after it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.command_line import BATON
from tests.support.fleets import BODIES, ROOT, Fleet, command, environment
from tests.support.server import RedisServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("resident")


@pytest.fixture(scope="module")
def url(module_server: RedisServer) -> str:
    return module_server.url


def asked(url: str, *words: str) -> Any:
    """The document that a command answers."""
    ended = command("baton", *words, "--json", url=url)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def submitted(url: str, body: str, *words: str) -> str:
    return str(asked(url, "submit", f"{BODIES}.{body}", *words)["id"])


@contextmanager
def busy(url: str, client: "redis.Redis", gate: Path) -> Iterator[str]:
    """The id of a run that stays in its body until the block is left."""
    run_id = submitted(url, "held", "-p", f"path={gate}")
    try:
        eventually(lambda: client.hget(f"rq:job:{run_id}", "state_type") == "RUNNING")
        yield run_id
    finally:
        gate.touch()
        eventually(lambda: client.hget(f"rq:job:{run_id}", "state_type") == "COMPLETED")


# --- submit -----------------------------------------------------------------------------------------------------------


def test_a_result_is_waited_for_and_printed(url: str) -> None:
    words = ["baton", "submit", f"{BODIES}.add", "-p", "x=2", "-p", "y=0.5", "--wait"]
    told = command(*words, url=url)
    document = json.loads(command(*words, "--json", url=url).stdout)
    assert (told.returncode, told.stdout) == (0, "2.5\n")
    assert document == {"id": document["id"], "state": "COMPLETED", "result": 2.5, "error": None}


@pytest.mark.parametrize(
    ("body", "words", "error"),
    [
        ("fail", ["-p", "text=no tea"], "FAILED: ValueError: no tea"),
        ("oversleep", ["-p", "seconds=30"], "FAILED: "),
        ("add", ["-p", "x=1"], "FAILED: "),
    ],
)
def test_a_run_that_fails_is_exit_code_1_and_says_why(url: str, body: str, words: list[str], error: str) -> None:
    ended = command("baton", "--quiet", "submit", f"{BODIES}.{body}", *words, "--wait", url=url)
    assert (ended.returncode, ended.stdout, ended.stderr.startswith(error)) == (1, "", True)


def test_the_result_of_an_earlier_run_is_printed(url: str) -> None:
    run_id = submitted(url, "add", "-p", "x=1", "-p", "y=2")
    command("baton", "runs", "watch", run_id, url=url)
    told = command("baton", "runs", "result", run_id, url=url)
    assert (told.returncode, told.stdout) == (0, "3\n")


# --- while it happens -------------------------------------------------------------------------------------------------


def test_what_runs_is_seen_everywhere(url: str, client: "redis.Redis", tmp_path: Path, resident: Fleet) -> None:
    with busy(url, client, tmp_path / "gate") as run_id:
        (run,) = asked(url, "runs", "list", "--state", "running")["runs"]
        (queue,) = asked(url, "queues", "list")["queues"]
        workers = {worker["name"]: worker for worker in asked(url, "workers", "list")["workers"]}
        task = next(task for task in asked(url, "tasks", "list")["tasks"] if task["key"] == f"{BODIES}.held")
    holder = workers[run["worker"]]
    assert (run["id"], queue["name"], queue["running"]) == (run_id, "default", 1)
    assert (holder["state"], holder["held"], holder["current_task"]) == ("busy", [run_id], f"{BODIES}.held")
    assert {worker["fleet"] for worker in workers.values()} == {resident.name}
    assert (len(workers), all(worker["live"] for worker in workers.values())) == (2, True)
    assert (task["known"], task["workers"]) == (True, 2)


def test_a_run_is_watched_until_its_end(url: str, client: "redis.Redis", tmp_path: Path) -> None:
    with busy(url, client, tmp_path / "gate") as run_id, watching(url, run_id) as lines:
        rows = [json.loads(next(lines)) for _ in range(2)]
        (tmp_path / "gate").touch()
        rows += map(json.loads, lines)
    assert [(row["run"], row["type"]) for row in rows] == [
        (run_id, state) for state in ("PENDING", "RUNNING", "COMPLETED")
    ]


def test_all_runs_are_watched(url: str) -> None:
    with watching(url, "--count", "3") as lines:
        run_id = submitted(url, "add", "-p", "x=1", "-p", "y=2")
        rows = [json.loads(line) for line in lines]
    assert [(row["run"], row["type"]) for row in rows] == [
        (run_id, state) for state in ("PENDING", "RUNNING", "COMPLETED")
    ]


@contextmanager
def watching(url: str, *words: str) -> Iterator[Iterator[str]]:
    """The lines that `baton runs watch --json` writes, from when it follows; it ends by itself, with exit code 0."""
    with subprocess.Popen(
        [BATON, "runs", "watch", *words, "--json"],
        env=environment(url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            if "--count" in words:
                assert process.stderr.readline().startswith("Following all runs")
                with redis.Redis.from_url(url) as client:
                    eventually(lambda: client.pubsub_numpat() == 1)
            yield iter(process.stdout.readline, "")
            assert process.wait(30) == 0
        finally:
            process.kill()


# --- steering ---------------------------------------------------------------------------------------------------------


def test_a_run_that_runs_is_cancelled_and_run_again(url: str, client: "redis.Redis", tmp_path: Path) -> None:
    run_id = submitted(url, "held", "-p", f"path={tmp_path / 'gate'}")
    eventually(lambda: client.hget(f"rq:job:{run_id}", "state_type") == "RUNNING")
    told = asked(url, "runs", "cancel", run_id, "--yes")
    eventually(lambda: client.hget(f"rq:job:{run_id}", "state_type") == "CANCELLED")
    again = asked(url, "runs", "retry", "--state", "cancelled", "--task", f"{BODIES}.held", "--yes")
    (tmp_path / "gate").touch()
    eventually(lambda: client.hget(f"rq:job:{run_id}", "state_type") == "COMPLETED")
    assert told["runs"][run_id]["state"] in ("CANCELLING", "CANCELLED")
    assert again["runs"][run_id]["state"] in ("PENDING", "RUNNING")


def test_a_paused_queue_keeps_its_runs_until_they_are_moved_or_it_is_resumed(url: str, client: "redis.Redis") -> None:
    asked(url, "queues", "pause", "default")
    first, second = (submitted(url, "add", "-p", "x=1", "-p", "y=2") for _ in range(2))
    waiting = asked(url, "runs", "list", "--queue", "default", "--state", "pending")["runs"]
    moved = asked(url, "queues", "move", "default", "aside", "--yes")["moved"]
    third = submitted(url, "add", "-p", "x=3", "-p", "y=4")
    asked(url, "queues", "resume", "default")
    eventually(lambda: client.hget(f"rq:job:{third}", "state_type") == "COMPLETED")
    purged = asked(url, "queues", "purge", "aside", "--yes")["cancelled"]
    assert ([run["id"] for run in waiting], moved, purged) == ([second, first], 2, 2)


@pytest.mark.parametrize("stdin", [subprocess.DEVNULL, subprocess.PIPE], ids=["nothing", "a pipe"])
def test_without_a_terminal_nobody_answers(url: str, client: "redis.Redis", stdin: int) -> None:
    run_id = submitted(url, "add", "-p", "x=1", "-p", "y=2", "--delay", "60")
    words = [BATON, "runs", "cancel", run_id]
    with subprocess.Popen(
        words, env=environment(url), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        out, err = process.communicate("y\n" if stdin == subprocess.PIPE else None, timeout=30)
    assert (process.returncode, out.splitlines()[-1], "with --yes it is done" in err) == (
        *(2, "would cancel 1 run: 1 SCHEDULED", True),
    )
    assert client.hget(f"rq:job:{run_id}", "state_type") == "SCHEDULED"
    asked(url, "runs", "cancel", run_id, "--yes")


# --- a fleet's own ----------------------------------------------------------------------------------------------------


def test_a_fleet_can_be_checked_without_a_redis(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from orchestrator import task\n\n\n@task\ndef one() -> int:\n    return 1\n")
    words = ["baton", "worker", "-m", "mine", "--check"]
    told = [command(*words, *more, url="redis://127.0.0.1:1/0", cwd=tmp_path) for more in ([], ["--json"])]
    assert [(ended.returncode, ended.stdout, ended.stderr) for ended in told] == [
        (0, "mine.one\n", ""),
        (0, '{"tasks": ["mine.one"]}\n', ""),
    ]


@pytest.mark.parametrize("word", ["nosuch", "shared"])
def test_a_check_of_modules_without_tasks_is_exit_code_78(word: str) -> None:
    ended = command("baton", "worker", "-m", word, "--check", url="redis://127.0.0.1:1/0", cwd=ROOT)
    assert (ended.returncode, ended.stdout) == (78, "")


def test_a_worker_is_shown_by_the_beginning_of_its_name(url: str, resident: Fleet) -> None:
    first, _ = sorted(worker["name"] for worker in asked(url, "workers", "list")["workers"])
    ended = command("baton", "workers", "show", first[:-1], url=url)
    told = dict(line.split(None, 1) for line in ended.stdout.splitlines() if line)
    assert [told.get(name) for name in ("worker", "state", "fleet", "queues")] == [
        *(first, "idle", resident.name, "default")
    ]
