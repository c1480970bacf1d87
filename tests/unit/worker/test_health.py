"""When a fleet is called live and ready, and how its sockets treat callers. The sockets are real, on this machine."""

import json
import select
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from shared.errors import ConfigError
from tests.support.server import free_port
from worker.health import MOST_CALLERS, Condition, Health

WELL = Condition(
    fleet="f",
    workers=2,
    working=2,
    wanted=2,
    stuck=[],
    since_pass=0.1,
    since_beat=1,
    is_draining=False,
    is_quiet=False,
    beat=10,
    lease=30,
)


@pytest.mark.parametrize(
    ("change", "live", "ready"),
    [
        ({}, True, True),
        ({"since_pass": 20.1}, False, True),
        ({"stuck": ["w1"]}, False, True),
        ({"since_beat": 30}, True, False),
        ({"since_beat": float("inf"), "working": 0}, True, False),
        ({"working": 0}, True, False),
        ({"is_draining": True}, True, False),
        ({"is_quiet": True}, True, False),
    ],
)
def test_a_fleet_is_live_while_a_restart_would_not_mend_it_and_ready_while_it_begins_runs(
    change: dict[str, Any], live: bool, ready: bool
) -> None:
    condition = replace(WELL, **change)
    assert (condition.is_live(), condition.is_ready()) == (live, ready)
    assert json.loads(condition.body(ok=True))["fleet"] == "f"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def health(port: int) -> Iterator[Health]:
    health = Health(("127.0.0.1", port))
    health.open()
    yield health
    health.close()


def turn(health: Health, seconds: float = 1.0) -> None:
    """One pass of the loop that a supervisor has."""
    ready, _, _ = select.select(list(health.filenos()), [], [], max(0.0, min(seconds, health.due_in())))
    health.serve(ready, lambda: WELL)


def answered(health: Health, port: int, *parts: bytes) -> bytes:
    """All that comes back for a request that is sent in these parts."""
    with socket.create_connection(("127.0.0.1", port)) as caller:
        turn(health)
        for part in parts:
            caller.sendall(part)
            turn(health)
        caller.settimeout(1)
        answer = b""
        while arrived := caller.recv(65536):
            answer += arrived
        return answer


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK"),
        (b"GET /readyz?verbose HTTP/1.0\r\n\r\n", b"200 OK"),
        (b"GET /livez HTTP/1.0\n\n", b"200 OK"),
        (b"GET / HTTP/1.0\r\n\r\n", b"404 Not Found"),
        (b"POST /livez HTTP/1.0\r\n\r\n", b"405 Method Not Allowed"),
        (b"GET /livez\r\n\r\n", b"400 Bad Request"),
        (b"\x16\x03\x01\r\n\r\n", b"400 Bad Request"),
        (b"G" * 4096, b"400 Bad Request"),
    ],
)
def test_every_request_has_its_answer(health: Health, port: int, request_: bytes, status: bytes) -> None:
    assert answered(health, port, request_).split(b"\r\n", 1)[0] == b"HTTP/1.0 " + status


def test_a_request_may_come_in_parts_and_a_head_is_asked_for_without_its_body(health: Health, port: int) -> None:
    head = answered(health, port, b"HEAD /livez", b" HTTP/1.0\r\n", b"\r\n")
    whole = answered(health, port, b"GET /livez HTTP/1.0\r\n\r\n")
    assert head.endswith(b"\r\n\r\n")
    assert whole == head + WELL.body(ok=True)


def test_a_silent_caller_keeps_nobody_waiting_and_is_dropped(health: Health, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as silent:
        turn(health)
        assert answered(health, port, b"GET /livez HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200")
        while len(health.filenos()) > 1:
            turn(health, 3)
        silent.settimeout(1)
        assert silent.recv(1) == b""


def test_of_too_many_callers_the_oldest_is_dropped(health: Health, port: int) -> None:
    callers = []
    for _ in range(MOST_CALLERS + 3):
        callers.append(socket.create_connection(("127.0.0.1", port)))
        turn(health)
    assert len(health.filenos()) == MOST_CALLERS + 1
    for caller in callers:
        caller.close()


def test_a_taken_port_is_refused(health: Health, port: int) -> None:
    assert health.filenos()
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: .*in use"):
        Health(("127.0.0.1", port)).open()
    with pytest.raises(ConfigError, match=r"cannot listen on no\.such\.host\.invalid"):
        Health(("no.such.host.invalid", port)).open()


def test_without_an_address_there_is_nothing_to_watch() -> None:
    health = Health(None)
    health.open()
    health.serve([], lambda: WELL)
    assert (list(health.filenos()), health.due_in()) == ([], float("inf"))
