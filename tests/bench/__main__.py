"""`python -m tests.bench`: Baton beside RQ in one run, on a redis-server of its own. Measures, decides nothing."""

import statistics
import tempfile
from pathlib import Path

import click

from tests.bench.workloads import WORKLOADS, Measure, Workload
from tests.support.server import RedisServer


def measured(measure: Measure, runs: int, times: int) -> list[float]:
    """The figures of several measurements, each on an empty server."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        try:
            for _ in range(times):
                with server.client() as client:
                    client.flushall()
                figures.append(measure(server, runs))
        finally:
            server.stop()
    return figures


def table_row(workload: Workload, runs: int, times: int) -> str:
    """A row of the table: medians, with least and most, and how many times better Baton is."""
    ours = measured(workload.baton, runs, times)
    row = f"{workload.name:<12}{workload.unit:<14}{_figures(ours):>26}"
    if workload.rq is None:
        return f"{row}{'-':>26}{'-':>10}"
    theirs = measured(workload.rq, runs, times)
    ratio = statistics.median(ours) / statistics.median(theirs)
    better = ratio if workload.is_rate else 1 / ratio
    return f"{row}{_figures(theirs):>26}{better:>8.1f} x"


def _figures(figures: list[float]) -> str:
    digits = 0 if min(figures) >= 100 else 2 if min(figures) >= 0.1 else 4
    middle, least, most = (f"{value:,.{digits}f}" for value in (statistics.median(figures), min(figures), max(figures)))
    return f"{middle} ({least}-{most})"


@click.command()
@click.option("--only", default="", help="Workloads to run, comma-separated; all by default.")
@click.option("--runs", default=0, help="Runs per measurement, instead of the workload's own number.")
@click.option("--times", default=3, show_default=True, help="Measurements per figure.")
def main(only: str, runs: int, times: int) -> None:
    """Compare Baton with RQ's SimpleWorker, one worker process each: median (least-most)."""
    wanted = [name for name in only.split(",") if name]
    known = list(dict.fromkeys(workload.name for workload in WORKLOADS))
    if unknown := sorted(set(wanted) - set(known)):
        raise click.BadParameter(f"no workload {', '.join(unknown)}; there are {', '.join(known)}", param_hint="--only")
    click.echo(f"{'workload':<12}{'unit':<14}{'Baton':>26}{'RQ SimpleWorker':>26}{'better':>10}")
    for workload in WORKLOADS:
        if not wanted or workload.name in wanted:
            click.echo(table_row(workload, runs or workload.runs, times))
    click.echo(
        "Drained by Baton with default settings: 20 random runs have three rows of history, a result, a lifetime."
    )


if __name__ == "__main__":
    main()
