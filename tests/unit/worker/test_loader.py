"""Importing the user's modules, and what is said when that fails."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import ConfigError
from worker.loader import load_tasks


@pytest.fixture(autouse=True)
def path_and_modules_as_before() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_the_tasks_of_a_module_are_known_afterwards(tmp_path: Path) -> None:
    write(tmp_path, "loader_shop.py", "from orchestrator import task\n@task\ndef send(): ...\n")
    assert "loader_shop.send" in load_tasks(["loader_shop"], tmp_path)


def test_the_users_folder_stands_at_the_end_of_the_path(tmp_path: Path) -> None:
    write(tmp_path, "loader_mail.py", "from orchestrator import task\n@task\ndef send(): ...\n")
    write(tmp_path, "json.py", "raise RuntimeError('taken for the standard library')\n")
    load_tasks(["loader_mail"], tmp_path)
    assert sys.path[-1] == str(tmp_path)


def test_a_module_that_is_not_there_is_named_with_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_tasks(["loader_nowhere.tasks"], tmp_path)
    assert "there is no module 'loader_nowhere.tasks'" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_module_that_raises_shows_its_own_traceback_and_no_other(tmp_path: Path) -> None:
    write(tmp_path, "loader_broken.py", "def f():\n    return 1 / 0\n\nf()\n")
    with pytest.raises(ConfigError) as caught:
        load_tasks(["loader_broken"], tmp_path)
    text = str(caught.value)
    assert text.splitlines()[0] == "module 'loader_broken' does not import:"
    assert text.count('File "') == 2
    assert text.count("loader_broken.py") == 2
    assert text.endswith("ZeroDivisionError: division by zero")


def test_a_missing_import_inside_of_a_module_is_that_modules_error(tmp_path: Path) -> None:
    write(tmp_path, "loader_needs.py", "import loader_missing_library\n")
    with pytest.raises(ConfigError) as caught:
        load_tasks(["loader_needs"], tmp_path)
    assert "module 'loader_needs' does not import" in str(caught.value)
    assert "No module named 'loader_missing_library'" in str(caught.value)


def test_a_syntax_error_is_shown_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, "loader_syntax.py", "def f(:\n")
    with pytest.raises(ConfigError) as caught:
        load_tasks(["loader_syntax"], tmp_path)
    assert "loader_syntax.py" in str(caught.value)
    assert "SyntaxError" in str(caught.value)


@pytest.mark.parametrize("theirs", ["shared.py", "worker/__init__.py", "orchestrator.py"])
def test_a_users_module_of_the_same_name_as_ours_is_a_clash(tmp_path: Path, theirs: str) -> None:
    write(tmp_path, theirs, "")
    with pytest.raises(ConfigError) as caught:
        load_tasks([], tmp_path)
    assert str(tmp_path / theirs) in str(caught.value)
    assert "rename yours" in str(caught.value)
