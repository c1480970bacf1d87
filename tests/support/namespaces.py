"""A network of its own for a process of a test, as on another machine; its cable can be pulled. Needs root and `ip`."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass


def _ip(*words: str) -> bool:
    return subprocess.run(["ip", *words], capture_output=True, check=False).returncode == 0  # noqa: S607 - from PATH


@dataclass(frozen=True)
class Namespace:
    """A namespace that reaches this one by a cable; `cable` is our end of it, `address` ours on it."""

    name: str
    cable: str
    address: str

    @property
    def under(self) -> tuple[str, ...]:
        """The words before a program that is to run there; the process stays the same."""
        return ("ip", "netns", "exec", self.name)

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Pull the cable: nothing arrives any more, and nobody is told."""
        assert _ip("link", "set", self.cable, "down")  # our end: there nothing is seen of it
        try:
            yield
        finally:
            assert _ip("link", "set", self.cable, "up")


def available() -> bool:
    """True if this process may make namespaces."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    with suppress(AssertionError), namespace():
        return True
    return False


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A namespace that is taken away whatever happens."""
    number = os.getpid() % 60_000
    place = f"{number // 250}.{number % 250 + 1}"
    made = Namespace(f"baton-{os.getpid()}", f"bt{os.getpid()}", f"10.213.{place}")
    here, there, far = made.cable, "there", f"10.214.{place}"
    try:
        assert _ip("netns", "add", made.name)
        assert _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", made.name)
        assert _ip("address", "add", made.address, "peer", far, "dev", here)
        assert _ip("link", "set", here, "up")
        assert _ip("-n", made.name, "address", "add", far, "peer", made.address, "dev", there)
        assert _ip("-n", made.name, "link", "set", there, "up")
        yield made
    finally:
        _ip("link", "delete", here)  # its other end goes with it
        _ip("netns", "delete", made.name)
