"""The samples beside this file say what type checkers see of the public API; here they are asked."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.flows import FlowCallOptions, FlowOptions
from orchestrator.tasks import CallOptions, TaskOptions
from shared.errors import InvalidCall
from shared.specs import SUBMIT_OPTIONS, FlowSpec, TaskSpec, check_flow_options, check_options

ROOT = Path(__file__).parents[2]
SAMPLES = Path(__file__).parent / "samples"
SECONDS = 90


def checked(*command: str | Path) -> tuple[int, str]:
    """Its exit code, and what it says."""
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    return told.returncode, told.stdout + told.stderr


def test_mypy_sees_what_the_samples_say(tmp_path: Path) -> None:
    code, told = checked(sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path, SAMPLES)
    assert code == 0, told


def test_a_sample_that_is_wrong_would_be_told(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text((SAMPLES / "submits.py").read_text().replace("RunFuture[bytes]", "RunFuture[str]"))
    code, told = checked(sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", wrong)
    assert (code, told.count('Expression is of type "RunFuture[bytes]"')) == (1, 3), told


def test_pyright_sees_it_too(tmp_path: Path) -> None:
    pyright = shutil.which("pyright", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if pyright is None:
        pytest.skip("no pyright here: pip install pyright")
    settings = tmp_path / "pyrightconfig.json"
    rules = {"reportUnnecessaryTypeIgnoreComment": "error", "pythonVersion": "3.11"}
    include = os.path.relpath(SAMPLES, tmp_path)
    settings.write_text(json.dumps({"include": [include], "extraPaths": [str(ROOT)], **rules}))
    code, told = checked(pyright, "--project", settings, "--pythonpath", sys.executable)
    assert code == 0, told


@pytest.mark.parametrize(
    ("check", "options", "call_options", "spec"),
    [
        (check_options, TaskOptions, CallOptions, TaskSpec),
        (check_flow_options, FlowOptions, FlowCallOptions, FlowSpec),
    ],
    ids=["tasks", "flows"],
)
def test_the_options_that_type_checkers_know_are_those_that_are_taken(
    check: Callable[..., Any], options: type, call_options: type, spec: type
) -> None:
    with pytest.raises(InvalidCall) as caught:
        check({"colour": "red"})
    known = set(str(caught.value).partition("there are ")[2].split(", "))
    once = set(SUBMIT_OPTIONS)
    assert (set(options.__annotations__), set(call_options.__annotations__)) == (known, known | once)
    assert known - {"retry_delay_seconds", "flow_run_name"} <= set(spec.__dataclass_fields__)
