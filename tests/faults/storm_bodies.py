"""The task of the storm: it returns the token of the attempt that it is, and logs its start and end."""

import time

from orchestrator import get_run_context, task
from tests.end_to_end.bodies import logged


@task
def work(seconds: float, *needs: int) -> int:  # noqa: ARG001 - it only waits for them
    with logged():
        time.sleep(seconds)
        return get_run_context().fence
