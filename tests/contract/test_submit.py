"""How runs are accepted: what is stored, in which order they wait, and what a repeat of the call does."""

import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest

from shared import codec
from shared.clock import parse_iso, to_epoch
from shared.commands import NewRun
from shared.upkeep import Death
from tests.support.ledgers import (
    CANCELLED,
    FAILED,
    PARAMETERS,
    Store,
    counts,
    fields_of,
    keyspace,
    new_run,
    new_runs,
    one_begun,
    one_submitted,
    queued,
    report,
    reported,
    rows_of,
    seated,
    server_time,
    side_by_side,
    submitted,
    tokens_lying,
    told_by,
)


def test_an_accepted_run_reads_like_a_report(store: Store) -> None:
    run = new_run(fields={"name": "add two", "max_retries": 2, "on_crash": "fail"})
    answers = store.ledger.submit([run])
    fields = fields_of(store, run.id)
    now = fields["created_at"]
    assert (answers, fields) == (
        ["OK"],
        {
            "name": "add two",
            "max_retries": "2",
            "on_crash": "fail",
            "origin": "q",
            "description": "shop.add",
            "task": "shop.add",
            "created_at": now,
            "enqueued_at": now,
            "data": f"(Vworker.entry.run\nN(V{run.id}\nt(dt.",
            "state_type": "PENDING",
            "state_name": "Pending",
            "state_time": now,
            "seq": "1",
            "status": "queued",
        },
    )


def test_an_accepted_run_is_in_these_keys_and_in_no_others(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    made = fields_of(store, run_id)["created_at"]
    found = keyspace(store)
    job, history = found.pop(f"rq:job:{run_id}"), found.pop(f"baton:run:{run_id}:history")
    day = found.pop(f"baton:stats:{made[:10]}")
    assert (job[0], job[2], history[0], history[2], day) == (
        "hash",
        False,
        "list",
        False,
        ("hash", {"submitted": "1"}, True),
    )
    assert found == {
        f"baton:run:{run_id}:parameters": ("string", PARAMETERS.decode(errors="backslashreplace"), False),
        "baton:counts": ("hash", {"PENDING": "1"}, False),
        "baton:tasks": ("set", ["shop.add"], False),
        "baton:wake:q": ("list", ["1"], False),
        "rq:queue:q": ("list", [run_id], False),
        "rq:queues": ("set", ["rq:queue:q"], False),
    }


def test_the_first_row_of_a_history_says_that_the_run_waits(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    made = fields_of(store, run_id)["created_at"]
    assert rows_of(store, run_id) == [{"seq": 1, "type": "PENDING", "name": "Pending", "time": made}]


@pytest.mark.parametrize("number", [1, 500, 1200])
def test_runs_wait_in_the_order_in_which_they_were_submitted(store: Store, number: int) -> None:
    ids = submitted(store.ledger, number)
    assert (queued(store), counts(store), tokens_lying(store)) == (ids, {"PENDING": number}, min(number, 8))


@pytest.mark.parametrize("number", [3, 1200])
def test_runs_for_the_head_go_before_all_others_and_keep_their_order(store: Store, number: int) -> None:
    waiting = submitted(store.ledger, 2)
    runs = [new_run(at_front=i % 2 == 0) for i in range(number)]
    assert store.ledger.submit(runs) == ["OK"] * number
    heads = [run.id for run in runs if run.at_front]
    assert queued(store) == [*heads, *waiting, *(run.id for run in runs if not run.at_front)]


def test_each_run_waits_in_its_own_queue(store: Store) -> None:
    runs = [new_run(queue=name) for name in ("a", "b", "a")]
    store.ledger.submit(runs)
    assert (queued(store, "a"), queued(store, "b"), store.client.smembers("rq:queues")) == (
        [runs[0].id, runs[2].id],
        [runs[1].id],
        {"rq:queue:a", "rq:queue:b"},
    )


def test_a_delayed_run_is_scheduled_for_its_due_time_by_the_servers_clock(store: Store) -> None:
    run_id = one_submitted(store.ledger, delay=90.25)
    fields = fields_of(store, run_id)
    due = parse_iso(fields["expected_start"])
    assert (due - parse_iso(fields["created_at"])).total_seconds() == 90.25
    assert store.client.zrange("rq:scheduled:q", 0, -1, withscores=True) == [
        (run_id, pytest.approx(to_epoch(due), abs=1e-6))
    ]
    assert (queued(store), counts(store), fields["status"], "enqueued_at" in fields) == (
        [],
        {"SCHEDULED": 1},
        "scheduled",
        False,
    )
    assert told_by(rows_of(store, run_id), "seq", "type", "due") == [(1, "SCHEDULED", fields["expected_start"])]


def test_a_run_that_is_due_after_all_years_is_due_at_their_end(store: Store) -> None:
    run_id = one_submitted(store.ledger, delay=1e300)
    assert fields_of(store, run_id)["expected_start"] == "9999-12-31T23:59:59.000000Z"


def test_promoters_are_woken_by_a_due_time_that_is_earlier_than_the_others(store: Store) -> None:
    for delay in (100, 200, 50):
        submitted(store.ledger, delay=delay)
    assert store.client.llen("baton:wake:due") == 2


# --- repeats ----------------------------------------------------------------------------------------------------------


def _left_alone(_store: Store, _run: NewRun) -> None:
    pass


def _begun(store: Store, _run: NewRun) -> None:
    one_begun(store.ledger, seated(store.ledger))


def _ended(store: Store, _run: NewRun) -> None:
    seat = seated(store.ledger)
    assert reported(store.ledger, seat, report(one_begun(store.ledger, seat))) == ["OK"]


def _lost(store: Store, _run: NewRun) -> None:
    _begun(store, _run)
    store.ledger.reap([Death("w1", "it was killed")])


def _cancelled(store: Store, run: NewRun) -> None:
    assert store.ledger.propose(run.id, CANCELLED, "cancel", seq=1).tag == "OK"


def _deleted_by_rq(store: Store, run: NewRun) -> None:
    store.client.delete(f"rq:job:{run.id}")


@pytest.mark.parametrize("meanwhile", [_left_alone, _begun, _ended, _lost, _cancelled, _deleted_by_rq])
def test_a_repeat_changes_nothing_whatever_became_of_the_run(
    store: Store, meanwhile: Callable[[Store, NewRun], None]
) -> None:
    run = new_run()
    store.ledger.submit([run])
    meanwhile(store, run)
    before = keyspace(store)
    assert (store.ledger.submit([run, run]), keyspace(store)) == (["EXISTS", "EXISTS"], before)


@pytest.mark.parametrize("change", [{"task": "shop.subtract"}, {"parameters": codec.encode({"a": 2, "b": 2})}])
def test_another_run_under_the_same_id_is_refused_and_changes_nothing(store: Store, change: dict[str, str]) -> None:
    run = new_run()
    store.ledger.submit([run])
    before = keyspace(store)
    assert (store.ledger.submit([replace(run, **change)]), keyspace(store)) == (["CONFLICT"], before)


def test_one_call_may_hold_new_runs_repeats_and_conflicts(store: Store) -> None:
    old, new = new_run(), new_run()
    store.ledger.submit([old])
    answers = store.ledger.submit([new, old, new, replace(old, task="shop.other")])
    assert (answers, queued(store)) == (["OK", "EXISTS", "EXISTS", "CONFLICT"], [old.id, new.id])


def test_of_many_who_submit_the_same_at_once_one_is_told_that_it_was_new(real: Store) -> None:
    runs = new_runs(50)
    answers = side_by_side(real, 6, lambda ledger, _: ledger.submit(runs))
    assert [sorted(told) for told in zip(*answers, strict=True)] == [["EXISTS"] * 5 + ["OK"]] * 50
    assert (sorted(queued(real)), counts(real)) == (sorted(run.id for run in runs), {"PENDING": 50})


# --- the form of what is stored ---------------------------------------------------------------------------------------


def test_what_rq_would_call_is_64_ascii_bytes_and_names_our_entry_alone(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    data = store.raw.hget(f"rq:job:{run_id}", "data")
    assert (len(data), data.isascii()) == (64, True)
    assert pickle.loads(data) == ("worker.entry.run", None, (run_id,), {})  # noqa: S301 - just written by ourselves


def test_every_value_of_a_runs_hash_is_a_short_utf_8_text(store: Store) -> None:
    long = "x" + "schön " * 600
    run_id = one_submitted(store.ledger, task="shop.basket.with.a.name.of.some.length.that.people.do.write")
    seat = seated(store.ledger)
    failed = FAILED._replace(state_name=long, message=long, error=long, traceback=long)
    assert reported(store.ledger, seat, report(one_begun(store.ledger, seat), failed)) == ["OK"]
    fields = {name: value.decode() for name, value in store.raw.hgetall(f"rq:job:{run_id}").items()}
    assert {name: value for name, value in fields.items() if len(value.encode()) > 64} == {}
    assert [fields[name][-6:] for name in (b"state_name", b"state_message", b"error")] == ["sch..."] * 3


def test_a_runs_hash_keeps_the_compact_encoding_of_redis(real: Store) -> None:
    run_id = one_submitted(real.ledger, fields={"max_retries": 3})
    seat = seated(real.ledger)
    message = "x" * 4096
    failed = FAILED._replace(message=message, error=message, traceback=message)
    assert reported(real.ledger, seat, report(one_begun(real.ledger, seat), failed)) == ["OK"]
    assert real.client.object("encoding", f"rq:job:{run_id}") in ("listpack", "ziplist")


def test_a_run_may_wait_until_a_time_of_the_servers_clock(store: Store) -> None:
    ahead, gone = server_time(store) + 100, server_time(store) - 100
    later, at_once = submitted(store.ledger, at=ahead), submitted(store.ledger, at=gone)
    due = dict(store.client.zrange("rq:scheduled:q", 0, -1, withscores=True))
    assert due == {later[0]: pytest.approx(ahead, abs=1e-3), at_once[0]: pytest.approx(gone, abs=1e-3)}
    store.ledger.promote()
    assert queued(store) == at_once
