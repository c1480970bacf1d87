"""The published users on a server with the published settings: what each may do, and what is refused to it."""

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import redis

from shared import keys
from shared.commands import Seat
from shared.connections import Connections, client_for
from shared.errors import RedisUnavailable
from shared.follow import Overheard
from shared.ledger import RunLedger
from shared.notes import Note
from shared.probing import probe
from shared.roles import OPERATOR, PRODUCER, ROLES, SENT, SERVER, WORKER, Role, rule
from shared.seen import Stray
from shared.settings import Settings
from shared.upkeep import Death, Pulse
from tests.support.invariants import faults
from tests.support.ledgers import (
    COMPLETED,
    FAILED,
    RUNNING,
    Store,
    ended,
    held_by,
    keyspace,
    new_run,
    one_submitted,
    queued,
    seated,
    state_of,
    submitted,
)
from tests.support.roles import acl_file, client_of, password_of, url_of
from tests.support.server import BINARY, RedisServer, free_port
from tests.support.waiting import eventually
from tests.test_architecture import COMMAND_DOORS, ROOT, texts

ADMIN = ("admin", password_of("admin"))
EACH_ROLE = pytest.mark.parametrize("role", ROLES, ids=[role.name for role in ROLES])
WITH_SCRIPTS = pytest.mark.parametrize("role", [PRODUCER, WORKER, SERVER, OPERATOR], ids=lambda role: role.name)
BEFORE_LOGIN = {"auth", "hello", "quit", "reset"}
"""Commands that ask for no right."""


@pytest.fixture(scope="module")
def settled(module_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server as `deploy/` has it: its settings and its users, a producer of `q` among them."""
    with module_server.client() as client:
        if int(client.info("server")["redis_version"].split(".")[0]) < 7:
            pytest.skip("key permissions for reading only came with Redis 7")
    folder = tmp_path_factory.mktemp("settled")
    (folder / "users.acl").write_text(acl_file())
    server = RedisServer(folder, config=ROOT / "deploy/redis.conf", login=ADMIN, aclfile=str(folder / "users.acl"))
    yield server
    server.stop()


@pytest.fixture
def guarded(settled: RedisServer) -> Iterator[Store]:
    """The server, emptied but for what marks it as Baton's; its ledger is an operator's."""
    with client_of(settled, "admin") as client, ledger_of(settled, "operator") as ledger:
        client.flushall()
        ledger.check()
        settings = Settings(redis_url=url_of(settled, "operator"))
        exchange = Connections(client_for(settings), budget=0.5)
        yield Store(ledger, exchange, settings, client, client)
        exchange.close()


@contextmanager
def ledger_of(server: RedisServer, user: str) -> Iterator[RunLedger]:
    """The ledger as this user has it."""
    settings = Settings(redis_url=url_of(server, user), lease=60)
    exchange = Connections(client_for(settings), budget=0.5)
    try:
        yield RunLedger(exchange, settings)
    finally:
        exchange.close()


def user_of(role: Role) -> str:
    return "producer-q" if role is PRODUCER else role.name


# --- the published files ----------------------------------------------------------------------------------------------


def test_the_published_settings_forget_nothing_and_are_open_to_this_machine_only(guarded: Store) -> None:
    wanted = ("bind", "protected-mode", "maxmemory-policy", "appendonly", "appendfsync", "hash-max-listpack-value")
    told = guarded.client.config_get(*wanted)
    assert told == {
        "bind": "127.0.0.1 -::1",
        "protected-mode": "yes",
        "maxmemory-policy": "noeviction",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "hash-max-listpack-value": "512",
    }


def test_a_server_starts_with_the_published_users_only_after_their_passwords_were_put_in(tmp_path: Path) -> None:
    words = [BINARY, "--port", str(free_port()), "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    ended = subprocess.run(
        [*words, "--aclfile", str(ROOT / "deploy/users.acl")], capture_output=True, text=True, timeout=10, check=False
    )
    assert (ended.returncode, "users.acl:2: The password hash must be" in ended.stdout) == (1, True)


def test_nobody_is_let_in_without_a_password(settled: RedisServer) -> None:
    with redis.Redis(port=settled.port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


# --- commands ---------------------------------------------------------------------------------------------------------


def answer_to(server: RedisServer, user: str, *words: str) -> Any:
    """What Redis answers this user, as it is sent; a refusal as its text."""
    with client_of(server, user) as client:
        connection = client.connection_pool.get_connection()
        try:
            connection.send_command(*words)
            return connection.read_response()
        except redis.ResponseError as error:
            return str(error)
        finally:
            connection.disconnect()


def commands_of(server: RedisServer) -> dict[tuple[str, ...], int]:
    """Every command and subcommand of the server, with how many words it has at least."""
    found: dict[tuple[str, ...], int] = {}
    for row in answer_to(server, "admin", "COMMAND"):
        inner = row[9] if len(row) > 9 else []
        found |= {tuple(sub[0].split("|")): abs(sub[1]) for sub in inner} if inner else {(row[0],): abs(row[1])}
    return found


@EACH_ROLE
def test_every_command_of_the_server_but_its_own_is_refused_to_a_role(role: Role, settled: RedisServer) -> None:
    own = {tuple(command.lower().split()) for command in role.commands} | {(word,) for word in BEFORE_LOGIN}
    foreign = {words: size for words, size in commands_of(settled).items() if words not in own}
    answers = {
        words: answer_to(settled, user_of(role), *words, *["x"] * (size - len(words)))
        for words, size in foreign.items()
    }
    assert len(answers) > 200
    refusal = re.compile("no permissions to run|command not allowed")
    assert {words: said for words, said in answers.items() if not refusal.search(str(said))} == {}


def test_what_the_roles_may_send_is_what_the_modules_name(settled: RedisServer) -> None:
    known = {words[0].upper() for words in commands_of(settled)}
    named = {module: known & set(texts(ast.parse((ROOT / module).read_text()))) for module in COMMAND_DOORS}
    told = {module: {word for command in commands for word in command.split()} for module, commands in SENT.items()}
    no_senders = {"shared/commands.py", "shared/probing.py", "shared/roles.py"}
    assert {module: words for module, words in named.items() if module not in no_senders} == told


# --- what a producer may do -------------------------------------------------------------------------------------------


def ended_elsewhere(ledger: RunLedger) -> str:
    """A run of queue `other` that has completed, and that nobody needs yet."""
    run_id = one_submitted(ledger, queue="other")
    ended(ledger, seated(ledger, "w9", "other"), run_id)
    return run_id


def test_a_producer_submits_in_all_ways_that_there_are(guarded: Store, settled: RedisServer) -> None:
    done, waiting = ended_elsewhere(guarded.ledger), one_submitted(guarded.ledger, queue="other")
    all_ties = [("up", done), ("up", waiting), ("tag", "t"), ("idem", "k"), ("digest", "d"), ("within", 60)]
    ways: list[dict[str, Any]] = [
        {},
        {"delay": 60.0},
        {"at_front": True, "fields": {"parent": waiting}},
        {"ties": [("up", done)]},
        {"ties": all_ties},
    ]
    runs = [new_run(**way) for way in ways]
    with ledger_of(settled, "producer-q") as producer:
        producer.check(PRODUCER)
        answers = producer.submit([*runs, *runs[:2], new_run(ties=all_ties)])
        states = [producer.get(run.id).state.type for run in runs]
    assert answers == ["OK"] * 5 + ["EXISTS"] * 2 + [f"SAME {runs[4].id}"]
    assert states == ["PENDING", "SCHEDULED", "PENDING", "PENDING", "PENDING"]
    assert (queued(guarded), faults(guarded)) == ([runs[2].id, runs[0].id, runs[3].id], [])


@pytest.mark.parametrize("delay", [None, 60.0])
def test_what_a_producer_submits_under_a_cancelled_run_ends_without_touching_other_queues(
    guarded: Store, settled: RedisServer, delay: float | None
) -> None:
    _, parent = held_by(guarded.ledger, queue="q")
    guarded.ledger.cancel([parent.run_id])
    done, waiting = ended_elsewhere(guarded.ledger), one_submitted(guarded.ledger, queue="other")
    guarded.ledger.set_limit("task:shop.add", 1)
    guarded.ledger.announce(["CANCELLED shop.add"])
    ties = [("up", done), ("up", waiting), ("slots", 2), ("idem", "k"), ("digest", "d"), ("unique", "until_final")]
    fields = {"parent": parent.run_id, "limits": "task:shop.add", "ties": "1"}
    orphan = new_run(fields=fields, ties=ties, delay=delay)
    with ledger_of(settled, "producer-q") as producer:
        assert producer.submit([orphan]) == ["OK"]
    assert (state_of(guarded, orphan.id), faults(guarded)) == (("CANCELLED", "Cancelled", None), [])
    assert guarded.client.lrange(keys.hooks("q"), 0, -1) == [f"{orphan.id} 2 0"]


def test_a_producer_declares_limits_of_tasks_and_lets_nobody_of_other_queues_go(
    guarded: Store, settled: RedisServer
) -> None:
    limited = {"fields": {"limits": "task:shop.add", "ties": "1"}}
    guarded.ledger.set_limit("task:shop.add", 1)
    first, second = submitted(guarded.ledger, 2, queue="other", **limited)
    seat = seated(guarded.ledger, "w9", "other")
    assert [claim.run_id for claim in guarded.ledger.cycle(seat, [], 2).claims] == [first]
    assert guarded.ledger.cycle(seat, [], 1).claims == []
    with ledger_of(settled, "producer-q") as producer:
        assert producer.submit([new_run(ties=[("slots", 2)], **limited)]) == ["OK"]
    before = state_of(guarded, second)
    guarded.ledger.promote()
    assert (before[1], state_of(guarded, second)[1], faults(guarded)) == ("AwaitingConcurrencySlot", "Pending", [])


def test_a_producer_keeps_to_the_cap_of_its_queue_and_cannot_change_it(guarded: Store, settled: RedisServer) -> None:
    guarded.ledger.set_queue("q", "cap", 1)
    with ledger_of(settled, "producer-q") as producer:
        assert producer.submit([new_run(), new_run()]) == ["OK", "FULL 1 1"]
        with pytest.raises(RedisUnavailable, match="refused set_queue: this user has no permissions"):
            producer.set_queue("q", "uncap")


@pytest.mark.parametrize("lacking", ["~rq:scheduled:q", "~baton:wake:q", "~rq:canceled:q", "%R~baton:queue:q"])
def test_who_lacks_a_key_of_its_queue_submits_nothing_at_all(
    lacking: str, guarded: Store, settled: RedisServer
) -> None:
    add_user(guarded, "poor", [word for word in rights_of(PRODUCER, "q") if word != lacking])
    before = keyspace(guarded)
    with ledger_of(settled, "poor") as poor, pytest.raises(RedisUnavailable, match="refused submit"):
        poor.submit([new_run(), new_run(delay=60.0)])
    assert keyspace(guarded) == before


# What a producer may not ask of a run that waits in its queue, of one that failed there, and of one elsewhere.
REFUSED: dict[str, Callable[[RunLedger, str], object]] = {
    "submit": lambda ledger, _: ledger.submit([new_run(), new_run(queue="other")]),
    "propose": lambda ledger, run_id: ledger.propose(run_id, RUNNING, "op", seq=1),
    "cycle": lambda ledger, _: ledger.cycle(Seat("w1", ("q",)), [], 1),
    "give_back": lambda ledger, run_id: ledger.give_back("w1", [(run_id, "1")], ""),
    "beat": lambda ledger, _: ledger.beat([Pulse("w1", ("q",), {}, is_new=True)]),
    "reap": lambda ledger, _: ledger.reap([Death("w1", "gone")]),
    "promote": lambda ledger, _: ledger.promote(),
    "sweep": lambda ledger, _: ledger.sweep(),
    "expire": lambda ledger, _: ledger.expire(),
    "continue": lambda ledger, _: ledger.go_on(),
    "reconcile": lambda ledger, run_id: ledger.reconcile([run_id]),
    "fire": lambda ledger, _: ledger.fire("s", "1", "2", {}, new_run()),
    "plan": lambda ledger, _: ledger.plan("delete", "s"),
    "strike": lambda ledger, run_id: ledger.strike([Stray(run_id, "place", "rq:queue:q", run_id)]),
    "cancel": lambda ledger, run_id: ledger.cancel([run_id]),
    "retry": lambda ledger, run_id: ledger.retry(run_id, ledger.get(run_id).seq, "op"),
    "force": lambda ledger, run_id: ledger.force(run_id, ledger.get(run_id).seq, "op", COMPLETED),
    "resume": lambda ledger, run_id: ledger.resume(run_id, ledger.get(run_id).seq, "op"),
    "set_queue": lambda ledger, _: ledger.set_queue("q", "pause", "me"),
    "move": lambda ledger, _: ledger.move("q", "other"),
    "purge": lambda ledger, _: ledger.purge("q"),
    "set_limit": lambda ledger, _: ledger.set_limit("tag:db", 1),
    "drop": lambda ledger, _: ledger.drop(["1-1"]),
    "await": lambda ledger, run_id: ledger.wait_for([run_id]),
    "entrust": lambda ledger, _: ledger.entrust(new_run(), "w1", "op"),
    "announce": lambda ledger, _: ledger.announce(["FAILED shop.add"]),
    "hooks": lambda ledger, _: ledger.next_hooks("w1", ["q"]),
    "note": lambda ledger, run_id: ledger.note([Note(run_id, "1", progress="1 2")]),
    "drain": lambda ledger, _: ledger.drain(["w1"], whole_fleet=False),
}


@pytest.mark.parametrize("script", REFUSED)
def test_what_is_no_producers_is_refused_before_anything_is_written(
    script: str, guarded: Store, settled: RedisServer
) -> None:
    failed, waiting = submitted(guarded.ledger, 2)
    ended(guarded.ledger, seated(guarded.ledger, "w1"), failed, FAILED)
    elsewhere = one_submitted(guarded.ledger, queue="other")
    before = keyspace(guarded)
    with ledger_of(settled, "producer-q") as producer:
        for run_id in (failed, waiting, elsewhere):
            with pytest.raises(RedisUnavailable, match=f"refused {script}: .*(no permissions|can't)"):
                REFUSED[script](producer, run_id)
    assert keyspace(guarded) == before


@pytest.mark.parametrize("key", ["rq:queue:other", "rq:scheduled:other", "rq:wip:q", "baton:leases", "rq:worker:w1"])
@pytest.mark.parametrize(("command", "more"), [("TYPE", ()), ("DEL", ()), ("LPUSH", ("id",))])
def test_a_producer_touches_no_others_keys_from_within_a_script_either(
    key: str, command: str, more: tuple[str, ...], guarded: Store, settled: RedisServer
) -> None:
    words = ", ".join(f"'{word}'" for word in (command, key, *more))
    evaluated = answer_to(settled, "producer-q", "EVAL", f"return redis.call({words})", "0")
    assert "no permissions" in answer_to(settled, "producer-q", command, key, *more)
    assert ("can't access at least one of the keys" in evaluated, guarded.client.exists(key)) == (True, 0)


@pytest.mark.parametrize("user", ["producer-q", "observer"])
def test_nobody_but_workers_and_operators_tells_a_fleet_anything(user: str, settled: RedisServer) -> None:
    refused = [answer_to(settled, user, *words, "baton:fleet:f") for words in (["SUBSCRIBE"], ["PSUBSCRIBE"])]
    refused.append(answer_to(settled, user, "PUBLISH", "baton:fleet:f", "w1"))
    refused.append(answer_to(settled, user, "EVAL", "return redis.call('PUBLISH', 'baton:fleet:f', 'w1')", "0"))
    assert [said for said in refused if not re.search("no permissions|can't publish", str(said))] == []


# --- what is tried at connect -----------------------------------------------------------------------------------------


def rights_of(role: Role, queue: str = "*") -> list[str]:
    """The words of a role's rule, behind its name and password."""
    return rule(role, queue).split()[4:]


def add_user(store: Store, name: str, rights: list[str]) -> None:
    """A user with these rights, and the password of one of this name."""
    store.client.execute_command("ACL", "SETUSER", name, "reset", "on", f">{password_of(name)}", *rights)


def missing_to(server: RedisServer, user: str, role: Role) -> str:
    """Which permissions Redis lacks for this user, as it is told."""
    with ledger_of(server, user) as ledger, pytest.raises(RedisUnavailable, match="too few rights") as told:
        ledger.check(role)
    found = re.search("of (.*) some are missing", str(told.value))
    assert found is not None
    return found[1]


@WITH_SCRIPTS
def test_a_role_is_enough_for_itself(role: Role, guarded: Store, settled: RedisServer) -> None:
    before = keyspace(guarded)
    with ledger_of(settled, user_of(role)) as ledger:
        ledger.check(role)
    assert keyspace(guarded) == before


def test_what_is_tried_can_be_done_and_changes_nothing_and_nobody_hears_it(guarded: Store) -> None:
    one_submitted(guarded.ledger, ties=[("tag", "t"), ("within", 60)])
    heard, before, asked = Overheard(guarded.exchange), keyspace(guarded), probe(WORKER)
    refused = guarded.exchange.evaluate(asked.script, asked.key_names, asked.arguments)
    assert (refused, keyspace(guarded)) == ([], before)
    run_id = one_submitted(guarded.ledger)
    told = eventually(lambda: list(heard.heard()))
    heard.close()
    assert [told_of for told_of, _ in told] == [run_id]


@WITH_SCRIPTS
def test_a_command_that_is_missing_is_told_by_its_name(role: Role, guarded: Store, settled: RedisServer) -> None:
    told = {}
    for command in sorted(role.calls - {"PUBLISH", "TIME"}):
        add_user(guarded, "poor", [*rights_of(role), f"-{command.lower()}"])
        told[command] = missing_to(settled, "poor", role)
    # Families of keys are tried with PERSIST.
    assert {command: said for command, said in told.items() if said.split()[0] != f"+{command.lower()}"} == {}


@WITH_SCRIPTS
def test_a_family_of_keys_that_is_missing_is_told_by_its_name(role: Role, guarded: Store, settled: RedisServer) -> None:
    patterns = {re.sub("<[^>]*>", "*", family) for family in role.touches}
    # What another pattern stands for too cannot be missing alone; commands are tried on the record of a run.
    alone = {one for one in patterns if not any(fnmatch(one, other) for other in patterns - {one})} - {keys.JOB + "*"}
    others = [word for word in rights_of(role) if word[0] != "~"]
    told = {}
    for left_out in alone:
        given = [f"~{pattern}" for pattern in sorted(patterns) if not fnmatch(pattern, left_out)]
        add_user(guarded, "poor", [*others, f"%R~{keys.META}", *given])
        told[left_out] = missing_to(settled, "poor", role).split()
    assert {one: said for one, said in told.items() if f"~{one}" not in said or len(said) > 3} == {}
    assert len(told) > 12
