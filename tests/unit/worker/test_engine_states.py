"""How often the states of a run are validated on their way through a worker: seldom, and none of them twice."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from orchestrator import Orchestrator, get_run_context, task
from shared.specs import describe
from shared.state_value import StateValue
from shared.states import State, StateType
from tests.support.engines import engine_of

VALIDATES = StateValue.default_name_from_type.__code__
"""Runs once in every validation of a state."""


class Validations:
    """A profiler that notes the name of every state that is validated, in this thread and in those of workers."""

    def __init__(self) -> None:
        self.here: list[str] = []
        self.in_workers: list[str] = []
        self._thread = threading.current_thread()

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code is VALIDATES:
            thread, state = threading.current_thread(), frame.f_locals["self"]
            if thread is self._thread:
                self.here.append(state.name)
            elif thread.name.startswith("baton-thread-"):
                self.in_workers.append(state.name)


@contextmanager
def watched() -> Iterator[Validations]:
    validations, before = Validations(), sys.getprofile()
    sys.setprofile(validations)
    threading.setprofile(validations)
    try:
        yield validations
    finally:
        sys.setprofile(before)
        threading.setprofile(before)


def add(a: int) -> int:
    return a + 1


def fail(a: int) -> None:
    raise ValueError(a)


def interrupted(a: int) -> None:
    raise KeyboardInterrupt(a)


def late(a: int) -> None:
    raise TimeoutError(a)


@pytest.mark.parametrize(
    ("body", "name", "validated"),
    [(add, "Completed", []), (fail, "Failed", []), (interrupted, "Crashed", []), (late, "TimedOut", ["TimedOut"])],
)
def test_an_engine_validates_no_state_but_those_with_a_name_of_their_own(
    body: Callable[[int], Any], name: str, validated: list[str]
) -> None:
    engine = engine_of(describe(body, key="k"), a=1)
    with watched() as validations:
        state = engine.run()
    assert (state.name, validations.here) == (name, validated)


def test_a_state_that_is_validated_twice_would_be_seen() -> None:
    with watched() as validations:
        State(type=StateType.FAILED, name="Mine").copy(update={"message": "m"})
    assert validations.here == ["Mine", "Mine"]


@task(key="engine_states.completes")
def completes() -> int:
    return 1


@task(key="engine_states.fails")
def fails() -> None:
    raise ValueError("x")


@task(key="engine_states.retries", retries=2)
def retries() -> int:
    if get_run_context().attempt < 3:
        raise ValueError("not yet")
    return 3


@task(key="engine_states.is_late")
def is_late() -> None:
    raise TimeoutError("x")


def test_a_worker_validates_each_of_these_states_once_and_no_other() -> None:
    with watched() as validations, Orchestrator("memory:") as baton:
        ends = [baton.submit(each).wait(10) for each in (completes, fails, retries, is_late)]
    assert [end.name for end in ends if end] == ["Completed", "Failed", "Completed", "TimedOut"]
    assert validations.in_workers == ["TimedOut"]
