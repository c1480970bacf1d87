"""Submits that are refused before anything is sent: what is wrong is said, and Redis is as it was."""

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from orchestrator import Orchestrator
from shared.errors import InvalidCall, InvalidValue, LimitExceeded, ParameterBindError
from tests.end_to_end.bodies import add, nap
from tests.support.server import RedisServer


@pytest.fixture(autouse=True)
def nothing_changes(server: RedisServer, baton: Orchestrator) -> Iterator[None]:
    """Whatever the test does, what is stored afterwards is what was stored before."""
    baton.submit(add, {"x": 1, "y": 1})
    before = stored(server)
    yield
    assert stored(server) == before


def stored(server: RedisServer) -> dict[bytes, bytes]:
    with redis.Redis(port=server.port) as client:
        return {key: client.dump(key) for key in client.scan_iter()}


@pytest.mark.parametrize(
    ("call", "parameter"),
    [
        (lambda: add.submit(1), "'y'"),
        (lambda: add.submit(1, y=2, z=3), "'z'"),
        (lambda: add.submit(1, x=2, y=3), "'x'"),
        (lambda: nap.submit(1, 2, 3), "(1, 2, 3)"),
    ],
    ids=["missing", "unknown", "twice", "too many"],
)
@pytest.mark.usefixtures("baton")
def test_a_wrong_call_names_the_parameter(call: Callable[[], object], parameter: str) -> None:
    with pytest.raises(ParameterBindError) as caught:
        call()
    assert isinstance(caught.value, TypeError)
    assert parameter in str(caught.value)
    assert "has signature '(" in str(caught.value)


def test_a_wrong_call_by_name_is_refused_as_well(baton: Orchestrator) -> None:
    with pytest.raises(ParameterBindError, match="'y'"):
        baton.submit(add, {"x": 1})
    with pytest.raises(ParameterBindError, match="'z'"):
        baton.submit("tests.end_to_end.bodies.add", {"x": 1, "y": 1, "z": 1})


class Stranger:
    """A class that nobody registered."""


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (threading.Lock(), "parameters.x: "),
        ([1, {"deep": (2, Stranger())}], "parameters.x[1].deep[1]: "),
        ({1: Stranger()}, "parameters.x: "),
        ((number for number in range(3)), "parameters.x: "),
        (lambda: 5, "parameters.x: "),
        (sys.stdin, "parameters.x: "),
    ],
    ids=["lock", "deep inside", "key that is no text", "generator", "lambda", "open file"],
)
def test_an_argument_that_cannot_be_sent_is_named_by_its_path(baton: Orchestrator, value: Any, path: str) -> None:
    with pytest.raises(InvalidCall) as caught:
        baton.submit(add, {"x": value, "y": 1})
    assert str(caught.value).startswith(path)


def test_arguments_that_are_too_large_are_refused_with_the_limit(baton: Orchestrator) -> None:
    with pytest.raises(LimitExceeded, match="262,144"):
        baton.submit(add, {"x": b"x" * 300_000, "y": 1})


def test_one_wrong_call_among_many_submits_none(baton: Orchestrator) -> None:
    with pytest.raises(ParameterBindError):
        baton.submit_many([(add, {"x": 1, "y": 1}), (add, {"x": 1})])


@pytest.mark.parametrize(
    "options",
    [{"delay": -1}, {"delay": float("nan")}, {"queue": "Bad Name"}, {"queue": "due"}],
    ids=["negative delay", "delay that is no number", "bad queue", "taken queue"],
)
def test_a_wrong_option_is_refused(baton: Orchestrator, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        baton.submit(add, {"x": 1, "y": 1}, **options)
