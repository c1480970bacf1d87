"""A worker process, as its supervisor sees it, and how it comes to be: a fork of the warm process.

# Order at a birth: page, name, first lease, then the fork; a child that cycles has a lease.
# A fork copies one thread. The supervisor starts none, or a lock that it holds would stay locked in the child for ever.
"""

import contextlib
import ctypes
import logging
import os
import random
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from shared.clock import monotonic
from shared.failpoints import is_off
from worker.endings import Endings
from worker.hand import Buried
from worker.page import Body, Page
from worker.posix_signals import CLAIM_AGAIN, HEEDED, QUIET

log = logging.getLogger("baton.fleet")

EXIT_INTERNAL = 70
EXIT_BURIED = 75
PR_SET_PDEATHSIG = 1
Work = Callable[[str, Page], None]
"""What a child does with its name and its page, until it returns."""


@dataclass
class Child:
    """A worker process. `why` tells why it was killed, if it was for what it did."""

    name: str
    page: Page
    pid: int
    endings: Endings
    born: float
    told_to_stop: bool = False
    ended_by_us: bool = False
    is_over: bool = False
    overran: Sequence[Body] = ()
    why: str = ""

    def tell_to_stop(self) -> None:
        """Have it finish what runs, give back the rest, and end."""
        self.told_to_stop = True
        self.send(signal.SIGTERM)

    def kill(self, why: str = "") -> None:
        """End it at once. The first reason stays."""
        self.ended_by_us, self.why = True, self.why or why
        self.send(signal.SIGKILL)

    def quiet(self, *, on: bool) -> None:
        """Have it begin nothing more, or begin again."""
        self.page.quiet(on=on)
        self.send(CLAIM_AGAIN)  # says no more than: look at the page

    def age(self) -> float:
        """Seconds since its birth."""
        return monotonic() - self.born

    def send(self, number: int) -> None:
        """A signal, for as long as its pid is its own: until it has been waited for."""
        if not self.is_over:
            os.kill(self.pid, number)

    def close(self) -> None:
        """It has ended and was waited for."""
        self.is_over = True
        self.page.close()


def fork(name: str, page: Page, work: Work, inherited: Sequence[Callable[[], None]]) -> int:
    """Start a child that does this work; its pid. `inherited` closes what the child may not share with its parent.

    Raises:
        OSError: no process or no memory is to be had.
    """
    parent = os.getpid()
    # A signal that arrives before the child has its own handlers waits for them, instead of being lost in ours.
    signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED)
    try:
        pid = os.fork()
        if pid == 0:
            _live(name, page, work, parent, inherited)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEEDED)
    return pid


def _live(name: str, page: Page, work: Work, parent: int, inherited: Sequence[Callable[[], None]]) -> NoReturn:
    code = EXIT_INTERNAL
    try:
        die_with(parent, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # A terminal sends the first two to all: the supervisor passes them on. The others get their handlers later.
        for number in (signal.SIGINT, signal.SIGHUP, QUIET, CLAIM_AGAIN):
            signal.signal(number, signal.SIG_IGN)
        for close in inherited:
            close()
        random.seed()
        work(name, page)
        code = 0
    except Buried as reason:
        log.warning("worker %s ends: its lease is over (%s)", name, reason)
        code = EXIT_BURIED
    except BaseException:
        log.exception("worker %s ends by an error of its own", name)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # nothing may lead a child back into its supervisor's loop
                stream.flush()
        os._exit(code)


def die_with(parent: int, number: int) -> None:
    """Have the kernel send this signal when the parent ends. Where it cannot, the missing beats end a worker."""
    if sys.platform == "linux" and not is_off("death_signal"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(EXIT_INTERNAL)
