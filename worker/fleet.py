"""The supervisor of a fleet: keeps its children alive until it is told to stop. One thread, no body, nothing of RQ.

What it waits for is in `_pause`; what it does then, in `_pass`. Births are in `child.py`, the other duties in a module
each: `beats`, `deaths`, `endings`, `extras`, `neighbours`, `recycling`, `watchdog`, `housekeeping`, `health`.

# Order at a child's death: its runs go back first, then a new child may begin them.
"""

import gc
import logging
import os
import random
import secrets
import select
import socket
import threading
from collections.abc import Callable, Mapping, Sequence

from shared.clock import monotonic
from shared.connect import connect
from shared.errors import ConfigError, RedisUnavailable
from shared.ledger import RunLedger
from shared.roles import WORKER
from shared.settings import Settings
from shared.upkeep import Beaten
from worker.beats import Beats
from worker.child import Child, Work, fork
from worker.deaths import Deaths
from worker.ears import Ears
from worker.endings import DEAF, Endings
from worker.extras import Extras, without_extras
from worker.graph_end import BUILT_IN
from worker.health import Condition, Health
from worker.housekeeping import PAUSE_AFTER_ERROR, Promoter, Upkeep
from worker.neighbours import Neighbours
from worker.options import FleetOptions, check_concurrency
from worker.page import Body, Page, in_words
from worker.posix_signals import CLAIM_AGAIN, Signals
from worker.recycling import Recycling
from worker.stacks import Stacks
from worker.systemd import Systemd
from worker.watchdog import Watchdog

log = logging.getLogger("baton.fleet")

BUDGET = 0.5
"""Seconds for trying a call again. Its loop tries again too, and must not be long in one call: signals wait for it."""


class Fleet:
    """N worker processes on one machine, kept alive until the fleet is told to stop.

    Raises:
        InvalidValue: `concurrency` is not from 1 to 1,000.
    """

    def __init__(
        self,
        settings: Settings,
        queues: Sequence[str],
        concurrency: int,
        work: Work,
        tasks: Sequence[str],
        options: FleetOptions,
    ) -> None:
        check_concurrency(concurrency)
        self.name = options.name or f"{socket.gethostname()[:30]}-{os.getpid()}"
        self._settings = settings
        self._queues = queues
        self._concurrency = concurrency
        self._work = work
        self._options = options
        exchange = connect(settings, BUDGET)
        self._line = exchange.line()
        self._ledger = RunLedger(self._line, settings)
        self._upkeep = Upkeep(self._ledger, settings, concurrency)
        self._promoter = Promoter(self._ledger, exchange.line(), settings)
        self._ears = Ears(exchange.line(), self.name)
        known = " ".join([*tasks, *BUILT_IN])
        fields = {"fleet": self.name, "tasks": known, "labels": ",".join(options.labels)}
        self._beats = Beats(self._ledger, queues, {**fields, "slots": str(options.async_slots or 1)}, settings)
        self._deaths = Deaths(self._ledger, settings)
        self._extras = Extras(concurrency)
        self._recycling = Recycling(options)
        self._watchdog = Watchdog(settings.watchdog, settings.hook_timeout)
        self._neighbours = Neighbours(self._ledger, settings)
        self._stacks = Stacks()
        self._systemd = Systemd()
        self._health = Health(options.health_address)
        self._grace = settings.stop_grace if options.grace is None else options.grace
        self._children: dict[int, Child] = {}
        self._born = 0
        self._spawn_at = 0.0
        self._is_quiet = False
        self._drained: set[str] = set()
        self._ring: Callable[[], object] = lambda: None
        self._passed_at = monotonic()

    def run(self, *, burst: bool = False) -> int:
        """Work until SIGTERM or SIGINT, or until nothing is left with `burst`; the exit code.

        Raises:
            RedisUnavailable, ConfigError: Redis or the health port cannot be used; nothing was started.
        """
        self._check()
        self._prepare_to_fork()
        try:
            with Signals(self._grace) as signals:
                self._ring = signals.ring
                self._health.open()
                self._spawn(self._concurrency)
                log.info("fleet %s: %d workers on %s", self.name, self._concurrency, ", ".join(self._queues))
                self._systemd.ready()
                while self._children or (self._concurrency and not signals.stops):
                    self._pause(signals)
                    self._pass(signals, burst=burst)
                self._deaths.report(at_once=True)
        finally:
            for close in self._inherited():
                close()
        log.info("fleet %s: stopped", self.name)
        return 0

    def _check(self) -> None:
        self._ledger.check(WORKER)
        if policy := self._ledger.evicting_policy():
            what = f"Redis at {self._ledger.address} may drop keys (maxmemory-policy {policy}), and runs with them"
            if not self._options.allow_eviction:
                raise ConfigError(f"{what}: set noeviction there, or allow it for this fleet (--allow-eviction)")
            log.warning("%s: that was allowed", what)
        self._recycling.check()

    # --- births -------------------------------------------------------------------------------------------------------

    def _prepare_to_fork(self) -> None:
        if threading.active_count() > 1:
            names = ", ".join(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
            log.warning("threads were started at import (%s): forked workers do not have them", names)
        # What is there now is shared by all children: the collector would touch, and so copy, page after page of it.
        gc.collect()
        gc.freeze()

    def _spawn(self, count: int, *, extra: bool = False) -> None:
        births = [(self._new_name(), Page(self._ring, self._options.places)) for _ in range(count)]
        for _, page in births:
            page.limit(self._recycling.most_runs())
            if extra:
                page.make_extra()
            else:
                page.quiet(on=self._is_quiet)
        self._beats.first(births)
        for name, page in births:
            pid = fork(name, page, self._work, self._inherited())
            self._children[pid] = Child(name, page, pid, Endings(page, pid, self._settings), monotonic())

    def _new_name(self) -> str:
        self._born += 1
        # Never one that was used before: another fleet may have our name, and so may the one that ran here last.
        return f"{self.name}-{self._born}-{secrets.token_hex(4)}"

    def _inherited(self) -> Sequence[Callable[[], None]]:
        return (self._line.close, self._promoter.close, self._ears.close, self._health.close)

    def _replace_missing(self, signals: Signals) -> None:
        if not signals.stops:
            self._spawn_soon(self._concurrency - len(self._slots()))

    def _match_parked(self, signals: Signals) -> None:
        """As many extras as bodies are parked. Also in a fleet that stops or is quiet: what runs there is to end."""
        self._extras.look(self._children.values(), at_once=signals.stops > 0 or not self._concurrency)
        if monotonic() < signals.stop_by:
            self._spawn_soon(self._extras.missing, extra=True)

    def _spawn_soon(self, count: int, *, extra: bool = False) -> None:
        if count <= 0 or monotonic() < self._spawn_at:
            return
        try:
            self._spawn(count, extra=extra)
        except (RedisUnavailable, OSError) as error:  # an OSError: no process or no memory is to be had just now
            log.warning("no new worker: %s", error)
            self._spawn_at = monotonic() + PAUSE_AFTER_ERROR

    def _slots(self) -> Sequence[Child]:
        return without_extras(self._children.values())

    # --- the loop -----------------------------------------------------------------------------------------------------

    def _pass(self, signals: Signals, *, burst: bool) -> None:
        """Whatever is due, once."""
        self._heed(signals)
        self._end_overdue()
        self._bury_dead(burst=burst)
        self._replace_missing(signals)
        self._match_parked(signals)
        self._beat()
        self._stacks.run()
        self._systemd.alive()
        if not self._beats.cut_off:
            self._neighbours.run(self._children.values())
            self._upkeep.run()

    def _pause(self, signals: Signals) -> None:
        """Sleep until a child ends, a signal or a probe comes, or something is due."""
        timers = [signals.stop_by - monotonic(), self._deaths.due_in()]
        timers += [each.due_in() for each in (self._stacks, self._health, self._systemd, self._extras)]
        if self._children:
            timers += [self._beats.due_in(), self._watchdog.due_in()]
        if self._extras.missing or (len(self._slots()) < self._concurrency and not signals.stops):
            timers.append(self._spawn_at - monotonic())
        promoter = ears = None
        if not self._beats.cut_off:
            timers += [each.due_in() for each in (self._neighbours, self._upkeep, self._promoter)]
            promoter, ears = self._promoter.fileno(), self._ears.fileno()
        watched = [each for each in (signals.woken.fileno(), promoter, ears) if each is not None]
        ready, _, _ = select.select([*watched, *self._health.filenos()], [], [], max(0.0, min(timers)))
        if signals.woken.fileno() in ready:
            signals.woken.recv(4096)
        if ears in ready and self._ears.heard():
            self._beats.hasten()  # its answer tells which runs are to end
        self._health.serve(ready, lambda: self._condition(signals))
        self._passed_at = monotonic()
        if not self._beats.cut_off:
            self._promoter.run(readable=promoter in ready)
            if not {*self._queues}.isdisjoint(self._promoter.take_hooked()):
                self._tell_of_hooks()

    # --- signals ------------------------------------------------------------------------------------------------------

    def _heed(self, signals: Signals) -> None:
        if signals.wants_stacks:
            signals.wants_stacks = False
            self._stacks.begin(self.name, self._children.values())
        if signals.is_quiet != self._is_quiet:
            self._is_quiet = signals.is_quiet
            log.info(
                "fleet %s: %s", self.name, "quiet, it begins nothing more" if self._is_quiet else "begins runs again"
            )
            for child in self._slots():
                child.quiet(on=self._is_quiet)
            self._beats.hasten()
        if signals.stops and monotonic() >= signals.stop_by:
            for child in self._children.values():
                child.kill()
        elif signals.stops:
            self._pass_on_stop()

    def _pass_on_stop(self) -> None:
        untold = [child for child in self._slots() if not child.told_to_stop]
        for child in untold:
            child.tell_to_stop()
        if untold:
            log.info("fleet %s: stopping, what runs has %g s to finish", self.name, self._grace)
            self._systemd.stopping()

    # --- children -----------------------------------------------------------------------------------------------------

    def _bury_dead(self, *, burst: bool) -> None:
        for child in list(self._children.values()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if not pid:
                continue
            del self._children[child.pid]
            was_sent = child.told_to_stop or child.page.is_spent() or child.page.is_extra()
            death = self._deaths.record(child, os.waitstatus_to_exitcode(status))
            if self._deaths.pause:
                self._spawn_at = monotonic() + self._deaths.pause
            child.close()
            if burst and not (death.why or child.ended_by_us or was_sent):
                self._concurrency -= 1  # it found nothing left to do
        self._deaths.report()

    def _end_overdue(self) -> None:
        living = [child for child in self._children.values() if not child.ended_by_us]
        for child in living:
            child.overran = child.endings.overrun()
            if child.overran:
                body = child.overran[0]
                self._kill(child, f"its time limit of {body.seconds:g} s did not interrupt it", body)
            elif (deaf := child.endings.deaf()) is not None:
                self._kill(child, DEAF, deaf)
        if self._watchdog.due_in() == 0:
            for child in self._watchdog.stuck([child for child in living if not child.ended_by_us]):
                self._kill(child, f"its worker stood still for {self._settings.watchdog:g} s")

    def _kill(self, child: Child, why: str, body: Body | None = None) -> None:
        if body is not None and child.page.places > 1:
            why = f"its process was killed for run {body.run_id}: {why}"  # those beside it are told too
        runs = child.page.started()
        log.warning("worker %s is killed%s: %s", child.name, f", in {in_words(runs)}" if runs else "", why)
        child.kill(why)

    def _beat(self) -> None:
        if self._beats.due_in() > 0 or not self._children:
            return
        answer = self._beats.beat(self._children.values(), is_quiet=self._is_quiet)
        if answer is not None:
            self._heed_beat(answer)
            for child, why in self._recycling.due(self._children.values(), self._concurrency):
                log.info("worker %s is replaced after %d runs: %s", child.name, child.page.runs(), why)
                child.tell_to_stop()

    def _heed_beat(self, answer: Beaten) -> None:
        by_name = {child.name: child for child in self._children.values()}
        wanted: dict[str, list[tuple[str, int]]] = {}
        for ended in answer.to_cancel:
            wanted.setdefault(ended.worker, []).append((ended.run_id, int(ended.token)))
        for child in by_name.values():
            child.endings.ask(wanted.get(child.name, ()))
            child.endings.forget()
        self._drain(answer, by_name)
        for name in answer.buried:
            log.warning("worker %s: its lease is over, it is replaced", name)
            by_name[name].kill()

    def _drain(self, answer: Beaten, by_name: Mapping[str, Child]) -> None:
        """Have workers finish and end, without successors. However long it takes: whoever is in a hurry sends TERM."""
        wanted = {child.name for child in self._slots()} if answer.drains_all else answer.draining
        fresh = set(wanted) - self._drained
        for name in fresh:
            log.info("worker %s: drained, it finishes what runs and ends", name)
            self._drained.add(name)
            if not by_name[name].page.is_extra():
                self._concurrency -= 1
            by_name[name].tell_to_stop()
        if answer.drains_all:
            self._concurrency = 0  # also for those that had no successor yet
        if fresh and not self._concurrency:
            self._systemd.stopping()

    def _tell_of_hooks(self) -> None:
        """Hooks are due: one child is to call them, best one that has nothing else to do."""
        willing = [child for child in self._slots() if not (child.told_to_stop or child.ended_by_us)]
        idle = [child for child in willing if not child.page.started()]
        if willing and not self._is_quiet:
            child = random.choice(idle or willing)  # noqa: S311 - spreads load, guards nothing
            child.page.tell_of_hooks()
            if idle or child.page.places > 1:
                child.send(CLAIM_AGAIN)  # one that is busy with a single run looks after it

    # --- health -------------------------------------------------------------------------------------------------------

    def _condition(self, signals: Signals) -> Condition:
        children, longest = self._slots(), self._settings.watchdog
        still = [child.name for child in self._children.values() if self._watchdog.still_for(child) > longest]
        return Condition(
            fleet=self.name,
            workers=len(children),
            working=sum(child.page.rounds()[0] > 0 for child in children),
            wanted=self._concurrency,
            stuck=still,
            since_pass=monotonic() - self._passed_at,
            since_beat=monotonic() - self._beats.good_at,
            is_draining=signals.stops > 0 or not self._concurrency,
            is_quiet=self._is_quiet,
            beat=self._settings.beat,
            lease=self._settings.lease,
        )
