"""A worker as RQ knows it. The only module that stands on RQ's classes.

What is used of RQ: `BaseWorker` for name, queues and registration, so that `Worker.all`, `rq info`, and
`rq worker -w worker.process.RunWorker` know it. Not used: its loop, its scheduler, its listener and its maintenance;
RQ's registry cleanup goes by the caller's clock and calls what Redis names.
"""

import os
import signal
from collections.abc import Sequence
from types import FrameType
from typing import Any

from rq.worker import BaseWorker

from shared.commands import Seat
from shared.connect import connect
from shared.connections import Connections, client_for
from shared.errors import ConfigError
from shared.ledger import RunLedger
from shared.settings import Settings
from worker.aloop import AsyncWorkLoop
from worker.engine.ledger_recorder import LedgerRecorder
from worker.engine.recording import record_in_worker
from worker.fleet import Fleet
from worker.hand import Hand
from worker.lending import lend_through
from worker.loader import load_tasks
from worker.loop import WorkLoop
from worker.options import FleetOptions
from worker.page import Page
from worker.posix_signals import CLAIM_AGAIN, HEEDED
from worker.process_hooks import refuse_coroutine_hooks


def run_fleet(
    settings: Settings,
    queues: Sequence[str],
    concurrency: int,
    tasks: Sequence[str],
    *,
    burst: bool = False,
    options: FleetOptions | None = None,
) -> int:
    """A fleet of RunWorkers in this process and its children, until it is told to stop; the exit code.

    TERM, INT and HUP stop it: what runs may finish within the grace; a second one ends it at once. USR1 lets it begin
    nothing more, USR2 begin again. QUIT prints all stacks and what runs to stderr.

    Raises:
        RedisUnavailable, ConfigError: Redis or the health port cannot be used, or a worker hook is a coroutine function
            and there are no async slots; nothing was started.
        InvalidValue: `concurrency` is not from 1 to 1,000.
    """
    given = options or FleetOptions()

    def work(name: str, page: Page) -> None:
        worker = RunWorker(queues, name=name, connection=client_for(settings))
        worker.serve(
            settings, page, burst=burst, takes_turns=given.order == "round-robin", async_slots=given.async_slots
        )

    if given.async_slots is None:
        refuse_coroutine_hooks()
    return Fleet(settings, queues, concurrency, work, tasks, given).run(burst=burst)


class RunWorker(BaseWorker):
    """One RQ-registered process that executes runs; its fleet renews its lease and its registration."""

    def __init__(self, queues: Any, name: str | None = None, connection: Any = None, **options: Any) -> None:
        # RQ would ask the server for its clients here; the fleet's beat writes the registration.
        options["prepare_for_work"] = False
        super().__init__(queues, name=name, connection=connection, **options)

    def serve(
        self,
        settings: Settings,
        page: Page,
        *,
        burst: bool = False,
        takes_turns: bool = False,
        async_slots: int | None = None,
    ) -> None:
        """Work in this process until SIGTERM, or until nothing is left with `burst`.

        SIGUSR1 ends the body that the page names, SIGUSR2 says that the page has something new for one that waits.

        Raises:
            Buried: the lease is over; what was held runs elsewhere.
            Exception: whatever a start hook raised.
        """
        exchange = connect(settings)
        line = exchange.line(settings.worker_budget)
        is_extra = page.is_extra()
        seat = Seat(self.name, self.queue_names(), awaited_only=is_extra, takes_turns=takes_turns)
        loop: WorkLoop | AsyncWorkLoop
        if async_slots is None:
            hand = Hand(RunLedger(line, settings), seat, page, settings, exchange)
            loop = WorkLoop(hand, line, page, seat.queues, settings)
            lend_through(loop.lender, whole_process=True)
        else:
            # Hooks in the loop's thread may read through the hand's ledger too: not over one line.
            ledger = RunLedger(connect(settings, settings.worker_budget), settings)
            hand = Hand(ledger, seat, page, settings, exchange)
            loop = AsyncWorkLoop(hand, line, page, seat.queues, async_slots, settings)

        def stop(_number: int, _frame: FrameType | None) -> None:
            loop.stopping = True
            loop.wake()

        def look(_number: int, _frame: FrameType | None) -> None:
            if not loop.in_hooks:
                loop.wake()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(CLAIM_AGAIN, look)
        loop.install()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEEDED)
        recorder = LedgerRecorder(exchange, settings)
        record_in_worker(recorder)
        if loop.start():
            loop.run(burst=burst and not is_extra)  # an extra is told when it is not needed any more
        recorder.close()
        line.close()

    def work(self, burst: bool = False, **_options: Any) -> bool:  # type: ignore[override]  # RQ's options are RQ's
        """The way in of `rq worker -w worker.RunWorker`: a fleet of one, for the tasks of `$BATON_MODULES`.

        Raises:
            ConfigError: RQ was given another Redis than Baton.
        """
        settings = Settings.load()
        both = (Connections(self.connection, budget=0), connect(settings))
        theirs, ours = (each.address.replace("localhost:", "127.0.0.1:") for each in both)
        if theirs != ours:
            raise ConfigError(f"RQ works on Redis at {theirs}, $BATON_REDIS_URL stands for {ours}: name one for both")
        modules = os.environ.get("BATON_MODULES", "").split(",")
        tasks = load_tasks([name for name in modules if name])
        return run_fleet(settings, self.queue_names(), 1, tasks, burst=burst) == 0

    def execute_job(self, job: Any, queue: Any) -> None:  # noqa: ARG002 - RQ's signature
        """Not the way in: a RunWorker reads no job data."""
        raise TypeError(f"{type(self).__name__} executes runs of Baton only; job {job!r} stays where it is")

    def clean_registries(self) -> None:
        """Nothing: leases and retention are the ledger's, by the server's clock."""

    def run_maintenance_tasks(self) -> None:
        """Nothing, as `clean_registries`."""

    def _set_connection(self, connection: Any) -> Any:
        """The connection as it is: RQ would raise the time-outs of everybody who shares its pool to minutes."""
        return connection
