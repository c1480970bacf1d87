"""Clients, workers and housekeepers at the same time on the same runs: each move is made once, by one of them."""

from collections import Counter

from shared.commands import Seat
from shared.ledger import RunLedger
from tests.support import places
from tests.support.invariants import faults, scanned
from tests.support.ledgers import (
    CANCELLED,
    Store,
    begun,
    counts,
    new_run,
    queued,
    report,
    reported,
    seated,
    seq_of,
    side_by_side,
    started,
    state_of,
    submitted,
)
from tests.support.waiting import eventually

LIMITED = {"limits": "tag:db", "ties": "1"}


def test_upstreams_that_end_at_once_queue_who_waits_for_them_once(real: Store) -> None:
    upstreams = submitted(real.ledger, 64)
    waiting = new_run(ties=[("up", upstream) for upstream in upstreams])
    real.ledger.submit([waiting])
    seats = [seated(real.ledger, f"w{number}") for number in range(8)]
    claims = [begun(real.ledger, seat, 8) for seat in seats]

    def end(ledger: RunLedger, number: int) -> list[str]:
        return [reported(ledger, seats[number], report(claim))[0] for claim in claims[number]]

    assert side_by_side(real, 8, end) == [["OK"] * 8] * 8
    assert (queued(real), faults(real)) == ([waiting.id], [])


def test_workers_at_once_keep_a_limit_and_leave_no_slot_unused(real: Store) -> None:
    real.ledger.set_limit("tag:db", 2)
    ids = submitted(real.ledger, 60, fields=LIMITED)
    for number in range(6):
        seated(real.ledger, f"w{number}")

    def work(ledger: RunLedger, number: int) -> tuple[int, int]:
        seat, done, most = Seat(f"w{number}", ["q"]), 0, 0

        def idle() -> bool:
            nonlocal done, most
            claims = ledger.cycle(seat, [], 1).claims
            most = max(most, real.client.zcard("baton:limit:tag:db:holders"))
            done += reported(ledger, seat, *map(report, claims)).count("OK")
            return not counts(real)

        eventually(idle, 30)
        return done, most

    answers = side_by_side(real, 6, work)
    assert (sum(done for done, _ in answers), max(most for _, most in answers)) == (len(ids), 2)
    assert (counts(real), faults(real)) == ({}, [])


def test_housekeepers_at_once_move_each_run_once(real: Store) -> None:
    (parent,) = begun(real.ledger, _seat_with_one_run(real))
    late = submitted(real.ledger, 40, ties=[("within", 0.000001)])
    children = submitted(real.ledger, 40, fields={"parent": parent.run_id})
    due = submitted(real.ledger, 40, delay=0.0, ties=[("up", child) for child in children[:3]])
    real.ledger.cancel([parent.run_id])
    ids = [*late, *children, *due]

    def keep_house(ledger: RunLedger, number: int) -> None:
        for _ in range(3):
            ledger.expire(7)
            ledger.go_on(3)
            ledger.promote(5 + number)
            ledger.reconcile(ids[number::4])
            ledger.sweep()

    side_by_side(real, 8, keep_house)
    eventually(lambda: not real.ledger.promote().moved)
    found = Counter(state_of(real, run_id)[:2] for run_id in ids)
    rows = Counter(len(scanned(real).rows[run_id]) for run_id in [*late, *children])
    assert found == {("CANCELLED", "Expired"): 40, ("CANCELLED", "Cancelled"): 40, ("PENDING", "Pending"): 40}
    assert (rows, sorted(set(queued(real)) & set(due)), faults(real)) == ({2: 80}, sorted(due), [])


def _seat_with_one_run(store: Store) -> Seat:
    submitted(store.ledger)
    return seated(store.ledger)


def test_a_cancel_and_an_end_at_once_end_the_run_in_one_way(real: Store) -> None:
    submitted(real.ledger, 100)
    seat = seated(real.ledger)
    claims = [begun(real.ledger, seat)[0] for _ in range(100)]

    def end_or_cancel(ledger: RunLedger, number: int) -> list[str]:
        if number:
            return [ledger.cancel([claim.run_id])[0].state_type for claim in claims]
        return [verdict for claim in claims for verdict in reported(ledger, seat, report(claim))]

    verdicts, states = side_by_side(real, 2, end_or_cancel)
    ends = [state_of(real, claim.run_id)[0] for claim in claims]
    expected = {("OK", "COMPLETED"): "COMPLETED", ("CANCELLED", "CANCELLING"): "CANCELLED"}
    assert ends == [expected[pair] for pair in zip(verdicts, states, strict=True)]
    assert faults(real) == []


def test_of_several_that_retry_or_resume_at_once_one_does(real: Store) -> None:
    over, paused = places.cancelled(real), places.suspended(real)
    known = {run_id: seq_of(real, run_id) for run_id in (over, paused)}

    def steer(ledger: RunLedger, number: int) -> tuple[str, str]:
        return (
            ledger.retry(over, known[over], f"retry-{number}", actor="alice").tag,
            ledger.resume(paused, known[paused], f"resume-{number}", actor="alice").tag,
        )

    answers = side_by_side(real, 6, steer)
    assert [sorted(tags) for tags in zip(*answers, strict=True)] == [[*["CHANGED"] * 5, "OK"]] * 2
    assert (set(queued(real)), faults(real)) == ({over, paused}, [])


def test_two_that_were_handed_a_run_one_after_the_other_start_it_once(real: Store) -> None:
    upstream = submitted(real.ledger)[0]
    real.ledger.cancel([upstream])
    real.ledger.submit([new_run(ties=[("up", upstream)])])
    seats = [seated(real.ledger, name) for name in ("w1", "w2")]
    (old,) = begun(real.ledger, seats[0])
    real.ledger.give_back("w1", [(old.run_id, old.token)], "Stop.")
    (new,) = begun(real.ledger, seats[1])
    attempt = started(real.ledger, seats[1], new)
    assert reported(real.ledger, seats[0], report(old, CANCELLED)) == ["FENCED"]
    assert (reported(real.ledger, seats[1], report(attempt)), faults(real)) == (["OK"], [])
