"""How a worker begins runs: which ones, in which order, which share a batch, and what a repeat of the call answers."""

from collections.abc import Callable

import pytest

from shared import codec
from shared.clock import parse_iso
from shared.commands import Claim, Seat
from shared.errors import RedisUnavailable
from shared.ledger import RunLedger
from shared.upkeep import Death
from tests.support.ledgers import (
    CANCELLED,
    PARAMETERS,
    Store,
    asked_to_cancel,
    begun,
    counts,
    fields_of,
    keyspace,
    new_run,
    one_begun,
    one_submitted,
    queued,
    report,
    reported,
    retry_in,
    rows_of,
    seated,
    side_by_side,
    submitted,
    tokens_lying,
    told_by,
)


def ids_of(claims: list[Claim]) -> list[str]:
    return [claim.run_id for claim in claims]


def test_a_claim_holds_all_that_a_worker_must_know(store: Store) -> None:
    fields = {
        "name": "add two",
        "max_retries": 2,
        "retry_delays": "1,2.5",
        "timeout_seconds": 0.00001,
        "result_ttl": 60,
        "parent": "p",
        "flow": "f",
        "correlation": "c",
        "traceparent": "t",
    }
    run_id = one_submitted(store.ledger, fields=fields)
    claim = one_begun(store.ledger, seated(store.ledger))
    stored = fields_of(store, run_id)
    assert claim == Claim(
        run_id=run_id,
        token=stored["token"],
        attempt=1,
        run_count=1,
        crashes=0,
        started=stored["started_at"],
        task="shop.add",
        parameters=PARAMETERS,
        name="add two",
        max_retries=2,
        retry_delays="1,2.5",
        timeout=0.00001,
        result_ttl=60,
        parent="p",
        flow="f",
        correlation="c",
        traceparent="t",
    )


def test_a_run_that_begins_is_told_everywhere_in_one_step(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    claim = one_begun(store.ledger, seated(store.ledger))
    fields, token = fields_of(store, run_id), claim.token
    assert {name: fields[name] for name in ("state_type", "state_name", "status", "seq", "worker_name", "token")} == {
        "state_type": "RUNNING",
        "state_name": "Running",
        "status": "started",
        "seq": "2",
        "worker_name": "w1",
        "token": token,
    }
    assert fields["start_time"] == fields["started_at"] == fields["state_time"] == claim.started
    assert told_by(rows_of(store, run_id), "seq", "type", "attempt", "worker")[1:] == [(2, "RUNNING", 1, "w1")]
    assert (
        store.client.hgetall("baton:worker:w1:runs"),
        store.client.zrange("rq:wip:q", 0, -1, withscores=True),
        store.client.zrange("baton:running", 0, -1),
        queued(store),
        counts(store),
    ) == ({run_id: f"{token} 1 1"}, [(f"{run_id}:{token}", float("inf"))], [run_id], [], {"RUNNING": 1})


def test_runs_begin_in_the_order_of_the_queues_and_in_each_in_its_own(store: Store) -> None:
    low, high = submitted(store.ledger, 2, queue="low"), submitted(store.ledger, 2, queue="high")
    seat = seated(store.ledger, "w1", "high", "low")
    assert [ids_of(begun(store.ledger, seat, 3)), ids_of(begun(store.ledger, seat, 1))] == [[*high, low[0]], [low[1]]]


@pytest.mark.parametrize(("want", "expected"), [(0, 0), (1, 1), (4, 4), (16, 5)])
def test_no_more_runs_begin_than_were_wanted(store: Store, want: int, expected: int) -> None:
    ids = submitted(store.ledger, 5)
    claims = store.ledger.cycle(seated(store.ledger), [], want).claims
    assert (ids_of(claims), queued(store)) == (ids[:expected], ids[expected:])


def test_a_cycle_without_work_answers_ok_and_leaves_the_worker_idle(store: Store) -> None:
    seat = seated(store.ledger)
    assert (store.ledger.cycle(seat, [], 4), store.client.hget("rq:worker:w1", "state")) == (("OK", [], []), "idle")


def test_a_worker_without_a_lease_is_buried_and_gets_nothing(store: Store) -> None:
    one_submitted(store.ledger)
    before = keyspace(store)
    assert (store.ledger.cycle(Seat("nobody", ["q"]), [], 4), keyspace(store)) == (("BURIED", [], []), before)


# --- alone ------------------------------------------------------------------------------------------------------------


def _with_a_crash_behind_it(store: Store) -> str:
    run_id = one_submitted(store.ledger)
    begun(store.ledger, seated(store.ledger, "victim"))
    store.ledger.reap([Death("victim", "it was killed")])
    return run_id


def _that_may_not_crash(store: Store) -> str:
    return one_submitted(store.ledger, fields={"on_crash": "fail"})


@pytest.mark.parametrize("careful", [_with_a_crash_behind_it, _that_may_not_crash])
def test_a_run_that_could_harm_or_be_harmed_shares_no_batch(store: Store, careful: Callable[[Store], str]) -> None:
    alone = careful(store)
    others = submitted(store.ledger, 2)
    store.client.lrem("rq:queue:q", 0, alone)
    store.client.linsert("rq:queue:q", "AFTER", others[0], alone)
    seat = seated(store.ledger)
    batches = [ids_of(store.ledger.cycle(seat, [], 4).claims) for _ in range(3)]
    assert batches == [[others[0]], [alone], [others[1]]]


def test_a_run_that_goes_alone_takes_nothing_from_the_next_queue_either(store: Store) -> None:
    alone, other = (
        one_submitted(store.ledger, queue="a", fields={"on_crash": "fail"}),
        one_submitted(store.ledger, queue="b"),
    )
    store.client.delete("baton:wake:b")
    claims = store.ledger.cycle(seated(store.ledger, "w1", "a", "b"), [], 4).claims
    assert (ids_of(claims), queued(store, "b"), tokens_lying(store, "b")) == ([alone], [other], 0)


# --- what lies in a queue and does not wait ---------------------------------------------------------------------------


def _scheduled(store: Store) -> str:
    return one_submitted(store.ledger, delay=100)


def _running(store: Store) -> str:
    one_submitted(store.ledger, queue="else")
    return one_begun(store.ledger, seated(store.ledger, "other", "else")).run_id


def _ended(store: Store) -> str:
    run_id = one_submitted(store.ledger)
    assert store.ledger.propose(run_id, CANCELLED, "cancel", seq=1).tag == "OK"
    return run_id


def _of_another_queue(store: Store) -> str:
    return one_submitted(store.ledger, queue="else")


def _unknown(_store: Store) -> str:
    return "00000000-0000-7000-8000-000000000000"


@pytest.mark.parametrize("tombstone", [_scheduled, _running, _ended, _of_another_queue, _unknown])
def test_an_id_that_does_not_wait_here_is_dropped_and_nothing_else_happens_to_it(
    store: Store, tombstone: Callable[[Store], str]
) -> None:
    dead = tombstone(store)
    seat = seated(store.ledger)
    store.client.lrem("rq:queue:q", 0, dead)
    before = keyspace(store)
    store.client.rpush("rq:queue:q", dead)
    assert store.ledger.cycle(seat, [], 1) == ("OK", [], [])
    after = keyspace(store)
    assert {key for key in before | after if before.get(key) != after.get(key)} == {"rq:worker:w1"}


def test_an_id_that_was_pushed_twice_begins_once(store: Store) -> None:
    first, second = submitted(store.ledger, 2)
    store.client.rpush("rq:queue:q", first)
    seat = seated(store.ledger)
    assert (ids_of(begun(store.ledger, seat, 2)), store.ledger.cycle(seat, [], 4).claims) == ([first, second], [])
    assert (queued(store), counts(store)) == ([], {"RUNNING": 2})


def test_one_call_drops_at_most_200_ids_and_then_asks_for_another(store: Store) -> None:
    store.client.rpush("rq:queue:q", *range(450))
    run_id = one_submitted(store.ledger)
    seat = seated(store.ledger)
    answers = [store.ledger.cycle(seat, [], 1) for _ in range(3)]
    assert [(answer.tag, ids_of(answer.claims)) for answer in answers] == [("MORE", []), ("MORE", []), ("OK", [run_id])]


# --- repeats ----------------------------------------------------------------------------------------------------------


def test_a_repeat_answers_the_same_claims_and_verdicts_and_writes_nothing(store: Store) -> None:
    submitted(store.ledger, 6)
    seat = seated(store.ledger)
    reports = [report(claim) for claim in begun(store.ledger, seat, 2)]
    first = store.ledger.cycle(seat, [*reports, reports[0]], 3)
    before = keyspace(store)
    seat.number -= 1
    again = store.ledger.cycle(seat, [*reports, reports[0]], 3)
    assert (first.verdicts, len(first.claims), again) == (["OK", "OK", "FENCED"], 3, first)
    assert keyspace(store) == before


def test_a_repeat_after_a_cycle_without_reports_has_no_verdicts(store: Store) -> None:
    submitted(store.ledger, 2)
    seat = seated(store.ledger)
    reported(store.ledger, seat, report(one_begun(store.ledger, seat)))
    first = store.ledger.cycle(seat, [], 1)
    seat.number -= 1
    assert (first.verdicts, store.ledger.cycle(seat, [], 1)) == ([], first)


def test_a_repeat_does_not_answer_runs_that_were_taken_away_meanwhile(store: Store) -> None:
    submitted(store.ledger, 3)
    seat = seated(store.ledger)
    claims = begun(store.ledger, seat, 3)
    store.ledger.give_back("w1", [(claims[1].run_id, claims[1].token)], "Given back.")
    seat.number -= 1
    assert store.ledger.cycle(seat, [], 3).claims == [claims[0], claims[2]]


def test_a_repeat_answers_a_run_that_is_to_be_cancelled_with_the_time_of_its_begin(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    seat = seated(store.ledger)
    claim = one_begun(store.ledger, seat)
    asked_to_cancel(store.ledger, run_id)
    seat.number -= 1
    assert store.ledger.cycle(seat, [], 1).claims == [claim._replace(state="CANCELLING")]


def test_a_cycle_that_the_network_delivers_after_a_later_one_does_nothing(store: Store) -> None:
    submitted(store.ledger, 3)
    seat = seated(store.ledger)
    begun(store.ledger, seat)
    begun(store.ledger, seat)
    before = keyspace(store)
    with pytest.raises(RedisUnavailable, match="cycle 1 of w1 comes after its cycle 2"):
        store.ledger.cycle(Seat("w1", ["q"], number=1), [], 1)
    assert keyspace(store) == before


# --- what holds workers back, and what wakes them ---------------------------------------------------------------------


def test_nothing_begins_while_rq_is_suspended(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.client.set("rq:suspended", 1)
    seat = seated(store.ledger)
    suspended = store.ledger.cycle(seat, [], 1).claims
    store.client.delete("rq:suspended")
    assert (suspended, ids_of(begun(store.ledger, seat))) == ([], [run_id])


def test_a_paused_queue_keeps_its_runs_and_the_next_one_is_served(store: Store) -> None:
    kept, served = one_submitted(store.ledger, queue="a"), one_submitted(store.ledger, queue="b")
    store.client.hset("baton:queue:a", "paused", "1")
    claims = store.ledger.cycle(seated(store.ledger, "w1", "a", "b"), [], 2).claims
    assert (ids_of(claims), queued(store, "a")) == ([served], [kept])


def test_who_begins_a_run_and_leaves_others_wakes_two_more_workers(store: Store) -> None:
    submitted(store.ledger, 5)
    store.client.delete("baton:wake:q")
    seats = [seated(store.ledger, f"w{i}") for i in range(5)]
    lying = []
    for seat in seats:
        one_begun(store.ledger, seat)
        lying.append(tokens_lying(store))
    assert lying == [2, 4, 6, 7, 7]


def test_at_most_eight_tokens_lie_on_a_wake_up_list(store: Store) -> None:
    submitted(store.ledger, 30)
    seat = seated(store.ledger)
    for _ in range(3):
        one_begun(store.ledger, seat)
    assert tokens_lying(store) == 8


def test_a_worker_shows_the_run_whose_body_lasts_while_others_are_reported(store: Store) -> None:
    submitted(store.ledger, 3)
    seat = seated(store.ledger)
    first, second, third = begun(store.ledger, seat, 3)
    shown = [store.client.hmget("rq:worker:w1", "state", "current_job")]
    reported(store.ledger, seat, report(first), report(third))
    shown.append(store.client.hmget("rq:worker:w1", "state", "current_job"))
    reported(store.ledger, seat, report(second))
    shown.append(store.client.hmget("rq:worker:w1", "state", "current_job"))
    assert shown == [["busy", first.run_id], ["busy", second.run_id], ["idle", None]]


@pytest.mark.parametrize(("delay", "name"), [(0.0, "Retrying"), (None, "Rerunning")])
def test_a_later_attempt_is_named_after_how_the_last_one_ended(store: Store, delay: float | None, name: str) -> None:
    run_id = one_submitted(store.ledger)
    seat = seated(store.ledger)
    claim = one_begun(store.ledger, seat)
    if delay is None:
        store.ledger.give_back("w1", [(claim.run_id, claim.token)], "Given back.")
    else:
        reported(store.ledger, seat, report(claim, retry_in(delay)))
        store.ledger.promote()
    again = one_begun(store.ledger, seat)
    fields = fields_of(store, run_id)
    assert (again.attempt, fields["state_name"], fields["started_at"]) == (2, name, again.started)
    assert parse_iso(fields["start_time"]) == parse_iso(claim.started)


def test_many_workers_at_once_begin_each_run_once(real: Store) -> None:
    ids = submitted(real.ledger, 300)

    def drain(ledger: RunLedger, number: int) -> list[str]:
        seat, held, mine = seated(ledger, f"w{number}"), [], []
        while (answer := ledger.cycle(seat, [report(claim) for claim in held], 1 + number)).claims:
            held = answer.claims
            mine += ids_of(held)
        return mine

    begun_by_all = [run_id for mine in side_by_side(real, 6, drain) for run_id in mine]
    assert (sorted(begun_by_all), real.client.zcard("rq:finished:q"), counts(real)) == (sorted(ids), 300, {})


def test_parameters_travel_as_they_were_given(store: Store) -> None:
    envelope = codec.encode({"bytes": bytes(range(256)), "text": "\r\n\0ü"})
    store.ledger.submit([new_run(parameters=envelope)])
    assert one_begun(store.ledger, seated(store.ledger)).parameters == envelope
