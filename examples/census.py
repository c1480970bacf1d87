"""A census of the Python standard library: the work of `baton demo`, as a script against workers that you start.

    baton worker -m orchestrator.census -q census --concurrency 2
    python census.py

The interpreter's own executable is among the files, so that one run truly fails; one lookup fails at first and is
retried.
"""

import sys
from pathlib import Path

from orchestrator import Orchestrator
from orchestrator.census import flaky_lookup, parse, tabulate, walk

COLUMNS = ("files", "lines", "functions", "classes")


def census(baton: Orchestrator) -> None:
    """Submit a run per file, wait for all, and print a row per package."""
    version = flaky_lookup.submit()
    paths = [*walk.submit().result(), str(Path(sys.executable).resolve())]
    futures = baton.submit_many((parse, {"path": path}) for path in paths)
    counted = []
    for path, future in zip(paths, futures, strict=True):
        outcome = future.result(raise_on_failure=False)
        if isinstance(outcome, Exception):
            print(f"not parsed: {Path(path).name}: {outcome!r}")
        else:
            counted.append((path, outcome))
    rows = tabulate.submit(counted).result()

    print(f"\nPython {version.result()}: {len(counted)} source files\n")
    print(f"{'package':<20}" + "".join(f"{name:>11}" for name in COLUMNS))
    for row in rows:
        print(f"{row['package']:<20}" + "".join(f"{row[name]:>11,}" for name in COLUMNS))
    print(f"{'total':<20}" + "".join(f"{sum(row[name] for row in rows):>11,}" for name in COLUMNS))


if __name__ == "__main__":
    with Orchestrator() as orchestrator:
        census(orchestrator)
