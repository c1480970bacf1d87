"""Cached results beside the runs that made them: recorded in the step that records the end, or not at all."""

from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import task, transaction
from shared.cache import INPUTS
from shared.commands import Outcome
from shared.isolation import IsolationLevel
from shared.notes import Note
from shared.reporting import cached_from, kept, uncached
from shared.result_redis import RedisStorage
from shared.result_storage import DirectoryStorage, StoredRecord
from shared.results import ResultStore
from shared.states import State
from shared.transactions import Transaction
from shared.upkeep import Death
from tests.contract.conftest import fake_store, real_store
from tests.support.invariants import faults
from tests.support.ledgers import (
    CANCELLED,
    COMPLETED,
    FAILED,
    Store,
    asked_to_cancel,
    closed,
    fields_of,
    held_by,
    keyspace,
    one_begun,
    one_submitted,
    report,
    reported,
    retry_in,
    seated,
)
from worker.engine import run_task
from worker.engine.ledger_recorder import LedgerRecorder
from worker.engine.recording import record_with

RECORDS = [
    StoredRecord("one", b"\x00\n1 2 3\n", None),
    StoredRecord("two \u00e9", b"data", 60.0),
    StoredRecord("gone", b"x", 0.0),
]
MAKER = "0193-maker"


@pytest.fixture(params=["redis", "fakeredis"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store on each of the two servers in turn, with leases that a busy machine can renew."""
    given: dict[str, Any] = {"lease": 3.0, "beat": 0.2, "reap": 0.2}
    found = (
        fake_store(**given) if request.param == "fakeredis" else real_store(request.getfixturevalue("server"), **given)
    )
    yield found
    closed(found)


@pytest.fixture
def recorder(store: Store) -> Iterator[LedgerRecorder]:
    """Records the inline runs of the test."""
    found = LedgerRecorder(store.exchange, store.settings)
    before = record_with(lambda: found)
    yield found
    record_with(before)
    found.close()


def results_of(store: Store) -> dict[str, bytes | None]:
    """What is cached."""
    return {key: store.raw.get(key) for key in keyspace(store) if key.startswith("baton:result:")}


def marks_of(store: Store, run_id: str) -> dict[str, str]:
    return {
        name: text
        for name, text in fields_of(store, run_id).items()
        if name in ("cached_from", "cache_error", "rolled_back")
    }


def saying(cached: bytes, outcome: Outcome = COMPLETED) -> Outcome:
    return outcome._replace(cached=cached)


# --- the scripts ------------------------------------------------------------------------------------------------------


def test_records_are_kept_with_the_end_that_makes_them_for_their_time(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    assert reported(store.ledger, seat, report(claim, saying(kept(RECORDS)))) == ["OK"]
    assert results_of(store) == {"baton:result:one": b"\x00\n1 2 3\n", "baton:result:two \u00e9": b"data"}
    assert (store.client.ttl("baton:result:one"), store.client.ttl("baton:result:two \u00e9")) == (
        -1,
        pytest.approx(60, abs=2),
    )


@pytest.mark.parametrize("outcome", [FAILED, CANCELLED, retry_in(5)], ids=lambda outcome: outcome.state_name)
def test_only_a_run_that_completes_has_its_records_kept(store: Store, outcome: Outcome) -> None:
    seat, claim = held_by(store.ledger)
    assert reported(store.ledger, seat, report(claim, saying(kept(RECORDS), outcome))) == ["OK"]
    assert results_of(store) == {}


def test_a_run_that_was_cancelled_or_taken_away_has_no_records_kept(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    asked_to_cancel(store.ledger, claim.run_id)
    cancelled = reported(store.ledger, seat, report(claim, saying(kept(RECORDS))))
    other_seat, taken = held_by(store.ledger, "w2")
    store.ledger.reap([Death("w2", "")])
    taken_away = store.ledger.cycle(other_seat, [report(taken, saying(kept(RECORDS)))], 0).tag
    assert (cancelled, taken_away, results_of(store)) == (["CANCELLED"], "BURIED", {})


def test_a_lifetime_that_redis_refuses_keeps_no_run_from_its_end(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    said = kept([StoredRecord("ages", b"x", 1e30), StoredRecord("two", b"y", 60.0)])
    assert reported(store.ledger, seat, report(claim, saying(said))) == ["OK"]
    assert (results_of(store), faults(store)) == ({"baton:result:two": b"y"}, [])


def test_a_report_that_is_sent_twice_keeps_its_records_once(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    reported(store.ledger, seat, report(claim, saying(kept(RECORDS))))
    store.client.delete("baton:result:one")
    seat.number -= 1
    assert reported(store.ledger, seat, report(claim, saying(kept(RECORDS)))) == ["OK"]
    assert list(results_of(store)) == ["baton:result:two \u00e9"]


def test_a_run_says_whose_value_it_has_or_why_it_was_not_cached(store: Store) -> None:
    seat = seated(store.ledger)
    said = []
    for cached in (cached_from(MAKER), uncached("HashError: no " * 20)):
        claim = (one_submitted(store.ledger), one_begun(store.ledger, seat))[1]
        reported(store.ledger, seat, report(claim, saying(cached)))
        details = store.ledger.get(claim.run_id).state.state_details
        said.append((marks_of(store, claim.run_id), details.cached_from, details.cache_error))
    text = ("HashError: no " * 20)[:61] + "..."
    assert said == [({"cached_from": MAKER}, MAKER, None), ({"cache_error": text}, None, text)]
    assert faults(store) == []


def test_a_run_tells_what_was_changed_about_its_caching_only_where_it_is_marked(store: Store) -> None:
    fields: dict[str, Any] = {
        "cache_expiration": 2.5,
        "refresh_cache": "",
        "result_storage_key": "day-{run.id}",
        "ties": "1",
    }
    _, claim = held_by(store.ledger, fields=fields)
    _, plain = held_by(store.ledger, "w2")
    told = [(each.cache_expiration, each.refresh_cache, each.result_storage_key) for each in (claim, plain)]
    assert told == [(2.5, "", "day-{run.id}"), (None, None, None)]


def test_a_run_is_marked_as_rolled_back_by_its_last_attempt_until_it_is_retried(store: Store) -> None:
    seat, claim = held_by(store.ledger)
    reported(store.ledger, seat, report(claim))
    marking = [Note(claim.run_id, token, rolled_back=True) for token in ("1", claim.token)]
    answers = [store.ledger.note([note])[0] for note in marking]
    marked = store.ledger.get(claim.run_id)
    store.ledger.retry(claim.run_id, marked.seq, "again", actor="me", message="Again.", rerun=True)
    again = store.ledger.get(claim.run_id)
    assert (answers, marked.state.name, marked.rolled_back, again.state.name, again.rolled_back) == (
        ["FENCED", "OK"],
        "Completed",
        True,
        "Pending",
        False,
    )


# --- runs of this process ---------------------------------------------------------------------------------------------


def ran(called: Any, **parameters: Any) -> State[Any]:
    state: State[Any] = run_task(called, parameters=parameters, return_type="state")
    return state


@pytest.mark.usefixtures("recorder")
@pytest.mark.parametrize("level", IsolationLevel)
def test_a_run_of_this_process_is_cached_in_redis_and_leaves_no_lock(store: Store, level: IsolationLevel) -> None:
    calls = []

    @task(key="cached.add", cache_policy=INPUTS.configure(isolation_level=level), cache_expiration=60)
    def add(a: int, b: int = 2) -> int:
        calls.append(a)
        return a + b

    states = [ran(add, a=1), ran(add, a=1)]
    (key,) = results_of(store)
    assert [(state.name, state.result()) for state in states] == [("Completed", 3), ("Cached", 3)]
    assert (calls, store.client.ttl(key)) == ([1], pytest.approx(60, abs=2))
    runs = [store.client.hgetall(each) for each in store.client.scan_iter("rq:job:*")]
    makers = [run["cached_from"] for run in runs if "cached_from" in run]
    assert makers == [states[1].state_details.cached_from]
    assert [key for key in keyspace(store) if "limit" in key] == []
    assert faults(store) == []


@pytest.mark.usefixtures("recorder")
def test_a_rollback_after_the_end_is_noted_with_the_run(store: Store, recorder: LedgerRecorder) -> None:
    seen: list[Any] = []

    @task(key="cached.undone", result_storage_key="k")
    def makes() -> int:
        return 5

    @makes.on_rollback
    def undo(txn: Transaction) -> None:
        seen.append(txn.key)

    def story() -> None:
        with transaction():
            run_task(makes)
            seen.append(results_of(store))
            raise KeyError

    with pytest.raises(KeyError):
        story()
    recorder._store_notes()
    (run_id,) = [key.rpartition(":")[2] for key in store.client.scan_iter("rq:job:*")]
    run = store.ledger.get(run_id)
    assert (run.state.name, run.rolled_back, seen, results_of(store)) == ("Completed", True, [{}, "k"], {})


@pytest.mark.usefixtures("recorder")
def test_the_outermost_commit_keeps_what_runs_in_it_have_made(store: Store) -> None:
    @task(key="cached.inner", result_storage_key="inner-{parameters[n]}")
    def inner(n: int) -> int:
        return n

    @task(key="cached.outer", result_storage_key="outer")
    def outer() -> int:
        before = len(results_of(store))
        return before + run_task(inner, parameters={"n": 1}) + run_task(inner, parameters={"n": 2})

    assert (ran(outer).result(), sorted(results_of(store))) == (
        3,
        ["baton:result:inner-1", "baton:result:inner-2", "baton:result:outer"],
    )
    assert ResultStore(RedisStorage(store.exchange)).read("outer").result == 3


@pytest.mark.usefixtures("recorder")
def test_a_directory_keeps_results_before_the_end_is_recorded(store: Store, tmp_path: Any) -> None:
    @task(key="cached.file", cache_policy=INPUTS.configure(key_storage=DirectoryStorage(tmp_path)))
    def makes(a: int) -> int:
        return a

    assert [ran(makes, a=1).name, ran(makes, a=1).name, results_of(store)] == ["Completed", "Cached", {}]
    assert len(list(tmp_path.iterdir())) == 1
