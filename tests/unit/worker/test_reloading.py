"""Which folders are watched for changes."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("watchfiles")

from worker.reloading import watched_folders

FILES = ("pack/__init__.py", "pack/sub/deep/x.py", "pack/sub/y.py", "pack/data/z.txt", "pack/.hidden/h.py", "alone.py")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("raise RuntimeError('imported')\n")
    return tmp_path


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        (["pack.sub.y"], ["pack", "pack/sub", "pack/sub/deep"]),
        (["alone"], ["", "pack", "pack/sub", "pack/sub/deep"]),
        (["no_such_module_anywhere"], [""]),
    ],
    ids=["a package", "a module", "nothing"],
)
def test_the_folders_of_modules_and_of_packages_below_are_watched(
    project: Path, modules: list[str], expected: list[str]
) -> None:
    assert watched_folders(modules, project) == [project / name for name in expected]
