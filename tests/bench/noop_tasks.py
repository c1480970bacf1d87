"""What the benchmarks of Baton alone run: bodies that do nothing or only wait."""

import asyncio
import time

from orchestrator import task


@task
def noop() -> None:
    """Nothing."""


@task
async def nap() -> None:
    """Wait for 100 ms, as for an answer of somebody else."""
    await asyncio.sleep(0.1)


@task
def linger(seconds: float) -> None:
    """Keep a worker for as long."""
    time.sleep(seconds)


@task
def echo(text: str) -> str:
    """The text as it came."""
    return text
