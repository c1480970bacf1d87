"""A redis-server of one's own for a test: on a free port of 127.0.0.1, in its own folder, ended by its pid."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import redis

BINARY = os.environ.get("BATON_TEST_REDIS", "redis-server")


def available() -> bool:
    """True if the server's binary is on this machine."""
    return shutil.which(BINARY) is not None


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """A running redis-server. `options` are its command line options, without the leading dashes.

    `config`: its configuration file, which then says everything else. `login`: the user and password of `client`.
    """

    def __init__(
        self, folder: Path, *, config: Path | None = None, login: tuple[str, str] | None = None, **options: str
    ) -> None:
        self.folder = folder
        self._config = [str(config)] if config else []
        self._login = dict(zip(("username", "password"), login or (), strict=False))
        usual = {"bind": "127.0.0.1", "save": "", "appendonly": "no"}
        self.options = {**({} if config else usual), **options}
        for _ in range(5):
            self.port = free_port()
            if self.start():
                return
        raise RuntimeError(f"{BINARY} did not start: {(folder / 'redis.log').read_text()}")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """A plain client, for looking at what is stored."""
        return redis.Redis(port=self.port, decode_responses=True, **self._login)

    def start(self) -> bool:
        """Start on the same port; False if the server ended at once (the port was taken meanwhile)."""
        options = [part for name, value in self.options.items() for part in (f"--{name}", value)]
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(
                [BINARY, *self._config, "--port", str(self.port), "--dir", str(self.folder), *options],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                with self.client() as client:
                    if client.info("server")["process_id"] == self.process.pid:
                        return True
            except redis.exceptions.RedisError:
                time.sleep(0.01)
        return False

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End the server, and wait for its end."""
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)

    def restart(self) -> None:
        """Kill it and start it again on the same port, with what its persistence kept."""
        self.stop(signal.SIGKILL)
        if not self.start():
            raise RuntimeError(f"{BINARY} did not come back: {(self.folder / 'redis.log').read_text()}")
