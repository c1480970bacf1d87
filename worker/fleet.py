"""The supervisor of a fleet: forks children, beats for them, buries the dead. One thread, never a body, nothing of RQ.

# It forks at any time, so it may never start a thread: a lock that another thread holds at the fork stays locked in the
# child for ever.
# Order at a child's birth: page, name, first lease, then the fork; a child that cycles has a lease.
# Order at a child's death: its runs go back first, then a new child may begin them.
# Order after an outage: its own leases first, then housekeeping, which buries whoever has not renewed in time.
"""

import contextlib
import ctypes
import gc
import logging
import os
import random
import secrets
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from shared.clock import iso, monotonic, now
from shared.commands import Death, Pulse
from shared.connect import connect
from shared.errors import RedisUnavailable
from shared.ledger import RunLedger
from shared.retries import backoff
from shared.settings import Settings
from shared.version import __version__
from worker.hand import Buried
from worker.housekeeping import PAUSE_AFTER_ERROR, Promoter, Upkeep
from worker.page import Page

log = logging.getLogger("baton.fleet")

EXIT_INTERNAL = 70
EXIT_BURIED = 75
PR_SET_PDEATHSIG = 1
BUDGET = 0.5
"""Seconds for trying a call again. Its loop tries again too, and must not be long in one call: signals wait for it."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
Work = Callable[[str, Page], None]
"""What a child does with its name and its page, until it returns."""


@dataclass
class Child:
    """A worker process, as its supervisor sees it."""

    name: str
    page: Page
    pid: int
    born: float
    told_to_stop: bool = False
    ended_by_us: bool = False


class Fleet:
    """N worker processes on one machine, kept alive until the fleet is told to stop."""

    def __init__(
        self, settings: Settings, queues: Sequence[str], concurrency: int, work: Work, tasks: Sequence[str]
    ) -> None:
        self.name = f"{socket.gethostname()[:30]}-{os.getpid()}"
        self._settings = settings
        self._queues = queues
        self._concurrency = concurrency
        self._work = work
        self._tasks = tasks
        exchange = connect(settings, BUDGET)
        self._line = exchange.line()
        self._ledger = RunLedger(self._line, settings)
        self._upkeep = Upkeep(self._ledger, settings)
        self._promoter = Promoter(self._ledger, exchange.line(), settings)
        self._children: dict[int, Child] = {}
        self._unreported: list[Death] = []
        self._born = 0
        self._quick_deaths = 0
        self._spawn_at = self._beat_at = self._report_at = 0.0
        self._cut_off = False
        self._stops = 0
        self._stop_by = float("inf")

    def run(self, *, burst: bool = False) -> int:
        """Work until SIGTERM or SIGINT, or until nothing is left with `burst`; the exit code.

        Raises:
            RedisUnavailable, ConfigError: Redis cannot be used; nothing was started.
        """
        self._ledger.check()
        self._prepare_to_fork()
        with _signals(self._stop) as woken:
            self._spawn(self._concurrency)
            log.info("fleet %s: %d workers on %s", self.name, self._concurrency, ", ".join(self._queues))
            while self._children or (self._concurrency and not self._stops):
                self._pause(woken)
                self._pass_on_stop()
                self._bury_dead(burst=burst)
                self._replace_missing()
                self._beat()
                if not self._cut_off:
                    self._upkeep.run()
            self._report_deaths()
        self._promoter.close()
        self._line.close()
        log.info("fleet %s: stopped", self.name)
        return 0

    # --- births -------------------------------------------------------------------------------------------------------

    def _prepare_to_fork(self) -> None:
        if threading.active_count() > 1:
            names = ", ".join(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
            log.warning("threads were started at import (%s): forked workers do not have them", names)
        # What is there now is shared by all children: the collector would touch, and so copy, page after page of it.
        gc.collect()
        gc.freeze()

    def _spawn(self, count: int) -> None:
        births = [(self._new_name(), Page()) for _ in range(count)]
        sent = monotonic()
        self._ledger.beat([self._pulse(name, is_new=True) for name, _ in births])
        for name, page in births:
            page.beaten(sent)
            pid = self._fork(name, page)
            self._children[pid] = Child(name, page, pid, monotonic())
        self._beat_at = 0.0  # once more at once: now the registrations can name their processes

    def _new_name(self) -> str:
        self._born += 1
        return f"{self.name}-{self._born}-{secrets.token_hex(4)}"

    def _fork(self, name: str, page: Page) -> int:
        parent = os.getpid()
        # A stop that arrives before the child has its own handler waits for it, instead of being lost in ours.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                self._become_child(name, page, parent)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        return pid

    def _become_child(self, name: str, page: Page, parent: int) -> NoReturn:
        code = EXIT_INTERNAL
        try:
            _die_with(parent)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number in (
                signal.SIGINT,
                signal.SIGHUP,
            ):  # a terminal sends these to all: the supervisor passes them on
                signal.signal(number, signal.SIG_IGN)
            self._line.close()
            self._promoter.close()
            random.seed()
            self._work(name, page)
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

    def _replace_missing(self) -> None:
        missing = self._concurrency - len(self._children)
        if missing <= 0 or self._stops or monotonic() < self._spawn_at:
            return
        try:
            self._spawn(missing)
        except (RedisUnavailable, OSError) as error:  # an OSError: no process or no memory is to be had just now
            log.warning("no new worker: %s", error)
            self._spawn_at = monotonic() + PAUSE_AFTER_ERROR

    # --- deaths -------------------------------------------------------------------------------------------------------

    def _bury_dead(self, *, burst: bool) -> None:
        for child in list(self._children.values()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                del self._children[child.pid]
                death = self._death_of(child, os.waitstatus_to_exitcode(status))
                self._unreported.append(death)
                child.page.close()
                if burst and not death.why and not child.ended_by_us:
                    self._concurrency -= 1  # it found nothing left to do
        if monotonic() >= self._report_at:
            self._report_deaths()

    def _death_of(self, child: Child, code: int) -> Death:
        # Also a run whose body has ended is lost with its child, as long as its outcome is not recorded.
        started = child.page.started()
        if child.ended_by_us or (code == 0 and not started):
            return Death(child.name, "", started)
        if code == EXIT_BURIED and child.page.body() is None:
            return Death(child.name, f"the lease of {child.name} ended", started)
        lived = monotonic() - child.born
        self._quick_deaths = self._quick_deaths + 1 if lived < 1 else 0
        self._spawn_at = monotonic() + (backoff(self._quick_deaths, most=30.0) if self._quick_deaths else 0)
        why = _cause(code)
        log.error("worker %s (pid %d): %s%s", child.name, child.pid, why, f", in run {started}" if started else "")
        return Death(child.name, why, started)

    def _report_deaths(self) -> None:
        if not self._unreported:
            return
        try:
            self._ledger.reap(self._unreported)
            self._unreported = []
        except RedisUnavailable as error:
            # Whoever reaps after the lease does the same, only later and without knowing which run was in its body.
            log.warning("%s", error)
            self._report_at = monotonic() + PAUSE_AFTER_ERROR

    # --- stopping -----------------------------------------------------------------------------------------------------

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        # In a signal handler: only what may happen between any two instructions of the loop.
        self._stops += 1
        self._stop_by = monotonic() + (self._settings.stop_grace if self._stops == 1 else 0)

    def _pass_on_stop(self) -> None:
        if not self._stops:
            return
        if monotonic() >= self._stop_by:
            for child in self._children.values():
                self._kill(child)
            return
        untold = [child for child in self._children.values() if not child.told_to_stop]
        for child in untold:
            child.told_to_stop = True
            os.kill(child.pid, signal.SIGTERM)
        if untold:
            log.info("fleet %s: stopping, what runs has %g s to finish", self.name, self._settings.stop_grace)

    def _kill(self, child: Child) -> None:
        child.ended_by_us = True
        os.kill(child.pid, signal.SIGKILL)

    # --- beating ------------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        if monotonic() < self._beat_at or not self._children:
            return
        sent = monotonic()
        try:
            buried = self._ledger.beat([self._pulse(child.name, child) for child in self._children.values()])
        except RedisUnavailable as error:
            log.warning("beat: %s", error)
            self._cut_off = True
            self._beat_at = monotonic() + PAUSE_AFTER_ERROR
            return
        self._cut_off = False
        self._beat_at = sent + self._settings.beat
        for child in self._children.values():
            if child.name in buried:
                log.warning("worker %s: its lease is over, it is replaced", child.name)
                self._kill(child)
            else:
                child.page.beaten(sent)

    def _pulse(self, name: str, child: Child | None = None, *, is_new: bool = False) -> Pulse:
        fields: dict[str, str | int] = {
            "queues": ",".join(self._queues),
            "hostname": socket.gethostname(),
            "version": __version__,
            "python_version": sys.version,
            "fleet": self.name,
            "tasks": " ".join(self._tasks),
            "slots": 1,
        }
        if is_new:
            fields |= {"birth": iso(now()), "state": "idle"}
        if child is not None:
            body = child.page.body()
            fields |= {"pid": child.pid, "current_job_working_time": f"{monotonic() - body.since if body else 0:.3f}"}
        return Pulse(name, self._queues, fields, is_new)

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _pause(self, woken: socket.socket) -> None:
        """Sleep until a child ends, a signal comes, or something is due."""
        present = monotonic()
        timers = [self._stop_by]
        if self._children:
            timers.append(self._beat_at)
        if self._unreported:
            timers.append(self._report_at)
        if len(self._children) < self._concurrency and not self._stops:
            timers.append(self._spawn_at)
        seconds, promoter = min(timers) - present, None
        if not self._cut_off:
            seconds = min(seconds, self._upkeep.due_in(), self._promoter.due_in())
            promoter = self._promoter.fileno()
        watched: list[socket.socket | int] = [woken] if promoter is None else [woken, promoter]
        ready, _, _ = select.select(watched, [], [], max(0.0, seconds))
        if woken in ready:
            woken.recv(4096)
        if not self._cut_off:
            self._promoter.run(readable=promoter in ready)


@contextlib.contextmanager
def _signals(stop: Callable[[int, FrameType | None], None]) -> Iterator[socket.socket]:
    """Signals as something that `select` sees: a socket that becomes readable when one came."""
    readable, writable = socket.socketpair()
    readable.setblocking(False)
    writable.setblocking(False)
    before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
    before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    old_fd = signal.set_wakeup_fd(writable.fileno(), warn_on_full_buffer=False)
    try:
        yield readable
    finally:
        signal.set_wakeup_fd(old_fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        readable.close()
        writable.close()


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends. Where it cannot, the missing beats end it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(EXIT_INTERNAL)


def _cause(code: int) -> str:
    if code == 0:
        return "exit without a report"
    if code > 0:
        return f"exit status {code}"
    return f"killed by signal {-code}" + (", perhaps out of memory" if -code == signal.SIGKILL else "")
