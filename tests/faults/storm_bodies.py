"""Tasks that return the token of the attempt that they are, and log its start and end."""

import time
from pathlib import Path

from orchestrator import get_run_context, task
from tests.end_to_end.bodies import logged


@task
def work(seconds: float, *needs: int) -> int:  # noqa: ARG001 - it only waits for them
    with logged():
        time.sleep(seconds)
        return get_run_context().fence


@task
def gated(path: str) -> int:
    """Stay in the body until there is a file of this name."""
    with logged():
        while not Path(path).exists():
            time.sleep(0.005)
        return get_run_context().fence


@task
def weighed(load: bytes) -> int:
    with logged():
        assert load
        return get_run_context().fence
