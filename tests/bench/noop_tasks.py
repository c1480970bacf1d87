"""What the benchmarks run: bodies that do nothing, so that only the frameworks are measured."""

from orchestrator import task


@task
def noop() -> None:
    """Nothing, for Baton."""


def rq_noop() -> None:
    """Nothing, for RQ."""
