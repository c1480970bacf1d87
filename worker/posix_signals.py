"""What signals ask of a supervisor, kept until its loop comes to it. Nothing is done in a handler.

# TERM, INT, HUP stop (a second one at once); USR1 quiets, USR2 ends that; QUIT asks for stacks. Which of them a child
# heeds is said in `worker.process`.
"""

import contextlib
import faulthandler
import signal
import socket
from types import FrameType
from typing import Self

from shared.clock import monotonic

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
QUIET, CLAIM_AGAIN, STACKS = signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT
HEEDED = (*STOP_SIGNALS, QUIET, CLAIM_AGAIN, STACKS)
STDERR = 2


class Signals:
    """Within its block signals are heeded. `woken` is a socket that becomes readable when one came."""

    def __init__(self, grace: float) -> None:
        self.stops = 0
        self.stop_by = float("inf")
        self.is_quiet = False
        self.wants_stacks = False
        self._grace = grace
        self.woken, self._writable = socket.socketpair()
        for end in (self.woken, self._writable):
            end.setblocking(False)

    def __enter__(self) -> Self:
        handlers = {**dict.fromkeys(STOP_SIGNALS, self._stop), **dict.fromkeys((QUIET, CLAIM_AGAIN), self._turn)}
        handlers |= {STACKS: self._ask_stacks, signal.SIGCHLD: _be_woken}
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        # Before our handler, and also where Python code does not come to run any more. A fork takes it along.
        faulthandler.register(STACKS, STDERR, all_threads=True, chain=True)
        self._old_fd = signal.set_wakeup_fd(self._writable.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_error: object) -> None:
        signal.set_wakeup_fd(self._old_fd)
        faulthandler.unregister(STACKS)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.woken.close()
        self._writable.close()

    def ring(self) -> None:
        """Wake the supervisor: called in a child, which has this end of the socket too."""
        with contextlib.suppress(OSError):  # full: it is woken already; broken: it has ended, and so does this child
            self._writable.send(b"\0")

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stops += 1
        self.stop_by = monotonic() + (self._grace if self.stops == 1 else 0)

    def _turn(self, number: int, _frame: FrameType | None) -> None:
        self.is_quiet = number == QUIET

    def _ask_stacks(self, _number: int, _frame: FrameType | None) -> None:
        self.wants_stacks = True


def _be_woken(_number: int, _frame: FrameType | None) -> None:
    """A child ended: the byte in the socket tells."""
