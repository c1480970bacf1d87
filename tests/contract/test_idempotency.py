"""Idempotency keys: a key stands for one run, until a day after its end."""

import pytest

from shared.commands import NewRun
from tests.support.invariants import faults
from tests.support.ledgers import (
    COMPLETED,
    FAILED,
    KEPT,
    Outcome,
    Store,
    ended,
    keyspace,
    new_run,
    new_runs,
    one_submitted,
    queued,
    retry_in,
    seated,
    seq_of,
    side_by_side,
    state_of,
)

DAY = 86400


def keyed(key: str = "k", digest: str = "d", **given: object) -> NewRun:
    return new_run(ties=[("idem", key), ("digest", digest)], **given)


def submitted_under(store: Store, key: str = "k") -> str:
    """The id of a run that was accepted under this key."""
    run = keyed(key)
    assert store.ledger.submit([run]) == ["OK"]
    return run.id


def lifetime_of_key(store: Store) -> int:
    ttl = int(store.client.ttl("baton:idem:k"))
    return ttl if ttl < 0 else -(-ttl // 60) * 60


def test_the_same_submit_under_a_key_that_is_given_answers_its_run_and_stores_nothing(store: Store) -> None:
    run_id = submitted_under(store)
    before = keyspace(store)
    assert (store.ledger.submit([keyed()]), keyspace(store)) == ([f"SAME {run_id}"], before)


def test_another_submit_under_the_key_is_told_both_digests(store: Store) -> None:
    run_id = submitted_under(store)
    before = keyspace(store)
    assert (store.ledger.submit([keyed(digest="e")]), keyspace(store)) == ([f"OTHER {run_id} d"], before)


def test_a_repeat_of_the_very_submit_is_known_by_its_run(store: Store) -> None:
    run = keyed()
    answers = [store.ledger.submit([run])]
    before = keyspace(store)
    answers.append(store.ledger.submit([run]))
    assert (answers, keyspace(store)) == ([["OK"], ["EXISTS"]], before)


def test_within_one_call_the_first_of_a_key_is_the_run(store: Store) -> None:
    runs = [keyed(), *new_runs(1), keyed(), keyed("other")]
    assert store.ledger.submit(runs) == ["OK", "OK", f"SAME {runs[0].id}", "OK"]
    assert (queued(store), faults(store)) == ([runs[0].id, runs[1].id, runs[3].id], [])


def test_of_many_that_submit_at_once_one_is_accepted(store: Store) -> None:
    runs = [keyed() for _ in range(8)]
    answers = side_by_side(store, 8, lambda ledger, number: ledger.submit([runs[number]])[0])
    (accepted,) = [run.id for run, answer in zip(runs, answers, strict=True) if answer == "OK"]
    assert (sorted(answers), queued(store)) == (["OK", *[f"SAME {accepted}"] * 7], [accepted])


@pytest.mark.parametrize(("outcome", "lifetime"), [(COMPLETED, DAY), (FAILED, DAY), (retry_in(KEPT), -1)])
def test_a_key_lives_for_a_day_after_the_end_of_its_run(store: Store, outcome: Outcome, lifetime: int) -> None:
    run_id = submitted_under(store)
    before = lifetime_of_key(store)
    ended(store.ledger, seated(store.ledger), run_id, outcome)
    assert (before, lifetime_of_key(store), faults(store)) == (-1, lifetime, [])
    assert store.ledger.submit([keyed()]) == [f"SAME {run_id}"]


def test_a_key_whose_run_is_gone_is_free(store: Store) -> None:
    store.client.delete(f"rq:job:{submitted_under(store)}")
    run = keyed(digest="e")
    assert (store.ledger.submit([run]), store.client.get("baton:idem:k")) == (["OK"], f"{run.id} e")


def test_an_older_run_of_the_key_touches_it_no_more(store: Store) -> None:
    older = submitted_under(store)
    store.ledger.cancel([older])
    store.client.delete("baton:idem:k")
    newer = submitted_under(store)
    store.ledger.retry(older, seq_of(store, older), "again", actor="alice")
    store.ledger.cancel([older])
    assert (lifetime_of_key(store), store.client.get("baton:idem:k")) == (-1, f"{newer} d")
    store.ledger.cancel([newer])
    assert lifetime_of_key(store) == DAY


def test_a_key_of_another_type_is_refused_before_anything_is_accepted(store: Store) -> None:
    store.client.rpush("baton:idem:k", "not ours")
    before = keyspace(store)
    with pytest.raises(Exception, match="WRONGTYPE baton:idem:k is no string"):
        store.ledger.submit([*new_runs(1), keyed()])
    assert keyspace(store) == before


def test_a_key_that_cannot_be_read_counts_as_free(store: Store) -> None:
    store.client.set("baton:idem:k", "junk")
    run_id = submitted_under(store)
    assert (store.client.get("baton:idem:k"), state_of(store, run_id)[0]) == (f"{run_id} d", "PENDING")


def test_runs_without_a_key_know_nothing_of_it(store: Store) -> None:
    submitted_under(store)
    one_submitted(store.ledger)
    assert (store.client.keys("baton:idem:*"), faults(store)) == (["baton:idem:k"], [])
