"""What bodies print, in the logs of their runs."""

import asyncio
import logging
import sys
import threading

import pytest

from orchestrator import get_run_context, get_run_logger, task
from shared.errors import MissingContextError
from worker.engine import run_task, run_task_async

INFO = pytest.mark.usefixtures("logged")


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "baton.runs")


@task(key="prints.say", log_prints=True)
def say(text: str, end: str = "\n") -> str:
    print(text, end=end)  # noqa: T201
    return get_run_context().run_id


@task(key="prints.mute")
def mute(text: str) -> None:
    print(text)  # noqa: T201


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(vars(record)["run_id"], record.getMessage()) for record in caplog.records if record.name == "baton.runs"]


@INFO
@pytest.mark.parametrize(("text", "said"), [("a", ["a"]), ("a\nb", ["a", "b"]), ("", [""]), ("100 %s", ["100 %s"])])
def test_each_line_is_a_record_of_its_run(
    text: str, said: list[str], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sys.stdout
    run_id = run_task(say, parameters={"text": text})
    assert lines(caplog) == [(run_id, line) for line in said]
    assert (capsys.readouterr().out, sys.stdout is before) == ("", True)


@INFO
def test_a_line_without_an_end_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    run_id = run_task(say, parameters={"text": "a", "end": ""})
    assert lines(caplog) == [(run_id, "a")]


@INFO
def test_other_prints_stay_where_they_were(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    begun, ended = threading.Event(), threading.Event()

    @task(key="prints.both", log_prints=True)
    def both() -> None:
        print("of the run")  # noqa: T201
        begun.set()
        ended.wait(10)

    def beside() -> None:
        begun.wait(10)
        print("of a thread")  # noqa: T201
        run_task(mute, parameters={"text": "of another run"})
        ended.set()

    thread = threading.Thread(target=beside)
    thread.start()
    run_task(both)
    thread.join()
    assert [text for _, text in lines(caplog)] == ["of the run"]
    assert capsys.readouterr().out == "of a thread\nof another run\n"


@INFO
def test_runs_side_by_side_do_not_mix(caplog: pytest.LogCaptureFixture) -> None:
    @task(key="prints.in_turns", log_prints=True)
    async def in_turns(number: int) -> tuple[str, int]:
        for _ in range(3):
            print(number, end=" ")  # noqa: T201
            await asyncio.sleep(0.001)
        return get_run_context().run_id, number

    async def all_of_them() -> list[tuple[str, int]]:
        return await asyncio.gather(*(run_task_async(in_turns, parameters={"number": i}) for i in range(3)))

    ended = asyncio.run(all_of_them())
    assert sorted(lines(caplog)) == sorted((run_id, f"{number} {number} {number} ") for run_id, number in ended)


def test_prints_that_nobody_would_log_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("baton.runs").setLevel(logging.WARNING)
    try:
        run_task(say, parameters={"text": "a"})
    finally:
        logging.getLogger("baton.runs").setLevel(logging.NOTSET)
    assert capsys.readouterr().out == "a\n"


@INFO
def test_a_body_can_write_to_the_log_of_its_run(caplog: pytest.LogCaptureFixture) -> None:
    @task(key="prints.log")
    def log() -> str:
        get_run_logger().info("half of %d done", 10)
        return get_run_context().run_id

    assert lines(caplog) == [] != [(run_task(log), "half of 10 done")] == lines(caplog)
    with pytest.raises(MissingContextError):
        get_run_logger()


@INFO
def test_a_finalizer_may_print_in_the_midst_of_a_print(caplog: pytest.LogCaptureFixture) -> None:
    class Text(str):
        __slots__ = ()

        def split(self, *_separators: object) -> list[str]:  # type: ignore[override]
            print("last words")  # noqa: T201
            return str.split(self, "\n")

    class Prefixed(str):
        __slots__ = ()

        def __radd__(self, other: str) -> Text:
            return Text(other + str(self))

    @task(key="prints.last_words", log_prints=True)
    def last_words() -> None:
        sys.stdout.write(Prefixed("a\n"))

    run_task(last_words)
    assert [text for _, text in lines(caplog)] == ["last words", "a"]
