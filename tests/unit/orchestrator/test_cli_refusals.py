"""What the command line refuses, and how: names, ids, parameters, settings, and texts that are echoed."""

import signal
import subprocess
from pathlib import Path

import pytest

from shared.ledger import RunLedger
from tests.support.command_line import BATON, called
from tests.support.fleets import BODIES, environment
from tests.support.ledgers import one_submitted, seated
from tests.support.server import RedisServer, free_port

UNKNOWN = "01a1f879-5eda-7005-8876-23ab1bc095ff"
ESCAPES = "\x1b[2J\r\x07\u202e\u2066\u200b"
QUEUES = [
    "",
    "two words",
    "a:b",
    "{a}",
    "a*",
    "a\nb",
    "a\x00b",
    "m\u0430il",
    "\uff21\uff22",
    "Mail",
    ".a",
    "x" * 10_240,
    "due",
]


@pytest.fixture
def url(server: RedisServer) -> str:
    return server.url


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code and what was said, which is visible text of a bounded length; nothing is answered."""
    code = called(*words)
    out, err = capsys.readouterr()
    assert (out, err.replace("\n", "").isprintable(), len(err) < 40_000) == ("", True, True)
    return code, err


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUEUES, ids=ascii)
@pytest.mark.parametrize(
    "words",
    [
        ["runs", "list", "--queue"],
        ["queues", "show"],
        ["queues", "pause"],
        ["queues", "purge", "--yes"],
        ["queues", "move", "--yes", "q"],
        ["runs", "cancel", "--yes", "--queue"],
        ["submit", "shop.add", "--queue"],
        ["worker", "-m", BODIES, "-q"],
    ],
    ids=" ".join,
)
def test_a_name_that_no_queue_can_have_is_exit_code_2(
    url: str, capsys: pytest.CaptureFixture[str], words: list[str], name: str
) -> None:
    code, said = refused(capsys, "--url", url, *words, name)
    assert (code, "queue's name has" in said or "is taken by Baton" in said) == (2, True)


LOOKING = [["show"], ["history"], ["logs"], ["result"], ["watch"]]
STEERING = [["cancel", "--yes"], ["retry", "--yes"], ["force", "--yes", "--to", "failed", "--reason", "why"]]


@pytest.mark.parametrize("words", [*LOOKING, *STEERING], ids=" ".join)
@pytest.mark.parametrize(
    ("word", "expected", "hint"),
    [
        ("junk", 2, "is no id of a run: ids look like"),
        ("01a1f879", 1, "No run in Redis begins with"),
    ],
)
def test_a_beginning_of_an_id_is_malformed_or_unknown(
    url: str, capsys: pytest.CaptureFixture[str], words: list[str], word: str, expected: int, hint: str
) -> None:
    code, said = refused(capsys, "--url", url, "runs", *words, word)
    assert (code, hint in " ".join(said.split())) == (expected, True)


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
def test_an_id_is_unknown(url: str, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    code, said = refused(capsys, "--url", url, "runs", *words, UNKNOWN)
    assert (code, "is not in Redis" in said) == (1, True)


@pytest.mark.parametrize("words", [*LOOKING, *STEERING], ids=" ".join)
def test_an_ambiguous_beginning_of_an_id_lists_the_matches(
    url: str, ledger: RunLedger, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    ids = [one_submitted(ledger, id=f"01a1f879-5eda-7005-8876-23ab1bc095{end}") for end in ("00", "ff")]
    code, said = refused(capsys, "--url", url, "runs", *words, "01a1f879")
    assert (code, [line.strip() for line in said.splitlines()[-2:]]) == (2, ids)


def test_a_worker_is_unknown_or_ambiguous(url: str, ledger: RunLedger, capsys: pytest.CaptureFixture[str]) -> None:
    names = [seated(ledger, name).worker for name in ("w1", "w2")]
    unknown, said = refused(capsys, "--url", url, "workers", "show", "x")
    ambiguous, listed = refused(capsys, "--url", url, "workers", "show", "w")
    empty, _ = refused(capsys, "--url", url, "workers", "show", "")
    assert (unknown, ambiguous, empty, "begins with 'x'" in said) == (1, 2, 1, True)
    assert [line.strip() for line in listed.splitlines()[-2:]] == names


@pytest.mark.parametrize(
    "words",
    [
        ["runs", "list", "--since", "soon"],
        ["runs", "list", "--since", "2026-13-01"],
        ["runs", "list", "--since", "-5"],
        ["runs", "list", "--since", "9" * 12 + "d"],
        ["runs", "list", "--limit", "0"],
        ["runs", "list", "--limit", "1001"],
        ["runs", "watch", "--count", "0"],
        ["runs", "cancel", "--yes"],
        ["runs", "cancel", "--yes", UNKNOWN, "--all"],
        ["runs", "cancel", "--yes", UNKNOWN, "--state", "pending"],
        ["runs", "cancel", "--yes", "--all", "--task", "x"],
        ["runs", "cancel", "--yes", "--all", "--limit", "0"],
        ["runs", "retry", "--yes", "--all", "--delay", "-1"],
        ["runs", "cancel", "--yes", "--state", "completed", "--state", "pending"],
        ["runs", "retry", "--yes", "--state", "running"],
        ["runs", "retry", "--yes", "--state", "completed"],
        ["runs", "force", "--yes", UNKNOWN, "--to", "failed"],
        ["runs", "force", "--yes", UNKNOWN, "--to", "failed", "--reason", " "],
        ["runs", "force", "--yes", UNKNOWN, "--to", "running", "--reason", "why"],
        ["queues", "cap", "q", "many"],
        ["queues", "cap", "q", "-1"],
        ["queues", "cap", "q", "9" * 13],
        ["queues", "move", "--yes", "q", "q"],
        ["limits", "set", "tag:db", "-1"],
        ["limits", "set", "two words", "1"],
        ["quarantine", "show", "x"],
        ["quarantine", "requeue", "--yes"],
        ["quarantine", "drop", "--yes"],
        ["quarantine", "drop", "--yes", "1-1", "--all"],
        ["quarantine", "drop", "--yes", "--reason", "nosuch"],
        ["runs", "watch", "01a1f879-5eda-7005-8876-23ab1bc095ff", "--count", "1"],
        ["submit", "x", "--delay", "-1"],
        ["submit", "x", "--delay", "nan"],
        ["submit", "x", "--timeout", "1"],
        ["--timeout", "0", "version"],
        ["--timeout", "soon", "version"],
        ["worker"],
        ["worker", "-m", BODIES, "--json"],
        ["demo", "--keep", "--json"],
    ],
    ids=" ".join,
)
def test_wrong_values_of_options_are_exit_code_2(
    url: str, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert refused(capsys, "--url", url, *words)[0] == 2


# --- echoes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        [ESCAPES],
        [f"--{ESCAPES}"],
        ["runs", "list", "--state", ESCAPES],
        ["runs", "list", "--since", ESCAPES],
        ["runs", "list", "--queue", ESCAPES],
        ["runs", "show", ESCAPES],
        ["queues", "show", ESCAPES],
        ["workers", "show", ESCAPES],
        ["runs", "cancel", "--yes", ESCAPES],
        ["runs", "list", "--tag", ESCAPES],
        ["limits", "show", ESCAPES],
        ["limits", "set", ESCAPES, "1"],
        ["limits", "delete", "--yes", ESCAPES],
        ["quarantine", "show", ESCAPES],
        ["queues", "cap", "q", ESCAPES],
        ["tasks", "show", ESCAPES],
        ["submit", ESCAPES],
        ["submit", "x", "-p", ESCAPES],
        ["submit", "x", "-p", f"{ESCAPES}=1", "-p", f"{ESCAPES}=2"],
        ["submit", "x", "--parameters", ESCAPES],
        ["completion", ESCAPES],
        ["--url", ESCAPES, "version"],
        ["--url", f"redis://{ESCAPES}/0", "check"],
    ],
    ids=ascii,
)
def test_what_an_argument_holds_is_never_sent_to_the_terminal(
    url: str, ledger: RunLedger, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    seated(ledger)
    code = called("--url", url, "--timeout", "0.2", *words)
    told = "".join(capsys.readouterr())
    assert (code in (1, 2, 69, 78), told.replace("\n", "").isprintable()) == (True, True)


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("LEASE", "soon", "$BATON_LEASE is 'soon'"),
        ("LEASE", "", "$BATON_LEASE is ''"),
        ("LEASE", "nan", "$BATON_LEASE is 'nan'"),
        ("BEAT", "20", "lease (30 s) must be at least 2.5 x beat (20 s)"),
        ("CRASH_BUDGET", "1.5", "$BATON_CRASH_BUDGET is '1.5'"),
        ("RETENTION_FAILED", "59", "$BATON_RETENTION_FAILED is '59'"),
        ("MAX_RESULT", ESCAPES, "$BATON_MAX_RESULT is '\\x1b[2J"),
        ("MAX_RESULT", "\udcff\udcfe", "$BATON_MAX_RESULT is "),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("command", ["version", "config show", "runs list", "submit x", "demo", f"worker -m {BODIES}"])
def test_a_wrong_setting_is_exit_code_78_with_its_name_and_value(
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    name: str,
    value: str,
    hint: str,
) -> None:
    monkeypatch.setenv(f"BATON_{name}", value)
    code, said = refused(capsys, "--url", url, *command.split())
    assert (code, hint in said) == (78, True)


def test_every_wrong_setting_is_named_at_once(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("BATON_LEASE", "BATON_PING"):
        monkeypatch.setenv(name, "soon")
    code, said = refused(capsys, "--url", url, "version")
    assert (code, [line.split(" is ")[0] for line in said.splitlines()]) == (78, ["baton: $BATON_LEASE", "$BATON_PING"])


# --- how it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "shows"), [([], False), (["--debug"], True)])
def test_an_internal_error_is_exit_code_70_and_one_line_unless_more_is_asked_for(
    server: RedisServer, options: list[str], *, shows: bool
) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [BATON, *options, "runs", "list"],
            env=environment(server.url),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    assert (ended.returncode, "No space left" in ended.stderr, "Traceback" in ended.stderr) == (70, True, shows)


def test_ctrl_c_is_exit_code_130(server: RedisServer) -> None:
    with subprocess.Popen(
        [BATON, "runs", "watch"],
        env=environment(server.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "Following all runs; Ctrl-C ends it.\n"
        process.send_signal(signal.SIGINT)
        assert (process.wait(30), process.stderr.read()) == (130, "")


def test_a_debugged_error_shows_its_traceback_and_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    code = called("--debug", "--url", f"redis://:secret@127.0.0.1:{free_port()}/0", "--timeout", "0.1", "runs", "list")
    err = capsys.readouterr().err
    assert (code, "Traceback" in err, "secret" in err) == (69, True, False)
