import inspect
from dataclasses import FrozenInstanceError

import pytest

from shared.runs import BaseRunFuture, RunInput


def test_an_input_is_a_value() -> None:
    assert len({RunInput("task", "a"), RunInput("task", "a"), RunInput("flow", "a"), RunInput("task", "b")}) == 3
    with pytest.raises(FrozenInstanceError):
        RunInput("task", "a").id = "b"  # type: ignore[misc] # what is refused here


def test_the_base_of_futures_cannot_be_made_itself() -> None:
    with pytest.raises(TypeError, match="abstract"):
        BaseRunFuture()  # type: ignore[abstract] # what is refused here


def test_the_base_of_futures_names_what_an_engine_needs() -> None:
    asked = {"run_id", "get_state", "done", "wait", "wait_async", "result", "aresult"}
    assert asked <= BaseRunFuture.__abstractmethods__
    assert [name for name in sorted(asked) if inspect.iscoroutinefunction(getattr(BaseRunFuture, name))] == [
        "aresult",
        "wait_async",
    ]
