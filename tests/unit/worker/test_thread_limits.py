"""Time limits in other threads than the main one: Python code is interrupted, and never outside of its block."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from shared.errors import TaskRunTimeoutError
from worker.timeouts import timeout

T = TypeVar("T")
TEXT = "Scope timed out after 0.05 second(s)."


def spin(seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def in_thread(work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1, "late") as pool:
        return pool.submit(work).result(20)


def limited(work: Callable[[], T], seconds: float = 0.05) -> tuple[T | None, str | None]:
    """What this gives under a time limit, in this thread, or what the error says; it is the one announced."""
    announced = None
    try:
        with timeout(seconds) as announced:
            return work(), None
    except TaskRunTimeoutError as error:
        if error is not announced:
            raise
        return None, str(error)


def test_python_code_is_interrupted_with_the_error_that_was_announced() -> None:
    before = time.monotonic()
    assert in_thread(lambda: limited(spin)) == (None, TEXT)
    assert time.monotonic() - before < 10


def test_what_ends_in_time_is_left_alone() -> None:
    assert in_thread(lambda: limited(lambda: "done", 10)) == ("done", None)


def test_a_call_that_blocks_is_told_at_its_end_and_said_to_last(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "baton.worker")
    assert in_thread(lambda: limited(lambda: time.sleep(1.3))) == (None, TEXT)
    text = "Thread 'late_0' is in a call that cannot be interrupted: its time limit of 0.05 s is over."
    assert caplog.messages == [text]


def test_a_block_that_catches_its_error_may_go_on_and_is_not_struck_again() -> None:
    def stubborn() -> str:
        with contextlib.suppress(TimeoutError):
            spin()
        spin(0.1)
        return "ended"

    assert in_thread(lambda: limited(stubborn)) == ("ended", None)


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [(0.05, 20, (("inside", TEXT), None)), (20, 0.05, (None, TEXT))],
    ids=["the inner one first", "the outer one first"],
)
def test_limits_within_each_other_are_told_apart(inner: float, outer: float, expected: object) -> None:
    def within() -> tuple[str, str | None]:
        return "inside", limited(spin, inner)[1]

    assert in_thread(lambda: limited(within, outer)) == expected


def test_an_outer_limit_that_ends_a_block_ends_the_limits_in_it() -> None:
    def within() -> None:
        with timeout(0.1):
            spin()

    def around() -> str:
        with contextlib.suppress(TaskRunTimeoutError), timeout(0.05):
            within()
        spin(0.15)
        return "unharmed"

    assert in_thread(around) == "unharmed"


def test_a_limit_whose_block_was_left_does_nothing_to_the_next_one() -> None:
    def one_after_the_other() -> list[str | None]:
        return [limited(lambda: None, 0.05)[1], limited(spin, 0.2)[1]]

    assert in_thread(one_after_the_other) == [None, "Scope timed out after 0.2 second(s)."]


def test_an_error_of_the_blocks_own_comes_out_as_it_is() -> None:
    def work() -> None:
        with timeout(20):
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        in_thread(work)


def test_nothing_is_raised_outside_of_the_block_however_close_its_end_is_to_that_of_its_time() -> None:
    """Blocks that end just when their time does, in several threads: each is cut short or not, nothing else is."""

    def many() -> tuple[int, int]:
        cut = 0
        for number in range(300):
            seconds = 0.0005 + number % 7 * 0.0001
            end = time.monotonic() + seconds
            try:
                with timeout(seconds):
                    while time.monotonic() < end:
                        pass
            except TaskRunTimeoutError:
                cut += 1
            outside = time.monotonic() + 0.0003
            while time.monotonic() < outside:
                pass
        return cut, 300

    with ThreadPoolExecutor(3) as pool:
        found = [running.result(30) for running in [pool.submit(many) for _ in range(3)]]
    assert all(0 < cut <= number for cut, number in found)


def test_one_thread_watches_all_limits_and_forgets_those_that_are_over() -> None:
    def many() -> list[str]:
        for _ in range(500):
            with timeout(3600):
                pass
        return [thread.name for thread in threading.enumerate() if thread.name == "baton-limits"]

    assert in_thread(many) == ["baton-limits"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_process_that_was_forked_has_a_watcher_of_its_own() -> None:
    in_thread(lambda: limited(spin))
    child = os.fork()
    if child == 0:
        os._exit(0 if in_thread(lambda: limited(spin)) == (None, TEXT) else 1)
    assert os.waitpid(child, 0) == (child, 0)
