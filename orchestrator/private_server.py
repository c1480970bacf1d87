"""A private Redis for this process: found on PATH, on a free port, with a random password, gone when this process is.

Nothing is written down: configuration and password go through stdin, so that neither stands in a file or in the process
list, and the server keeps no data.
"""

import re
import secrets
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from orchestrator.owned import OwnedProgram
from shared.clock import monotonic
from shared.connect import connect
from shared.errors import ConfigError, RedisUnavailable
from shared.ledger import RunLedger
from shared.settings import Settings

START_SECONDS = 10.0
TRIES = 5
OLDEST = {"redis-server": (6, 2), "valkey-server": (7, 2)}
CONFIGURATION = """\
bind 127.0.0.1
port {port}
requirepass {password}
save ""
appendonly no
maxmemory-policy noeviction
hash-max-ziplist-value 512
daemonize no
logfile ""
"""


@dataclass(frozen=True)
class Binary:
    """A server program that can be used; `title` is its name and version, for people."""

    path: str
    title: str


def find_binary() -> Binary | None:
    """The first of redis-server (6.2 or newer) and valkey-server (7.2 or newer) on PATH, or None."""
    for name, oldest in OLDEST.items():
        path = shutil.which(name)
        if path is None:
            continue
        told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
        version = re.search(r"v=(\d+)\.(\d+)\.(\d+)", told)
        if version and tuple(map(int, version.groups()[:2])) >= oldest:
            return Binary(path, f"{name} {'.'.join(version.groups())}")
    return None


class PrivateServer:
    """A running server of one's own; ends with `close`, or with this process.

    Raises:
        ConfigError: it did not start.
    """

    def __init__(self, binary: Binary) -> None:
        self.title = binary.title
        self._password = secrets.token_urlsafe(24)
        for _ in range(TRIES):
            # Somebody may take the port before the server does: then it ends at once, and another port is tried.
            self.port = _free_port()
            configuration = CONFIGURATION.format(port=self.port, password=self._password)
            self._program = OwnedProgram([binary.path, "-"], stdin=configuration.encode(), folder=Path("/"))
            if self._is_up():
                return
            self._program.close()
        raise ConfigError(f"{binary.path} did not start on 127.0.0.1; set BATON_REDIS_URL to use another Redis")

    @property
    def url(self) -> str:
        """Its address, with the password."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._program.pid

    def close(self) -> None:
        """End the server, and wait for its end."""
        self._program.close()

    def _is_up(self) -> bool:
        settings = Settings(redis_url=self.url, socket_timeout=0.5, connect_timeout=0.5)
        exchange = connect(settings, budget=0.05)
        deadline = monotonic() + START_SECONDS
        try:
            while self._program.is_running and monotonic() < deadline:
                try:
                    RunLedger(exchange, settings).check()
                except RedisUnavailable:
                    continue  # the call itself waited a little
                return True
        finally:
            exchange.close()
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
