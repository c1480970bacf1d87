"""What the benchmarks run: bodies that do nothing or only wait, so that only the frameworks are measured."""

import asyncio

from orchestrator import task


@task
def noop() -> None:
    """Nothing, for Baton."""


@task
async def nap() -> None:
    """Wait for 100 ms, as for an answer of somebody else."""
    await asyncio.sleep(0.1)


def rq_noop() -> None:
    """Nothing, for RQ."""
