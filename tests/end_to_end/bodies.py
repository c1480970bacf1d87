"""Tasks for the fleets of the tests. The bodies log their start and end, each process in a file of its own."""

import asyncio
import ctypes
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator import Orchestrator, get_run_context, task
from shared import options
from shared.errors import InvalidValue, TerminationSignal
from shared.runs import TaskRun
from shared.settings import Settings
from shared.specs import TaskSpec
from shared.states import Scheduled, State


def log(what: str) -> None:
    """Write `run attempt token start|end monotonic_ns` at once: the process may be killed at any time."""
    context = get_run_context()
    line = f"{context.run_id} {context.attempt} {context.fence} {what} {time.monotonic_ns()}\n"
    path = Path(os.environ["BODY_LOG"]) / f"{os.getpid()}.log"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(handle, line.encode())
    os.close(handle)


@contextmanager
def logged() -> Iterator[None]:
    """Log the start and the end of a body. There is no end of one that was killed or that raised."""
    log("start")
    yield
    log("end")


class Known(Exception):
    """An exception that readers may register."""


class Unknown(Exception):
    """An exception that no reader registers."""


# --- bodies that end well ---------------------------------------------------------------------------------------------


@task
def add(x: float, y: float) -> float:
    with logged():
        return x + y


@task
def nap(seconds: float) -> None:
    with logged():
        time.sleep(seconds)


@task
def held(path: str) -> str:
    """Stay in the body until there is a file of this name."""
    with logged():
        while not Path(path).exists():
            time.sleep(0.005)
        return path


@task(on_crash="fail")
def held_once(path: str) -> str:
    return held(path)


@task
async def anap(seconds: float) -> str:
    with logged():
        await asyncio.sleep(seconds)
        return get_run_context().run_id


@task
def numbers(end: int) -> Iterator[int]:
    with logged():
        yield from range(end)


@task
async def anumbers(end: int) -> AsyncIterator[int]:
    for number in range(end):
        await asyncio.sleep(0)
        yield number


@task
def seen() -> dict[str, Any]:
    """What a body is told about its run."""
    context = get_run_context()
    return {"run_id": context.run_id, "task": context.task, "attempt": context.attempt, "fence": context.fence}


@task
def sum_of(end: int) -> float:
    """Submit a run to the fleet's own Redis, and wait for it."""
    return add.submit(end, 1).result(timeout=20)


@task
def sum_of_held(path: str, number: int) -> list[str]:
    """Submit runs that stay in their bodies, and wait for them."""
    with logged():
        return held_runs(path, number)


def held_runs(path: str, number: int) -> list[str]:
    return [future.result(timeout=60) for future in [held.submit(path) for _ in range(number)]]


@task
def later(seconds: float) -> State[Any] | int:
    """Ask to be run again at a later time, once."""
    if get_run_context().attempt == 1:
        return Scheduled(scheduled_time=datetime.now(UTC) + timedelta(seconds=seconds))
    return get_run_context().attempt


HOARD: list[bytes] = []


@task
def hoard(megabytes: int) -> int:
    """Keep so much memory for as long as the process lives; its pid."""
    HOARD.append(b"x" * (megabytes << 20))
    return os.getpid()


# --- bodies that fail -------------------------------------------------------------------------------------------------


@task
def fail(text: str) -> None:
    raise ValueError(text)


@task(retries=2)
def always_fails() -> None:
    with logged():
        raise ValueError("again")


@task(retries=2, retry_delay_seconds=0.2)
def fails_until(attempt: int) -> int:
    with logged():
        if get_run_context().attempt < attempt:
            raise ConnectionError("not yet")
        return attempt


@task(timeout_seconds=0.2)
def oversleep(seconds: float) -> None:
    time.sleep(seconds)


@task
def refuse_value() -> None:
    raise InvalidValue("not this one")


@task
def raise_known() -> None:
    raise Known("everybody knows me")


@task
def raise_unknown() -> None:
    raise Unknown("nobody knows me")


@task
def give_lock() -> object:
    with logged():
        return {"lock": threading.Lock()}


@task
def give_bytes(size: int) -> bytes:
    with logged():
        return b"x" * size


# --- bodies that do not end when they should --------------------------------------------------------------------------


def _sleep_deafly(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(BaseException):
            time.sleep(end - time.monotonic())


@task
def deaf(seconds: float) -> None:
    with logged():
        _sleep_deafly(seconds)


@task(timeout_seconds=0.3)
def deaf_to_time(seconds: float) -> None:
    with logged():
        _sleep_deafly(seconds)


@task(timeout_seconds=0.3, retries=1, retry_delay_seconds=0.1)
def deaf_to_time_once() -> int:
    with logged():
        if get_run_context().attempt == 1:
            _sleep_deafly(60)
        return get_run_context().attempt


@task
def looks_for_itself(seconds: float) -> str:
    """Ends when it finds itself cancelled, and not by the interrupt."""
    with logged():
        end = time.monotonic() + seconds
        while time.monotonic() < end and not get_run_context().cancelled:
            with suppress(TerminationSignal):
                time.sleep(0.01)
        return "ended"


# --- bodies that end their process, or try to -------------------------------------------------------------------------


@task
def exit_python(code: int) -> None:
    sys.exit(code)


@task
def interrupt() -> None:
    raise KeyboardInterrupt


@task
def exit_once(code: int) -> int:
    """End the process without a word, the first time."""
    with logged():
        if get_run_context().attempt == 1:
            os._exit(code)
        return get_run_context().attempt


@task
def segfault_once() -> int:
    with logged():
        if get_run_context().attempt == 1:
            ctypes.string_at(0)
        return get_run_context().attempt


# --- bodies with hooks ------------------------------------------------------------------------------------------------


def tell(kind: str, spec: TaskSpec[..., Any], run: TaskRun, state: State[Any]) -> None:
    """Write down what a hook was given, and what the record says at that moment."""
    with Orchestrator(settings=Settings.load()) as baton:
        recorded = baton.get_run(run.id).state.name
    told = [str(time.monotonic_ns()), run.id, kind, state.name, recorded, str(run.run_count), get_run_context().run_id]
    assert (spec.name, run.task) == (run.name, spec.key)
    with (Path(os.environ["BODY_LOG"]) / f"{os.getpid()}.hooks").open("a") as log_file:
        log_file.write(" ".join(told) + "\n")


HOOKS: dict[str, Any] = {kind: [partial(tell, kind)] for kind in options.HOOKS}


@task(**HOOKS)
def hooked() -> int:
    return 5


@hooked.on_completion
async def and_more(*_: object) -> None:
    """A hook that fails, and does nothing to the run and its worker."""
    await asyncio.sleep(0)
    raise LookupError("no such hook")


@task(**HOOKS, retries=1)
def hooked_failure() -> None:
    raise ValueError("x")


@task(**HOOKS, retries=1, retry_delay_seconds=0.1)
def hooked_late_failure() -> None:
    raise ValueError("x")


@task(**HOOKS)
def hooked_interrupt() -> None:
    raise KeyboardInterrupt


@task(**HOOKS)
def hooked_lock() -> object:
    return threading.Lock()


@task(**HOOKS)
def hooked_nap(seconds: float) -> None:
    with logged():
        time.sleep(seconds)


@task(**HOOKS)
def hooked_held(path: str) -> str:
    return held(path)


@task(**HOOKS)
def hooked_after(given: object) -> object:
    return given


@task(retries=5, retry_condition_fn=lambda _spec, run, state: run.run_count < 3 and "again" in (state.message or ""))
def fails_while_asked(text: str) -> None:
    raise ValueError(text)


@task
def hooked_badly() -> int:
    return 5


@hooked_badly.on_completion
def interrupts(*_: object) -> None:
    """A hook that would end its process."""
    raise KeyboardInterrupt
