"""Tasks for fleets with async slots."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from orchestrator import get_run_context, get_run_logger, task
from tests.end_to_end.bodies import add, log, logged

# --- bodies that await ------------------------------------------------------------------------------------------------


@task
async def rest(seconds: float) -> int:
    """The process that it was in."""
    with logged():
        await asyncio.sleep(seconds)
        return os.getpid()


@task
async def held(path: str) -> int:
    """Stay in the body until there is a file of this name; the attempt that saw it."""
    with logged():
        while not os.path.exists(path):  # noqa: ASYNC110, ASYNC240, PTH110 - what other processes do has no event
            await asyncio.sleep(0.02)
        return get_run_context().attempt


@task(log_prints=True)
async def talk(number: int) -> list[str | int]:
    """Print and log in small pieces, while others do; what the context says in the end."""
    for part in range(3):
        print(f"{number} says {part}", end="")  # noqa: T201 - prints are what is tested
        await asyncio.sleep(0.01)
        print()  # noqa: T201
    get_run_logger().info("%d is done", number)
    context = get_run_context()
    return [context.run_id, context.task, context.attempt, context.fence]


@task(timeout_seconds=0.3)
async def oversleep() -> None:
    await asyncio.sleep(60)


@task(timeout_seconds=60)
async def deaf(seconds: float) -> None:
    """Take no notice of a cancellation."""
    until = time.monotonic() + seconds
    log("start")
    while time.monotonic() < until:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            log("cancelled")


@task
async def block(seconds: float) -> str:
    """Keep the event loop from everybody else."""
    with logged():
        time.sleep(seconds)  # noqa: ASYNC251 - that is what is tested
        return "blocked"


@task(retries=2)
async def fails_until(attempt: int) -> int:
    await asyncio.sleep(0)
    if get_run_context().attempt < attempt:
        raise ValueError("not yet")
    return get_run_context().attempt


@task(retries=1, retry_delay_seconds=0.2)
async def fails_once() -> int:
    if get_run_context().attempt == 1:
        raise ValueError("not yet")
    return get_run_context().attempt


@task
async def anumbers(end: int) -> AsyncIterator[int]:
    for number in range(end):
        await asyncio.sleep(0)
        yield number


@task
def numbers(end: int) -> Iterator[int]:
    yield from range(end)


@task
async def cancel_itself() -> None:
    this = asyncio.current_task()
    assert this is not None
    this.cancel()
    await asyncio.sleep(60)


@task
async def let_a_task_exit() -> None:
    async def leave() -> None:
        raise SystemExit(3)

    await asyncio.create_task(leave())


@task
async def raise_generator_exit() -> None:
    raise GeneratorExit


@task
async def kill_here() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# --- plain functions, in threads --------------------------------------------------------------------------------------


@task
def in_thread(seconds: float) -> list[Any]:
    """The run that its context names, and whether it is in the main thread."""
    with logged():
        time.sleep(seconds)
        return [get_run_context().run_id, threading.current_thread() is threading.main_thread()]


@task(timeout_seconds=0.2)
def oversleep_in_thread(seconds: float) -> None:
    time.sleep(seconds)


@task
def stop_iteration() -> None:
    raise StopIteration


@task
def look_for_itself() -> None:
    with logged():
        while not get_run_context().cancelled:
            time.sleep(0.01)


def asks_for_long(_states: object) -> bool:
    """A trigger that tells that it was asked, and answers when there is a file."""
    folder = Path(os.environ["BODY_LOG"])
    (folder / "asked").touch()
    while not (folder / "gate").exists():
        time.sleep(0.005)
    return True


@task(trigger=asks_for_long)
async def triggered() -> int:
    return 5


# --- bodies that wait for other runs ----------------------------------------------------------------------------------


@task
async def sum_of(end: int) -> float:
    return await add.submit(end, 1)


@task
async def sum_of_later(path: str) -> float:
    """Begin to wait for a run when there is a file of this name."""
    await held(path)
    return await add.submit(1, 1)


@task
async def nested(depth: int) -> int:
    return 1 + await nested.submit(depth - 1) if depth else 0


@task
def sum_in_thread(end: int) -> float:
    return add.submit(end, 1).result(timeout=20)
