"""The shape of the house: layers, circles, sizes, and who may touch what. Reads the sources, imports hardly any."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import orchestrator
from shared.rules import ALLOWED
from shared.state_types import StateType

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "shared": {"shared"},
    "worker": {"worker", "shared"},
    "orchestrator": {"orchestrator", "worker", "shared"},
}
LONGEST_FILE = 400
LONGEST_FUNCTION = 60

# The one module that may import a library, and what else stands in one place only.
DOORS = {
    "redis": {"shared/connections.py"},
    "rq": {"worker/process.py"},
    "fakeredis": {"shared/memory.py"},
    "pendulum": {"shared/clock.py", "shared/codec_types.py"},
    "watchfiles": {"worker/reloading.py"},
    "pickle": set(),
    "marshal": set(),
    "shelve": set(),
}
# Where a Redis command may be named: the ledger and what it reads with, hearing, the views, the promoter's wait, and
# what tells and tries who may send which.
COMMAND_DOORS = {
    "shared/channels.py",
    "shared/commands.py",
    "shared/connections.py",
    "shared/follow.py",
    "shared/ledger.py",
    "shared/look.py",
    "shared/on_server.py",
    "shared/pages.py",
    "shared/patrol.py",
    "shared/probing.py",
    "shared/records.py",
    "shared/result_redis.py",
    "shared/roles.py",
    "shared/slots.py",
    "shared/snapshot.py",
    "shared/views/limits.py",
    "shared/views/quarantine.py",
    "shared/views/queues.py",
    "shared/views/runs.py",
    "shared/views/schedules.py",
    "shared/views/server.py",
    "shared/views/tasks.py",
    "shared/views/workers.py",
    "worker/ears.py",
    "worker/housekeeping.py",
}
COMMANDS = re.compile(
    r"(GET|SET|DEL|EXISTS|EXPIRE|PERSIST|TYPE|TTL|PTTL|SCAN|KEYS|SORT|INFO|CONFIG|EVAL|EVALSHA|PUBLISH|MULTI|EXEC|BLPOP"
    r"|SUBSCRIBE|UNSUBSCRIBE|PSUBSCRIBE|[HLSZX](GET|GETALL|MGET|SET|DEL|LEN|KEYS|INCRBY|RANGE|PUSH|POP|REM|ADD|CARD|SCORE"
    r"|MEMBERS|INDEX|TRIM|RANGEBYSCORE|REVRANGE|COUNT)|RPUSH|RPOP|GETRANGE)"
)
CLOCKS = {
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("date", "today"),
    ("time", "time"),
    ("time", "monotonic"),
    ("pendulum", "now"),
}
# Late imports, each with its reason beside it.
LATE_IMPORTS = {
    ("orchestrator/cli/demo.py", "_board"),
    ("orchestrator/cli/output.py", "_pencil"),
    ("orchestrator/cli/worker.py", "_reloaded"),
    ("orchestrator/cli/worker.py", "worker"),
    ("shared/connect.py", "connect"),
}


def sources() -> list[Path]:
    return sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


TREES = {path: ast.parse(path.read_text()) for path in sources()}
EACH_SOURCE = pytest.mark.parametrize("path", TREES, ids=place)


@EACH_SOURCE
def test_a_package_imports_only_what_lies_below_it(path: Path) -> None:
    allowed = MAY_IMPORT[path.relative_to(ROOT).parts[0]]
    ours = {name.split(".")[0] for name in imported(TREES[path])} & MAY_IMPORT.keys()
    assert ours <= allowed


def test_no_module_imports_itself_by_a_detour() -> None:
    modules = {module_of(path): set(imported(tree)) for path, tree in TREES.items()}
    edges = {
        name: {target if target in modules else target.rpartition(".")[0] for target in targets}
        & modules.keys() - {name}
        for name, targets in modules.items()
    }

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = list(edges[start])
        while todo:
            module = todo.pop()
            if module not in seen:
                seen.add(module)
                todo += edges[module]
        return seen

    assert [name for name in modules if name in reached(name)] == []


@EACH_SOURCE
def test_imports_stand_at_the_top(path: Path) -> None:
    late = {
        (place(path), function.name)
        for function in ast.walk(TREES[path])
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert late <= LATE_IMPORTS


@EACH_SOURCE
def test_nothing_is_imported_for_type_checkers_only(path: Path) -> None:
    assert "TYPE_CHECKING" not in path.read_text()


@EACH_SOURCE
def test_a_file_has_one_duty_and_says_it(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE
    assert ast.get_docstring(TREES[path])


@EACH_SOURCE
def test_a_function_fits_on_a_screen(path: Path) -> None:
    long = {
        node.name
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno >= LONGEST_FUNCTION
    }
    assert long == set()


@EACH_SOURCE
def test_a_library_is_imported_in_its_one_place(path: Path) -> None:
    libraries = {name.split(".")[0] for name in imported(TREES[path])}
    assert {name for name in libraries & DOORS.keys() if place(path) not in DOORS[name]} == set()


def texts(tree: ast.AST) -> Iterator[str]:
    """Every text in the code that is no docstring."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


@EACH_SOURCE
def test_names_of_keys_stand_in_one_file(path: Path) -> None:
    named = [text for text in texts(TREES[path]) if re.match(r"(rq|baton):[a-z]", text)]
    assert not named or place(path) == "shared/keys.py"


@pytest.mark.parametrize("path", sorted((ROOT / "shared/lua").glob("*.lua")), ids=lambda path: path.name)
def test_scripts_spell_no_key_either(path: Path) -> None:
    code = [line.split("--")[0] for line in path.read_text().splitlines()]
    assert [line for line in code if re.search(r"""['"](rq|baton):""", line)] == []


@EACH_SOURCE
def test_redis_commands_are_named_behind_the_doors_only(path: Path) -> None:
    named = {text for text in texts(TREES[path]) if COMMANDS.fullmatch(text)}
    assert not named or place(path) in COMMAND_DOORS


@EACH_SOURCE
def test_one_file_asks_the_clock_of_this_machine(path: Path) -> None:
    asked = [
        node.attr
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in CLOCKS
    ]
    assert not asked or place(path) == "shared/clock.py"


def test_every_state_has_its_row_of_moves() -> None:
    assert [set(rows) for rows in ALLOWED.values()] == [{None, *StateType}] * 2


def test_the_public_names_are_sorted_and_exact() -> None:
    public = [name for name, value in vars(orchestrator).items() if not name.startswith("_") and not _is_module(value)]
    assert orchestrator.__all__ == sorted(public)


def _is_module(value: object) -> bool:
    return type(value).__name__ == "module"
