"""Hooks of ends that scripts make: which ends leave some, who takes them, and that none is lost on the way."""

from collections.abc import Callable

import pytest

from shared.commands import Outcome
from shared.upkeep import Buried, Death, HooksDue, Pulse
from tests.support.invariants import faults
from tests.support.ledgers import (
    CANCELLED,
    FAILED,
    KEPT,
    PAUSED_IN_PLACE,
    Store,
    asked_to_cancel,
    fields_of,
    held_by,
    one_begun,
    one_submitted,
    quarantined,
    report,
    reported,
    retry_in,
    rows_of,
    seated,
    seq_of,
    suspended_for,
)
from tests.support.waiting import eventually

ALL = ("FAILED shop.add", "CRASHED shop.add", "CANCELLED shop.add")
UNKNOWN = Outcome("FAILED", "UnknownTask", "not known here", retention=KEPT)
OVERRUN = Outcome("FAILED", "TimedOut", "too long", retention=KEPT)


def due(store: Store, queue: str = "q") -> list[str]:
    entries: list[str] = store.client.lrange(f"baton:hooks:{queue}", 0, -1)
    return entries


def taken(store: Store, worker: str = "w1") -> list[str]:
    entries: list[str] = store.client.lrange(f"baton:hooks:of:{worker}", 0, -1)
    return entries


def cancelled_waiting(store: Store, **given: object) -> str:
    """A run that was cancelled before it began."""
    run_id = one_submitted(store.ledger, **given)
    assert [answer.tag for answer in store.ledger.cancel([run_id])] == ["OK"]
    return run_id


def entry_of(store: Store, run_id: str, lost: int = 0) -> str:
    return f"{run_id} {seq_of(store, run_id)} {lost}"


# --- which ends -------------------------------------------------------------------------------------------------------


def crashed(store: Store) -> str:
    _, claim = held_by(store.ledger, fields={"on_crash": "fail"})
    store.ledger.reap([Death("w1", "killed by signal 9", claim.run_id)])
    return claim.run_id


def expired(store: Store) -> str:
    run_id = one_submitted(store.ledger, ties=[("within", 60)])
    store.client.zincrby("baton:deadlines", -KEPT, run_id)
    store.ledger.expire()
    return run_id


def expired_at_its_begin(store: Store) -> str:
    run_id = one_submitted(store.ledger, ties=[("within", 60)])
    store.client.zincrby("baton:deadlines", -KEPT, run_id)
    store.ledger.cycle(seated(store.ledger), [], 1)
    return run_id


def purged(store: Store) -> str:
    run_id = one_submitted(store.ledger)
    store.ledger.purge("q")
    return run_id


def cancelled_and_lost(store: Store) -> str:
    _, claim = held_by(store.ledger)
    asked_to_cancel(store.ledger, claim.run_id)
    store.ledger.reap([Death("w1", "killed by signal 9")])
    return claim.run_id


def cancelled_and_given_back(store: Store) -> str:
    _, claim = held_by(store.ledger)
    asked_to_cancel(store.ledger, claim.run_id)
    store.ledger.give_back("w1", [(claim.run_id, claim.token)], "Not started.")
    return claim.run_id


def cancelled_without_an_answer(store: Store) -> str:
    _, claim = held_by(store.ledger)
    store.ledger.cancel([claim.run_id])
    store.client.zincrby("baton:deadlines", -KEPT, claim.run_id)
    store.ledger.expire()
    return claim.run_id


def cancelled_before_its_retry(store: Store) -> str:
    seat, claim = held_by(store.ledger)
    asked_to_cancel(store.ledger, claim.run_id)
    assert reported(store.ledger, seat, report(claim, retry_in(5))) == ["CANCELLED"]
    return claim.run_id


def never_resumed(store: Store) -> str:
    seat, claim = held_by(store.ledger)
    reported(store.ledger, seat, report(claim, suspended_for(60)))
    store.client.zadd("baton:paused", {claim.run_id: 1})
    store.ledger.expire()
    return claim.run_id


def never_resumed_in_its_process(store: Store) -> str:
    _, claim = held_by(store.ledger, fields={"kind": "flow", "ties": "1"})
    store.ledger.propose(claim.run_id, PAUSED_IN_PLACE, "pause", token=claim.token)
    store.client.zadd("baton:deadlines", {claim.run_id: 1})
    store.ledger.expire()
    return claim.run_id


def unknown(store: Store) -> str:
    seat, claim = held_by(store.ledger)
    store.client.hset("rq:worker:w1", "tasks", "shop.other")
    reported(store.ledger, seat, report(claim, UNKNOWN))
    return claim.run_id


def overran(store: Store) -> str:
    _, claim = held_by(store.ledger)
    store.ledger.propose(claim.run_id, OVERRUN, "overrun", token=claim.token, leaves_hooks=True)
    store.ledger.propose(claim.run_id, OVERRUN, "overrun", token=claim.token, leaves_hooks=True)
    return claim.run_id


ENDS = [
    crashed,
    cancelled_waiting,
    expired,
    expired_at_its_begin,
    purged,
    cancelled_and_lost,
    cancelled_and_given_back,
    cancelled_without_an_answer,
    cancelled_before_its_retry,
    never_resumed,
    never_resumed_in_its_process,
    unknown,
    overran,
]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_an_end_that_is_made_without_the_tasks_code_leaves_its_hooks(store: Store, end: Callable[[Store], str]) -> None:
    store.ledger.announce(ALL)
    run_id = end(store)
    last = rows_of(store, run_id)[-1]
    assert (due(store), last["seq"], last["type"] in ("FAILED", "CRASHED", "CANCELLED"), faults(store)) == (
        [entry_of(store, run_id)],
        seq_of(store, run_id),
        True,
        [],
    )


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_an_end_for_which_the_task_has_no_hooks_leaves_nothing(store: Store, end: Callable[[Store], str]) -> None:
    store.ledger.announce(["COMPLETED shop.add", "FAILED shop.other", "CRASHED shop", "CANCELLED shop.add.more"])
    end(store)
    assert store.client.keys("baton:hooks:*") == []


@pytest.mark.parametrize("outcome", [FAILED, CANCELLED], ids=["failed", "cancelled"])
def test_an_end_that_a_worker_reports_of_a_task_that_it_knows_is_its_own(store: Store, outcome: Outcome) -> None:
    store.ledger.announce(ALL)
    seat, claim = held_by(store.ledger)
    store.client.hset("rq:worker:w1", "tasks", "shop.other shop.add")
    assert (reported(store.ledger, seat, report(claim, outcome)), due(store)) == (["OK"], [])


def test_what_is_announced_again_changes_nothing(store: Store) -> None:
    assert ([store.ledger.announce(ALL) for _ in range(2)], store.client.smembers("baton:hooked")) == (
        [3, 0],
        set(ALL),
    )


# --- taking -----------------------------------------------------------------------------------------------------------


def test_hooks_are_taken_by_one_worker_and_confirmed(store: Store) -> None:
    store.ledger.announce(ALL)
    run_id = cancelled_waiting(store)
    seated(store.ledger, "w1")
    seated(store.ledger, "w2")
    entry = entry_of(store, run_id)
    first, second = store.ledger.next_hooks("w1", ["q"]), store.ledger.next_hooks("w2", ["q"])
    held = (due(store), taken(store))
    store.ledger.hooks_called("w1", entry)
    assert (first, second, held, due(store), taken(store), store.ledger.next_hooks("w1", ["q"])) == (
        HooksDue("OK", entry),
        HooksDue("OK", ""),
        ([], [entry]),
        [],
        [],
        HooksDue("OK", ""),
    )
    assert (first.run_id, first.seq) == (run_id, seq_of(store, run_id))


def test_a_repeat_is_answered_with_what_the_worker_holds(store: Store) -> None:
    store.ledger.announce(ALL)
    first, second = cancelled_waiting(store), cancelled_waiting(store)
    seated(store.ledger)
    answers = [store.ledger.next_hooks("w1", ["q"]).run_id for _ in range(2)]
    for _ in range(2):
        store.ledger.hooks_called("w1", entry_of(store, first))
    assert (answers, due(store)) == ([first, first], [entry_of(store, second)])


def test_hooks_of_its_queues_are_taken_in_their_order(store: Store) -> None:
    store.ledger.announce(ALL)
    low, high, other = (cancelled_waiting(store, queue=queue) for queue in ("low", "high", "other"))
    seated(store.ledger, "w1", "high", "low")
    order = []
    while entry := store.ledger.next_hooks("w1", ["high", "low"]).entry:
        order.append(entry.split()[0])
        store.ledger.hooks_called("w1", entry)
    assert (order, due(store, "other")) == ([high, low], [entry_of(store, other)])


def test_hooks_of_tasks_that_a_worker_does_not_know_are_left_to_others(store: Store) -> None:
    store.ledger.announce([*ALL, "CANCELLED shop.sub"])
    first, second = cancelled_waiting(store), cancelled_waiting(store, task="shop.sub")
    seated(store.ledger, "w1")
    seated(store.ledger, "w2")
    store.client.hset("rq:worker:w1", "tasks", "shop.sub")
    store.client.hset("rq:worker:w2", "tasks", "shop.mul")
    assert [store.ledger.next_hooks(name, ["q"]).entry for name in ("w2", "w1")] == ["", entry_of(store, second)]
    assert due(store) == [entry_of(store, first)]


def test_what_a_worker_cannot_call_after_all_it_passes_on(store: Store) -> None:
    store.ledger.announce(ALL)
    run_id = cancelled_waiting(store)
    seated(store.ledger)
    entry = store.ledger.next_hooks("w1", ["q"]).entry
    for _ in range(2):
        store.ledger.hooks_called("w1", entry, is_for_others=True)
    assert (due(store), taken(store)) == ([entry_of(store, run_id)], [])


def test_hooks_of_runs_that_are_gone_or_unreadable_are_dropped(store: Store) -> None:
    store.ledger.announce(ALL)
    gone, broken, fine = (cancelled_waiting(store) for _ in range(3))
    store.client.delete(f"rq:job:{gone}")
    store.client.hset(f"rq:job:{broken}", "seq", "x")
    store.client.rpush("baton:hooks:q", "", "nonsense")
    seated(store.ledger)
    first = store.ledger.next_hooks("w1", ["q"])
    store.ledger.hooks_called("w1", first.entry)
    assert (first.run_id, store.ledger.next_hooks("w1", ["q"]).entry, due(store), quarantined(store)) == (
        fine,
        "",
        [],
        [{"reason": "unreadable", "run": broken}],
    )


def test_promoting_tells_for_which_queues_hooks_are_due(store: Store) -> None:
    store.ledger.announce(ALL)
    one_submitted(store.ledger, queue="other")
    before = store.ledger.promote().hooked
    cancelled_waiting(store)
    assert (before, store.ledger.promote().hooked, store.client.llen("baton:wake:due")) == ((), ("q",), 1)


def test_hooks_that_nobody_calls_do_not_pile_up_for_ever(store: Store) -> None:
    store.ledger.announce(ALL)
    store.client.rpush("baton:hooks:q", *(f"old{number} 2 0" for number in range(10_000)))
    run_id = cancelled_waiting(store)
    assert (len(due(store)), due(store)[-1], quarantined(store)) == (
        10_000,
        entry_of(store, run_id),
        [{"reason": "hooks", "run": "old0", "queue": "q", "message": "Too many hooks were due."}],
    )


# --- workers that die -------------------------------------------------------------------------------------------------


def test_hooks_of_a_worker_that_stopped_are_due_again(store: Store) -> None:
    store.ledger.announce(ALL)
    run_id = cancelled_waiting(store)
    seated(store.ledger)
    store.ledger.next_hooks("w1", ["q"])
    for _ in range(2):
        store.ledger.reap([Death("w1", "")])
    assert (due(store), taken(store)) == ([entry_of(store, run_id)], [])


def test_hooks_of_a_worker_whose_lease_ended_are_due_again_and_no_more_its_own(store: Store) -> None:
    store.ledger.announce(ALL)
    run_id = cancelled_waiting(store)
    seated(store.ledger)
    entry = store.ledger.next_hooks("w1", ["q"]).entry
    eventually(store.ledger.reap)
    store.ledger.hooks_called("w1", entry)
    assert (store.ledger.next_hooks("w1", ["q"]), due(store)) == (
        HooksDue("BURIED", ""),
        [entry_of(store, run_id, lost=1)],
    )


def test_hooks_of_a_worker_that_stopped_wait_with_it_for_their_queue_to_be_mended(store: Store) -> None:
    store.ledger.announce(ALL)
    run_id = cancelled_waiting(store)
    seated(store.ledger)
    store.ledger.next_hooks("w1", ["q"])
    store.client.set("rq:deferred:q", "not ours")
    first = store.ledger.reap([Death("w1", "")])
    store.client.delete("rq:deferred:q")
    second = store.ledger.reap([Death("w1", "")])
    assert (first, second, due(store)) == ([], [Buried("w1", 0, 0, 0)], [entry_of(store, run_id)])


def test_hooks_that_end_every_process_are_put_aside(store: Store) -> None:
    store.ledger.announce(ALL)
    run_id = cancelled_waiting(store)
    for worker in ("w1", "w2", "w3"):
        seated(store.ledger, worker)
        assert store.ledger.next_hooks(worker, ["q"]).run_id == run_id
        store.ledger.reap([Death(worker, "killed by signal 9")])
    message = "Lost while its hooks ran: killed by signal 9."
    assert (due(store), quarantined(store)) == (
        [],
        [{"reason": "hooks", "run": run_id, "worker": "w3", "message": message}],
    )


def test_a_list_that_is_none_costs_nobody_the_end_of_his_run(store: Store) -> None:
    store.ledger.announce(ALL)
    store.client.set("baton:hooks:q", "mine")
    run_id = cancelled_waiting(store)
    seated(store.ledger)
    assert (fields_of(store, run_id)["state_type"], store.ledger.next_hooks("w1", ["q"])) == (
        "CANCELLED",
        HooksDue("OK", ""),
    )


def test_a_run_that_was_retried_since_keeps_its_hooks_due(store: Store) -> None:
    store.ledger.announce(ALL)
    run_id = cancelled_waiting(store)
    entry = entry_of(store, run_id)
    store.ledger.retry(run_id, seq_of(store, run_id), "again")
    store.ledger.beat([Pulse("w1", ("q",), {"queues": "q"}, is_new=True)])
    assert store.ledger.next_hooks("w1", ["q"]).entry == entry
    assert one_begun(store.ledger, seated(store.ledger, "w2")).run_id == run_id
