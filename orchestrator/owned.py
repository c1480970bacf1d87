"""Programs that this process starts and that may not outlive it. Knows nothing of what they do.

# The kernel is asked to kill the program when the thread that started it ends: so a thread of our own starts it, and
# stays until the program has ended. Where the kernel cannot be asked, `close` and the interpreter's end must do.
"""

import atexit
import ctypes
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class OwnedProgram:
    """A running program of our own. `stdin` is written to it, and then closed."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        errors: IO[bytes] | None = None,
    ) -> None:
        self._owner = os.getpid()
        self._command = command
        self._stdin = stdin
        self._environment = environment
        self._folder = folder
        self._errors = errors
        self._born = threading.Event()
        self._problem: OSError | None = None
        threading.Thread(target=self._own, name=f"baton-owns-{Path(command[0]).name}", daemon=True).start()
        self._born.wait()
        if self._problem is not None:
            raise self._problem
        _running.add(self)

    @property
    def pid(self) -> int:
        """The program's process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """False once it has ended."""
        return self._process.poll() is None

    def close(self, grace: float = 5.0) -> None:
        """Ask the program to end, kill it after `grace` seconds, and wait for its end. Nothing in a fork's child."""
        _running.discard(self)
        if self._owner != os.getpid() or not self.is_running:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _own(self) -> None:
        try:
            self._process = subprocess.Popen(  # noqa: S603 - what to run is our caller's, never a payload's
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._errors or subprocess.DEVNULL,
                env=self._environment,
                cwd=self._folder,
                preexec_fn=_end_with_thread,  # noqa: PLW1509 - it makes one system call and takes no lock
                start_new_session=True,  # a Ctrl-C in the terminal is ours to pass on
            )
        except OSError as error:
            self._problem = error
            return
        finally:
            self._born.set()
        self._process.communicate(self._stdin)  # one that ends without reading it is one that has ended, no error


def _end_with_thread() -> None:
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


_running: weakref.WeakSet[OwnedProgram] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for program in list(_running):
        program.close(grace=1.0)
