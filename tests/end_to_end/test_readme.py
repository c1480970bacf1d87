"""What README shows is what happens: its blocks are run as they stand, its contract is that of the documents."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cheatsheet import EXAMPLE, QUESTIONS
from orchestrator.cli import COMMANDS
from orchestrator.cli.submit import submit
from orchestrator.cli.worker import worker
from tests.support.fleets import ROOT, Fleets, command
from tests.support.own_processes import environment, needs_server, processes
from tests.support.server import RedisServer

README = (ROOT / "README.md").read_text()
LEAVES = {words for words, (place, _) in COMMANDS.items() if place}
PRICE = "13.5\n"
LIMITED = "".join(f"{call} three at once, then ten a second\n" for call in range(5))
PROGRAMS = {
    "Flows": "1140 4060\n",
    "Graphs": "222\n",
    "Results that are used again, and what is undone": (
        "asked for EUR\n[1.1, 1.1]\nthe booking is cancelled\nsold out\n"
    ),
    "Limits": f"one of two at the same time\n{LIMITED}",
}
"""What the other programs print, by the headings of their sections."""


def section(title: str) -> str:
    """What stands under this heading."""
    return re.split(r"^## ", README, flags=re.MULTILINE)[titles().index(title) + 1].partition("\n")[2]


def titles() -> list[str]:
    return re.findall(r"^## (.*)$", README, re.MULTILINE)


def blocks(title: str, language: str) -> list[str]:
    """The blocks of code of this section."""
    return re.findall(rf"^```{language}\n(.*?)^```$", section(title), re.MULTILINE | re.DOTALL)


def commands(title: str) -> list[str]:
    """What stands behind the prompts of this section."""
    return [
        line.removeprefix("$ ")
        for block in blocks(title, "console")
        for line in block.splitlines()
        if line.startswith("$ ")
    ]


def masked(text: str) -> list[str]:
    """The lines without what differs from one machine to the next: figures, widths of columns, the parser's words."""
    without_parser = re.sub(r"(?<=SyntaxError: ).*", "*", text)
    figures = re.sub(r"\d[\d.,]*", "#", without_parser)
    return [re.sub(r" {2,}", "  ", line) for line in figures.splitlines()]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with the program of fifteen lines."""
    (tmp_path / "shop.py").write_text(blocks("Fifteen lines", "python")[0])
    return tmp_path


def test_the_two_commands_are_two() -> None:
    prepared = "python3 -m venv .venv && .venv/bin/pip install -q -e"
    assert commands("Two commands") == [
        f"{prepared} . && .venv/bin/baton demo",
        f"{prepared} '.[dev]' && .venv/bin/pytest",
    ]


@needs_server
def test_the_demo_prints_what_stands_there() -> None:
    printed = subprocess.run(
        [Path(sys.executable).parent / "baton", "demo"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    _, _, told = blocks("Two commands", "console")[0].partition("\n")
    assert masked(printed) == masked(told)


def test_the_program_has_fifteen_lines() -> None:
    assert len(blocks("Fifteen lines", "python")[0].splitlines()) == 15


@needs_server
def test_the_program_runs_as_it_stands_and_leaves_nothing_behind(shop: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "shop.py"],
        cwd=shop,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, processes()) == (0, PRICE, set())


@needs_server
@pytest.mark.parametrize("title", PROGRAMS)
def test_the_other_programs_run_as_they_stand_too(title: str, tmp_path: Path) -> None:
    (program,) = blocks(title, "python")
    script = tmp_path / program.splitlines()[0].removeprefix("# ")
    script.write_text(program)
    ended = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, processes()) == (0, PROGRAMS[title], set()), ended.stderr


def test_no_program_is_left_out() -> None:
    assert {title for title in titles() if blocks(title, "python")} == {"Fifteen lines", *PROGRAMS}


def test_the_commands_of_a_schedule_work(server: RedisServer) -> None:
    create, preview, serve = commands("Schedules")
    told = [command(*shlex.split(each), url=server.url) for each in (create, preview)]
    assert [(each.returncode, len(each.stdout.splitlines()) > 0) for each in told] == [(0, True), (0, True)]
    assert (told[0].stdout, serve) == ("morning\n", "baton server")


def test_the_three_commands_for_several_machines_work(shop: Path, server: RedisServer, fleet: Fleets) -> None:
    address, start, ask = commands("On several machines")
    assert address.startswith("export BATON_REDIS_URL=redis://")
    words = start.split()
    assert words[:4] == ["baton", "worker", "-m", "shop"]
    fleet(*words[6:], module=words[3], concurrency=int(words[5]), cwd=shop)
    ended = command(*ask.split(), url=server.url)
    assert (ended.returncode, ended.stdout) == (0, PRICE)


def test_every_question_to_redis_is_one_of_the_cheat_sheet() -> None:
    (block,) = blocks("Ask Redis", "console")
    pairs = re.findall(r"^# (.*)\n\$ redis-cli (.*)$", block, re.MULTILINE)
    known = {(one.question, one.about(EXAMPLE).command) for one in QUESTIONS}
    assert (len(pairs), set(pairs) - known, len(block.splitlines())) == (5, set(), 10)


def test_the_contract_is_that_of_the_documents() -> None:
    contract, _, _ = (ROOT / "docs/delivery.md").read_text().partition("\n\n")[2].partition("## ")
    assert contract.strip() in section("Delivery contract")


@pytest.mark.parametrize(
    "document", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_every_command_that_is_named_is_there(document: Path) -> None:
    named = re.findall(r"(?:`|^\$ |&& |bin/)baton ([a-z]+(?: [a-z]+)?)", document.read_text(), re.MULTILINE)
    assert [words for words in named if not {words, words.split()[0]} & LEAVES] == []


OPTIONS = sorted(set(re.findall(r"--[a-z][a-z-]+", section("On several machines"))))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_that_is_named_is_one_of_a_command(option: str) -> None:
    known = {name for command in (worker, submit) for param in command.params for name in param.opts}
    assert option in {*known, "--json"}


@pytest.mark.parametrize("word", commands("Working on it"))
def test_commands_for_developers_are_those_of_the_check_before_a_change(word: str) -> None:
    checks = (ROOT / ".ci/run").read_text().splitlines()
    assert word == "python -m tests.bench" or set(word.split(" && ")) <= set(checks)
