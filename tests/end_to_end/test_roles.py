"""Every role at its work, on a server that lets nobody in without a name: fleets, servers, producers, operators."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Orchestrator
from shared import keys
from shared.errors import SubmitError
from shared.roles import WORKER, rule
from shared.settings import Settings
from tests.end_to_end import bodies
from tests.support.command_line import answered, called
from tests.support.fleets import BIN, ROOT, SHORT, Fleets, command, environment
from tests.support.roles import acl_file, client_of, password_of, url_of
from tests.support.server import RedisServer
from tests.support.waiting import eventually

BASH = shutil.which("bash") or "bash"
ADD = "tests.end_to_end.bodies.add"


@pytest.fixture(scope="module")
def settled(module_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server with the published settings and users, a producer of `default` among them."""
    with module_server.client() as client:
        if int(client.info("server")["redis_version"].split(".")[0]) < 7:
            pytest.skip("key permissions for reading only came with Redis 7")
    folder = tmp_path_factory.mktemp("settled")
    (folder / "users.acl").write_text(acl_file(["default"]))
    admin = ("admin", password_of("admin"))
    server = RedisServer(folder, config=ROOT / "deploy/redis.conf", login=admin, aclfile=str(folder / "users.acl"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def fleet(settled: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleets]:
    """A fleet of two workers, with the rights of workers."""
    with client_of(settled, "admin") as client:
        fleets = Fleets(url_of(settled, "worker"), client, tmp_path_factory.mktemp("fleet"))
        try:
            fleets(concurrency=2, **SHORT)
            yield fleets
        finally:
            fleets.clear_away()


@pytest.fixture(autouse=True)
def refusals(settled: RedisServer, fleet: Fleets) -> Iterator[list[str]]:
    """What was refused to anybody during a test, beside a fleet: nothing, unless the test expects it in this list."""
    assert fleet.started
    with client_of(settled, "admin") as client:
        client.execute_command("ACL", "LOG", "RESET")
        expected: list[str] = []
        yield expected
        refused = [f"{entry['username']}: {entry['reason']} {entry['object']}" for entry in client.acl_log()]
    assert [told for told in refused if told not in expected] == []


@contextmanager
def producer_on(server: RedisServer, user: str = "producer-default", **settings: Any) -> Iterator[Orchestrator]:
    """An Orchestrator that is logged in as this user."""
    with Orchestrator(settings=Settings.load({}, redis_url=url_of(server, user), **settings)) as baton:
        yield baton


def test_a_producer_submits_and_hears_what_becomes_of_it(settled: RedisServer) -> None:
    with producer_on(settled) as baton:
        futures = baton.submit_many((bodies.add, {"x": number, "y": 1}) for number in range(20))
        later = baton.submit(bodies.sum_of, {"end": 3}, delay=0.2, idempotency_key="k")
        again = baton.submit(bodies.sum_of, {"end": 3}, delay=0.2, idempotency_key="k")
        answers = [future.result(timeout=20) for future in (*futures, later)]
        names = [state.name for state in baton.history(later.run_id)]
    assert (answers, again.run_id) == ([*range(1, 21), 4], later.run_id)
    assert (names[0], names[-1]) == ("Scheduled", "Completed")


def test_a_producer_of_another_queue_is_told_so_and_nothing_was_submitted(
    settled: RedisServer, refusals: list[str]
) -> None:
    with client_of(settled, "admin") as client, producer_on(settled) as baton:
        before = {*client.scan_iter("rq:job:*"), *client.smembers(keys.QUEUES)}
        with pytest.raises(SubmitError, match="refused submit: this user has no permissions"):
            baton.submit(bodies.add, {"x": 1, "y": 1}, queue="other")
        after = {*client.scan_iter("rq:job:*"), *client.smembers(keys.QUEUES)}
    refusals.append("producer-default: key rq:queue:other")
    assert after == before


def test_whose_rights_are_too_few_begins_nothing(settled: RedisServer) -> None:
    with client_of(settled, "admin") as client:
        rights = [word for word in rule(WORKER).split()[4:] if word not in ("~baton:*", "+zadd")]
        poor = ["reset", "on", f">{password_of('poor')}", *rights, "~baton:[^l]*"]
        client.execute_command("ACL", "SETUSER", "poor", *poor)
        answers = [
            command("baton", *words, url=url_of(settled, "poor"), seconds=20)
            for words in (["worker", "-m", "examples.census"], ["server"], ["limits", "set", "tag:db", "1"])
        ]
        client.execute_command("ACL", "LOG", "RESET")
    told = [
        (answer.returncode, answer.stderr.count("too few rights: of +zadd ~baton:leases ~baton:limits"))
        for answer in answers
    ]
    assert told == [(69, 1)] * 3


def test_a_server_fires_schedules_that_an_operator_made(settled: RedisServer, tmp_path: Path) -> None:
    made = command(
        *("baton", "schedules", "create", ADD, "-p", "x=1", "-p", "y=2"),
        *("--interval", "0.2", "--id", "often"),
        url=url_of(settled, "operator"),
    )
    assert (made.stdout, made.returncode) == ("often\n", 0), made.stderr
    with (tmp_path / "log").open("wb") as log, client_of(settled, "observer") as client:
        env = environment(url_of(settled, "server"))
        process = subprocess.Popen([BIN / "baton", "server"], cwd=ROOT, env=env, stdout=log, stderr=log)
        try:
            eventually(lambda: int(client.hget(keys.schedule("often"), "fired") or 0) > 2, 20)
            process.terminate()
            code = process.wait(10)
        finally:
            process.kill()
            process.wait(10)
    assert code == 0
    assert command("baton", "schedules", "delete", "often", "--yes", url=url_of(settled, "operator")).returncode == 0


READS = (
    "runs list",
    "queues list",
    "queues show default",
    "workers list",
    "tasks list",
    "limits list",
    "schedules list",
)
STEERS = (
    *("queues pause default", "queues cap default 9", "queues cap default none", "queues resume default"),
    *("limits set tag:db 1", "limits delete tag:db --yes", "reconcile --yes", "doctor", "quarantine list"),
    *("queues move default other --yes", "queues purge other --yes", "runs cancel --queue other --yes"),
)


@pytest.mark.parametrize("words", [*READS, *STEERS])
def test_an_operator_looks_and_steers(words: str, settled: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = answered(url_of(settled, "operator"), words.split(), capsys)
    assert code in (0, 1)


@pytest.mark.parametrize("words", READS)
def test_an_observer_looks(words: str, settled: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = answered(url_of(settled, "observer"), words.split(), capsys)
    assert (code, bool(out)) == (0, True)


@pytest.mark.parametrize(
    "words",
    [
        *("limits set tag:db 1", "queues pause default", "doctor", f"submit {ADD} -p x=1 -p y=1"),
        *("workers drain --all --yes", "schedules run often"),
    ],
)
def test_an_observer_does_nothing_else(
    words: str, settled: RedisServer, refusals: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with client_of(settled, "admin") as client:
        before = (client.smembers(keys.LIMITS), client.exists(keys.queue_settings("default")))
        code = called("--url", url_of(settled, "observer"), *words.split())
        told = capsys.readouterr().err
        assert (client.smembers(keys.LIMITS), client.exists(keys.queue_settings("default"))) == before
    refusals += [f"observer: command {word}" for word in ("evalsha", "eval", "scan")]
    assert (code, "permission" in told or "too few rights" in told) == (69, True)


def test_rqs_tools_work_for_an_operator(settled: RedisServer) -> None:
    url = url_of(settled, "operator")
    info = command("rq", "info", "-u", url, url=url)
    suspended = [command("rq", word, "-u", url, url=url) for word in ("suspend", "resume")]
    assert (info.returncode, "2 workers" in info.stdout) == (0, True), info.stderr
    assert [ended.returncode for ended in suspended] == [0, 0]


def test_passwords_are_put_in_as_the_page_says(tmp_path: Path) -> None:
    (block,) = re.findall(r"```console\n(.*?)```", (ROOT / "deploy/README.md").read_text(), re.DOTALL)
    script = "set -eu\n" + re.sub(r"^[$>] ", "", block, flags=re.MULTILINE)
    env = {**environment("redis://nowhere"), "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    subprocess.run([BASH, "-c", script], cwd=tmp_path, env=env, timeout=30, check=True)
    passwords = dict(line.split() for line in (tmp_path / "passwords").read_text().splitlines())
    login = ("worker", passwords["worker"])
    server = RedisServer(tmp_path, login=login, aclfile=str(tmp_path / "users.acl"))
    server.stop()
    names = {"producer-mail", "producer-pdf", "worker", "server", "operator", "observer", "admin"}
    assert (passwords.keys(), (tmp_path / "users.acl").stat().st_mode & 0o077) == (names, 0)
