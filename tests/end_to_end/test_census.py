"""The example: a census of the standard library, compared with one that is made here without Baton."""

import ast
import re
import sys
from collections import Counter
from pathlib import Path

import redis

from orchestrator import Orchestrator
from shared import keys
from shared.state_types import StateType
from shared.states import State
from tests.support.fleets import ROOT, Fleets, command
from tests.support.server import RedisServer

EXAMPLES = ROOT / "examples"
LIBRARY = Path(ast.__file__).parent
LEFT_OUT = {"site-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__"}
COLUMNS = ("files", "lines", "functions", "classes")


def counted_here() -> dict[str, tuple[int, ...]]:
    """Files, lines, functions and classes of each package of the standard library, and their sum."""
    totals: dict[str, Counter[str]] = {}
    for path in LIBRARY.rglob("*.py"):
        parts = path.relative_to(LIBRARY).parts
        if not LEFT_OUT & set(parts):
            package = parts[0] if len(parts) > 1 else "(single modules)"
            totals.setdefault(package, Counter()).update(counts_of(path))
    totals["total"] = sum(totals.values(), Counter())
    return {package: tuple(counts[column] for column in COLUMNS) for package, counts in totals.items()}


def counts_of(path: Path) -> dict[str, int]:
    source = path.read_bytes()
    nodes = [type(node).__name__ for node in ast.walk(ast.parse(source))]
    return {
        "files": 1,
        "lines": source.count(b"\n"),
        "functions": nodes.count("FunctionDef") + nodes.count("AsyncFunctionDef"),
        "classes": nodes.count("ClassDef"),
    }


def printed(text: str) -> dict[str, tuple[int, ...]]:
    """The rows of the table that the example prints."""
    rows = re.findall(r"^(\S.*?)((?: +[\d,]+){4})$", text, re.MULTILINE)
    return {name: tuple(int(number.replace(",", "")) for number in numbers.split()) for name, numbers in rows}


def history_of_the_lookup(baton: Orchestrator, client: "redis.Redis") -> list[State]:
    (run_id,) = [
        run_id
        for run_id in client.zrange(keys.FINISHED + "census", 0, -1)
        if client.hget(keys.job(run_id), "task") == "orchestrator.census.flaky_lookup"
    ]
    return baton.history(run_id)


def test_the_example_counts_what_there_is_to_count(
    fleet: Fleets, baton: Orchestrator, client: "redis.Redis", server: RedisServer
) -> None:
    fleet("-q", "census", module="orchestrator.census", cwd=EXAMPLES, concurrency=2)
    expected = counted_here()
    told = command(sys.executable, "census.py", url=server.url, cwd=EXAMPLES, seconds=90)
    assert told.returncode == 0, told.stderr
    assert printed(told.stdout) == expected

    failed = client.zrange(keys.FAILED + "census", 0, -1)
    (end,) = [baton.history(run_id)[-1] for run_id in failed]
    assert (end.type, "SyntaxError" in end.message) == (StateType.FAILED, True)
    assert f"not parsed: {Path(sys.executable).resolve().name}: SyntaxError(" in told.stdout
    names = [(state.name, state.state_details.attempt) for state in history_of_the_lookup(baton, client)]
    assert names == [
        ("Pending", None),
        ("Running", 1),
        ("AwaitingRetry", 1),
        ("Pending", 1),
        ("Retrying", 2),
        ("Completed", 2),
    ]
