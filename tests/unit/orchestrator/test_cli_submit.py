"""`baton submit` without workers: parameters, keys, queues, and what is stored."""

import io
import json
from pathlib import Path
from typing import Any

import click
import pytest
import redis

from orchestrator.cli.submit import parameters_from
from shared import codec
from shared.ledger import RunLedger
from shared.upkeep import Pulse
from tests.support.command_line import called
from tests.support.ledgers import one_submitted, seated
from tests.support.server import RedisServer


def submitted(server: RedisServer, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The id of the run that `baton submit` with these words submits."""
    assert called("--url", server.url, "submit", *words) == 0
    return capsys.readouterr().out.strip()


def refused(server: RedisServer, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What is said about words that are exit code 2."""
    code = called("--url", server.url, "submit", *words)
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    return " ".join(err.split())


def announced(ledger: RunLedger, *keys: str, queue: str = "default") -> None:
    """A live worker that knows tasks of these keys."""
    seated(ledger, "w1", queue)
    ledger.beat([Pulse("w1", (queue,), {"tasks": " ".join(keys)})])


# --- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pairs", "text", "expected"),
    [
        ([], None, {}),
        (
            ["a=1", "b=x", "c=true", "d=null", 'e="1"', "f=[1, 2]"],
            None,
            {"a": 1, "b": "x", "c": True, "d": None, "e": "1", "f": [1, 2]},
        ),
        (["to=x@example.org", "empty=", "brace={"], None, {"to": "x@example.org", "empty": "", "brace": "{"}),
        (["equation=a=b"], None, {"equation": "a=b"}),
        (["n=NaN", "i=Infinity"], None, {"n": "NaN", "i": "Infinity"}),
        ([], '{"a": {"b": [1.5]}}', {"a": {"b": [1.5]}}),
        (["b=2"], '{"a": 1}', {"a": 1, "b": 2}),
    ],
)
def test_values_are_json_where_they_read_as_json(pairs: list[str], text: str | None, expected: Any) -> None:
    assert parameters_from(pairs, text) == expected


@pytest.mark.parametrize(
    ("pairs", "text", "hint"),
    [
        (["a"], None, "-p 'a' is no pair: write NAME=VALUE."),
        (["=1"], None, "is no pair"),
        (["a=1", "a=2"], None, "'a' is given twice"),
        (["a=1"], '{"a": 2}', "'a' is given twice"),
        ([], "", "no JSON: Expecting value at line 1, column 1"),
        ([], '{"a": 1,\n "b" 2}', "at line 2, column 6"),
        ([], "[1]", "holds an array; it must be an object"),
        ([], "3", "holds a number or null"),
        ([], '"x"', "holds a text"),
        ([], "true", "holds true or false"),
        ([], '{"a": NaN}', "NaN is no JSON"),
        ([], "[" * 100_000, "is no JSON"),
        ([], '{"a": ' + "9" * 5000 + "}", "is no JSON"),
    ],
    ids=range(13),
)
def test_what_is_no_object_is_refused_with_its_place(pairs: list[str], text: str | None, hint: str) -> None:
    with pytest.raises(click.UsageError) as error:
        parameters_from(pairs, text)
    assert hint in error.value.message


def test_parameters_come_from_stdin_too(
    server: RedisServer, client: "redis.Redis", capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"to": "\xc3\xa4"}')))
    run_id = submitted(server, capsys, "shop.mail", "--parameters", "-")
    with redis.Redis(port=server.port) as raw:
        stored = raw.get(f"baton:run:{run_id}:parameters")
    assert (codec.decode_parameters(stored, limit=1000), client.hget(f"rq:job:{run_id}", "task")) == (
        {"to": "ä"},
        "shop.mail",
    )


def test_a_closed_or_endless_stdin_is_refused(
    server: RedisServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    closed = refused(server, capsys, "shop.mail", "--parameters", "-")
    with Path("/dev/zero").open() as endless:
        monkeypatch.setattr("sys.stdin", endless)
        told = refused(server, capsys, "shop.mail", "--parameters", "-")
    assert ("that is closed" in closed, "longer than 8,388,608 bytes" in told) == (True, True)


def test_what_is_no_text_is_refused_with_its_place(
    server: RedisServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"a": "\xff"}')))
    assert "no UTF-8: invalid start byte at byte 7" in refused(server, capsys, "shop.mail", "--parameters", "-")


def test_parameters_that_are_too_large_are_refused_and_nothing_is_stored(
    server: RedisServer, client: "redis.Redis", capsys: pytest.CaptureFixture[str]
) -> None:
    large = [word for name in "abc" for word in ("-p", f"{name}={'x' * 100_000}")]
    said = refused(server, capsys, "shop.mail", *large)
    assert ("262144" in said.replace(",", ""), client.exists("rq:queue:default")) == (True, 0)


# --- the run ----------------------------------------------------------------------------------------------------------


def test_its_options_reach_the_run(
    server: RedisServer, client: "redis.Redis", capsys: pytest.CaptureFixture[str]
) -> None:
    first = submitted(server, capsys, "shop.mail", "--queue", "mail")
    second = submitted(server, capsys, "shop.mail", "--queue", "mail", "--at-front")
    later = submitted(server, capsys, "shop.mail", "--queue", "mail", "--delay", "1h")
    assert (client.lrange("rq:queue:mail", 0, -1), client.zrange("rq:scheduled:mail", 0, -1)) == (
        [second, first],
        [later],
    )


def test_json_names_run_task_and_queue(server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(submitted(server, capsys, "shop.mail", "--json"))
    assert (told.pop("id")[14], told) == ("7", {"task": "shop.mail", "queue": "default"})


# --- the key ----------------------------------------------------------------------------------------------------------


def test_without_a_key_those_that_are_known_are_listed(
    server: RedisServer, ledger: RunLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    before = refused(server, capsys)
    one_submitted(ledger, task="shop.add")
    announced(ledger, "shop.mail")
    after = refused(server, capsys)
    assert before.endswith("Missing argument 'KEY'. None is known here yet.")
    assert after.endswith("Missing argument 'KEY'. Known are: shop.add, shop.mail.")


def test_an_unknown_key_is_refused_where_workers_are_and_the_nearest_is_named(
    server: RedisServer, ledger: RunLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    announced(ledger, "shop.mail", "census.parse")
    said = refused(server, capsys, "shop.mial")
    assert said.endswith("No task is called 'shop.mial'. Did you mean shop.mail? Known are: census.parse, shop.mail.")


def test_of_very_many_keys_some_are_listed(
    server: RedisServer, ledger: RunLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    announced(ledger, *(f"shop.t{number:02}" for number in range(30)))
    said = refused(server, capsys, "other")
    assert (said.count("shop.t"), said.endswith("shop.t19 and 10 more.")) == (20, True)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb"], ids=["empty", "long", "two lines"])
def test_what_no_task_can_be_called_is_refused(
    server: RedisServer, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    assert "'key' is " in refused(server, capsys, key)


def test_a_run_that_nobody_would_execute_is_accepted_and_that_is_said(
    server: RedisServer, ledger: RunLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called("--url", server.url, "submit", "shop.mail") == 0
    nobody = capsys.readouterr().err
    announced(ledger, "shop.mail", queue="mail")
    assert called("--url", server.url, "submit", "shop.mail") == 0
    elsewhere = capsys.readouterr().err
    assert called("--url", server.url, "submit", "shop.mail", "--queue", "mail") == 0
    assert (nobody, elsewhere, capsys.readouterr().err) == (
        "No live worker announces shop.mail: the run waits until one does.\n",
        "The workers that announce shop.mail serve other queues than default: mail.\n",
        "",
    )


def test_a_wait_ends_after_its_time_and_the_run_goes_on(
    server: RedisServer, client: "redis.Redis", capsys: pytest.CaptureFixture[str]
) -> None:
    code = called("--url", server.url, "submit", "shop.mail", "--wait", "--timeout", "50ms", "--json")
    told = json.loads(capsys.readouterr().out)
    assert (code, told["state"], told["result"], "has not ended within 0.05 s" in told["error"]) == (
        1,
        "PENDING",
        None,
        True,
    )
    assert client.llen("rq:queue:default") == 1
