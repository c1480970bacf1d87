"""`baton reconcile` from the command line, on a real server: what it shows, when it acts, exit codes, text and JSON."""

import json
import os
import pty
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
import pytest

from orchestrator.cli.reconcile import command
from shared.connect import connect
from shared.ledger import RunLedger
from shared.settings import Settings
from tests.support.ledgers import one_submitted
from tests.support.server import RedisServer


@pytest.fixture
def ledger(server: RedisServer) -> Iterator[RunLedger]:
    settings = Settings(redis_url=server.url)
    exchange = connect(settings)
    yield RunLedger(exchange, settings)
    exchange.close()


@pytest.fixture
def lost(ledger: RunLedger, server: RedisServer) -> str:
    """A run that is in no queue."""
    run_id = one_submitted(ledger)
    with server.client() as client:
        client.delete("rq:queue:q")
    return run_id


def called(server: RedisServer, *words: str) -> int:
    """The exit code of `baton reconcile` with these words."""
    options = {"url": server.url, "timeout": None, "quiet": False, "verbose": False, "debug": False}
    code: int = command.main(list(words), "baton reconcile", standalone_mode=False, obj=options)
    return code


@contextmanager
def answering(answer: str) -> Iterator[None]:
    """A terminal in which somebody answers so, as the standard input."""
    ours, theirs = pty.openpty()
    before = sys.stdin
    with os.fdopen(ours, "wb", 0) as keyboard, os.fdopen(theirs) as terminal:
        keyboard.write(f"{answer}\n".encode())
        sys.stdin = terminal
        try:
            yield
        finally:
            sys.stdin = before


def queued(server: RedisServer) -> list[str]:
    with server.client() as client:
        ids: list[str] = client.lrange("rq:queue:q", 0, -1)
    return ids


SHOWN = [
    "I1: Every run lies in exactly one place.",
    "    is PENDING, but rq:queue:q does not list it",
    "    1 id: {id}",
    "    repair: baton reconcile",
    "",
    "1 violation: 1 run (1 PENDING), 1 queue, 0 workers",
    "would mend 1 of 1 violations, of 1 id",
]
DONE = ["put back where it waits", "    1 id: {id}", "", "well: 1 run (1 PENDING), 1 queue, 0 workers"]


def lines(template: list[str], run_id: str) -> list[str]:
    return [text.format(id=run_id) for text in template]


def test_where_nobody_can_answer_it_shows_what_it_would_do_and_does_nothing(
    server: RedisServer, lost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(click.UsageError, match="Nobody can answer here") as refused:
        called(server)
    assert (refused.value.exit_code, capsys.readouterr().out.splitlines()) == (2, lines(SHOWN, lost))
    assert queued(server) == []


def test_with_yes_it_acts_and_says_what_it_did(
    server: RedisServer, lost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = called(server, "--yes")
    assert (code, capsys.readouterr().out.splitlines()) == (0, lines(DONE, lost))
    assert queued(server) == [lost]


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_in_a_terminal_it_asks(server: RedisServer, lost: str, answer: str, code: int) -> None:
    with answering(answer):
        ended = called(server)
    assert (ended, queued(server)) == (code, [lost] if code == 0 else [])


@pytest.mark.parametrize("words", [[], ["--yes"]])
def test_what_is_well_needs_no_answer(
    server: RedisServer, ledger: RunLedger, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    one_submitted(ledger)
    assert (called(server, *words), capsys.readouterr().out.splitlines()[0]) == (
        0,
        "well: 1 run (1 PENDING), 1 queue, 0 workers",
    )


@pytest.mark.parametrize("words", [[], ["--yes"]])
def test_what_needs_a_hand_is_exit_code_1(
    server: RedisServer, ledger: RunLedger, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    run_id = one_submitted(ledger)
    with server.client() as client:
        client.hset(f"rq:job:{run_id}", "seq", "x")
    assert (called(server, *words), capsys.readouterr().out.splitlines()[0]) == (
        1,
        "fields: Every field of a run can be read.",
    )


def test_json_is_one_document(server: RedisServer, lost: str, capsys: pytest.CaptureFixture[str]) -> None:
    with server.client() as client:
        client.hset("baton:counts", "PENDING", 5)
    with pytest.raises(click.UsageError):
        called(server, "--json")
    would = json.loads(capsys.readouterr().out)
    code = called(server, "--json", "--yes")
    done = json.loads(capsys.readouterr().out)
    assert (would["done"], would["ids"], would["found"]["well"]) == (False, [lost], False)
    assert (code, done["done"], done["ids"], done["counters"], done["left"]["well"], done["found"]) == (
        0,
        True,
        {lost: ["put back where it waits"]},
        {"PENDING": 1},
        True,
        would["found"],
    )
