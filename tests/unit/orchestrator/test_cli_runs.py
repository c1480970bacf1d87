"""`baton runs show` from the command line, on a real server: what it shows, of damaged runs too, and its exit codes."""

import json

import pytest

from orchestrator.cli.run_page import document, page
from shared import codec
from shared.details import Details
from shared.exceptions_as_data import ExceptionData
from shared.ledger import RunLedger
from shared.settings import Settings
from tests.support.command_line import called
from tests.support.ledgers import COMPLETED, FAILED, begun, one_begun, one_submitted, report, reported, retry_in, seated
from tests.support.server import RedisServer, free_port

ID = "01a1f879-5eda-7005-8876-23ab1bc095ff"
SISTER = "01a1f879-5eda-7005-8876-23ab1bc09500"


def shown(server: RedisServer, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What `baton runs show` prints with these words, when all is well."""
    code = called("--url", server.url, "runs", "show", *words)
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def facts(text: str) -> dict[str, str]:
    """The lines before the first section, by their names."""
    lines = text.split("\n\n", maxsplit=1)[0].splitlines()
    return {name: rest.strip() for name, _, rest in (line.partition(" ") for line in lines)}


def failed_after_a_retry(ledger: RunLedger, run_id: str = ID) -> None:
    """A run that was retried in time and then failed with an exception."""
    one_submitted(ledger, id=run_id, fields={"name": "adding", "max_retries": 1})
    seat = seated(ledger)
    assert reported(ledger, seat, report(one_begun(ledger, seat), retry_in(0))) == ["OK"]
    assert ledger.promote().moved == 1
    error = codec.encode(ExceptionData("ValueError", "no"))
    outcome = FAILED._replace(result=error, traceback="Traceback:\n  File x\nValueError: no\n")
    assert reported(ledger, seat, report(one_begun(ledger, seat), outcome)) == ["OK"]


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_everything_about_a_run_is_shown(
    ledger: RunLedger, server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    failed_after_a_retry(ledger)
    text = shown(server, capsys, ID)
    told = facts(text)
    assert {name: told[name] for name in ("run", "task", "name", "queue", "state", "attempts", "worker", "error")} == {
        "run": ID,
        "task": "shop.add",
        "name": "adding",
        "queue": "q",
        "state": "FAILED: ValueError: no",
        "attempts": "attempt 2, run count 2, retries 1",
        "worker": "w1",
        "error": "ValueError: no",
    }
    assert told["started"].endswith("after it was created)")
    assert told["ended"].endswith("after it started)")
    sections = {section.split("\n")[0]: section.split("\n")[1:] for section in text.split("\n\n")[1:]}
    assert (sections["parameters"], sections["result"], sections["traceback"]) == (
        ["    {'a': 1, 'b': 2}"],
        ["    ValueError: no"],
        ["    Traceback:", "      File x", "    ValueError: no"],
    )


def test_the_history_is_a_table_with_gaps(
    ledger: RunLedger, server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    failed_after_a_retry(ledger)
    _, _, table = shown(server, capsys, ID).partition("\nhistory\n")
    head, *rows = (row.split() for row in table.splitlines())
    assert head == ["seq", "state", "type", "time", "gap", "attempt", "worker", "message"]
    assert [row[:2] for row in rows] == [
        ["1", "Pending"],
        ["2", "Running"],
        ["3", "AwaitingRetry"],
        ["4", "Pending"],
        ["5", "Retrying"],
        ["6", "Failed"],
    ]
    assert (rows[2][2], rows[4][2], rows[5][-3:]) == ("SCHEDULED", "RUNNING", ["w1", "ValueError:", "no"])
    assert all(any(cell.startswith("+") for cell in row) for row in rows)


def test_json_tells_the_same_uncut(ledger: RunLedger, server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 5000
    one_submitted(ledger, id=ID, parameters=codec.encode({"text": long}))
    told = json.loads(shown(server, capsys, ID, "--json"))
    assert (told["id"], told["state"]["type"], told["parameters"]["text"], told["result"]) == (
        ID,
        "PENDING",
        repr({"text": long}),
        None,
    )
    assert [row["seq"] for row in told["history"]] == [1]


def test_a_long_value_is_cut_to_two_kilobytes(
    ledger: RunLedger, server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    one_submitted(ledger, id=ID, parameters=codec.encode({"text": "ä\x1b" * 5000}))
    _, _, rest = shown(server, capsys, ID).partition("\nparameters\n")
    preview = rest.splitlines()[0].strip()
    assert (len(preview.encode()) <= 2048, preview.endswith("..."), "\x1b" in preview) == (True, True, False)


@pytest.mark.parametrize("length", [8, 20, 35])
def test_a_unique_beginning_of_an_id_is_enough(
    ledger: RunLedger, server: RedisServer, capsys: pytest.CaptureFixture[str], length: int
) -> None:
    one_submitted(ledger, id=ID)
    assert facts(shown(server, capsys, ID[:length]))["run"] == ID


# --- exit codes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word", ["x", "", "01a1f87", ID.upper(), f"{ID}0", "*" * 8, "01a1f879_5eda", "\x1b[2J\r\u202e0000000"]
)
def test_what_is_no_id_is_exit_code_2_and_told_how_ids_look(
    server: RedisServer, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    code = called("--url", server.url, "runs", "show", word)
    out, err = capsys.readouterr()
    assert (code, out, "is no id of a run: ids look like" in " ".join(err.split())) == (2, "", True)
    assert err.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "words", [("runs", "show", ID, "\x1b[2J\r"), ("runs", "show", "--\x1b[2J\r"), ("runs", "\x1b[2J\r")]
)
def test_a_wrong_word_is_escaped_where_it_is_told(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    code = called(*words)
    out, err = capsys.readouterr()
    assert (code, out, "\\x1b[2J" in err, err.replace("\n", "").isprintable()) == (2, "", True, True)


@pytest.mark.parametrize("word", [ID, ID[:8]])
def test_an_unknown_id_is_exit_code_1(server: RedisServer, capsys: pytest.CaptureFixture[str], word: str) -> None:
    code = called("--url", server.url, "runs", "show", word)
    out, err = capsys.readouterr()
    assert (code, out, word in err) == (1, "", True)


def test_an_ambiguous_beginning_is_exit_code_2_and_lists_the_matches(
    ledger: RunLedger, server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    for run_id in (ID, SISTER):
        one_submitted(ledger, id=run_id)
    code = called("--url", server.url, "runs", "show", ID[:20])
    out, err = capsys.readouterr()
    assert (code, out, [line.strip() for line in err.splitlines()[-2:]]) == (2, "", [SISTER, ID])


def test_of_very_many_matches_some_are_listed(
    ledger: RunLedger, server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(30):
        one_submitted(ledger, id=f"{ID[:-2]}{number:02}")
    code = called("--url", server.url, "runs", "show", ID[:8])
    err = capsys.readouterr().err
    assert (code, err.count(ID[:-2]), err.splitlines()[-1].strip()) == (2, 20, "and more")


def test_without_a_server_the_exit_code_is_69(capsys: pytest.CaptureFixture[str]) -> None:
    code = called("--url", f"redis://127.0.0.1:{free_port()}/0", "runs", "show", ID)
    assert (code, capsys.readouterr().out) == (69, "")


# --- damage -----------------------------------------------------------------------------------------------------------


def test_damaged_values_are_told_instead_of_shown(
    ledger: RunLedger, server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    one_submitted(ledger, id=ID)
    seat = seated(ledger)
    (claim,) = begun(ledger, seat)
    reported(ledger, seat, report(claim, COMPLETED))
    with server.client() as client:
        client.set(f"baton:run:{ID}:parameters", "junk")
        client.setrange(f"baton:run:{ID}:result", 6, "\x00")
    text = shown(server, capsys, ID)
    assert text.count("    cannot be read: ") == 2


def test_hostile_texts_are_escaped(ledger: RunLedger, server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    one_submitted(ledger, id=ID)
    hostile = "\x1b]0;owned\x07\r\nstate      COMPLETED\u202e"
    with server.client() as client:
        names = (
            "task",
            "name",
            "origin",
            "state_name",
            "state_message",
            "worker_name",
            "error",
            "created_at",
            "attempt",
        )
        client.hset(f"rq:job:{ID}", mapping=dict.fromkeys(names, hostile))
        client.set(f"baton:run:{ID}:traceback", hostile)
        row = {"seq": 2, "type": hostile, "name": hostile, "time": hostile, "message": hostile, "worker": hostile}
        client.rpush(f"baton:run:{ID}:history", json.dumps(row), hostile)
    text = shown(server, capsys, ID)
    assert (text.replace("\n", "").isprintable(), text.count("\nstate      ")) == (True, 1)


@pytest.mark.parametrize(
    "part", ["rq:job:{}", "baton:run:{}:history", "baton:run:{}:parameters", "baton:run:{}:traceback"]
)
def test_a_part_of_another_type_is_told(
    ledger: RunLedger, server: RedisServer, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    one_submitted(ledger, id=ID)
    with server.client() as client:
        client.delete(part.format(ID))
        client.sadd(part.format(ID), "x")
    assert "cannot be read: WRONGTYPE" in shown(server, capsys, ID)


@pytest.mark.parametrize(
    "row", ["", "{", "[1]", '{"seq":NaN}', '{"seq":1e999}', '{"seq":{}}', "[" * 100_000, "\x00", '{"seq":"\ud800"}']
)
def test_no_row_of_a_history_makes_a_page_or_a_document_fail(row: str) -> None:
    found = Details(ID, {"seq": "1", "created_at": "?"}, None, (row,), None, None, None, {})
    text = "\n".join(page(found, Settings()))
    assert text.replace("\n", "").isprintable()
    json.dumps(document(found, Settings()), allow_nan=False)


@pytest.mark.parametrize("value", ["", "nan", "inf", "1e999", "x", "9" * 5000, "\udcff"])
def test_no_field_makes_a_page_or_a_document_fail(value: str) -> None:
    names = ("seq", "attempt", "total_run_time", "created_at", "start_time", "ended_at", "task", "name", "state_type")
    found = Details(ID, dict.fromkeys(names, value), 5, (), None, None, value, {"history": value})
    text = "\n".join(page(found, Settings()))
    assert text.replace("\n", "").isprintable()
    json.dumps(document(found, Settings()), allow_nan=False)
