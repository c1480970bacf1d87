"""What the history of a run holds: rows without holes, times that grow, any text, and no more rows than a thousand."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from shared.clock import iso, parse_iso
from shared.errors import BadEnvelope, RunGone
from shared.state_types import StateType
from tests.support.ledgers import (
    FAILED,
    RETRYING,
    Store,
    asked_to_cancel,
    fields_of,
    held_by,
    new_run,
    one_submitted,
    report,
    reported,
    retry_in,
    rows_of,
    server_time,
    told_by,
)

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def restarted(store: Store, run_id: str, times: int, message: str = "again") -> None:
    """As many attempts in place."""
    for i in range(times):
        token = fields_of(store, run_id)["token"]
        outcome = RETRYING._replace(message=message)
        assert store.ledger.propose(run_id, outcome, f"op{i}", token=token, worker="w1").tag == "OK"


def test_rows_are_numbered_without_holes_and_their_times_grow_as_texts(store: Store) -> None:
    _, claim = held_by(store.ledger)
    restarted(store, claim.run_id, 40)
    rows = rows_of(store, claim.run_id)
    times = [row["time"] for row in rows]
    assert [row["seq"] for row in rows] == list(range(1, 43))
    assert (times, all(ISO.fullmatch(time) for time in times)) == (sorted(set(times)), True)
    assert (fields_of(store, claim.run_id)["seq"], fields_of(store, claim.run_id)["state_time"]) == ("42", times[-1])


@pytest.mark.parametrize(
    ("held_at", "next_time"),
    [
        ("2999-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000001Z"),
        ("2999-12-31T23:59:59.999999Z", "3000-01-01T00:00:00.000000Z"),
        ("2996-02-28T23:59:59.999999Z", "2996-02-29T00:00:00.000000Z"),
        ("2997-02-28T23:59:59.999999Z", "2997-03-01T00:00:00.000000Z"),
    ],
)
def test_times_grow_although_the_servers_clock_was_set_back(store: Store, held_at: str, next_time: str) -> None:
    seat, claim = held_by(store.ledger)
    store.client.hset(f"rq:job:{claim.run_id}", "state_time", held_at)
    assert reported(store.ledger, seat, report(claim)) == ["OK"]
    fields = fields_of(store, claim.run_id)
    assert (fields["state_time"], fields["ended_at"], fields["total_run_time"]) == (next_time, next_time, "0.000001")


def test_a_time_is_the_servers_in_utc(store: Store) -> None:
    before = server_time(store)
    run_id = one_submitted(store.ledger)
    after = server_time(store)
    assert before - 1e-5 <= parse_iso(fields_of(store, run_id)["created_at"]).timestamp() <= after + 1e-5


@pytest.mark.parametrize(
    "day",
    ["1970-01-01", "1999-12-31", "2000-02-29", "2028-02-29", "2100-02-28", "2100-03-01", "2400-02-29", "9998-12-31"],
)
def test_dates_of_all_years_are_written_right(store: Store, day: str) -> None:
    target = datetime.fromisoformat(day).replace(tzinfo=UTC)
    run_id = one_submitted(store.ledger, delay=target.timestamp() - server_time(store) + 3600)
    due = parse_iso(fields_of(store, run_id)["expected_start"])
    # So far ahead a number of seconds has no more than about 30 microseconds of precision.
    assert timedelta(seconds=-0.001) < due - (target + timedelta(hours=1)) < timedelta(seconds=10)


HOSTILE = {
    "quotes": '"quoted" and \\"escaped\\"',
    "backslashes": "\\ \\\\ \\n \\u0041",
    "lines": "one\ntwo\r\nthree\ttabbed",
    "control characters": "".join(map(chr, [*range(1, 32), 127])),
    "json": '","seq":99,"type":"COMPLETED","x":"',
    "other scripts": "schön 日本語 🙂 \u2028\u2029",
    "4 kB": 'é"' * 1365 + "x",
}


@pytest.mark.parametrize("message", HOSTILE.values(), ids=HOSTILE.keys())
def test_any_message_is_kept_as_it_is(store: Store, message: str) -> None:
    seat, claim = held_by(store.ledger)
    outcome = FAILED._replace(state_name=message[:50], message=message)
    assert reported(store.ledger, seat, report(claim, outcome)) == ["OK"]
    row = rows_of(store, claim.run_id)[-1]
    last = store.ledger.history(claim.run_id)[-1]
    assert (row["seq"], row["type"], row["name"], row["message"]) == (3, "FAILED", message[:50], message)
    assert (last.type, last.name, last.message) == (StateType.FAILED, message[:50], message)


def test_a_message_is_gone_from_the_record_with_its_state_and_stays_in_the_history(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    reported(store.ledger, seat, report(claim, retry_in(0)))
    before = fields_of(store, claim.run_id)["state_message"]
    store.ledger.promote()
    assert (before, "state_message" in fields_of(store, claim.run_id), rows_of(store, claim.run_id)[-2]["message"]) == (
        "ValueError: no",
        False,
        "ValueError: no",
    )


def test_an_actor_and_a_worker_may_have_any_name_too(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.ledger.propose(run_id, FAILED, "op", seq=1, actor='al"ice', worker="w\\1")
    assert told_by(rows_of(store, run_id)[-1:], "actor", "worker") == [('al"ice', "w\\1")]


def test_above_a_thousand_rows_the_first_stays_and_old_ones_fall_out(store: Store) -> None:
    _, claim = held_by(store.ledger)
    key = f"baton:run:{claim.run_id}:history"
    store.client.rpush(key, *(json.dumps({"seq": seq}) for seq in range(3, 999)))
    store.client.hset(f"rq:job:{claim.run_id}", "seq", 998)
    restarted(store, claim.run_id, 5)
    rows = rows_of(store, claim.run_id)
    assert (len(rows), [row["seq"] for row in rows]) == (1000, [1, *range(5, 1004)])
    assert rows[0]["type"] == "PENDING"


def test_the_history_is_read_as_states(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    reported(store.ledger, seat, report(claim, retry_in(50)))
    rows = rows_of(store, claim.run_id)
    states = store.ledger.history(claim.run_id)
    details = [(state.state_details.seq, state.state_details.attempt, state.state_details.worker) for state in states]
    assert [(state.type, state.name, iso(state.timestamp), state.message) for state in states] == told_by(
        rows, "type", "name", "time", "message"
    )
    assert (details, states[-1].state_details.scheduled_time) == (
        [(1, None, None), (2, 1, "w1"), (3, 1, "w1")],
        parse_iso(rows[-1]["due"]),
    )


def test_a_row_that_is_to_be_cancelled_names_who_asked(store: Store) -> None:
    _, claim = held_by(store.ledger)
    asked_to_cancel(store.ledger, claim.run_id)
    assert store.ledger.history(claim.run_id)[-1].state_details.actor == "alice"


def test_no_run_has_no_history(store: Store) -> None:
    with pytest.raises(RunGone, match="nowhere is not in Redis"):
        store.ledger.history("nowhere")


@pytest.mark.parametrize(
    "damage", ["no json", '["a list"]', '{"seq": 2}', '{"seq":2,"type":"LOST","name":"x","time":"x"}']
)
def test_a_row_that_cannot_be_read_is_said_to_be_damaged(store: Store, damage: str) -> None:
    run = new_run()
    store.ledger.submit([run])
    store.client.rpush(f"baton:run:{run.id}:history", damage)
    with pytest.raises(BadEnvelope, match=run.id):
        store.ledger.history(run.id)


def test_a_history_that_is_something_else_is_said_to_be_damaged(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.client.delete(f"baton:run:{run_id}:history")
    store.client.set(f"baton:run:{run_id}:history", "not ours")
    with pytest.raises(BadEnvelope, match="WRONGTYPE"):
        store.ledger.history(run_id)
