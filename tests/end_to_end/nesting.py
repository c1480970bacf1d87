"""Tasks whose bodies wait for other runs, and so lend their worker slot."""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

from orchestrator import (
    RunFuture,
    RunFutureList,
    as_completed,
    get_run_context,
    resolve_futures_to_data,
    resolve_futures_to_states,
    task,
    wait,
)
from orchestrator.resolve import aresolve_futures_to_data
from tests.end_to_end.bodies import logged

MOST = 30
"""Seconds after which a body that waits in vain gives up."""


@task
def double(x: int) -> int:
    with logged():
        return 2 * x


@task
def doubled(x: int) -> int:
    """Another run's result."""
    with logged():
        return double.submit(x).result(MOST)


@task
async def adoubled(x: int) -> int:
    return await (await double.asubmit(x)).aresult(MOST)


@task
def nested(depth: int) -> int:
    """As many runs inside each other, counted."""
    return nested.submit(depth - 1).result(MOST) + 1 if depth else 0


@task
def endless() -> int:
    return endless.submit().result(MOST)


def _doubles(numbers: Iterable[int]) -> RunFutureList[int]:
    return RunFutureList(double.submit(x) for x in numbers)


@task
def doubles(number: int) -> list[int]:
    """The results of so many runs, all there at the same time."""
    return _doubles(range(number)).result(MOST)


@task
def doubles_one_by_one(number: int) -> list[int]:
    """The results of so many runs, with some work after each."""
    results = []
    for future in as_completed(_doubles(range(number)), MOST):
        results.append(future.result())
        time.sleep(0.002)
    return sorted(results)


@task(retries=1, retry_delay_seconds=0.3)
def double_at_last(x: int) -> int:
    if get_run_context().attempt == 1:
        raise ConnectionError("not yet")
    return 2 * x


@task
def doubled_at_last(x: int) -> int:
    return double_at_last.submit(x).result(MOST)


@task
def doubled_in_turn(x: int, times: int) -> int:
    """The result of the last run of a chain, each of which needs the one before it."""
    future: Any = x
    for _ in range(times):
        future = double.submit(future)
    return int(future.result(MOST))


@task
def held_double(path: str, x: int) -> int:
    """Stay in the body until there is a file of this name."""
    with logged():
        while not Path(path).exists():
            time.sleep(0.005)
        return 2 * x


@task
def held_doubled(path: str, x: int) -> int:
    """Wait for a run that lasts until there is a file of this name."""
    with logged():
        return held_double.submit(path, x).result(MOST)


@task
def doubled_from(path: str, x: int) -> int:
    """Another run's result, which is submitted when there is a file of this name."""
    with logged():
        while not Path(path).exists():
            time.sleep(0.005)
        return double.submit(x).result(MOST)


@task(timeout_seconds=0.5)
def doubled_too_late(path: str) -> int:
    return held_double.submit(path, 1).result(MOST)


@task
def left_behind(path: str) -> int:
    """Leave a thread that waits for a run, and end."""
    future = held_double.submit(path, 1)
    Thread(target=future.wait, args=[MOST], daemon=True).start()
    return os.getpid()


# --- the ways to wait -------------------------------------------------------------------------------------------------


async def _gathered(futures: list[RunFuture[int]]) -> list[int]:
    return await asyncio.gather(*futures)


async def _as_completed(futures: list[RunFuture[int]]) -> list[int]:
    return [await future async for future in as_completed(futures, MOST)]


def _in_threads(futures: list[RunFuture[int]]) -> list[int]:
    with ThreadPoolExecutor(len(futures)) as pool:
        return list(pool.map(lambda future: future.result(MOST), futures))


async def _in_to_thread(futures: list[RunFuture[int]]) -> list[int]:
    return [await asyncio.to_thread(future.result, MOST) for future in futures]


WAYS: Mapping[str, Callable[[Any], Any]] = {
    "result": lambda futures: [future.result(MOST) for future in futures],
    "wait of one": lambda futures: [future.wait(MOST).result() for future in futures],
    "result of all": lambda futures: futures.result(MOST),
    "wait of all": lambda futures: [future.result(0) for future in wait(futures, MOST).done],
    "as_completed": lambda futures: [future.result(0) for future in as_completed(futures, MOST)],
    "to data": resolve_futures_to_data,
    "to states": lambda futures: [state.result() for state in resolve_futures_to_states(futures)],
    "in threads": _in_threads,
    "await": lambda futures: asyncio.run(_gathered(futures)),
    "async for": lambda futures: asyncio.run(_as_completed(futures)),
    "await to data": lambda futures: asyncio.run(aresolve_futures_to_data(futures)),
    "await in threads": lambda futures: asyncio.run(_in_to_thread(futures)),
}


@task
def doubled_by(way: str) -> list[int]:
    return sorted(WAYS[way](_doubles([1, 2, 3])))
