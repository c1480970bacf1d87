"""A module with hooks of worker processes that are coroutine functions. Tests do not import it: fleets do."""

import asyncio
import os
from pathlib import Path

from orchestrator import on_worker_start, task
from worker import on_worker_stop

OPENED: list[asyncio.AbstractEventLoop] = []


def note(what: str) -> None:
    """One line `what`, written at once."""
    handle = os.open(Path(os.environ["BODY_LOG"]).parent / "hooks.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(handle, f"{what}\n".encode())
    os.close(handle)


@on_worker_start
async def open_pool() -> None:
    await asyncio.sleep(0)
    OPENED.append(asyncio.get_running_loop())
    note("open")


@on_worker_start
def warm_up() -> None:
    note("warm up")


@on_worker_stop
async def fail_to_close() -> None:
    await asyncio.sleep(0)
    raise OSError("the pool is gone")


@on_worker_stop
async def close_pool() -> None:
    await asyncio.sleep(0)
    note("close")


@task
async def opened_here() -> bool:
    return [asyncio.get_running_loop()] == OPENED


@task(on_completion=[lambda _task, run, _state: note(f"completed {run.id}")])
async def hooked() -> int:
    await asyncio.sleep(0)
    return 1
