"""What importing a module costs in a new process, where all modules are compiled, as after an installation."""

import os
import subprocess
import sys
from functools import cache
from tempfile import TemporaryDirectory

from tests.support.fleets import ROOT

_COMPILED = TemporaryDirectory(prefix="baton-compiled-")


def told_after(module: str, what: str) -> str:
    """What this expression gives after the import; `began` is the time in seconds that the process had used before."""
    _compile(module)
    return _run(f"import time; began = time.process_time(); import {module}; print({what})")


@cache
def _compile(module: str) -> None:
    _run(f"import {module}")


def _run(code: str) -> str:
    # Without a folder of their own the modules are compiled each time where nothing may be written beside them.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": _COMPILED.name}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout
