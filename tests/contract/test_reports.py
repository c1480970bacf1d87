"""How attempts end: what a report leaves behind, who hears of it, and which reports change nothing."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from shared import codec
from shared.clock import iso, parse_iso, to_epoch
from shared.commands import Outcome, Report, Seat
from shared.errors import RedisUnavailable
from shared.upkeep import Death
from tests.support.ledgers import (
    CANCELLED,
    COMPLETED,
    FAILED,
    KEPT,
    RESULT,
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
    submitted,
    told_by,
)
from tests.support.waiting import eventually

CRASHED = FAILED._replace(state_type="CRASHED", state_name="Crashed")


def places_of(store: Store, run_id: str) -> set[str]:
    """The keys of indexes that hold this run."""
    return {key for key, (_, value, _) in keyspace(store).items() if run_id in str(value) and f":{run_id}" not in key}


def test_a_success_is_recorded_with_its_result_and_leaves_no_trace_of_the_worker(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    assert reported(store.ledger, seat, report(claim)) == ["OK"]
    fields, key = fields_of(store, claim.run_id), f"baton:run:{claim.run_id}"
    assert {name: fields[name] for name in ("state_type", "state_name", "status", "seq", "result", "token")} == {
        "state_type": "COMPLETED",
        "state_name": "Completed",
        "status": "finished",
        "seq": "3",
        "result": str(len(RESULT)),
        "token": claim.token,
    }
    assert (store.raw.get(f"{key}:result"), fields["ended_at"], places_of(store, claim.run_id)) == (
        RESULT,
        fields["state_time"],
        {"rq:finished:q"},
    )
    assert told_by(rows_of(store, claim.run_id), "seq", "type", "name", "attempt", "worker") == [
        (1, "PENDING", "Pending", None, None),
        (2, "RUNNING", "Running", 1, "w1"),
        (3, "COMPLETED", "Completed", 1, "w1"),
    ]


def test_a_failure_is_recorded_with_message_error_and_traceback(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    message, trace = "ValueError: " + "no " * 100, "Traceback\n" + "  line\n" * 500
    assert reported(
        store.ledger, seat, report(claim, FAILED._replace(message=message, error=message, traceback=trace))
    ) == ["OK"]
    fields = fields_of(store, claim.run_id)
    assert (fields["status"], fields["state_message"], fields["error"]) == ("failed", *[message[:61] + "..."] * 2)
    assert (rows_of(store, claim.run_id)[-1]["message"], store.client.get(f"baton:run:{claim.run_id}:traceback")) == (
        message,
        trace,
    )


@pytest.mark.parametrize(
    ("outcome", "registry"),
    [(COMPLETED, "finished"), (FAILED, "failed"), (CRASHED, "failed"), (CANCELLED, "canceled")],
)
def test_an_ended_run_lives_as_long_as_its_row_in_the_registry_of_its_end(
    store: Store, outcome: Outcome, registry: str
) -> None:
    seat, claim = held_by(store.ledger)
    outcome = outcome._replace(retention=500, result=RESULT, result_retention=100, traceback="Traceback")
    reported(store.ledger, seat, report(claim, outcome))
    now = int(store.client.time()[0])
    ((run_id, expiry),) = store.client.zrange(f"rq:{registry}:q", 0, -1, withscores=True)
    keys = [
        f"rq:job:{run_id}",
        *(f"baton:run:{run_id}:{part}" for part in ("history", "parameters", "traceback", "result")),
    ]
    lifetimes = [expiry - now, *(store.client.ttl(key) for key in keys)]
    assert (run_id, lifetimes) == (
        claim.run_id,
        [pytest.approx(each, abs=2) for each in (500, 500, 500, 500, 500, 100)],
    )


def test_a_retention_of_zero_does_not_tear_the_record_apart(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    reported(store.ledger, seat, report(claim, COMPLETED._replace(retention=0)))
    assert eventually(lambda: not store.client.exists(f"rq:job:{claim.run_id}"))


def test_a_failed_attempt_is_scheduled_for_its_retry(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    assert reported(store.ledger, seat, report(claim, retry_in(90))) == ["OK"]
    fields, row = fields_of(store, claim.run_id), rows_of(store, claim.run_id)[-1]
    due = parse_iso(row["due"])
    assert (fields["state_name"], fields["status"], row["message"]) == ("AwaitingRetry", "scheduled", "ValueError: no")
    assert (due - parse_iso(row["time"])).total_seconds() == pytest.approx(90, abs=0.01)
    assert store.client.zrange("rq:scheduled:q", 0, -1, withscores=True) == [
        (claim.run_id, pytest.approx(to_epoch(due), abs=1e-6))
    ]
    assert (places_of(store, claim.run_id), store.client.ttl(f"rq:job:{claim.run_id}")) == ({"rq:scheduled:q"}, -1)


def test_a_success_after_a_failure_drops_what_told_of_the_failure(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    failed = retry_in(0)._replace(result=codec.encode("the error"), error="E: x", traceback="Traceback")
    reported(store.ledger, seat, report(claim, failed))
    store.ledger.promote()
    again = one_begun(store.ledger, seat)
    reported(store.ledger, seat, report(again, COMPLETED._replace(result=b"")))
    key = f"baton:run:{claim.run_id}"
    assert store.client.exists(f"{key}:result", f"{key}:traceback") == 0
    assert {"result", "error"} & fields_of(store, claim.run_id).keys() == set()


def test_a_failure_after_a_failure_keeps_its_own_and_gives_it_a_lifetime(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    reported(store.ledger, seat, report(claim, retry_in(0)._replace(error="E: first", traceback="first")))
    store.ledger.promote()
    again = one_begun(store.ledger, seat)
    reported(store.ledger, seat, report(again, FAILED._replace(error="E: second", traceback="second")))
    key = f"baton:run:{claim.run_id}:traceback"
    assert (fields_of(store, claim.run_id)["error"], store.client.get(key)) == ("E: second", "second")
    assert store.client.ttl(key) == pytest.approx(KEPT, abs=2)


@pytest.mark.parametrize("outcome", [COMPLETED, FAILED, retry_in(60)])
def test_a_run_that_was_to_be_cancelled_ends_cancelled_whatever_its_body_did(store: Store, outcome: Outcome) -> None:
    seat, claim = held_by(store.ledger)
    asked_to_cancel(store.ledger, claim.run_id)
    assert reported(store.ledger, seat, report(claim, outcome)) == ["CANCELLED"]
    fields, key = fields_of(store, claim.run_id), f"baton:run:{claim.run_id}"
    assert (
        fields["state_type"],
        rows_of(store, claim.run_id)[-1]["message"],
        store.client.exists(f"{key}:result"),
    ) == (
        "CANCELLED",
        f"Cancelled while running; its outcome {outcome.state_name} was not recorded.",
        0,
    )
    assert (places_of(store, claim.run_id), counts(store)) == ({"rq:canceled:q"}, {})


def test_a_body_that_ends_as_it_was_asked_to_is_recorded_in_its_own_words(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    asked_to_cancel(store.ledger, claim.run_id)
    assert reported(store.ledger, seat, report(claim, CANCELLED._replace(message="I stopped."))) == ["OK"]
    assert rows_of(store, claim.run_id)[-1]["message"] == "I stopped."


def test_a_run_that_is_to_be_cancelled_stays_with_its_worker(store: Store) -> None:
    _, claim = held_by(store.ledger)
    asked_to_cancel(store.ledger, claim.run_id)
    fields = fields_of(store, claim.run_id)
    assert (fields["state_type"], fields["status"], fields["token"]) == ("CANCELLING", "started", claim.token)
    assert places_of(store, claim.run_id) == {"baton:running", "baton:worker:w1:runs", "rq:wip:q", "rq:worker:w1"}


# --- reports that change nothing --------------------------------------------------------------------------------------


def _ended(store: Store, seat: Seat, held: Report) -> None:
    reported(store.ledger, seat, held)


def _retried(store: Store, seat: Seat, held: Report) -> None:
    reported(store.ledger, seat, held._replace(outcome=retry_in(100)))


def _given_back(store: Store, _seat: Seat, held: Report) -> None:
    store.ledger.give_back("w1", [(held.run_id, held.token)], "Given back.")


def _begun_elsewhere(store: Store, seat: Seat, held: Report) -> None:
    _given_back(store, seat, held)
    begun(store.ledger, seated(store.ledger, "w2"))


@pytest.mark.parametrize("meanwhile", [_ended, _retried, _given_back, _begun_elsewhere])
def test_a_late_report_is_fenced_and_changes_nothing_but_the_quarantine(
    store: Store, meanwhile: Callable[[Store, Seat, Report], None]
) -> None:
    seat, claim = held_by(store.ledger)
    meanwhile(store, seat, report(claim))
    before = keyspace(store)
    late = report(claim, COMPLETED._replace(result=b"late"))
    assert reported(store.ledger, seat, late) == ["FENCED"]
    after = keyspace(store)
    assert {key for key in before | after if before.get(key) != after.get(key)} <= {"baton:quarantine", "rq:worker:w1"}
    assert quarantined(store) == [
        {
            "reason": "fenced",
            "run": claim.run_id,
            "token": claim.token,
            "worker": "w1",
            "state": "COMPLETED",
            "name": "Completed",
            "result": "late",
        }
    ]


def test_the_report_of_a_run_that_was_deleted_is_answered_gone_and_nothing_holds_it_any_more(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    store.client.delete(f"rq:job:{claim.run_id}")
    assert reported(store.ledger, seat, report(claim)) == ["GONE"]
    assert places_of(store, claim.run_id) == {"baton:quarantine"}
    assert [entry["reason"] for entry in quarantined(store)] == ["gone"]


def test_the_report_of_a_run_that_cannot_be_read_is_answered_broken(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    store.client.hset(f"rq:job:{claim.run_id}", "seq", "x")
    before = keyspace(store)
    assert reported(store.ledger, seat, report(claim)) == ["BROKEN"]
    after = keyspace(store)
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    assert changed == {"rq:worker:w1", "baton:quarantine"}


def test_one_bad_report_keeps_the_others_from_nothing(store: Store) -> None:
    submitted(store.ledger, 4)
    seat = seated(store.ledger)
    fine, deleted, broken, last = begun(store.ledger, seat, 4)
    store.client.delete(f"rq:job:{deleted.run_id}")
    store.client.hset(f"rq:job:{broken.run_id}", "seq", "x")
    verdicts = reported(store.ledger, seat, *map(report, (fine, deleted, broken, fine, last)))
    assert (verdicts, store.client.zcard("rq:finished:q")) == (["OK", "GONE", "BROKEN", "FENCED", "OK"], 2)


def test_the_reports_of_a_buried_worker_are_kept_in_quarantine_and_not_recorded(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    store.ledger.reap([Death("w1", "it was killed")])
    before = keyspace(store)
    assert store.ledger.cycle(seat, [report(claim)], 1) == ("BURIED", [], [])
    ((_, late),) = store.client.xrange("baton:quarantine")
    assert (late["reason"], late["run"], late["token"]) == ("buried", claim.run_id, claim.token)
    store.client.delete("baton:quarantine")
    assert keyspace(store) == before


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "CANCELLING", "NONSENSE"])
def test_a_report_of_what_is_no_end_is_refused_before_anything_is_written(store: Store, state: str) -> None:
    submitted(store.ledger, 2)
    seat = seated(store.ledger)
    good, bad = begun(store.ledger, seat, 2)
    before = keyspace(store)
    with pytest.raises(RedisUnavailable, match=f"no attempt ends as {state}"):
        reported(store.ledger, seat, report(good), report(bad, COMPLETED._replace(state_type=state)))
    assert keyspace(store) == before


# --- who hears of it --------------------------------------------------------------------------------------------------


def test_whoever_listens_hears_each_row_of_the_history_in_its_order(store: Store) -> None:
    run_id = one_submitted(store.ledger, delay=0.0)
    listener = store.client.pubsub(ignore_subscribe_messages=True)
    listener.psubscribe("baton:run:*:state")
    eventually(lambda: store.client.pubsub_numpat() == 1)
    store.ledger.promote()
    seat = seated(store.ledger)
    reported(store.ledger, seat, report(one_begun(store.ledger, seat), FAILED._replace(message='"quoted"\n')))
    rows = rows_of(store, run_id)
    heard: list[dict[str, Any]] = []

    def all_heard() -> bool:
        message = listener.get_message()
        if message:
            heard.append(json.loads(message["data"]))
        return len(heard) == len(rows) - 1

    eventually(all_heard)
    listener.close()
    assert heard == [{"run": run_id, **row} for row in rows[1:]]


def test_the_counters_of_the_day_and_of_the_task_tell_what_happened(store: Store) -> None:
    submitted(store.ledger, 5)
    seat = seated(store.ledger)
    done, failed, retried, back, lost = begun(store.ledger, seat, 5)
    reported(store.ledger, seat, report(done), report(failed, FAILED), report(retried, retry_in(60)))
    store.ledger.give_back("w1", [(back.run_id, back.token)], "Given back.")
    store.ledger.reap([Death("w1", "it was killed", lost.run_id)])
    day = store.client.hgetall(f"baton:stats:{fields_of(store, done.run_id)['created_at'][:10]}")
    task = store.client.hgetall("baton:task:shop.add:counts")
    seconds = float(task.pop("seconds"))
    in_buckets = sum(int(task.pop(name)) for name in tuple(task) if name.startswith("took_le_"))
    assert (day, task, in_buckets, 0 < seconds < 10) == (
        {"submitted": "5", "COMPLETED": "1", "FAILED": "1", "retried": "1", "given_back": "1", "lost": "1"},
        {"COMPLETED": "1", "FAILED": "1"},
        2,
        True,
    )
    assert (queued(store), counts(store)) == ([lost.run_id, back.run_id], {"PENDING": 2, "SCHEDULED": 1})


def test_a_duration_of_whole_seconds_is_added_to_a_sum_with_a_fraction(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    store.client.hset("baton:task:shop.add:counts", "seconds", "0.5")
    # One second in its body, beside so large a sum that the numbers between two seconds cannot be told apart.
    began = iso(parse_iso(claim.started) - timedelta(seconds=1))
    store.client.hset(f"rq:job:{claim.run_id}", mapping={"state_time": began, "total_run_time": "8000000000000000"})
    assert reported(store.ledger, seat, report(claim)) == ["OK"]
    assert store.client.hget("baton:task:shop.add:counts", "seconds") == "1.5"


def test_the_time_in_bodies_is_added_up_over_the_attempts(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    reported(store.ledger, seat, report(claim, retry_in(0)))
    store.ledger.promote()
    reported(store.ledger, seat, report(one_begun(store.ledger, seat)))
    times = [parse_iso(row["time"]) for row in rows_of(store, claim.run_id)]
    expected = (times[2] - times[1] + (times[5] - times[4])).total_seconds()
    assert float(fields_of(store, claim.run_id)["total_run_time"]) == pytest.approx(expected, abs=2e-6)
