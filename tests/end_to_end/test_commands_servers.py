"""Commands against addresses and servers that are not as they should be: an exit code and a text for each."""

import json
import shutil
import signal
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import redis

from tests.support.command_line import called
from tests.support.server import RedisServer, free_port
from tests.support.waiting import eventually

ID = "01a1f879-5eda-7005-8876-23ab1bc095ff"
# One command of each kind: a list, a page, a stream, a submit, an examination, the check itself, and a fleet.
WORKER = "worker -m tests.end_to_end.bodies"
COMMANDS = ["runs list", f"runs show {ID}", "runs watch --count 1", "submit shop.add", "doctor", "check", WORKER]
OLD = b"redis_version:5.0.14\r\nredis_mode:standalone\r\n"


def asked(url: str, command: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and all that was said, which is one or two lines and no traceback."""
    code = called("--url", url, "--timeout", "0.5", *command.split())
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out + err


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@127.0.0.1:0/0",
        "redis://:secret@127.0.0.1:70000/0",
        "redis://:secret@127.0.0.1:x/0",
        "http://:secret@127.0.0.1/",
        "127.0.0.1:6379",
        "redis://",
        "redis:///0",
        "redis://:secret@/0",
        "redis://:secret@127.0.0.1/zero",
        "redis://:sec#ret@127.0.0.1/0",
        "redis://somebody:p@sec#ret@127.0.0.1/0",
        "redis://:sec/ret@127.0.0.1/0",
        "redis://:sec?ret@127.0.0.1/0",
        "redis://[",
        "",
        "\x1b[2Jredis://x",
    ],
)
@pytest.mark.parametrize("command", ["runs list", "check", "submit shop.add", "demo"])
def test_what_is_no_address_is_refused_without_its_password(
    url: str, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATON_REDIS_URL", url)
    code = called(*command.split())
    out, err = capsys.readouterr()
    assert (code, out, "is no address of a Redis" in err) == (78, "", True)
    assert not any(part in err for part in ("secret", "sec#", "sec/", "sec?", "ret@", "\x1b"))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("url", "leave"),
    [
        ("redis://:secret@192.0.2.1:6379/0", "BATON_ALLOW_PLAIN_PASSWORD"),
        ("rediss://:secret@192.0.2.1:6379/0?ssl_cert_reqs=none", "BATON_ALLOW_UNVERIFIED_TLS"),
    ],
    ids=["unencrypted", "unverified"],
)
def test_a_password_is_shown_to_no_network_and_to_no_stranger(
    command: str, url: str, leave: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = asked(url, command, capsys)
    assert (code, leave in said, "secret" in said) == (78, True, False)


def test_a_password_may_hold_an_at_sign(module_server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    with module_server.client() as client:
        client.execute_command("ACL", "SETUSER", "at", "on", ">p@ss", "~*", "&*", "+@all")
    code, said = asked(module_server.url.replace("//", "//at:p@ss@"), "check", capsys)
    assert (code, "p@ss" in said) == (0, False)


# --- servers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_no_server(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    code, said = asked(f"redis://127.0.0.1:{port}/0", command, capsys)
    assert (code, f"127.0.0.1:{port}" in said) == (69, True)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_password(module_server: RedisServer, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = asked(module_server.url.replace("//", "//somebody:secret@"), command, capsys)
    assert (code, "invalid username-password pair" in said, "secret" in said) == (69, True, False)


@pytest.mark.parametrize("command", COMMANDS)
def test_too_few_rights(module_server: RedisServer, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with module_server.client() as client:
        client.execute_command("ACL", "SETUSER", "small", "on", ">pw", "~*", "+@read", "+info", "+time")
    code, said = asked(module_server.url.replace("//", "//small:pw@"), command, capsys)
    assert (code, "no permissions" in said.lower()) == (69, True)


class NoRedis(BaseHTTPRequestHandler):
    """An HTTP server that logs nothing."""

    def log_message(self, *_: object) -> None:
        """Tests read stderr."""


class OldRedis(socketserver.StreamRequestHandler):
    """Speaks as Redis 5 does where it is asked about itself, and refuses everything else."""

    def handle(self) -> None:
        """Answer each command: an array of texts, each behind a line with its length."""
        while head := self.rfile.readline():
            words = []
            for _ in range(int(head[1:])):
                self.rfile.readline()
                words.append(self.rfile.readline().strip().upper())
            answer = b"$%d\r\n%s\r\n" % (len(OLD), OLD) if words[0] == b"INFO" else b"-ERR unknown command\r\n"
            self.wfile.write(answer)


@contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[str]:
    """The address of this server, while it serves."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_of_another_protocol(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(HTTPServer(("127.0.0.1", 0), NoRedis)) as url:
        code, said = asked(url, command, capsys)
    assert (code, "did not answer" in said) == (69, True)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_is_too_old(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), OldRedis)) as url:
        code, said = asked(url, command, capsys)
    assert (code, "5.0.14" in said, "6.2" in said) == (78, True, True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, module_server: RedisServer) -> Iterator[str]:
    """A server in cluster mode; asks for the other first, so that it is skipped where there is none."""
    assert module_server
    options = {"cluster-enabled": "yes", "cluster-config-file": "nodes.conf"}
    server = RedisServer(tmp_path_factory.mktemp("cluster"), **options)
    yield server.url
    server.stop()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_cluster(cluster: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = asked(cluster, command, capsys)
    assert (code, "cluster" in said.lower()) == (78, True)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "check"])
def test_data_of_a_newer_layout(server: RedisServer, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with server.client() as client:
        client.hset("baton:meta", "layout", 99)
        code, said = asked(server.url, command, capsys)
        assert (code, "layout 99" in said, client.keys("*")) == (78, True, ["baton:meta"])


# --- servers that may be read only ------------------------------------------------------------------------------------


def out_of_memory(client: "redis.Redis", _folder: Path) -> None:
    client.config_set("maxmemory", "1kb")


def without_replicas(client: "redis.Redis", _folder: Path) -> None:
    client.config_set("min-replicas-to-write", 1)


def a_replica(client: "redis.Redis", _folder: Path) -> None:
    client.execute_command("REPLICAOF", "127.0.0.1", free_port())


def without_a_disk(client: "redis.Redis", folder: Path) -> None:
    """Its folder is removed before it saves."""
    shutil.rmtree(folder)
    client.config_set("save", "1 1")
    client.bgsave()
    eventually(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")


@pytest.mark.usefixtures("module_server")
@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (out_of_memory, "maxmemory"),
        (without_replicas, "NOREPLICAS"),
        (a_replica, "read only replica"),
        (without_a_disk, "MISCONF"),
    ],
)
@pytest.mark.parametrize("command", ["submit shop.add", "check"])
def test_a_server_that_takes_no_writes(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    trouble: Callable[["redis.Redis", Path], None],
    reason: str,
    command: str,
) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    server = RedisServer(folder)
    try:
        asked(server.url, "runs list", capsys)  # from now on it is one of Baton's
        with server.client() as client:
            trouble(client, folder)
        code, said = asked(server.url, command, capsys)
    finally:
        server.stop(signal.SIGKILL)  # asked kindly, one that cannot save would stay
    assert (code, reason in said) == (69, True)


# --- the check --------------------------------------------------------------------------------------------------------


def checked(url: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, tuple[str, str]]]:
    """Exit code of `baton check`, and verdict and reason of each condition."""
    code, said = asked(url, "check --json", capsys)
    told = json.loads(said)
    assert told["fit"] == (code == 0)
    return code, {one["check"]: (one["verdict"], one["why"]) for one in told["checks"]}


@pytest.mark.usefixtures("module_server")
def test_a_server_that_is_as_it_should_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = RedisServer(tmp_path, appendonly="yes", **{"hash-max-ziplist-value": "512"})
    try:
        code, told = checked(server.url, capsys)
        with server.client() as client:
            assert client.keys("*") == []
    finally:
        server.stop()
    assert (code, {verdict for verdict, _ in told.values()}) == (0, {"ok"})
    assert list(told) == ["reach", "write", "server", "policy", "persistence", "layout", "memory"]


@pytest.mark.parametrize(
    ("option", "value", "condition", "verdict", "reason", "expected"),
    [
        ("maxmemory-policy", "allkeys-lru", "policy", "failed", "allkeys-lru", 78),
        ("appendonly", "no", "persistence", "warning", "no append only file", 0),
        ("hash-max-ziplist-value", "64", "memory", "warning", "is 64", 0),
    ],
)
def test_each_condition_is_told_by_name(
    server: RedisServer,
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: str,
    condition: str,
    verdict: str,
    reason: str,
    expected: int,
) -> None:
    with server.client() as client:
        before = client.config_get(option)[option]
        try:
            client.config_set(option, value)
            code, told = checked(server.url, capsys)
        finally:
            client.config_set(option, before)
    assert (code, told[condition][0], reason in told[condition][1]) == (expected, verdict, True)


@pytest.mark.parametrize(
    ("layout", "verdict", "expected"), [("1", "ok", 0), ("99", "failed", 78), ("\x1b[2J", "failed", 78)]
)
def test_the_layout_is_checked(
    server: RedisServer, capsys: pytest.CaptureFixture[str], layout: str, verdict: str, expected: int
) -> None:
    with server.client() as client:
        client.hset("baton:meta", "layout", layout)
    code, told = checked(server.url, capsys)
    assert (code, told["layout"][0]) == (expected, verdict)


def test_a_layout_of_another_type_is_told(server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    with server.client() as client:
        client.set("baton:meta", "x")
    code, told = checked(server.url, capsys)
    assert (code, told["layout"][0], "WRONGTYPE" in told["layout"][1]) == (78, "failed", True)
