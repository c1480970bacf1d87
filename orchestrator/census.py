"""The work of `baton demo`: a census of the standard library, every source file parsed in a task run of its own.

Tasks and what they count with; how it is submitted and shown is the demo's.
"""

import ast
import platform
import sysconfig
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from orchestrator.tasks import task
from worker.context import get_run_context

LIBRARY = Path(sysconfig.get_paths()["stdlib"])
# A queue of their own: where other workers listen too, these runs are none of theirs.
QUEUE = "census"
SINGLE_MODULES = "(single modules)"
# What was installed beside the library, and its tests, some of which are broken on purpose.
LEFT_OUT = frozenset({"site-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__"})


class Counts(TypedDict):
    """What is counted in one source file."""

    lines: int
    functions: int
    classes: int


class Row(TypedDict):
    """What was counted in one package."""

    package: str
    files: int
    lines: int
    functions: int
    classes: int


@task(queue=QUEUE)
def walk() -> list[str]:
    """The source files of the standard library, as paths."""
    return [str(path) for path in source_files()]


# In worker threads: CPython's parser may count its depth for all threads of a process together, and then takes two at
# once for an error of its own; python/cpython#106905 tells of the like.
_PARSING = threading.Lock()


@task(queue=QUEUE)
def parse(path: str) -> Counts:
    """Count the lines, functions and classes of one source file."""
    source = Path(path).read_bytes()
    with _PARSING:
        tree = ast.parse(source)
    kinds = Counter(type(node) for node in ast.walk(tree))
    return {
        "lines": source.count(b"\n"),
        "functions": kinds[ast.FunctionDef] + kinds[ast.AsyncFunctionDef],
        "classes": kinds[ast.ClassDef],
    }


@task(queue=QUEUE, retries=2, retry_delay_seconds=0.2)
def flaky_lookup() -> str:
    """The version of this Python, from a service that does not answer at first."""
    if get_run_context().attempt == 1:
        raise ConnectionError("not this time")
    return platform.python_version()


@task(queue=QUEUE)
def tabulate(counted: Sequence[tuple[str, Counts]]) -> list[Row]:
    """Pairs of a path and its counts, as a row per package; the one with most lines first."""
    totals: dict[str, Counter[str]] = {}
    for path, counts in counted:
        totals.setdefault(package_of(Path(path)), Counter()).update(counts, files=1)
    rows = [row_of(package, counts) for package, counts in totals.items()]
    return sorted(rows, key=lambda row: -row["lines"])


def row_of(package: str, counts: Mapping[str, int]) -> Row:
    """A row of the table."""
    return {
        "package": package,
        "files": counts["files"],
        "lines": counts["lines"],
        "functions": counts["functions"],
        "classes": counts["classes"],
    }


def total_of(rows: Sequence[Row]) -> Row:
    """The sum of all rows."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(files=row["files"], lines=row["lines"], functions=row["functions"], classes=row["classes"])
    return row_of("total", counts)


def source_files(library: Path = LIBRARY) -> list[Path]:
    """The source files of the standard library, without its tests and what was installed beside it."""
    return sorted(path for path in library.rglob("*.py") if not LEFT_OUT & set(path.relative_to(library).parts))


def package_of(path: Path, library: Path = LIBRARY) -> str:
    """The top-level package that a file belongs to."""
    parts = path.relative_to(library).parts
    return parts[0] if len(parts) > 1 else SINGLE_MODULES
