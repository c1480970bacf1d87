"""The command line under test: called in this process, or in a terminal of its own."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import main
from shared.connect import connect
from shared.ledger import RunLedger
from shared.settings import Settings

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
BATON = Path(sys.executable).parent / "baton"


def called(*words: str) -> int:
    """The exit code of `baton` with these words."""
    with pytest.raises(SystemExit) as end:
        main(list(words))
    return int(end.value.code or 0)


def answered(url: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and answer of a command; what it says beside that must be visible text too."""
    code = called("--url", url, *words)
    out, err = capsys.readouterr()
    assert err.replace("\n", "").isprintable()
    return code, out


def in_terminal(env: Mapping[str, str], *words: str, columns: int, **variables: str) -> tuple[int, str]:
    """The exit code of `baton`, and all that a terminal of this width was sent. `variables` go over `env`."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {name: text for name, text in env.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    with subprocess.Popen(
        [BATON, *words], stdin=theirs, stdout=theirs, stderr=theirs, env={**kept, "TERM": "xterm-256color", **variables}
    ) as process:
        os.close(theirs)
        said = b"".join(_read_all(ours))
        os.close(ours)
        return process.wait(30), said.decode().replace("\r\n", "\n")


@contextmanager
def ledger_at(url: str, **changes: Any) -> Iterator[RunLedger]:
    """A ledger on the server at this address, with these settings."""
    settings = Settings(redis_url=url, **changes)
    exchange = connect(settings)
    ledger = RunLedger(exchange, settings)
    ledger.check()
    try:
        yield ledger
    finally:
        exchange.close()


def _read_all(terminal: int) -> Sequence[bytes]:
    """Everything until the other side is closed, which a terminal tells as an error."""
    parts: list[bytes] = []
    try:
        while part := os.read(terminal, 65_536):
            parts.append(part)
    except OSError:
        pass
    return parts
