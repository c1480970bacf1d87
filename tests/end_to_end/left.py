"""Tasks whose runs end where their code is not, and what their hooks do."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from orchestrator import task
from shared.runs import TaskRun
from shared.specs import TaskSpec
from shared.states import State
from tests.end_to_end.bodies import HOOKS, held, log, logged


@task(**HOOKS)
def hooked() -> int:
    return 5


@task(**HOOKS)
def hooked_poison() -> None:
    """Kill the process, each time."""
    with logged():
        os.kill(os.getpid(), signal.SIGKILL)


@task(**HOOKS, timeout_seconds=0.3)
def hooked_deaf() -> None:
    """Heed no time limit."""
    log("start")
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    time.sleep(60)


@task(timeout_seconds=0.3, retries=2, retry_condition_fn=lambda *_: True)
def deaf_with_condition() -> None:
    log("start")
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    time.sleep(60)


@task
def held_here(path: str) -> str:
    return held(path)


@task
def held_back(path: str) -> str:
    return path


@held_back.on_cancellation
def wait_for_file(_spec: TaskSpec[..., Any], run: TaskRun, state: State[Any]) -> None:
    """Tell of the begin, stay until there is the file that the environment names, tell of the end."""
    told = Path(os.environ["BODY_LOG"]) / "waits.txt"
    with told.open("a") as lines:
        lines.write(f"{os.getpid()} begins {run.id} {state.name}\n")
    while not (Path(os.environ["BODY_LOG"]) / "gate").exists():
        time.sleep(0.005)
    with told.open("a") as lines:
        lines.write(f"{os.getpid()} ends {run.id}\n")


@task
def poisonous() -> None:
    """Its hook ends the process, each time."""


@poisonous.on_cancellation
def end_process(*_: object) -> None:
    with (Path(os.environ["BODY_LOG"]) / "waits.txt").open("a") as lines:
        lines.write(f"{os.getpid()} dies\n")
    os._exit(3)


@task
def slow_to_tell() -> int:
    return 5


@slow_to_tell.on_completion
def sleeps(*_: object) -> None:
    time.sleep(60)


@slow_to_tell.on_completion
def deafly_sleeps(*_: object) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    time.sleep(60)


@slow_to_tell.on_completion
async def rests(*_: object) -> None:
    await asyncio.sleep(60)
