"""Flows for the fleets of the tests, and what they submit."""

import os
import signal
from pathlib import Path
from typing import Any

from orchestrator import RunFuture, flow, get_run_context, task, wait
from tests.end_to_end.bodies import add, held, nap


@task
def fails(text: str) -> None:
    raise ValueError(text)


@flow
def sums(xs: list[int]) -> float:
    return sum(future.result(20) for future in [add.submit(x, 0) for x in xs])


@flow
def sums_of_sums(rows: list[list[int]]) -> list[float]:
    return [future.result(20) for future in [sums.submit(row) for row in rows]]


@flow
def leaves_sums(xs: list[int]) -> None:
    """Submit a flow, and leave it to the end of this one to wait for it."""
    sums.submit(xs)


@flow(retries=1)
def tries_twice() -> list[str]:
    """Submit the same in each attempt, and fail in the first; the ids that the second one got."""
    futures: list[RunFuture[Any]] = [add.submit(1, 2), fails.submit("no"), add.submit(1, 2)]
    wait(futures)
    if get_run_context().attempt == 1:
        raise ValueError("the first attempt")
    return [future.run_id for future in futures]


@flow
def dies_once(path: str) -> str:
    """Submit a run that waits for a file, and die with the process; the next attempt makes the file."""
    future = held.submit(path)
    if get_run_context().attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    Path(path).touch()
    return future.run_id if future.result(20) == path else ""


@flow
def leaves(path: str, *, fail: bool = False) -> str:
    """Submit a run that waits for a file, and end."""
    future = held.submit(path)
    if fail:
        raise ValueError("no")
    return future.run_id


@flow(unfinished="cancel")
def leaves_cancelled(path: str) -> None:
    held.submit(path)


@flow(unfinished="leave")
def leaves_alone(path: str) -> str:
    return held.submit(path).run_id


@flow
def naps(many: int, below: int = 0) -> None:
    """Submit runs that last, and a flow that does the same."""
    futures: list[RunFuture[Any]] = [nap.submit(60) for _ in range(many)]
    if below:
        futures.append(naps.submit(below))
    wait(futures)


@flow
async def aleaves(depth: int) -> None:
    """Submit a flow of its kind, and leave it to the end of this one to wait for it."""
    if depth:
        await aleaves.asubmit(depth - 1)
