"""The page of symbols says where every name is and how it is called; here both are asked of the code."""

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TypeVar

import pytest

import shared.errors
import worker.engine
from tests.support.signatures import signature_of

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/symbols.md"
OURS = ("shared", "worker", "orchestrator")
OF_THE_PAGE = (
    "shared.states",
    "shared.outcomes",
    "shared.errors",
    "shared.annotations",
    "shared.cache",
    "shared.collections",
    "shared.isolation",
    "shared.results",
    "shared.runs",
    "shared.transactions",
    "orchestrator",
    "worker.engine",
)
# Public names that do not stand on the page, by the reason for it.
REASONS = {
    "for our own modules": {
        *("CachedTask", "KEY_ERROR", "LONGEST_KEY", "check_template", "parameters_named", "policy_of"),
        *("find_exception", "objects_in", "qualified_name"),
        *(f"RunFuture.{name}" for name in ("check_may_wait", "is_known", "learn", "watch_with")),
        *(f"State.{name}" for name in ("check_fields", "filled", "model_config", "read_back", "trusted")),
        *(f"StateBaseModel.{name}" for name in ("check_fields", "filled", "model_config", "read_back")),
        *(f"StateDetails.{name}" for name in ("model_config", "replaced", "trusted")),
        *(f"BaseTaskRunEngine.{name}" for name in dir(worker.engine.BaseTaskRunEngine) if name.endswith("steps")),
        *(f"BaseTaskRunEngine.{name}" for name in ("around_body", "failed_state", "in_transaction", "log_fields")),
        *(f"BaseTaskRunEngine.{name}" for name in ("place", "prints", "returned_state")),
        *(f"{engine}.perform" for engine in ("AsyncTaskRunEngine", "SyncTaskRunEngine")),
    },
    "for stores of results": {
        *("LockManager", "MOST_BYTES", "OWN_KEY_SECONDS", "RecordStore", "ResultSource", "UNKEPT", "encoded_result"),
        *("TransactionStore", "record_of"),
    },
    "for what stands on transactions": {
        f"Transaction.{name}" for name in ("in_order", "record", "rollback_steps", "unlock_steps", "write_steps")
    },
    "about runs and tasks": {
        *(
            "BaseRunFutureList",
            "FlowRun",
            "RunInput",
            "TaskRun",
            "Orchestrator",
            "Task",
            "get_run_context",
            "get_run_logger",
        ),
        *("on_worker_start", "on_worker_stop", "set_progress", "tags", "task", "Flow", "flow"),
    },
}
LEFT_OUT = {name for names in REASONS.values() for name in names}


@dataclass(frozen=True)
class Row:
    name: str
    module: str
    signature: str


def rows() -> list[Row]:
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return [Row(*(cell.strip().strip("`").replace("\\|", "|") for cell in row[:3])) for row in cells]


EACH = pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.module}.{row.name}")


@EACH
def test_a_symbol_is_where_the_page_says_and_called_as_it_says(row: Row) -> None:
    assert row.signature == signature_of(row.module, row.name)


def test_a_name_stands_on_the_page_once() -> None:
    names = [row.name for row in rows()]
    assert sorted(names) == sorted(set(names))


def public_names(module: str) -> Iterator[str]:
    """What a module says is public, or else what it defines without an underscore; type variables are no symbols."""
    named: list[str] = getattr(import_module(module), "__all__", None) or list(defined_in(module))
    return (name for name in named if not isinstance(getattr(import_module(module), name), TypeVar))


def defined_in(module: str) -> Iterator[str]:
    code = import_module(module)
    imports = [
        node for node in ast.parse(inspect.getsource(code)).body if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    imported = {alias.asname or alias.name for node in imports for alias in node.names}
    return (name for name in vars(code) if not name.startswith("_") and name not in imported)


@pytest.mark.parametrize("module", OF_THE_PAGE)
def test_no_public_name_is_missing_on_the_page(module: str) -> None:
    missing = set(public_names(module)) - {row.name for row in rows()} - LEFT_OUT
    assert missing == set(), "add a row to docs/symbols.md; what it is not about goes into REASONS"


def classes_with_members() -> Iterator[tuple[str, type]]:
    names = {row.name for row in rows()}
    for row in rows():
        found = getattr(import_module(row.module), row.name.partition(".")[0])
        if isinstance(found, type) and any(name.startswith(f"{row.name}.") for name in names):
            yield row.name, found


@pytest.mark.parametrize(("name", "cls"), list(classes_with_members()))
def test_a_class_whose_members_are_listed_is_listed_whole(name: str, cls: type) -> None:
    listed = {row.name for row in rows()} | LEFT_OUT
    missing = {
        member
        for base in cls.__mro__
        if base.__module__.partition(".")[0] in OURS
        for member in {**vars(base), **vars(base).get("__annotations__", {})}
        if not member.startswith("_") and not {f"{kind.__name__}.{member}" for kind in cls.__mro__} & listed
    }
    assert (name, missing) == (name, set())


def test_nothing_is_left_out_that_is_not_there_or_stands_on_the_page() -> None:
    listed = {row.name for row in rows()}
    homes = [import_module(module) for module in OF_THE_PAGE]
    unknown = [name for name in LEFT_OUT if not any(hasattr(home, name.partition(".")[0]) for home in homes)]
    assert (unknown, LEFT_OUT & listed) == ([], set())


def test_the_engine_exports_the_exception_of_its_time_limit() -> None:
    assert worker.engine.TaskRunTimeoutError is shared.errors.TaskRunTimeoutError
