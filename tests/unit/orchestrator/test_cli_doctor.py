"""`baton doctor` from the command line, on a real server: exit codes, text and JSON."""

import json

import pytest

from shared.ledger import RunLedger
from tests.support.command_line import called
from tests.support.ledgers import one_submitted
from tests.support.server import RedisServer, free_port


def test_health_is_exit_code_0_and_one_line(
    ledger: RunLedger, server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    one_submitted(ledger)
    code = called("--url", server.url, "doctor")
    assert (code, capsys.readouterr()) == (0, ("well: 1 run (1 PENDING), 1 queue, 0 workers\n", ""))


def test_a_violation_is_exit_code_1_and_says_what_repairs_it(
    ledger: RunLedger, server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = one_submitted(ledger)
    with server.client() as client:
        client.delete("rq:queue:q")
    code = called("--url", server.url, "doctor")
    assert (code, capsys.readouterr().out.splitlines()) == (
        1,
        [
            "I1: Every run lies in exactly one place.",
            "    is PENDING, but rq:queue:q does not list it",
            f"    1 id: {run_id}",
            "    repair: baton reconcile",
            "",
            "1 violation: 1 run (1 PENDING), 1 queue, 0 workers",
        ],
    )


def test_json_is_one_document(ledger: RunLedger, server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = one_submitted(ledger)
    with server.client() as client:
        client.hset(f"rq:job:{run_id}", "seq", "\x1b[2J")
    code = called("--url", server.url, "doctor", "--json")
    document = json.loads(capsys.readouterr().out)
    assert (code, document["well"], [(one["invariant"], one["ids"]) for one in document["violations"]]) == (
        1,
        False,
        [("fields", [run_id])],
    )


def test_without_a_server_the_exit_code_is_69(capsys: pytest.CaptureFixture[str]) -> None:
    code = called("--url", f"redis://127.0.0.1:{free_port()}/0", "doctor")
    assert (code, capsys.readouterr().out) == (69, "")


def test_data_of_a_newer_layout_is_exit_code_78_and_not_examined(
    server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with server.client() as client:
        client.hset("baton:meta", "layout", 99)
    code = called("--url", server.url, "doctor")
    assert (code, capsys.readouterr().out) == (78, "")
