"""What the doctor finds while runs move: it looks again, and only what stays wrong is a violation."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.doctor import examine
from orchestrator.invariants import Violation
from orchestrator.reconcile import reconcile
from shared import keys
from shared.commands import Claim, Seat
from shared.ids import new_id
from shared.transport import Command
from tests.support.busy import at_work
from tests.support.ledgers import (
    Store,
    one_begun,
    one_submitted,
    queued,
    report,
    reported,
    retry_in,
    seated,
    submitted,
)
from tests.support.plants import OTHER, record_of_another_type, told

ROLE = "operator"
EXAMINATIONS = 5


def found(store: Store) -> list[Violation]:
    return list(examine(store.exchange, lambda: None).violations)


def test_a_fleet_at_work_does_not_look_ill(real: Store) -> None:
    end = threading.Event()

    def work() -> None:
        seat = seated(real.ledger)
        while not end.is_set():
            submitted(real.ledger, 16)
            claims = real.ledger.cycle(seat, [], 16).claims
            reported(real.ledger, seat, *(report(claim) for claim in claims[:8]))
            reported(real.ledger, seat, *(report(claim, retry_in(0.001)) for claim in claims[8:]))
            real.ledger.promote()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        results = [found(real) for _ in range(3)]
    finally:
        end.set()
        worker.join()
    assert (results, found(real)) == ([[]] * 3, [])


def test_a_fleet_at_work_on_tied_runs_does_not_look_ill(real: Store) -> None:
    with at_work(real):
        results = [found(real) for _ in range(EXAMINATIONS)]
    assert (results, found(real)) == ([[]] * EXAMINATIONS, [])


def test_a_fleet_at_work_is_left_alone_and_what_was_lost_beside_it_comes_back(real: Store) -> None:
    lost = submitted(real.ledger, 3, queue="idle")
    with at_work(real):
        real.client.delete("rq:queue:idle")
        told_of = reconcile(real.exchange, real.ledger, lambda: None)
    assert (told_of.done, told_of.counters, queued(real, "idle"), found(real)) == (
        {run_id: ["put back where it waits"] for run_id in lost},
        [],
        lost,
        [],
    )


def test_what_is_repaired_between_two_looks_is_no_violation(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.client.lrem("rq:queue:q", 0, run_id)
    store.client.hincrby("baton:counts", "PENDING", 1)

    def repair() -> None:
        store.client.lrem("rq:queue:q", 0, run_id)
        store.client.rpush("rq:queue:q", run_id)
        store.client.hset("baton:counts", "PENDING", 1)

    assert examine(store.exchange, repair).violations == ()


def test_an_ill_run_that_moves_between_all_looks_is_still_found(store: Store) -> None:
    seat, run_id = seated(store.ledger), one_submitted(store.ledger)
    store.client.zadd("baton:paused", {run_id: 1})

    def move() -> None:
        claim = one_begun(store.ledger, seat)
        store.ledger.give_back("w1", [(run_id, claim.token)], "Not started: the worker is busy.")

    assert [(one.invariant, one.ids) for one in examine(store.exchange, move).violations] == [("I1", (run_id,))]


class MovesDuringLooks:
    """A way to Redis on which a run waits whenever its record is read, and in the first looks is begun right after."""

    def __init__(self, store: Store, seat: Seat, looks: int) -> None:
        self.address = store.exchange.address
        self.claim: Claim | None = None
        self.moves = 0
        self._store = store
        self._seat = seat
        self._looks = looks

    def read(self, commands: Sequence[Command]) -> list[Any]:
        """Passed on, after the run was moved."""
        names = {command[1] for command in commands if len(command) > 1}
        if self.claim is None and b"rq:queue:q" in names and self.moves < self._looks:
            self.claim, self.moves = one_begun(self._store.ledger, self._seat), self.moves + 1
        elif self.claim is not None and keys.job(self.claim.run_id).encode() in names and commands[0][0] == "HGETALL":
            self._store.ledger.give_back(
                "w1", [(self.claim.run_id, self.claim.token)], "Not started: the worker is busy."
            )
            self.claim = None
        return self._store.exchange.read(commands)


def test_a_run_that_moves_during_every_look_is_no_violation(store: Store) -> None:
    one_submitted(store.ledger)
    transport: Any = MovesDuringLooks(store, seated(store.ledger), looks=99)
    assert (examine(transport, lambda: None).violations, transport.moves) == ((), 4)


def test_an_ill_run_that_rests_during_the_last_look_is_found(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.client.zadd("baton:paused", {run_id: 1})
    transport: Any = MovesDuringLooks(store, seated(store.ledger), looks=3)
    found_now = [(one.invariant, one.ids) for one in examine(transport, lambda: None).violations]
    assert (found_now, transport.moves) == ([("I1", (run_id,))], 3)


class SubmitsAsCountersAreRead:
    """A way to Redis on which a run is submitted right before some readings of the counters, counted from 1."""

    def __init__(self, store: Store, *readings: int) -> None:
        self.address = store.exchange.address
        self._store = store
        self._readings = readings
        self._number = 0

    def read(self, commands: Sequence[Command]) -> list[Any]:
        """Passed on, after a run was submitted."""
        if ("HGETALL", keys.COUNTS) in commands:
            self._number += 1
            if self._number in self._readings:
                one_submitted(self._store.ledger)
        return self._store.exchange.read(commands)


# A look reads the counters before and after it. One taken again reads them once to see whether it can, and then around
# the count: the readings after a count are 2, 5, 8 and 11.
@pytest.mark.parametrize(
    ("readings", "drift", "wrong", "compared"),
    [
        ((2,), 0, [], True),
        ((2,), 1, ["the counter of PAUSED is 1 too high"], True),
        ((2, 5), 1, ["the counter of PAUSED is 1 too high"], True),
        ((2, 5, 8), 1, [], False),
        ((2, 5, 8, 11), 0, [], False),
        ((2, 5, 8, 11), 1, [], False),
    ],
)
def test_counters_are_judged_in_quiet_moments_only(
    store: Store, readings: tuple[int, ...], drift: int, wrong: list[str], compared: bool
) -> None:
    one_submitted(store.ledger)
    store.client.hincrby("baton:counts", "PAUSED", drift)
    transport: Any = SubmitsAsCountersAreRead(store, *readings)
    diagnosis = examine(transport, lambda: None)
    assert ([one.what for one in diagnosis.violations], diagnosis.compared_counters) == (wrong, compared)


def test_a_record_that_cannot_be_read_may_be_in_any_state_and_a_job_of_rqs_own_is_in_none(store: Store) -> None:
    record_of_another_type(store.client, told(store.ledger))
    store.client.hset(f"rq:job:{OTHER}", mapping={"status": "started", "origin": "theirs", "data": "x"})
    store.client.hincrby("baton:counts", "RUNNING", 2)
    assert [(one.invariant, one.what) for one in found(store)][:1] == [("I7", "the counter of RUNNING is 2 too high")]
    assert len(found(store)) == 2


def test_only_suspects_are_read_again(real: Store) -> None:
    told(real.ledger)
    run_id = one_submitted(real.ledger)
    real.client.lrem("rq:queue:q", 0, run_id)
    before = calls(real, "hgetall")
    examine(real.exchange, lambda: None)
    # Twice the counters, 11 runs and w1's hand; then three times the counters, the suspect and w1's hand.
    assert calls(real, "hgetall") - before == 2 + 11 + 1 + 3 * 3


def calls(store: Store, command: str) -> int:
    number: int = store.client.info("commandstats")[f"cmdstat_{command}"]["calls"]
    return number


def test_an_examination_only_reads_and_never_asks_for_all_keys(real: Store) -> None:
    told(real.ledger)
    real.client.set(f"rq:job:{new_id()}", "x")
    real.client.hincrby("baton:counts", "PENDING", 1)
    real.client.config_resetstat()
    examine(real.exchange, lambda: None)
    used = {name.removeprefix("cmdstat_") for name in real.client.info("commandstats")}
    reading = {
        "time",
        "scan",
        "hgetall",
        "hmget",
        "hget",
        "ttl",
        "lrange",
        "zscan",
        "zmscore",
        "zrange",
        "smembers",
        "sscan",
        "get",
        "exists",
    }
    assert used - {"config|resetstat", "info"} <= reading
