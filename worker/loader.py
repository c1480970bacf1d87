"""Importing the user's modules in a worker, so that their tasks register. Names come from the command line only."""

import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from shared.errors import ConfigError
from shared.specs import registry

OURS = ("shared", "worker", "orchestrator")


def load_tasks(modules: Sequence[str], folder: Path | None = None) -> Sequence[str]:
    """Import the modules, with `folder` (default: the present one) at the end of the path; the keys now registered.

    Raises:
        ConfigError: a module is missing or does not import (with its own traceback), clashes with a package of
            Baton, or nothing registered a task.
    """
    place = folder or Path.cwd()
    _refuse_clashes(str(place.resolve()))
    look_in(place)
    for name in modules:
        _import(name)
    known = registry.keys()
    if not known:
        raise ConfigError(
            f"no task is registered by {', '.join(modules) or 'any module'}: "
            "name the modules that hold your @task functions with -m"
        )
    return known


def look_in(folder: Path) -> None:
    """Let modules be found in this folder too."""
    place = str(folder.resolve())
    # At the end: the user's files must not stand in for the standard library's, or for ours.
    if place not in sys.path:
        sys.path.append(place)


def _refuse_clashes(place: str) -> None:
    for name in OURS:
        spec = find_spec(name)  # not every one of ours need be imported by now
        ours = Path(spec.origin if spec and spec.origin else "").parent
        for theirs in (Path(place) / f"{name}.py", Path(place) / name / "__init__.py"):
            if theirs.exists() and theirs.resolve().parent != ours.resolve():
                raise ConfigError(f"{theirs} has the name of Baton's package {name} ({ours}): rename yours")


def _import(name: str) -> None:
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(f"there is no module {name!r} (looked in {', '.join(sys.path)})") from None
        raise ConfigError(_report(name, error)) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a user's module raises is that module's error
        raise ConfigError(_report(name, error)) from None


def _report(name: str, error: BaseException) -> str:
    """The traceback from the user's module on: the frames of the import machinery explain nothing."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_machinery(frame.filename)]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames)]
    lines += traceback.format_exception_only(error)
    return f"module {name!r} does not import:\n{''.join(lines)}".rstrip()


def _is_machinery(filename: str) -> bool:
    return filename == __file__ or filename.startswith("<frozen importlib") or "/importlib/" in filename
