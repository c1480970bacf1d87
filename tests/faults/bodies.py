"""Tasks of the fault tests: each body logs its start and end and returns the token of the attempt that it is."""

import ctypes
import os
import signal
import time
from pathlib import Path

from orchestrator import Orchestrator, get_run_context, task
from shared.settings import Settings
from tests.end_to_end.bodies import logged


@task
def quick() -> int:
    with logged():
        return get_run_context().fence


@task
def waits(told: str) -> int:
    """Wait for two seconds for the run whose id the file will tell."""
    with logged(), Orchestrator(settings=Settings.load()) as baton:
        while not Path(told).exists():
            time.sleep(0.005)
        baton.future(Path(told).read_text()).wait(2)
        return get_run_context().fence


@task
def nap(seconds: float) -> int:
    with logged():
        time.sleep(seconds)
        return get_run_context().fence


def _hold(gate: str) -> int:
    attempt = get_run_context().attempt
    while not (Path(gate).exists() or Path(f"{gate}.{attempt}").exists()):
        time.sleep(0.005)
    return get_run_context().fence


@task
def held(gate: str) -> int:
    """Stay in the body until there is a file of this name, or of this name and the attempt's number behind a dot."""
    with logged():
        return _hold(gate)


@task(timeout_seconds=0.3)
def held_for_a_while(gate: str) -> int:
    with logged():
        return _hold(gate)


@task
def hold_interpreter(seconds: int) -> int:
    """Let no other thread of the process run for so long."""
    with logged():
        ctypes.PyDLL(None).sleep(seconds)
        return get_run_context().fence


# --- bodies that end their process ------------------------------------------------------------------------------------


@task
def ends_process(how: str) -> int:
    """End the process in this way, the first time."""
    with logged():
        if get_run_context().attempt == 1:
            {"segfault": lambda: ctypes.string_at(0), "abort": os.abort, "exit 0": lambda: os._exit(0)}[how]()
        return get_run_context().fence


@task
def poison() -> None:
    """Kill the process, each time."""
    with logged():
        os.kill(os.getpid(), signal.SIGKILL)


@task
def poison_fleet() -> None:
    """Kill the supervisor, and this process with it, each time."""
    with logged():
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
