"""What becomes of runs whose worker gives them back, stops or dies: order, crash budget, leases, many reapers."""

from collections import Counter

import pytest

from shared.commands import Claim
from shared.ledger import RunLedger
from shared.upkeep import Buried, Death, Pulse
from tests.support.ledgers import (
    CANCELLED,
    RETRYING,
    Store,
    asked_to_cancel,
    begun,
    counts,
    fields_of,
    held_by,
    keyspace,
    one_begun,
    one_submitted,
    quarantined,
    queued,
    report,
    reported,
    retry_in,
    rows_of,
    seated,
    server_time,
    side_by_side,
    submitted,
    told_by,
)
from tests.support.waiting import eventually

KILLED = "its process was killed by signal 9"


def pairs(*claims: Claim) -> list[tuple[str, str]]:
    return [(claim.run_id, claim.token) for claim in claims]


def held(store: Store, number: int, worker: str = "w1") -> list[Claim]:
    """Runs that a new worker holds."""
    submitted(store.ledger, number)
    return begun(store.ledger, seated(store.ledger, worker), number)


def ids_of(claims: list[Claim]) -> list[str]:
    return [claim.run_id for claim in claims]


def charged(store: Store, run_id: str) -> tuple[str, ...]:
    """What the run was charged with: attempts, runs, crashes."""
    fields = fields_of(store, run_id)
    return tuple(fields.get(name, "0") for name in ("attempt", "run_count", "crashes"))


# --- giving back ------------------------------------------------------------------------------------------------------


def test_runs_given_back_wait_at_the_head_in_their_order_and_are_charged_nothing(store: Store) -> None:
    first, second, third = held(store, 3)
    waiting = one_submitted(store.ledger)
    answers = store.ledger.give_back("w1", pairs(second, third), "Not started: the worker is busy.")
    assert (answers, queued(store), charged(store, second.run_id)) == (
        ["OK", "OK"],
        [second.run_id, third.run_id, waiting],
        ("1", "0", "0"),
    )
    assert told_by(rows_of(store, second.run_id)[-1:], "type", "message", "worker") == [
        ("PENDING", "Not started: the worker is busy.", "w1")
    ]
    assert (store.client.hkeys("baton:worker:w1:runs"), store.client.zrange("baton:running", 0, -1), counts(store)) == (
        [first.run_id],
        [first.run_id],
        {"RUNNING": 1, "PENDING": 3},
    )


def test_giving_back_twice_does_nothing_the_second_time(store: Store) -> None:
    claims = held(store, 2)
    store.ledger.give_back("w1", pairs(*claims), "Given back.")
    before = keyspace(store)
    assert (store.ledger.give_back("w1", pairs(*claims), "Given back."), keyspace(store)) == (["FENCED"] * 2, before)


def test_an_attempt_that_was_replaced_in_place_cannot_be_given_back_any_more(store: Store) -> None:
    _, claim = held_by(store.ledger)
    store.ledger.propose(claim.run_id, RETRYING, "op", token=claim.token, worker="w1")
    before = keyspace(store)
    assert (store.ledger.give_back("w1", pairs(claim), "Given back."), keyspace(store)) == (["FENCED"], before)


def test_what_cannot_be_given_back_is_told_and_keeps_the_others_from_nothing(store: Store) -> None:
    deleted, broken, ended, fine = held(store, 4)
    store.client.delete(f"rq:job:{deleted.run_id}")
    store.client.hset(f"rq:job:{broken.run_id}", "seq", "x")
    store.ledger.propose(ended.run_id, CANCELLED, "force", seq=2)
    answers = store.ledger.give_back("w1", pairs(deleted, broken, ended, fine), "Given back.")
    assert (answers, queued(store)) == (["GONE", "BROKEN", "FENCED", "OK"], [fine.run_id])


def test_a_run_that_is_to_be_cancelled_ends_instead_of_going_back(store: Store) -> None:
    _, claim = held_by(store.ledger)
    asked_to_cancel(store.ledger, claim.run_id)
    assert store.ledger.give_back("w1", pairs(claim), "Given back.") == ["OK"]
    assert (fields_of(store, claim.run_id)["state_type"], queued(store)) == ("CANCELLED", [])


def test_what_was_begun_behind_a_run_goes_back_in_order_and_what_came_before_it_stays(store: Store) -> None:
    first, body, third, fourth = held(store, 4)
    answers = store.ledger.give_back_after("w1", body.run_id, body.token, "Not started: the worker is busy.")
    assert (answers, queued(store), [charged(store, each.run_id) for each in (third, fourth)]) == (
        ["OK", "OK"],
        [third.run_id, fourth.run_id],
        [("1", "0", "0")] * 2,
    )
    assert sorted(store.client.hkeys("baton:worker:w1:runs")) == sorted([first.run_id, body.run_id])


def test_what_was_begun_behind_a_run_is_given_back_once_and_by_its_token_only(store: Store) -> None:
    body, *others = held(store, 3)
    before = keyspace(store)
    assert store.ledger.give_back_after("w1", body.run_id, str(int(body.token) + 1), "Given back.") == []
    assert (store.ledger.give_back_after("w2", body.run_id, body.token, "Given back."), keyspace(store)) == ([], before)
    store.ledger.give_back_after("w1", body.run_id, body.token, "Given back.")
    after = keyspace(store)
    assert store.ledger.give_back_after("w1", body.run_id, body.token, "Given back.") == []
    assert store.ledger.give_back("w1", pairs(*others), "Given back.") == ["FENCED"] * 2
    assert keyspace(store) == after


def test_what_was_begun_in_another_cycle_than_a_run_does_not_go_back_for_it(store: Store) -> None:
    ids = submitted(store.ledger, 4)
    seat = seated(store.ledger)
    before, body = begun(store.ledger, seat, 2)
    later = begun(store.ledger, seat, 2)
    assert store.ledger.give_back_after("w1", body.run_id, body.token, "Given back.") == []
    assert ids_of([before, body, *later]) == ids


# --- reaping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "in_body", "expected", "crashes"),
    [
        (KILLED, 1, Buried("w1", 1, 0, 2), ["0", "1", "0"]),
        (KILLED, (0, 2), Buried("w1", 2, 0, 1), ["1", "0", "1"]),
        (KILLED, "", Buried("w1", 0, 0, 3), ["0", "0", "0"]),
        (KILLED, "*", Buried("w1", 3, 0, 0), ["1", "1", "1"]),
        ("", 1, Buried("w1", 0, 0, 3), ["0", "0", "0"]),
    ],
    ids=["the one in its body", "those in their bodies", "none was", "nobody knows", "a planned stop"],
)
def test_only_runs_that_may_have_killed_their_worker_are_charged_a_crash(
    store: Store, why: str, in_body: int | tuple[int, ...] | str, expected: Buried, crashes: list[str]
) -> None:
    claims = held(store, 3)
    waiting = one_submitted(store.ledger)
    started = (in_body,) if isinstance(in_body, int) else in_body
    told = started if isinstance(started, str) else " ".join(claims[number].run_id for number in started)
    death = Death("w1", why, told)
    assert store.ledger.reap([death]) == [expected]
    assert [charged(store, run_id)[2] for run_id in ids_of(claims)] == crashes
    assert (queued(store), counts(store), store.client.zcard("rq:wip:q"), store.client.zcard("baton:running")) == (
        [*ids_of(claims), waiting],
        {"PENDING": 4},
        0,
        0,
    )


def test_runs_begun_in_many_cycles_go_back_in_the_order_in_which_they_were_begun(store: Store) -> None:
    ids = submitted(store.ledger, 24)
    seat = seated(store.ledger)
    for _ in range(12):
        begun(store.ledger, seat, 2)
    store.ledger.reap([Death("w1", KILLED)])
    assert queued(store) == ids


def test_the_history_says_why_an_attempt_was_lost(store: Store) -> None:
    first, second = held(store, 2)
    store.ledger.reap([Death("w1", KILLED, first.run_id)])
    assert [
        told_by(rows_of(store, each.run_id)[-1:], "type", "message", "attempt", "worker") for each in (first, second)
    ] == [
        [("PENDING", f"Attempt 1 was lost: {KILLED}.", 1, "w1")],
        [("PENDING", "Given back: its worker is gone.", 1, "w1")],
    ]


def test_who_is_buried_loses_lease_and_registration(store: Store) -> None:
    held(store, 1)
    store.ledger.reap([Death("w1", KILLED)])
    assert (
        store.client.zrange("baton:leases", 0, -1),
        store.client.smembers("rq:workers"),
        store.client.smembers("rq:workers:q"),
        store.client.exists("baton:worker:w1:runs"),
        store.client.hexists("rq:worker:w1", "death"),
        0 < store.client.ttl("rq:worker:w1") <= 60,
    ) == ([], set(), set(), 0, True, True)


def test_reaping_twice_does_nothing_the_second_time(store: Store) -> None:
    held(store, 3)
    death = Death("w1", KILLED)
    store.ledger.reap([death])
    before = keyspace(store)
    assert (store.ledger.reap([death]), store.ledger.reap(), keyspace(store)) == ([Buried("w1", 0, 0, 0)], [], before)


def test_a_buried_worker_never_comes_back_also_if_its_first_beat_is_delivered_late(store: Store) -> None:
    seat, _ = held_by(store.ledger)
    first, later = Pulse("w1", ["q"], {}, is_new=True), Pulse("w1", ["q"], {})
    store.ledger.reap([Death("w1", KILLED)])
    before = keyspace(store)
    beaten = store.ledger.beat([first]).buried, store.ledger.beat([later]).buried
    assert (beaten, store.ledger.cycle(seat, [], 1).tag) == ((["w1"], ["w1"]), "BURIED")
    assert keyspace(store) == before


def test_a_worker_whose_lease_is_over_is_reaped_and_one_that_beats_is_not(store: Store) -> None:
    lost, kept = held(store, 1, "quiet")[0], held(store, 1, "lively")[0]
    eventually(lambda: store.client.zscore("baton:leases", "quiet") < server_time(store))
    assert (store.ledger.beat([Pulse("lively", ["q"], {})]).buried, store.ledger.reap()) == (
        [],
        [Buried("quiet", 1, 0, 0)],
    )
    assert (queued(store), fields_of(store, kept.run_id)["state_type"]) == ([lost.run_id], "RUNNING")
    assert rows_of(store, lost.run_id)[-1]["message"] == "Attempt 1 was lost: the lease of quiet ended."


def test_leases_from_before_the_clock_was_set_back_are_shortened(store: Store) -> None:
    lease = store.settings.lease
    now = server_time(store)
    long_lived = {"w3": {"lease": 100}, "w4": {"lease": "x"}}
    ends = {"w1": now + 3600, "w2": now + 2 * lease, "w3": now + 199, "w4": now + 199}
    for worker in ends:
        store.ledger.beat([Pulse(worker, ["q"], long_lived.get(worker, {}), is_new=True)])
    store.client.zadd("baton:leases", ends)
    assert store.ledger.reap() == []
    after = dict(store.client.zrange("baton:leases", 0, -1, withscores=True))
    near = pytest.approx(server_time(store) + lease, abs=0.2)
    assert after == {
        "w1": near,
        "w2": pytest.approx(ends["w2"], abs=0.01),
        "w3": pytest.approx(ends["w3"], abs=0.01),
        "w4": near,
    }


def test_a_lease_that_is_over_by_the_clock_still_reports_until_somebody_reaps_it(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    eventually(lambda: store.client.zscore("baton:leases", "w1") < server_time(store))
    assert (reported(store.ledger, seat, report(claim)), store.ledger.reap()) == (["OK"], [Buried("w1", 0, 0, 0)])


def test_what_a_worker_began_again_after_giving_it_back_is_put_back_once(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    store.ledger.give_back("w1", pairs(claim), "Given back.")
    one_begun(store.ledger, seat)
    store.ledger.reap([Death("w1", KILLED)])
    assert (queued(store), charged(store, claim.run_id)) == ([claim.run_id], ("2", "1", "1"))


def test_a_run_that_another_worker_began_meanwhile_is_left_alone(store: Store) -> None:
    claim = held(store, 1)[0]
    store.ledger.give_back("w1", pairs(claim), "Given back.")
    one_begun(store.ledger, seated(store.ledger, "w2"))
    store.client.hset("baton:worker:w1:runs", claim.run_id, f"{claim.token} 1 1")
    before = fields_of(store, claim.run_id)
    assert (store.ledger.reap([Death("w1", KILLED)]), fields_of(store, claim.run_id)) == (
        [Buried("w1", 0, 0, 0)],
        before,
    )


# --- the crash budget -------------------------------------------------------------------------------------------------


def test_a_run_that_loses_its_third_worker_ends_crashed_and_in_quarantine(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    rows = []
    for worker in ("w1", "w2", "w3"):
        one_begun(store.ledger, seated(store.ledger, worker))
        rows += store.ledger.reap([Death(worker, KILLED)])
    message = f"Attempt 3 was lost: {KILLED}."
    fields = fields_of(store, run_id)
    assert rows == [Buried("w1", 1, 0, 0), Buried("w2", 1, 0, 0), Buried("w3", 0, 1, 0)]
    assert ([fields[name] for name in ("state_type", "status", "crashes", "error")], charged(store, run_id)) == (
        ["CRASHED", "failed", "3", message],
        ("3", "3", "3"),
    )
    assert (quarantined(store), store.client.zrange("rq:failed:q", 0, -1), queued(store), counts(store)) == (
        [{"reason": "crashed", "run": run_id, "worker": "w3", "message": message}],
        [run_id],
        [],
        {},
    )


def test_crashes_are_counted_apart_from_retries(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    reported(store.ledger, seat, report(claim, retry_in(0)))
    store.ledger.promote()
    one_begun(store.ledger, seat)
    store.ledger.reap([Death("w1", KILLED)])
    assert charged(store, claim.run_id) == ("2", "2", "1")


def test_a_run_that_may_not_crash_ends_with_its_first_worker(store: Store) -> None:
    run_id = one_submitted(store.ledger, fields={"on_crash": "fail"})
    one_begun(store.ledger, seated(store.ledger))
    assert store.ledger.reap([Death("w1", KILLED, run_id)]) == [Buried("w1", 0, 1, 0)]
    assert fields_of(store, run_id)["state_type"] == "CRASHED"


def test_a_run_that_may_not_crash_goes_back_if_its_body_had_not_begun(store: Store) -> None:
    run_id = one_submitted(store.ledger, fields={"on_crash": "fail"})
    one_begun(store.ledger, seated(store.ledger))
    assert (store.ledger.reap([Death("w1", KILLED, "")]), queued(store)) == ([Buried("w1", 0, 0, 1)], [run_id])


def test_a_body_that_may_start_only_once_is_lost_by_a_planned_stop_too(store: Store) -> None:
    run_id = one_submitted(store.ledger, fields={"on_crash": "fail"})
    one_begun(store.ledger, seated(store.ledger))
    assert store.ledger.reap([Death("w1", "", run_id)]) == [Buried("w1", 0, 1, 0)]
    last = rows_of(store, run_id)[-1]
    assert (last["type"], last["message"]) == ("CRASHED", "Attempt 1 was lost: the worker was stopped.")


def test_a_run_that_was_to_be_cancelled_ends_with_its_worker(store: Store) -> None:
    _, claim = held_by(store.ledger)
    asked_to_cancel(store.ledger, claim.run_id)
    assert store.ledger.reap([Death("w1", KILLED)]) == [Buried("w1", 0, 1, 0)]
    assert (rows_of(store, claim.run_id)[-1]["message"], queued(store), charged(store, claim.run_id)[2]) == (
        "Cancelled while running.",
        [],
        "0",
    )


# --- many at once -----------------------------------------------------------------------------------------------------


def test_many_reapers_at_once_put_each_run_back_once(real: Store) -> None:
    claims = [claim for i in range(20) for claim in held(real, 5, f"w{i}")]

    def reap_all(ledger: RunLedger, _number: int) -> int:
        return sum(ledger.reap([Death(f"w{i}", KILLED)])[0].lost for i in range(20))

    assert sum(side_by_side(real, 8, reap_all)) == len(claims)
    assert (sorted(queued(real)), counts(real)) == (sorted(ids_of(claims)), {"PENDING": len(claims)})
    assert {charged(real, run_id) for run_id in ids_of(claims)} == {("1", "1", "1")}


def test_a_worker_and_its_reaper_at_once_end_an_attempt_in_one_way(real: Store) -> None:
    seats = [seated(real.ledger, f"w{i}") for i in range(30)]
    submitted(real.ledger, 30)
    claims = [one_begun(real.ledger, seat) for seat in seats]

    def reap_or_report(ledger: RunLedger, number: int) -> Counter[str]:
        if number % 2:
            return Counter(lost=sum(ledger.reap([Death(seat.worker, KILLED)])[0].lost for seat in seats))
        return Counter(each for i in range(30) for each in ledger.cycle(seats[i], [report(claims[i])], 0).verdicts)

    told = sum(side_by_side(real, 2, reap_or_report), Counter[str]())
    assert told.total() == 30
    assert (len(queued(real)), real.client.zcard("rq:finished:q")) == (told["lost"], told["OK"])
