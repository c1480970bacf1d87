"""Every command sent twice, as after a lost reply: the second answers what the first did, and stores nothing more."""

from collections.abc import Callable
from typing import Any

import pytest

from shared.commands import Claim, Seat
from shared.upkeep import Death, Pulse, Recount
from tests.support.invariants import faults
from tests.support.ledgers import (
    CANCELLED,
    COMPLETED,
    FAILED,
    KEPT,
    PAUSED_IN_PLACE,
    PENDING,
    RETRYING,
    RUNNING,
    Outcome,
    Store,
    ended,
    held_by,
    keyspace,
    new_run,
    new_runs,
    one_begun,
    one_submitted,
    report,
    reported,
    retry_in,
    seated,
    seq_of,
    submitted,
    suspended_for,
)

Command = Callable[[], Any]
LIMITED = {"limits": "tag:db", "ties": "1"}
FLOW = {"kind": "flow", "ties": "1"}


def twice(store: Store, command: Command) -> list[Any]:
    """Both answers to a command that is sent again."""
    first = command()
    stored = keyspace(store)
    second = command()
    assert keyspace(store) == stored
    assert faults(store) == []
    return [first, second]


def handed_out(store: Store) -> Claim:
    """A run with an upstream, in the hand of `w1` before its start; its limit is full."""
    seat, upstream = seated(store.ledger), one_submitted(store.ledger)
    ended(store.ledger, seat, upstream)
    store.ledger.set_limit("tag:db", 1)
    one_submitted(store.ledger, fields=LIMITED)
    one_begun(store.ledger, seat)
    one_submitted(store.ledger, fields=LIMITED, ties=[("up", upstream)])
    return one_begun(store.ledger, seat)


# --- workers ----------------------------------------------------------------------------------------------------------


def _begins(store: Store) -> Command:
    submitted(store.ledger, 3)
    seated(store.ledger)
    return lambda: store.ledger.cycle(Seat("w1", ["q"]), [], 2)


def _is_handed_a_tied_run(store: Store) -> Command:
    upstream = one_submitted(store.ledger, queue="other")
    ended(store.ledger, seated(store.ledger, "w0", "other"), upstream)
    submitted(store.ledger, 2, ties=[("up", upstream)])
    seated(store.ledger)
    return lambda: store.ledger.cycle(Seat("w1", ["q"]), [], 2)


def _lets_runs_wait_for_a_slot(store: Store) -> Command:
    store.ledger.set_limit("tag:db", 1)
    submitted(store.ledger, 3, fields=LIMITED)
    seated(store.ledger)
    number = iter([1, 2, 2])
    store.ledger.cycle(Seat("w1", ["q"], next(number)), [], 1)
    return lambda: store.ledger.cycle(Seat("w1", ["q"], next(number)), [], 1)


def _passes_on_what_is_unknown(store: Store) -> Command:
    submitted(store.ledger, 2)
    store.ledger.beat([Pulse("w1", ["q"], {"tasks": "shop.other"}, is_new=True)])
    return lambda: store.ledger.cycle(Seat("w1", ["q"]), [], 2)


def _reports(store: Store) -> Command:
    upstream = one_submitted(store.ledger, fields=LIMITED, ties=[("idem", "k"), ("digest", "d")])
    submitted(store.ledger, 2, ties=[("up", upstream)])
    store.ledger.set_limit("tag:db", 1)
    seat = seated(store.ledger)
    claim = one_begun(store.ledger, seat)
    return lambda: store.ledger.cycle(Seat("w1", ["q"], 2), [report(claim)], 1)


def _reports_a_pause(store: Store) -> Command:
    _, claim = held_by(store.ledger)
    return lambda: store.ledger.cycle(Seat("w1", ["q"], 2), [report(claim, suspended_for(KEPT))], 0)


def _starts(store: Store) -> Command:
    claim = handed_out(store)
    store.ledger.set_limit("tag:db", 2)
    return lambda: store.ledger.propose(claim.run_id, RUNNING, "start", token=claim.token, worker="w1")


def _finds_a_limit_full(store: Store) -> Command:
    claim = handed_out(store)
    return lambda: store.ledger.propose(claim.run_id, RUNNING, "start", token=claim.token, worker="w1")


def _tries_again_in_place(store: Store) -> Command:
    _, claim = held_by(store.ledger)
    return lambda: store.ledger.propose(claim.run_id, RETRYING, "again", token=claim.token, worker="w1")


def _pauses_in_place(store: Store) -> Command:
    _, claim = held_by(store.ledger, fields=FLOW)
    return lambda: store.ledger.propose(claim.run_id, PAUSED_IN_PLACE, "pause", token=claim.token, worker="w1")


def _beats_for_a_cancelled_run(store: Store) -> Command:
    _, claim = held_by(store.ledger)
    store.ledger.cancel([claim.run_id])

    def beat() -> Any:
        answer = store.ledger.beat([Pulse("w1", ["q"], {})])
        store.client.zadd("baton:leases", {"w1": 1})  # these two are later with each beat
        store.client.hdel("rq:worker:w1", "last_heartbeat")
        return answer

    return beat


# --- clients ----------------------------------------------------------------------------------------------------------


def _cancels(store: Store) -> Command:
    _, claim = held_by(store.ledger)
    ids = submitted(store.ledger, 2, fields={"parent": claim.run_id})
    return lambda: store.ledger.cancel([claim.run_id, *ids], actor="alice", message="No more.")


def _retries(store: Store) -> Command:
    run_id = one_submitted(store.ledger, ties=[("up", one_submitted(store.ledger)), ("idem", "k"), ("digest", "d")])
    store.ledger.cancel([run_id])
    seq = seq_of(store, run_id)
    return lambda: store.ledger.retry(run_id, seq, "again", actor="alice")


def _retries_later(store: Store) -> Command:
    run_id = one_submitted(store.ledger)
    store.ledger.cancel([run_id])
    return lambda: store.ledger.retry(run_id, 2, "again", actor="alice", delay=KEPT)


def _forces_to_wait(store: Store) -> Command:
    _, claim = held_by(store.ledger)
    return lambda: store.ledger.force(claim.run_id, 2, "force", PENDING, actor="alice")


def _forces_an_end(store: Store) -> Command:
    run_id = one_submitted(store.ledger)
    store.ledger.cancel([run_id])
    return lambda: store.ledger.force(run_id, 2, "force", COMPLETED, actor="alice")


def _resumes(store: Store) -> Command:
    seat, claim = held_by(store.ledger)
    reported(store.ledger, seat, report(claim, suspended_for(0)))
    return lambda: store.ledger.resume(claim.run_id, 3, "go", actor="alice", given=b"yes")


def _suspends_from_outside(store: Store) -> Command:
    run_id = one_submitted(store.ledger)
    return lambda: store.ledger.propose(run_id, suspended_for(KEPT), "hold", seq=1, actor="alice")


def _raises_a_limit(store: Store) -> Command:
    store.ledger.set_limit("tag:db", 0)
    submitted(store.ledger, 3, fields=LIMITED)
    store.ledger.cycle(seated(store.ledger), [], 1)
    return lambda: store.ledger.set_limit("tag:db", 2)


def _deletes_a_limit(store: Store) -> Command:
    _raises_a_limit(store)
    return lambda: store.ledger.set_limit("tag:db", None)


# --- anybody ----------------------------------------------------------------------------------------------------------


def _reconciles_nothing(store: Store) -> Command:
    ids = submitted(store.ledger, 2)
    return lambda: store.ledger.reconcile(ids)


def _greets(store: Store) -> Command:
    return store.ledger.check


def _submits_under_a_key_that_is_given(store: Store) -> Command:
    one_submitted(store.ledger, ties=[("idem", "k"), ("digest", "d")])
    runs = [new_run(ties=[("idem", "k"), ("digest", digest)]) for digest in ("d", "e")]
    return lambda: store.ledger.submit(runs)


def _submits_to_a_full_queue(store: Store) -> Command:
    store.ledger.set_queue("q", "cap", 1)
    one_submitted(store.ledger)
    runs = new_runs(2)
    return lambda: store.ledger.submit(runs)


SAME = [
    *(_begins, _is_handed_a_tied_run, _lets_runs_wait_for_a_slot, _passes_on_what_is_unknown, _reports),
    *(_reports_a_pause, _starts, _finds_a_limit_full, _tries_again_in_place, _pauses_in_place),
    *(_beats_for_a_cancelled_run, _cancels, _retries, _retries_later, _forces_to_wait, _forces_an_end, _resumes),
    *(_suspends_from_outside, _raises_a_limit, _deletes_a_limit, _reconciles_nothing, _greets),
    *(_submits_under_a_key_that_is_given, _submits_to_a_full_queue),
]


def name_of(prepare: Callable[[Store], Command]) -> str:
    return prepare.__name__.strip("_")


@pytest.mark.parametrize("prepare", SAME, ids=name_of)
def test_a_repeat_answers_the_same(store: Store, prepare: Callable[[Store], Command]) -> None:
    first, second = twice(store, prepare(store))
    assert first == second


# --- those whose second answer says that there is nothing left to do --------------------------------------------------


def _submits(store: Store) -> tuple[Command, list[Any]]:
    upstream = one_submitted(store.ledger)
    _, parent = held_by(store.ledger)
    ties = [("up", upstream), ("tag", "x"), ("idem", "k"), ("digest", "d"), ("within", 60)]
    runs = [new_run(ties=ties, fields={"parent": parent.run_id}), new_run(delay=KEPT), new_run(at_front=True)]
    return lambda: store.ledger.submit(runs), [["OK"] * 3, ["EXISTS"] * 3]


def _submits_under_a_cancelled_parent(store: Store) -> tuple[Command, list[Any]]:
    _, parent = held_by(store.ledger)
    store.ledger.cancel([parent.run_id])
    run = new_run(fields={"parent": parent.run_id}, ties=[("idem", "k"), ("digest", "d")])
    return lambda: store.ledger.submit([run]), [["OK"], ["EXISTS"]]


def _gives_back(store: Store) -> tuple[Command, list[Any]]:
    _, claim = held_by(store.ledger)
    return lambda: store.ledger.give_back("w1", [(claim.run_id, claim.token)], "Stop."), [["OK"], ["FENCED"]]


def _reaps(store: Store) -> tuple[Command, list[Any]]:
    held_by(store.ledger, fields=FLOW)
    return lambda: store.ledger.reap([Death("w1", "killed by signal 9")])[0].lost, [1, 0]


def _promotes(store: Store) -> tuple[Command, list[Any]]:
    upstream = one_submitted(store.ledger)
    submitted(store.ledger, 2, delay=0.0)
    submitted(store.ledger, 2, delay=0.0, ties=[("up", upstream)])
    return lambda: store.ledger.promote().moved, [4, 0]


def _expires(store: Store) -> tuple[Command, list[Any]]:
    submitted(store.ledger, 2, ties=[("within", 0.000001)])
    return store.ledger.expire, [2, 0]


def _sweeps(store: Store) -> tuple[Command, list[Any]]:
    run_id = one_submitted(store.ledger)
    store.ledger.cancel([run_id])
    store.client.zadd("rq:canceled:q", {run_id: 1})
    return store.ledger.sweep, [1, 0]


def _goes_on(store: Store) -> tuple[Command, list[Any]]:
    _, claim = held_by(store.ledger)
    submitted(store.ledger, 3, fields={"parent": claim.run_id})
    store.ledger.cancel([claim.run_id])
    return store.ledger.go_on, [0, 0]


def _reconciles(store: Store) -> tuple[Command, list[Any]]:
    run_id = one_submitted(store.ledger)
    store.client.delete("rq:queue:q")
    return lambda: store.ledger.reconcile([run_id]), [["put back where it waits"], [""]]


def _recounts(store: Store) -> tuple[Command, list[Any]]:
    one_submitted(store.ledger)
    store.client.hset("baton:counts", "PENDING", 7)
    return lambda: store.ledger.recount([Recount("PENDING", "7", "1")]), [True, False]


def _fires(store: Store) -> tuple[Command, list[Any]]:
    store.client.zadd("baton:schedules", {"nightly": 5})
    run = new_run()
    return lambda: store.ledger.fire("nightly", "5", "6", {"fired": 1}, run), ["OK", "STALE"]


def _pauses_a_queue(store: Store) -> tuple[Command, list[Any]]:
    return lambda: store.ledger.set_queue("q", "pause", "alice"), [True, False]


def _resumes_a_queue(store: Store) -> tuple[Command, list[Any]]:
    store.ledger.set_queue("q", "pause", "alice")
    submitted(store.ledger, 2)
    return lambda: store.ledger.set_queue("q", "resume"), [True, False]


def _moves(store: Store) -> tuple[Command, list[Any]]:
    submitted(store.ledger, 2)
    one_submitted(store.ledger, delay=KEPT)
    return lambda: store.ledger.move("q", "z"), [(3, 3), (0, 0)]


def _purges(store: Store) -> tuple[Command, list[Any]]:
    submitted(store.ledger, 2)
    return lambda: store.ledger.purge("q"), [(2, 2), (0, 0)]


def _drops(store: Store) -> tuple[Command, list[Any]]:
    entry = store.client.xadd("baton:quarantine", {"reason": "fenced"})
    return lambda: store.ledger.drop([entry]), [1, 0]


NOTHING_LEFT = [
    *(_submits, _submits_under_a_cancelled_parent, _gives_back, _reaps, _promotes, _expires, _sweeps, _goes_on),
    *(_reconciles, _recounts, _fires, _pauses_a_queue, _resumes_a_queue, _moves, _purges, _drops),
]


@pytest.mark.parametrize("prepare", NOTHING_LEFT, ids=name_of)
def test_a_repeat_finds_nothing_left_to_do(store: Store, prepare: Callable[[Store], tuple[Command, list[Any]]]) -> None:
    command, answers = prepare(store)
    assert twice(store, command) == answers


def test_a_run_that_is_awaited_twice_is_taken_once(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    assert [store.ledger.wait_for([run_id]) for _ in range(2)] == [1, 0]
    assert [claim.run_id for claim in store.ledger.cycle(seated(store.ledger), [], 4).claims] == [run_id]
    assert faults(store) == []


@pytest.mark.parametrize("outcome", [COMPLETED, FAILED, retry_in(KEPT), suspended_for(0), PENDING])
def test_a_repeat_that_comes_after_the_run_went_on_changes_nothing(store: Store, outcome: Outcome) -> None:
    run_id = one_submitted(store.ledger)
    store.ledger.force(run_id, 1, "force", outcome, actor="alice")
    store.ledger.force(run_id, 2, "later", CANCELLED, actor="bob")
    before = keyspace(store)
    answer = store.ledger.force(run_id, 1, "force", outcome, actor="alice")
    assert (answer.tag, answer.state_type, keyspace(store)) == ("CHANGED", "CANCELLED", before)
