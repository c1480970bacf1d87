"""What the documents say is what the code does: generated parts are fresh, links lead somewhere, names exist."""

import ast
import re
from pathlib import Path

import pytest

from shared import diagram, keys
from shared.settings import Settings

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
EACH = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def test_the_diagram_of_moves_is_drawn_from_the_table() -> None:
    drawn = "```mermaid\n" + "\n".join(diagram.lines()) + "\n```"
    assert drawn in (ROOT / "docs/architecture.md").read_text(), "run: python -m shared.diagram"


def test_the_key_table_is_that_of_the_code() -> None:
    assert "\n".join(keys.table()) in (ROOT / "docs/architecture.md").read_text(), "run: python -m shared.keys"


@EACH
def test_links_lead_to_files_that_are_there(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@EACH
def test_files_that_are_named_are_there(document: Path) -> None:
    named = re.findall(
        r"`((?:shared|worker|orchestrator|tests|deploy|docs|examples)/[\w./-]*\w)`", document.read_text()
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


BLOCKS = [
    pytest.param(block, id=f"{path.name}-{number}")
    for path in DOCUMENTS
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL))
]
DEFINE = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef


@pytest.mark.parametrize("block", BLOCKS)
def test_what_is_imported_and_defined_in_a_block_can_be(block: str, request: pytest.FixtureRequest) -> None:
    tree = ast.parse(block)
    tree.body = [statement for statement in tree.body if isinstance(statement, DEFINE)]
    names: dict[str, object] = {"__name__": request.node.callspec.id}  # the keys of its tasks begin so
    exec(compile(tree, request.node.callspec.id, "exec"), names)  # noqa: S102 - our own pages
    defined = {statement.name for statement in tree.body if isinstance(statement, ast.FunctionDef)}
    assert defined <= names.keys()


@EACH
def test_settings_that_are_named_exist(document: Path) -> None:
    from_environment = set(re.findall(r"BATON_([A-Z_]+)\b", document.read_text()))
    known = {"ACTOR", "MODULES", "TEST_REDIS", *(name.upper() for name in Settings.model_fields)}
    assert from_environment <= known
