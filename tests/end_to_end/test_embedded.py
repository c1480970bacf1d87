"""Orchestrators that bring their own Redis and workers along."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import Orchestrator, get_run_context, task
from orchestrator.owned import OwnedProgram
from orchestrator.private_server import find_binary
from shared.errors import Closed, SubmitError, TaskRunTimeoutError
from tests.support.own_processes import MARK, environment, needs_server, processes
from tests.support.waiting import eventually

SCRIPT = """
import os, sys
from orchestrator import Orchestrator, task

@task
def pid() -> int:
    return os.getpid()

@task(queue="other")
def double(n: int) -> int:
    return 2 * n

{before}
if __name__ == "__main__":
    with Orchestrator(sys.argv[1]) as baton:
        print(pid.submit().result(30) == os.getpid(), double.submit(21).result(30), flush=True)
        {inside}
"""


@task(key="embedded.add")
def add(a: int, b: int = 1) -> int:
    return a + b


@task(key="embedded.flaky", retries=1, retry_delay_seconds=0.05)
def flaky() -> int:
    if get_run_context().attempt == 1:
        raise ConnectionError("not this time")
    return get_run_context().attempt


@task(key="embedded.over_time", timeout_seconds=0.05)
def over_time() -> None:
    while True:
        pass


@pytest.fixture
def memory() -> Iterator[Orchestrator]:
    with Orchestrator("memory:") as baton:
        yield baton


def ran(
    folder: Path, url: str, *, before: str = "", inside: str = "pass", **env: str
) -> subprocess.CompletedProcess[str]:
    script = folder / "shop_script.py"
    script.write_text(SCRIPT.format(before=before, inside=inside))
    return subprocess.run(
        [sys.executable, script, url], env=environment(**env), capture_output=True, text=True, timeout=60, check=False
    )


def test_in_memory_runs_are_executed_in_this_process(memory: Orchestrator) -> None:
    assert [future.result(10) for future in memory.submit_many((add, {"a": n}) for n in range(50))] == list(
        range(1, 51)
    )


def test_in_memory_a_delayed_retry_comes_true(memory: Orchestrator) -> None:
    future = flaky.submit()
    assert future.result(10) == 2
    assert [state.name for state in memory.history(future.run_id)] == [
        "Pending",
        "Running",
        "AwaitingRetry",
        "Pending",
        "Retrying",
        "Completed",
    ]


def test_in_memory_a_time_limit_interrupts_python_code(memory: Orchestrator) -> None:
    future = over_time.submit()
    with pytest.raises(TaskRunTimeoutError, match=r"^Scope timed out after 0\.05 second\(s\)\.$"):
        future.result(10)
    assert memory.get_run(future.run_id).state.message == "Task run exceeded timeout of 0.05 second(s)"


def test_each_memory_is_a_redis_of_its_own() -> None:
    with Orchestrator("memory:") as first, Orchestrator("memory:") as second:
        run = first.submit(add, {"a": 1})
        assert run.result(10) == 2
        assert second.future(run.run_id).done()


def test_closed_it_takes_no_more_and_its_threads_are_gone() -> None:
    before = set(threading.enumerate())
    baton = Orchestrator("memory:")
    assert baton.submit(add, {"a": 1}).result(10) == 2
    baton.close()
    with pytest.raises(Closed):
        baton.submit(add, {"a": 1})
    eventually(lambda: set(threading.enumerate()) <= before)


@needs_server
def test_a_script_gets_worker_processes_for_its_own_tasks_and_leaves_none(tmp_path: Path) -> None:
    told = ran(tmp_path, "embedded:")
    assert (told.stdout, told.stderr, told.returncode) == ("False 42\n", "", 0)
    assert processes() == set()


def test_without_a_server_the_same_script_gets_threads(tmp_path: Path) -> None:
    told = ran(tmp_path, "embedded:", PATH=str(tmp_path))
    assert (told.stdout, told.stderr, told.returncode) == ("True 42\n", "", 0)


@needs_server
def test_a_script_that_submits_while_it_is_imported_is_told_where_to_put_that(tmp_path: Path) -> None:
    told = ran(tmp_path, "embedded:", before="Orchestrator('embedded:')", BATON_EMBEDDED_WORKER="1")
    assert told.returncode == 1
    assert "under `if __name__ == '__main__':`" in told.stderr


def test_in_memory_a_worker_hook_that_nobody_would_await_is_refused(tmp_path: Path) -> None:
    hook = "from orchestrator import on_worker_start\n@on_worker_start\nasync def open_pool() -> None: ..."
    told = ran(tmp_path, "memory:", before=hook)
    assert told.returncode == 1
    assert "open_pool is a coroutine function: only workers with async slots await it" in told.stderr


@needs_server
def test_a_task_that_no_file_holds_cannot_have_worker_processes() -> None:
    code = "from orchestrator import Orchestrator, task\ndef f(): ...\nOrchestrator('embedded:').submit(task(f))"
    told = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert "use Orchestrator('memory:')" in told.stderr
    assert processes() == set()


@needs_server
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_script_that_is_killed_leaves_no_process(tmp_path: Path, number: int) -> None:
    told = ran(tmp_path, "embedded:", inside=f"os.kill(os.getpid(), {number:d})")
    assert told.stdout == "False 42\n"
    eventually(lambda: not processes())


def test_a_program_that_cannot_be_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        OwnedProgram([str(tmp_path / "nothing")])


def test_a_program_that_ends_without_reading_what_it_is_given_has_just_ended() -> None:
    program = OwnedProgram([sys.executable, "-c", ""], stdin=b"x" * 1_000_000)
    eventually(lambda: program.is_running is False)
    program.close()


def test_a_program_of_ours_ends_with_us_though_a_thread_started_it() -> None:
    programs: list[OwnedProgram] = []
    starter = threading.Thread(target=lambda: programs.append(OwnedProgram([sys.executable, "-c", "input()"])))
    starter.start()
    starter.join()
    (program,) = programs
    eventually(lambda: program.is_running is False)  # its stdin was closed, so it ends by itself: not with the thread
    program.close()


def test_a_program_that_does_not_listen_is_killed_after_its_grace() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('x', flush=True); time.sleep(60)"
    program = OwnedProgram([sys.executable, "-c", deaf], environment={**os.environ, MARK: "deaf"})
    eventually(lambda: b"SigIgn" in Path(f"/proc/{program.pid}/status").read_bytes())
    program.close(grace=0.2)
    assert not program.is_running


@needs_server
def test_the_server_that_is_found_tells_its_version() -> None:
    binary = find_binary()
    assert binary is not None
    assert binary.title.startswith(("redis-server ", "valkey-server "))


def test_without_a_path_no_server_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary() is None


def test_a_redis_that_is_away_is_no_embedded_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATON_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("BATON_PRODUCER_BUDGET", "0.1")
    with pytest.raises(Exception, match=r"127\.0\.0\.1:1/0") as caught:
        Orchestrator("embedded:")
    assert not isinstance(caught.value, SubmitError)
