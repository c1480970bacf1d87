"""Hearing that somebody wants the end of a run that this process executes itself. Ends nothing: it says so.

# What a beat answers is the truth; what is heard on the lease's channel is that it is time to beat.
# A run that waits here is cancelled at once, and no beat tells of it any more: its record does.
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from shared.errors import BatonError
from shared.ledger import RunLedger
from shared.runs import TaskRun
from shared.specs import TaskSpec
from shared.state_types import IN_BODY
from shared.transport import Exchange
from shared.upkeep import Ended
from worker.ears import Ears
from worker.leases import Lease, Leases
from worker.strikes import strike

log = logging.getLogger("baton.engine")
LISTEN: Final = 1.0
"""Seconds after which the listening thread looks whether it is still needed."""


@dataclass(slots=True)
class Held:
    """A run in this process. `token` is that of its holder, None while it is nobody's."""

    run: TaskRun
    spec: TaskSpec[..., Any]
    lease: Lease | None = None
    token: str | None = None
    is_to_end: threading.Event = field(default_factory=threading.Event)


class Cancels:
    """Tells the runs that are held of their cancels, in threads of its own."""

    def __init__(self, exchange: Exchange, ledger: RunLedger, leases: Leases, held: Mapping[str, Held]) -> None:
        self._exchange = exchange
        self._ledger = ledger
        self._leases = leases
        self._held = held
        self._listened: str | None = None
        leases.hear(self._hear)

    def listen_to(self, lease: Lease) -> None:
        """Hear at once what is cancelled under this lease, for as long as it lasts."""
        if self._listened != lease.name:
            self._listened = lease.name
            threading.Thread(target=self._listen, args=(lease,), name=f"baton-ears-{lease.name}", daemon=True).start()

    def _hear(self, ended: Ended) -> None:
        held = self._held.get(ended.run_id)
        if held is not None and held.token == ended.token and not held.is_to_end.is_set():
            held.is_to_end.set()
            strike()

    def _listen(self, lease: Lease) -> None:
        ears = Ears(self._exchange.line(), lease.name)
        while not lease.is_lost():
            if ears.wait(LISTEN):
                self._leases.hasten()
                self._look_at_waiting()
        ears.close()

    def _look_at_waiting(self) -> None:
        waiting = [held for held in list(self._held.values()) if held.run.state.type not in IN_BODY]
        try:
            found = self._ledger.get_many([held.run.id for held in waiting])
        except BatonError as error:
            log.warning("%s", error)
            return
        for held in waiting:
            run = found.get(held.run.id)
            if isinstance(run, TaskRun) and run.state.is_final():
                held.is_to_end.set()
