"""The `baton` command where it says no: exit codes, and texts that say what is wrong."""

from pathlib import Path

import pytest

from orchestrator import Orchestrator
from shared.version import __version__
from tests.end_to_end.bodies import seen
from tests.support.fleets import BODIES, ROOT, command
from tests.support.server import RedisServer, free_port

TASKS = "from orchestrator import task\n\n\n@task\ndef one() -> int:\n    return 1\n"


def worker(url: str, cwd: Path, *options: str) -> tuple[int, str]:
    """Exit code of a `baton worker` that cannot start, and what it said."""
    ended = command("baton", "worker", *options, url=url, cwd=cwd)
    assert ended.stdout == ""
    return ended.returncode, ended.stderr


@pytest.fixture(scope="module")
def url(module_server: RedisServer) -> str:
    return module_server.url


def test_a_redis_that_cannot_be_reached_is_told_without_its_password() -> None:
    port = free_port()
    code, said = worker(f"redis://somebody:secret@127.0.0.1:{port}/3", ROOT, "-m", BODIES)
    assert code == 69
    assert f"127.0.0.1:{port}/3" in said
    assert "secret" not in said
    assert "Traceback" not in said


def test_an_address_of_no_redis_is_told_without_its_password() -> None:
    code, said = worker("http://somebody:secret@127.0.0.1/", ROOT, "-m", BODIES)
    assert (code, "secret" in said) == (78, False)
    assert "@127.0.0.1/ is no address of a Redis" in said


def test_a_module_that_is_not_there_is_named(url: str, tmp_path: Path) -> None:
    code, said = worker(url, tmp_path, "-m", "nosuch")
    assert (code, said.splitlines()[0][:40]) == (78, "baton: there is no module 'nosuch' (look")
    assert str(tmp_path) in said


def test_a_module_whose_name_holds_escapes_is_named_without_them(url: str, tmp_path: Path) -> None:
    code, said = worker(url, tmp_path, "-m", "no\x1b[2J\r\u202esuch")
    assert (code, said.replace("\n", "").isprintable(), "\\x1b[2J" in said) == (78, True, True)


@pytest.mark.parametrize(
    ("last_line", "error"),
    [("1 / 0", "ZeroDivisionError: division by zero"), ("raise SystemExit(0)", "SystemExit: 0")],
    ids=["an error", "an exit"],
)
def test_a_module_that_raises_shows_its_own_traceback_alone(
    url: str, tmp_path: Path, last_line: str, error: str
) -> None:
    (tmp_path / "mine.py").write_text(f"import inner\n\n{TASKS}")
    (tmp_path / "inner.py").write_text(f"def boom() -> None:\n    {last_line}\n\n\nboom()\n")
    code, said = worker(url, tmp_path, "-m", "mine")
    files = [line.split('"')[1] for line in said.splitlines() if line.startswith("  File ")]
    mine, inner = (str(tmp_path / name) for name in ("mine.py", "inner.py"))
    assert code == 78
    assert said.startswith("baton: module 'mine' does not import:\nTraceback (most recent call last):\n")
    assert said.rstrip().endswith(error)
    assert files == [mine, inner, inner]


@pytest.mark.parametrize("name", ["shared", "worker", "orchestrator"])
def test_a_module_of_the_same_name_as_one_of_ours_is_a_clash(url: str, tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.py").write_text(TASKS)
    (tmp_path / f"{name}.py").write_text("")
    code, said = worker(url, tmp_path, "-m", "mine")
    assert code == 78
    assert str(tmp_path / f"{name}.py") in said
    assert str(ROOT / name) in said


def test_a_module_without_tasks_is_refused(url: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("x = 1\n")
    code, said = worker(url, tmp_path, "-m", "mine")
    assert (code, said.startswith("baton: no task is registered by mine")) == (78, True)


@pytest.mark.parametrize("name", ["Bad Name", "a:b", "", "due", "a,,b"])
def test_a_name_that_no_queue_can_have_is_refused(url: str, name: str) -> None:
    code, said = worker(url, ROOT, "-m", BODIES, "-q", name)
    assert code == 2
    assert "'--queue' is " in said


@pytest.mark.parametrize("number", ["0", "-1", "1000000000", "two"])
@pytest.mark.parametrize("option", ["--concurrency", "--async-slots"])
def test_a_number_of_workers_or_slots_that_cannot_be_is_refused(url: str, option: str, number: str) -> None:
    code, said = worker(url, ROOT, "-m", BODIES, option, number)
    assert (code, option in said) == (2, True)


def test_a_worker_hook_that_nobody_would_await_is_refused(url: str) -> None:
    code, said = worker(url, ROOT, "-m", "tests.end_to_end.async_hooked")
    assert (code, "async_hooked.open_pool is a coroutine function: only workers with async slots await it" in said) == (
        78,
        True,
    )


def test_a_setting_that_cannot_be_is_named(url: str) -> None:
    ended = command("baton", "worker", "-m", BODIES, url=url, lease="soon")
    assert (ended.returncode, "$BATON_LEASE is 'soon'" in ended.stderr) == (78, True)


def test_rq_starts_our_worker_too(url: str, baton: Orchestrator) -> None:
    future = baton.submit(seen)
    ended = command("rq", "worker", "--burst", "-w", "worker.RunWorker", "-u", url, "default", url=url, modules=BODIES)
    assert ended.returncode == 0, ended.stderr
    assert future.result(timeout=0)["run_id"] == future.run_id


def test_rq_and_our_worker_must_mean_the_same_redis(url: str) -> None:
    other = f"redis://127.0.0.1:{free_port()}/0"
    ended = command("rq", "worker", "-w", "worker.RunWorker", "-u", url, "default", url=other, modules=BODIES)
    assert (ended.returncode, "name one for both" in ended.stderr) == (1, True)


def test_versions_are_shown(url: str, module_server: RedisServer) -> None:
    ended = command("baton", "version", url=url)
    with module_server.client() as client:
        redis_version = client.info("server")["redis_version"]
    rows = dict(line.split(None, 1) for line in ended.stdout.splitlines())
    assert ended.returncode == 0
    assert (rows["baton"], rows["server"]) == (__version__, redis_version)
    assert {"layout", "python", "rq", "redis-py"} <= rows.keys()


def test_versions_are_shown_without_a_server_too() -> None:
    ended = command("baton", "version", url=f"redis://127.0.0.1:{free_port()}/0")
    assert (ended.returncode, ended.stdout.splitlines()[-1].split(None, 1)) == (0, ["server", "no answer"])


def test_a_command_that_is_not_there_is_refused(url: str) -> None:
    ended = command("baton", "workr", url=url)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "No such command 'workr'. Did you mean worker" in ended.stderr
