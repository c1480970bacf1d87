"""`python -m tests.bench`: Baton beside its peers in one run, on a redis-server of its own. It decides nothing."""

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import click

from tests.bench import drain
from tests.support.server import RedisServer

Workload = Callable[[RedisServer, int], float]


def measured(workload: Workload, runs: int, times: int) -> list[float]:
    """The workload's figures, each on an empty server."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        try:
            for _ in range(times):
                with server.client() as client:
                    client.flushall()
                figures.append(workload(server, runs))
        finally:
            server.stop()
    return figures


def told(name: str, figures: list[float]) -> str:
    """A row: median, least and most."""
    return f"{name:<24}{statistics.median(figures):>10,.0f}{min(figures):>10,.0f}{max(figures):>10,.0f}"


@click.command()
@click.option("--runs", default=5000, show_default=True, help="Runs per measurement.")
@click.option("--times", default=3, show_default=True, help="Measurements per row.")
def main(runs: int, times: int) -> None:
    """Drain of queued no-op runs by one worker process, runs per second."""
    ours = measured(drain.baton, runs, times)
    peers = measured(drain.rq, runs, times)
    click.echo(f"drain of {runs:,} no-op runs, one worker process, per second\n")
    click.echo(f"{'':<24}{'median':>10}{'least':>10}{'most':>10}")
    click.echo(told("Baton", ours))
    click.echo(told("RQ SimpleWorker", peers))
    click.echo(f"\nBaton is {statistics.median(ours) / statistics.median(peers):.1f} x RQ SimpleWorker")
    click.echo("20 random runs of each measurement have three rows of history, a result and a lifetime")


if __name__ == "__main__":
    main()
