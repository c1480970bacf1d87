"""Runs that need what others return: who waits, who is told, and how long results are kept for them."""

from collections.abc import Sequence

import pytest

from shared.commands import Claim
from shared.ids import new_id
from shared.upkeep import Death
from tests.support.invariants import faults
from tests.support.ledgers import (
    CANCELLED,
    COMPLETED,
    FAILED,
    KEPT,
    Outcome,
    Store,
    begun,
    counts,
    ended,
    fields_of,
    lifetimes_of,
    new_run,
    new_runs,
    one_begun,
    one_submitted,
    queued,
    report,
    reported,
    retry_in,
    rows_of,
    seated,
    seq_of,
    started,
    state_of,
    submitted,
)

WAITS = ("PENDING", "Pending", "deferred")
IS_QUEUED = ("PENDING", "Pending", None)


def after(*upstreams: str) -> Sequence[tuple[str, str]]:
    return [("up", upstream) for upstream in upstreams]


def deferred(store: Store) -> list[str]:
    ids: list[str] = store.client.zrange("rq:deferred:q", 0, -1)
    return ids


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_a_run_waits_for_every_upstream_and_is_queued_by_the_last(store: Store) -> None:
    first, second = submitted(store.ledger, 2)
    run_id = one_submitted(store.ledger, ties=after(first, second))
    seat = seated(store.ledger)
    seen = [(state_of(store, run_id), deferred(store))]
    for upstream in (first, second):
        ended(store.ledger, seat, upstream)
        seen.append((state_of(store, run_id), deferred(store)))
    assert seen == [(WAITS, [run_id]), (WAITS, [run_id]), (IS_QUEUED, [])]
    assert (queued(store), counts(store), faults(store)) == ([run_id], {"PENDING": 1}, [])


def test_what_a_run_waits_for_can_be_read(store: Store) -> None:
    upstreams = submitted(store.ledger, 2)
    run_id = one_submitted(store.ledger, ties=after(*upstreams))
    fields, (row,) = fields_of(store, run_id), rows_of(store, run_id)
    assert (fields["status"], fields["upstreams"], row["message"]) == ("deferred", "2", "Waiting for 2 upstream runs.")
    parts = [store.client.smembers(f"baton:run:{run_id}:{part}") for part in ("upstream", "waits")]
    feeds = [store.client.smembers(f"baton:run:{upstream}:feeds") for upstream in upstreams]
    assert (parts, feeds) == ([set(upstreams)] * 2, [{run_id}] * 2)


@pytest.mark.parametrize("outcome", [COMPLETED, FAILED, CANCELLED])
def test_every_end_of_an_upstream_ends_the_wait_for_it(store: Store, outcome: Outcome) -> None:
    upstream = one_submitted(store.ledger)
    run_id = one_submitted(store.ledger, ties=after(upstream))
    ended(store.ledger, seated(store.ledger), upstream, outcome)
    assert (state_of(store, run_id), queued(store), faults(store)) == (IS_QUEUED, [run_id], [])


def test_an_upstream_that_is_lost_for_good_ends_the_wait_for_it(store: Store) -> None:
    upstream = one_submitted(store.ledger, fields={"on_crash": "fail"})
    run_id = one_submitted(store.ledger, ties=after(upstream))
    one_begun(store.ledger, seated(store.ledger))
    store.ledger.reap([Death("w1", "killed by signal 9")])
    assert (state_of(store, upstream)[0], queued(store), faults(store)) == ("CRASHED", [run_id], [])


def test_an_upstream_that_will_be_tried_again_keeps_others_waiting(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    run_id = one_submitted(store.ledger, ties=after(upstream))
    ended(store.ledger, seated(store.ledger), upstream, retry_in(KEPT))
    assert (state_of(store, run_id), queued(store), faults(store)) == (WAITS, [], [])


@pytest.mark.parametrize("outcome", [COMPLETED, FAILED])
def test_a_run_does_not_wait_for_what_has_ended_before(store: Store, outcome: Outcome) -> None:
    upstream = one_submitted(store.ledger)
    ended(store.ledger, seated(store.ledger), upstream, outcome)
    run_id = one_submitted(store.ledger, ties=after(upstream))
    assert (state_of(store, run_id), queued(store), faults(store)) == (IS_QUEUED, [run_id], [])


def test_a_run_does_not_wait_for_what_is_not_there(store: Store) -> None:
    gone, there = new_id(), one_submitted(store.ledger)
    orphan = one_submitted(store.ledger, ties=after(gone))
    waiting = one_submitted(store.ledger, ties=after(gone, there))
    assert (state_of(store, orphan), state_of(store, waiting)) == (IS_QUEUED, WAITS)
    assert (store.client.smembers(f"baton:run:{waiting}:waits"), faults(store)) == ({there}, [])


def test_an_upstream_that_is_named_twice_is_needed_once(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    run_id = one_submitted(store.ledger, ties=after(upstream, upstream))
    waits = fields_of(store, upstream)["consumers"]
    seat = seated(store.ledger)
    ended(store.ledger, seat, upstream)
    ended(store.ledger, seat, run_id)
    assert (waits, lifetimes_of(store, upstream), faults(store)) == ("1", {KEPT}, [])


def test_a_chain_is_worked_link_by_link(store: Store) -> None:
    links = [one_submitted(store.ledger)]
    for _ in range(3):
        links.append(one_submitted(store.ledger, ties=after(links[-1])))
    seat = seated(store.ledger)
    seen = []
    for run_id in links:
        seen.append(queued(store))
        ended(store.ledger, seat, run_id)
    assert (seen, counts(store), faults(store)) == ([[run_id] for run_id in links], {}, [])


# --- many at once -----------------------------------------------------------------------------------------------------


def test_more_than_one_call_tells_are_told_by_continuations_each_once(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    waiting = submitted(store.ledger, 1200, ties=after(upstream))
    ended(store.ledger, seated(store.ledger), upstream)
    seen = [(len(queued(store)), store.client.llen("baton:continue"))]
    for _ in range(3):
        left = store.ledger.go_on()
        seen.append((len(queued(store)), left))
    assert (seen, sorted(queued(store))) == ([(500, 1), (1000, 1), (1200, 0), (1200, 0)], sorted(waiting))
    assert (deferred(store), faults(store)) == ([], [])


def test_one_run_may_need_ten_thousand(real: Store) -> None:
    upstreams = submitted(real.ledger, 10_000)
    run_id = one_submitted(real.ledger, ties=after(*upstreams))
    real.ledger.cancel(upstreams[1:])
    before = state_of(real, run_id)
    real.ledger.cancel(upstreams[:1])
    assert (before, state_of(real, run_id), queued(real)[-1]) == (WAITS, IS_QUEUED, run_id)
    assert fields_of(real, upstreams[5])["consumers"] == "1"
    real.ledger.cancel([run_id])
    assert {"consumers" in fields_of(real, upstream) for upstream in upstreams[::500]} == {False}


# --- beginning --------------------------------------------------------------------------------------------------------


def handed_out(store: Store) -> tuple[str, Claim]:
    """A run whose upstream has failed, in the hand of `w1`."""
    upstream = one_submitted(store.ledger)
    run_id = one_submitted(store.ledger, ties=after(upstream))
    seat = seated(store.ledger)
    ended(store.ledger, seat, upstream, FAILED)
    return run_id, one_begun(store.ledger, seat)


def test_a_run_with_upstreams_is_handed_out_before_its_start_and_alone(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    seat = seated(store.ledger)
    ended(store.ledger, seat, upstream)
    plain, tied = one_submitted(store.ledger), one_submitted(store.ledger, ties=after(upstream))
    batches = [[(claim.run_id, claim.state) for claim in begun(store.ledger, seat)] for _ in range(2)]
    assert batches == [[(plain, "RUNNING")], [(tied, "PENDING")]]
    assert (state_of(store, tied), len(rows_of(store, tied)), faults(store)) == (("PENDING", "Pending", "held"), 1, [])


def test_whoever_holds_it_may_start_it_or_end_it_unstarted(store: Store) -> None:
    run_id, claim = handed_out(store)
    seat = seated(store.ledger, "w2")
    trigger_failed = FAILED._replace(state_name="TriggerFailed")
    answers = [store.ledger.propose(run_id, trigger_failed, "no", token=claim.token, worker="w1").tag]
    again = one_submitted(store.ledger, ties=after(run_id))
    attempt = started(store.ledger, seat, one_begun(store.ledger, seat))
    assert (answers, state_of(store, run_id)[:2], "attempt" in fields_of(store, run_id)) == (
        ["OK"],
        ("FAILED", "TriggerFailed"),
        False,
    )
    assert (attempt.run_id, attempt.attempt, state_of(store, again)) == (again, 1, ("RUNNING", "Running", None))
    assert faults(store) == []


def test_what_was_handed_out_goes_back_to_the_head_uncounted(store: Store) -> None:
    run_id, claim = handed_out(store)
    other = one_submitted(store.ledger)
    assert store.ledger.give_back("w1", [(run_id, claim.token)], "Not started.") == ["OK"]
    given_back = (queued(store), len(rows_of(store, run_id)), state_of(store, run_id))
    assert one_begun(store.ledger, seated(store.ledger, "w2")).run_id == run_id
    (buried,) = store.ledger.reap([Death("w2", "killed by signal 9")])
    assert (given_back, buried.uncounted) == (([run_id, other], 1, IS_QUEUED), 1)
    assert (queued(store), "crashes" in fields_of(store, run_id), faults(store)) == ([run_id, other], False, [])


# --- delays, cancels, retries -----------------------------------------------------------------------------------------


def test_a_run_with_a_delay_waits_for_its_time_and_then_for_its_upstreams(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    run_id = one_submitted(store.ledger, ties=after(upstream), delay=0.0)
    before = state_of(store, run_id)
    store.ledger.promote()
    due = state_of(store, run_id)
    ended(store.ledger, seated(store.ledger), upstream)
    assert (before, due, state_of(store, run_id)) == (("SCHEDULED", "Scheduled", None), WAITS, IS_QUEUED)
    assert (queued(store), faults(store)) == ([run_id], [])


def test_a_run_with_a_delay_whose_upstreams_end_first_waits_for_its_time(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    run_id = one_submitted(store.ledger, ties=after(upstream), delay=KEPT)
    ended(store.ledger, seated(store.ledger), upstream)
    before = state_of(store, run_id)
    store.client.zadd("rq:scheduled:q", {run_id: 1})
    store.ledger.promote()
    assert (before, state_of(store, run_id), queued(store)) == (("SCHEDULED", "Scheduled", None), IS_QUEUED, [run_id])


def test_a_run_that_was_cancelled_while_it_waited_is_told_nothing(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    run_id = one_submitted(store.ledger, ties=after(upstream))
    store.ledger.cancel([run_id])
    ended(store.ledger, seated(store.ledger), upstream)
    assert (state_of(store, run_id)[0], queued(store), deferred(store), faults(store)) == ("CANCELLED", [], [], [])


def test_a_retried_run_waits_again_for_what_has_not_ended(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    run_id = one_submitted(store.ledger, ties=after(upstream))
    store.ledger.cancel([run_id])
    store.ledger.retry(run_id, seq_of(store, run_id), "again", actor="alice")
    before = state_of(store, run_id)
    ended(store.ledger, seated(store.ledger), upstream)
    assert (before, queued(store), faults(store)) == (WAITS, [run_id], [])


def test_a_retried_run_does_not_wait_for_what_ended_while_it_had_ended_itself(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    run_id = one_submitted(store.ledger, ties=after(upstream))
    store.ledger.cancel([run_id])
    ended(store.ledger, seated(store.ledger), upstream)
    store.ledger.retry(run_id, seq_of(store, run_id), "again", actor="alice")
    assert (state_of(store, run_id), queued(store), faults(store)) == (IS_QUEUED, [run_id], [])


def test_an_upstream_that_is_retried_keeps_nobody_waiting_again(store: Store) -> None:
    run_id, claim = handed_out(store)
    (upstream,) = store.client.smembers(f"baton:run:{run_id}:upstream")
    store.ledger.give_back("w1", [(run_id, claim.token)], "Not started.")
    store.ledger.retry(upstream, seq_of(store, upstream), "again", actor="alice")
    assert (state_of(store, upstream), state_of(store, run_id)) == (IS_QUEUED, IS_QUEUED)
    assert (fields_of(store, upstream)["consumers"], faults(store)) == ("1", [])


# --- lifetimes --------------------------------------------------------------------------------------------------------


def test_what_others_need_lives_until_the_last_of_them_has_ended(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    submitted(store.ledger, 2, ties=after(upstream))
    seat = seated(store.ledger)
    ended(store.ledger, seat, upstream)
    seen = [lifetimes_of(store, upstream)]
    for run_id in queued(store):
        ended(store.ledger, seat, run_id)
        seen.append(lifetimes_of(store, upstream))
    assert (seen, "consumers" in fields_of(store, upstream), faults(store)) == ([{-1}, {-1}, {KEPT}], False, [])


def test_what_had_a_lifetime_already_loses_it_while_it_is_needed(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    seat = seated(store.ledger)
    ended(store.ledger, seat, upstream)
    seen = [lifetimes_of(store, upstream)]
    run_id = one_submitted(store.ledger, ties=after(upstream))
    seen.append(lifetimes_of(store, upstream))
    store.ledger.cancel([run_id])
    seen.append(lifetimes_of(store, upstream))
    assert (seen, faults(store)) == ([{KEPT}, {-1}, {KEPT}], [])


def test_a_result_that_is_needed_outlives_its_own_retention_and_a_sweep(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    run_id = one_submitted(store.ledger, ties=after(upstream))
    seat = seated(store.ledger)
    ended(store.ledger, seat, upstream, COMPLETED._replace(retention=1, result_retention=1))
    store.client.zadd("rq:finished:q", {upstream: 1})
    store.ledger.sweep()
    kept = (lifetimes_of(store, upstream), store.ledger.get(upstream).state.result())
    ended(store.ledger, seat, run_id)
    assert (kept, lifetimes_of(store, upstream)) == (({-1}, 3), {KEPT})


def test_a_result_whose_time_was_over_stays_for_a_minute_after_its_last_reader(store: Store) -> None:
    upstream = one_submitted(store.ledger)
    run_id = one_submitted(store.ledger, ties=after(upstream))
    ended(store.ledger, seated(store.ledger), upstream, COMPLETED._replace(retention=1))
    store.ledger.cancel([run_id])
    assert (lifetimes_of(store, upstream), faults(store)) == ({60}, [])


def test_runs_that_are_tied_leave_no_key_behind(store: Store) -> None:
    upstream = one_submitted(store.ledger, ties=[("tag", "x")], queue="q")
    middle = one_submitted(store.ledger, ties=[*after(upstream), ("within", 60)])
    last = one_submitted(store.ledger, ties=after(upstream, middle))
    store.ledger.cancel([last, middle, upstream])
    for run_id in (upstream, middle, last):
        store.client.zadd("rq:canceled:q", {run_id: 1})
    left = {"baton:counts", "baton:tasks", "rq:queues", "rq:queue:q", "baton:wake:q"}
    store.ledger.sweep()
    found = {key for key in store.client.keys("*") if not key.startswith(("baton:stats:", "baton:task:"))}
    assert found == left


def test_submitting_in_bulk_ties_each_run_to_its_own(store: Store) -> None:
    upstreams = submitted(store.ledger, 3)
    runs = [new_run(ties=after(upstream)) for upstream in upstreams]
    assert store.ledger.submit([*runs, *new_runs(1)]) == ["OK"] * 4
    seat = seated(store.ledger)
    claims = begun(store.ledger, seat, 3)
    reported(store.ledger, seat, report(claims[1]))
    assert ([state_of(store, run.id)[2] for run in runs], faults(store)) == (["deferred", None, "deferred"], [])
