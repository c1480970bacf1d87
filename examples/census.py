"""A census of the Python standard library: every source file is parsed with `ast` in a task run of its own.

Start workers, then the census:

    baton worker -m census --concurrency 2
    python census.py

The interpreter's own executable is among the files, so that one run truly fails; one lookup fails at first and is
retried.
"""

import ast
import sys
import sysconfig
from collections import Counter
from pathlib import Path

from orchestrator import Orchestrator, RunFuture, get_run_context, task

LIBRARY = Path(sysconfig.get_paths()["stdlib"])
SINGLE_MODULES = "(single modules)"


@task
def parse(path: str) -> dict[str, int]:
    """Count the lines, functions and classes of one source file."""
    source = Path(path).read_bytes()
    tree = ast.parse(source)
    kinds = Counter(type(node) for node in ast.walk(tree))
    return {
        "lines": source.count(b"\n"),
        "functions": kinds[ast.FunctionDef] + kinds[ast.AsyncFunctionDef],
        "classes": kinds[ast.ClassDef],
    }


@task(retries=2)
def flaky_lookup(what: str) -> str:
    """Something that does not work at first, as services do."""
    if get_run_context().attempt == 1:
        raise ConnectionError("not this time")
    return f"{what} {sys.version.split()[0]}"


def source_files(library: Path = LIBRARY) -> list[Path]:
    """The source files of the standard library, without what was installed beside it and without its tests."""
    left_out = {"site-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__"}
    return sorted(path for path in library.rglob("*.py") if not left_out & set(path.relative_to(library).parts))


def package_of(path: Path) -> str:
    """The top-level package that a file belongs to."""
    parts = path.relative_to(LIBRARY).parts
    return parts[0] if len(parts) > 1 else SINGLE_MODULES


def census(baton: Orchestrator) -> None:
    """Submit a run per file, wait for all, and print totals per package."""
    paths = [*source_files(), Path(sys.executable).resolve()]
    title = baton.submit(flaky_lookup, {"what": "Python"})
    futures = baton.submit_many((parse, {"path": str(path)}) for path in paths)
    totals: dict[str, Counter[str]] = {}
    failures: list[tuple[Path, RunFuture[dict[str, int]]]] = []
    for path, future in zip(paths, futures, strict=True):
        state = future.wait()
        if state is not None and state.is_completed():
            totals.setdefault(package_of(path), Counter()).update(state.result(), files=1)
        else:
            failures.append((path, future))
    print(f"census of the {title.result()} standard library: {len(paths) - 1} source files, and one that is none\n")
    print_table(totals)
    for path, future in failures:
        print(f"\nnot parsed: {path.name}: {future.result(raise_on_failure=False)!r}")


def print_table(totals: dict[str, Counter[str]]) -> None:
    """A row per package, the largest first, and their sum."""
    columns = ("files", "lines", "functions", "classes")
    whole: Counter[str] = sum(totals.values(), Counter())
    print(f"{'package':<20}" + "".join(f"{name:>11}" for name in columns))
    for package, counts in sorted(totals.items(), key=lambda item: -item[1]["lines"]):
        print(f"{package:<20}" + "".join(f"{counts[name]:>11,}" for name in columns))
    print(f"{'total':<20}" + "".join(f"{whole[name]:>11,}" for name in columns))


if __name__ == "__main__":
    with Orchestrator() as orchestrator:
        census(orchestrator)
