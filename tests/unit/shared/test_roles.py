"""The roles as data: what is published is what they say, and they say what a server can hold them to."""

import re
from pathlib import Path

import pytest

from shared.roles import OBSERVER, PRODUCER, ROLES, WORKER, calls_of, main, pattern_of, rule, users
from shared.scripts import SCRIPTS

ROOT = Path(__file__).parents[3]


def test_the_published_users_are_those_of_the_code() -> None:
    written = (ROOT / "deploy/users.acl").read_text()
    assert written == "".join(f"{line}\n" for line in users()), "run: python -m shared.roles > deploy/users.acl"


def test_nobody_comes_in_without_a_name() -> None:
    names = [line.split()[1:3] for line in users(["mail", "pdf"])]
    others = ["producer-mail", "producer-pdf", "worker", "server", "operator", "observer", "admin"]
    assert names == [["default", "off"], *([name, "on"] for name in others)]


def test_a_producer_writes_to_no_queue_but_its_own() -> None:
    words = rule(PRODUCER, "mail").split()
    keys = {word for word in words if word[0] in "~%"}
    assert {key for key in keys if re.match(r".*:(queue|scheduled|deferred|canceled|wip|wake):", key)} == {
        "~rq:queue:mail",
        "~rq:scheduled:mail",
        "~rq:deferred:mail",
        "~rq:canceled:mail",
        "~baton:wake:mail",
        "~baton:wake:due",
        "%R~baton:queue:mail",
    }
    assert {"~*", "~rq:*", "~baton:*", "&*", "+@all"} & set(words) == set()


def test_only_an_administrator_changes_the_server() -> None:
    dangerous = (
        "ACL",
        "CONFIG",
        "DEBUG",
        "FLUSH",
        "KEYS",
        "SHUTDOWN",
        "SAVE",
        "BGSAVE",
        "REPLICAOF",
        "MODULE",
        "CLIENT",
    )
    assert {command for role in ROLES for command in role.commands if command.startswith(dangerous)} == set()


def test_who_observes_can_neither_write_nor_run_a_script_nor_scan() -> None:
    writing = {"EVAL", "EVALSHA", "SCAN", "DUMP", "SORT", "BLPOP", "PUBLISH", *WORKER.calls - {"TIME"}}
    reading = {"EXISTS", "GET", "HGET", "HGETALL", "HKEYS", "HMGET", "LINDEX", "LLEN", "LPOS", "LRANGE", "SMEMBERS"}
    reading |= {"SSCAN", "TTL", "ZCARD", "ZRANGE", "ZSCORE"}
    assert (OBSERVER.commands & writing, OBSERVER.writes, OBSERVER.scripts) == (reading, (), ())


def test_every_script_is_called_by_workers() -> None:
    assert set(WORKER.scripts) == set(SCRIPTS.values())
    assert [script.name for script in SCRIPTS.values() if not calls_of(script)] == []


def test_for_an_old_server_everything_it_lacks_is_left_out() -> None:
    old = "\n".join(users(knows_reading=False))
    assert ("%" in old, "sort_ro" in old, "~baton:meta " in old) == (False, False, True)
    assert len(old.splitlines()) == len(users())


@pytest.mark.parametrize(
    ("family", "pattern"),
    [
        ("rq:queues", "rq:queues"),
        ("rq:queue:<q>", "rq:queue:mail"),
        ("baton:limit:<name>:holders", "baton:limit:*"),
        ("baton:*", "baton:*"),
    ],
)
def test_a_family_of_keys_has_one_pattern(family: str, pattern: str) -> None:
    assert pattern_of(family, "mail") == pattern


def test_a_producer_is_printed_for_each_queue(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--queue", "mail", "--queue", "pdf", "--redis", "6.2"])
    assert capsys.readouterr().out.splitlines() == users(["mail", "pdf"], knows_reading=False)


@pytest.mark.parametrize("name", ["*", "mail ~*", "", "Mail"])
def test_what_is_no_queue_gets_no_producer(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--queue", name])
    assert (end.value.code, capsys.readouterr().out) == (2, "")
