"""What a fleet tells systemd, which here is a socket of the test's own."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fleets import Fleets, send
from tests.support.waiting import eventually
from worker.systemd import Systemd


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The notification socket of a unit whose watchdog waits for a second."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(path))
        line.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_USEC", "1000000")
        yield line


def arrived(line: socket.socket) -> list[str]:
    """Everything that was told since the last look."""
    told = []
    while True:
        try:
            told.append(line.recv(4096).decode())
        except BlockingIOError:
            return told


def test_a_fleet_tells_that_it_is_up_that_it_goes_round_and_that_it_stops(
    fleet: Fleets, systemd: socket.socket
) -> None:
    told: list[str] = []

    def heard(times: int) -> bool:
        told.extend(arrived(systemd))
        return told.count("WATCHDOG=1") >= times

    workers = fleet(promote=30, idle_wait=10, watchdog=60)
    eventually(lambda: heard(3))
    assert workers.stop() == 0
    told += arrived(systemd)
    assert (told[0], told[-1], set(told[1:-1])) == ("READY=1", "STOPPING=1", {"WATCHDOG=1"})


def test_a_supervisor_that_stands_still_tells_nothing(fleet: Fleets, systemd: socket.socket) -> None:
    stopped = fleet().halt()
    arrived(systemd)
    with pytest.raises(AssertionError, match="the last answer was"):
        eventually(lambda: arrived(systemd), 1.5)
    send(signal.SIGCONT, stopped)
    assert eventually(lambda: arrived(systemd)) == ["WATCHDOG=1"]


def test_a_watchdog_that_is_meant_for_another_process_is_left_alone(tmp_path: Path) -> None:
    for_another = {"NOTIFY_SOCKET": str(tmp_path / "none"), "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    assert (Systemd(for_another).due_in(), Systemd({}).due_in()) == (float("inf"), float("inf"))
    Systemd(for_another).ready()
