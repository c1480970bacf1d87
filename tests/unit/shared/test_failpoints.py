"""Every point and switch that tests may name is there once, and a name that is not there ends the process."""

import re
import signal
import subprocess
import sys
from pathlib import Path

from shared import scripts
from shared.failpoints import POINTS, SWITCHES

ROOT = Path(__file__).parents[3]
SOURCES = [path for package in ("shared", "worker", "orchestrator") for path in (ROOT / package).rglob("*.py")]


def named(pattern: str) -> list[str]:
    """What the calls of this form name, in order."""
    return sorted(name for path in SOURCES for name in re.findall(pattern, path.read_text()))


def with_failpoints(text: str, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"BATON_FAILPOINTS": text},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_list_of_points_is_that_of_the_places_that_pass_them() -> None:
    assert sorted(set(named(r'\bfailpoint\("([^"]+)"\)'))) == list(POINTS)


def test_the_list_of_switches_is_that_of_the_mechanisms_that_ask_them() -> None:
    asked = {*named(r'\bis_off\("([^"]+)"\)'), *scripts._SWITCHES}
    assert sorted(asked) == list(SWITCHES)


def test_a_switch_of_a_script_finds_its_text_there_once() -> None:
    texts = [script.text for script in scripts.SCRIPTS.values()]
    found = {name: {text.count(here) for text in texts} - {0} for name, (here, _) in scripts._SWITCHES.items()}
    assert found == {name: {1} for name in scripts._SWITCHES}


def test_a_name_that_is_not_there_ends_the_process() -> None:
    ended = with_failpoints("fence=off,finish.befor=kill", "import shared.failpoints")
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (
        1,
        "ValueError: $BATON_FAILPOINTS names finish.befor: there is no such point or switch",
    )


def test_a_point_kills_at_the_time_that_was_asked_for() -> None:
    program = "from shared.failpoints import *\nfor n in range(9):\n print(n, flush=True)\n failpoint('finish.before')"
    ended = with_failpoints("finish.before=kill@3", program)
    assert (ended.returncode, ended.stdout.split()) == (-signal.SIGKILL, ["0", "1", "2"])


def test_without_the_variable_nothing_fails_and_nothing_is_off() -> None:
    program = "from shared.failpoints import *\nfailpoint('finish.before'); print(is_off('fence'))"
    ended = with_failpoints("", program)
    assert (ended.returncode, ended.stdout) == (0, "False\n")
