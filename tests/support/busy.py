"""A fleet at work on runs of every kind, to look at while everything moves."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from shared.commands import Claim
from shared.ids import new_id
from tests.support.ledgers import (
    COMPLETED,
    RUNNING,
    Store,
    one_submitted,
    report,
    reported,
    retry_in,
    seated,
    submitted,
)
from tests.support.tied_plants import PAUSED, SUSPENDED
from tests.support.waiting import eventually


@contextmanager
def at_work(store: Store, workers: int = 2) -> Iterator[None]:
    """So many workers, which have done some rounds already and go on until this ends."""
    end = threading.Event()
    fleet = [Busy(store) for _ in range(workers)]

    def work(busy: Busy) -> None:
        while not end.is_set():
            busy.go_round()

    threads = [threading.Thread(target=work, args=[busy]) for busy in fleet]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: all(busy.rounds > 5 for busy in fleet))
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()


class Busy:
    """A worker that submits runs of every kind and works them off, with whatever else happens to them."""

    def __init__(self, store: Store) -> None:
        self.rounds = 0
        self._ledger = store.ledger
        self._worker = new_id()
        self._seat = seated(store.ledger, self._worker)
        store.ledger.set_limit("tag:db", 2)

    def go_round(self) -> None:
        """Submit, begin, report, steer, and keep up."""
        self.rounds += 1
        first, second, *_ = submitted(self._ledger, 4)
        third = one_submitted(self._ledger, ties=[("up", first), ("up", second), ("within", 60)])
        submitted(self._ledger, 2, ties=[("up", third)])
        submitted(self._ledger, 3, fields={"limits": "tag:db", "ties": "1"})
        one_submitted(self._ledger, task="shop.flow", fields={"kind": "flow", "ties": "1"})
        keyed = one_submitted(self._ledger, ties=[("idem", new_id()), ("digest", "d")])
        waiting = one_submitted(self._ledger, delay=60, ties=[("up", keyed)])
        self._ledger.cancel([waiting])
        for number in range(8):
            self._cycle(number)
            self._ledger.promote()
            self._ledger.expire()
            self._ledger.go_on()

    def _cycle(self, number: int) -> None:
        for place, claim in enumerate(self._ledger.cycle(self._seat, [], 16).claims):
            begun = self._begun(claim)
            outcome = (COMPLETED, COMPLETED, retry_in(0.001), SUSPENDED)[(number + place) % 4]
            if begun is None:
                continue
            assert reported(self._ledger, self._seat, report(begun, outcome)) == ["OK"]
            if outcome is SUSPENDED:
                self._resume(claim.run_id)

    def _begun(self, claim: Claim) -> Claim | None:
        """The claim, begun; a flow is paused and resumed where it is, and one run in a while is given back."""
        if claim.state == "PENDING":
            answer = self._ledger.propose(claim.run_id, RUNNING, new_id(), token=claim.token, worker=self._worker)
            return claim._replace(token=answer.token) if answer.tag == "OK" else None
        if claim.task == "shop.flow":
            self._ledger.propose(claim.run_id, PAUSED, new_id(), token=claim.token, worker=self._worker)
            self._resume(claim.run_id)
        if self.rounds % 5 == 0:
            self._ledger.give_back(self._worker, [(claim.run_id, claim.token)], "Not started: the worker is busy.")
            return None
        return claim

    def _resume(self, run_id: str) -> None:
        self._ledger.resume(run_id, self._ledger.get(run_id).seq, new_id())
