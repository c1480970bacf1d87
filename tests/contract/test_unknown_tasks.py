"""Tasks that a worker does not know: left to those who do, and failed when there is nobody for long."""

import pytest

from shared.commands import Outcome, Seat
from shared.ledger import RunLedger
from shared.upkeep import Death, Promoted, Pulse
from tests.support.invariants import faults
from tests.support.ledgers import (
    FAILED,
    KEPT,
    PENDING,
    Store,
    counts,
    fields_of,
    keyspace,
    new_run,
    one_begun,
    one_submitted,
    queued,
    report,
    reported,
    rows_of,
    seq_of,
    server_time,
    state_of,
    submitted,
    tokens_lying,
)

PASSED = ("PENDING", "Pending", "passed")
IS_QUEUED = ("PENDING", "Pending", None)


def announcing(ledger: RunLedger, worker: str, *tasks: str) -> Seat:
    """A worker with a lease that knows these tasks."""
    ledger.beat([Pulse(worker, ["q"], {"tasks": " ".join(tasks)}, is_new=True)])
    return Seat(worker, ["q"])


def given_up(store: Store) -> None:
    """Nobody has known the task for as long as others are waited for."""
    for key in store.client.keys("rq:job:*"):
        store.client.hset(key, "passed_at", f"{server_time(store) - store.settings.unknown_task_grace - 1:.3f}")


def come_round(store: Store) -> None:
    """The second for which a run is passed on is over."""
    for run_id in store.client.zrange("rq:scheduled:q", 0, -1):
        store.client.zadd("rq:scheduled:q", {run_id: 1})
    store.ledger.promote()


def test_a_run_of_an_unknown_task_is_passed_on_and_those_behind_it_begin(store: Store) -> None:
    unknown, known = one_submitted(store.ledger), one_submitted(store.ledger, task="shop.other")
    claim = one_begun(store.ledger, announcing(store.ledger, "w1", "shop.more", "shop.other"))
    due = store.client.zscore("rq:scheduled:q", unknown) - server_time(store)
    assert (claim.run_id, state_of(store, unknown), fields_of(store, unknown)["status"]) == (known, PASSED, "scheduled")
    assert (0.5 < due <= 1, len(rows_of(store, unknown)), counts(store)) == (True, 1, {"PENDING": 1, "RUNNING": 1})
    assert faults(store) == []


def test_after_a_second_it_waits_again_at_the_tail(store: Store) -> None:
    unknown = one_submitted(store.ledger)
    seat = announcing(store.ledger, "w1", "shop.other")
    assert store.ledger.cycle(seat, [], 1).claims == []
    early = store.ledger.promote()
    other = one_submitted(store.ledger)
    store.client.delete("baton:wake:q")
    come_round(store)
    assert (early.moved, queued(store), state_of(store, unknown)) == (0, [other, unknown], IS_QUEUED)
    assert (store.ledger.promote(), tokens_lying(store), faults(store)) == (Promoted(0, None), 1, [])


def test_whoever_knows_the_task_begins_it(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    assert store.ledger.cycle(announcing(store.ledger, "w1", "shop.other"), [], 1).claims == []
    come_round(store)
    claim = one_begun(store.ledger, announcing(store.ledger, "w2", "shop.other", "shop.add"))
    assert (claim.run_id, claim.state, "passed_at" in fields_of(store, run_id)) == (run_id, "RUNNING", False)
    assert faults(store) == []


def test_a_worker_that_does_not_say_what_it_knows_takes_everything(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.ledger.beat([Pulse("w1", ["q"], {}, is_new=True)])
    assert one_begun(store.ledger, Seat("w1", ["q"])).run_id == run_id


def test_a_task_is_known_by_its_whole_name(store: Store) -> None:
    one_submitted(store.ledger)
    seat = announcing(store.ledger, "w1", "shop.addition", "my.shop.add", "shop.ad")
    assert store.ledger.cycle(seat, [], 1).claims == []


def test_a_run_that_nobody_knew_for_long_is_handed_out_to_be_failed(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    seat = announcing(store.ledger, "w1", "shop.other")
    assert store.ledger.cycle(seat, [], 1).claims == []
    come_round(store)
    given_up(store)
    claim = one_begun(store.ledger, seat)
    held = (claim.state, state_of(store, run_id), faults(store))
    unknown = FAILED._replace(state_name="UnknownTask", message="Task 'shop.add' is not registered on this queue.")
    verdicts = reported(store.ledger, seat, report(claim, unknown))
    assert (held, verdicts) == (("PENDING", ("PENDING", "Pending", "held"), []), ["OK"])
    assert (state_of(store, run_id), "attempt" in fields_of(store, run_id)) == (("FAILED", "UnknownTask", None), False)
    assert faults(store) == []


def test_as_long_as_a_living_worker_announces_the_task_it_is_passed_on(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    seat = announcing(store.ledger, "w1", "shop.other")
    announcing(store.ledger, "busy", "shop.add")
    seen = []
    for _ in range(2):
        given_up(store)
        assert store.ledger.cycle(seat, [], 1).claims == []
        seen.append(state_of(store, run_id))
        come_round(store)
    given_up(store)
    store.ledger.reap([Death("busy", "killed by signal 9")])
    assert (seen, one_begun(store.ledger, seat).state) == ([PASSED] * 2, "PENDING")


def test_a_retried_run_is_passed_on_anew(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    seat = announcing(store.ledger, "w1", "shop.other")
    given_up(store)
    reported(store.ledger, seat, report(one_begun(store.ledger, seat), FAILED))
    store.ledger.retry(run_id, seq_of(store, run_id), "again", actor="alice")
    assert (store.ledger.cycle(seat, [], 1).claims, state_of(store, run_id), faults(store)) == ([], PASSED, [])


def test_a_run_that_is_passed_on_keeps_its_deadline(store: Store) -> None:
    run_id = one_submitted(store.ledger, ties=[("within", 60)])
    store.ledger.cycle(announcing(store.ledger, "w1", "shop.other"), [], 1)
    store.client.zincrby("baton:deadlines", -KEPT, run_id)
    store.ledger.expire()
    assert (state_of(store, run_id), faults(store)) == (("CANCELLED", "Expired", None), [])


@pytest.mark.parametrize("way", ["cancel", "force"])
def test_a_run_that_is_passed_on_can_be_steered(store: Store, way: str) -> None:
    run_id = one_submitted(store.ledger)
    store.ledger.cycle(announcing(store.ledger, "w1", "shop.other"), [], 1)
    if way == "cancel":
        store.ledger.cancel([run_id])
    else:
        store.ledger.force(run_id, 1, "now", PENDING, actor="alice")
    assert (store.client.zcard("rq:scheduled:q"), faults(store)) == (0, [])


def test_more_unknown_runs_than_one_call_passes_on_are_left_to_the_next(store: Store) -> None:
    submitted(store.ledger, 250)
    last = new_run(task="shop.other")
    store.ledger.submit([last])
    seat = announcing(store.ledger, "w1", "shop.other")
    answers = [store.ledger.cycle(seat, [], 1) for _ in range(2)]
    assert [(answer.tag, [claim.run_id for claim in answer.claims]) for answer in answers] == [
        ("MORE", []),
        ("OK", [last.id]),
    ]
    assert (store.client.zcard("rq:scheduled:q"), faults(store)) == (250, [])


def test_a_repeat_of_the_cycle_passes_nothing_on_again(store: Store) -> None:
    submitted(store.ledger, 2)
    announcing(store.ledger, "w1", "shop.other")
    answers = []
    for _ in range(2):
        answers.append(store.ledger.cycle(Seat("w1", ["q"]), [], 1))
        answers.append(keyspace(store))
    assert answers[:2] == answers[2:]


def test_a_tied_run_of_an_unknown_task_is_passed_on_too(store: Store) -> None:
    upstream = one_submitted(store.ledger, task="shop.other")
    run_id = one_submitted(store.ledger, ties=[("up", upstream)])
    seat = announcing(store.ledger, "w1", "shop.other")
    reported(store.ledger, seat, report(one_begun(store.ledger, seat), Outcome("FAILED", "Failed", retention=KEPT)))
    assert (store.ledger.cycle(seat, [], 1).claims, state_of(store, run_id), faults(store)) == ([], PASSED, [])
