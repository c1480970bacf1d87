"""A module with hooks of worker processes, which write down what they do. Tests do not import it: fleets do."""

import os
import time
from pathlib import Path

from orchestrator import on_worker_start, task
from worker import on_worker_stop

FOLDER = Path(os.environ["BODY_LOG"]).parent
OPENED: list[int] = []


def note(what: str) -> None:
    """One line `pid what`, written at once."""
    handle = os.open(FOLDER / "hooks.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(handle, f"{os.getpid()} {what}\n".encode())
    os.close(handle)


@on_worker_start
def open_pool() -> None:
    if (FOLDER.parent / "refuse").exists():
        note("refuse")
        raise ConnectionRefusedError("the pool cannot be opened")
    while (FOLDER.parent / "wait").exists():
        time.sleep(0.01)
    OPENED.append(os.getpid())
    note("open")


@on_worker_start
def warm_up() -> None:
    note("warm up")


@on_worker_stop
def fail_to_close() -> None:
    note("fail to close")
    raise OSError("the pool is gone")


@on_worker_stop
def close_pool() -> None:
    note("close")


@task
def opened_here() -> bool:
    """True if the start hook has run in this process and in no other."""
    note("run")
    return [os.getpid()] == OPENED
