"""Time limits of async functions, wherever in their event loop the time ends."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from shared.clock import monotonic
from shared.specs import describe
from shared.states import State
from tests.support.engines import engine_of

OVERRAN = "Task run exceeded timeout of 0.05 second(s)"


def run(fn: Callable[..., Any], seconds: float | None = 0.05) -> State[Any]:
    return engine_of(describe(fn, key="k"), seconds).run()


def run_in_thread(fn: Callable[..., Any]) -> State[Any]:
    ends: list[State[Any]] = []
    thread = threading.Thread(target=lambda: ends.append(run(fn)))
    thread.start()
    thread.join(20)
    return ends[0]


def spin() -> None:
    end = monotonic() + 10
    while monotonic() < end:
        pass


async def spin_async() -> None:
    spin()


async def waits() -> None:
    await asyncio.Event().wait()


async def waits_for_others() -> None:
    await asyncio.gather(waits(), waits())


async def leaves_a_task_spinning() -> None:
    task = asyncio.create_task(spin_async())
    await waits()
    await task


async def leaves_a_callback_spinning() -> None:
    asyncio.get_running_loop().call_soon(spin)
    await waits()


async def catches_exceptions() -> None:
    try:
        await waits()
    except Exception:  # noqa: BLE001 - what a body does that knows no better
        await waits()


async def stream() -> AsyncIterator[int]:
    yield 1
    await waits()


EACH = pytest.mark.parametrize(
    "body",
    [
        spin_async,
        waits,
        waits_for_others,
        leaves_a_task_spinning,
        leaves_a_callback_spinning,
        catches_exceptions,
        stream,
    ],
)


@EACH
def test_it_ends_in_time_wherever_its_time_is_spent(body: Callable[..., Any]) -> None:
    state = run(body)
    assert (state.name, state.message, str(state.data)) == (
        "TimedOut",
        OVERRAN,
        "Scope timed out after 0.05 second(s).",
    )


@EACH
def test_in_a_thread_too_it_ends_in_time(body: Callable[..., Any]) -> None:
    state = run_in_thread(body)
    assert (state.name, state.message, str(state.data)) == (
        "TimedOut",
        OVERRAN,
        "Scope timed out after 0.05 second(s).",
    )


def test_a_time_limit_of_the_bodys_own_is_told_apart() -> None:
    async def impatient() -> None:
        async with asyncio.timeout(0.01):
            await waits()

    assert run(impatient, seconds=20).message == "Task run failed due to timeout: TimeoutError()"


def test_without_a_limit_it_takes_its_time() -> None:
    async def done() -> str:
        await asyncio.sleep(0)
        return "done"

    assert run(done, seconds=None).result() == "done"
