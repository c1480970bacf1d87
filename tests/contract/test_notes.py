"""What bodies say of their runs, stored with them: rows of logs within their bounds, progress, names."""

import pytest

from shared.clock import now
from shared.notes import Note, read, row
from tests.support.invariants import faults
from tests.support.ledgers import (
    COMPLETED,
    Store,
    fields_of,
    lifetimes_of,
    one_begun,
    report,
    reported,
    seated,
    submitted,
)


def rows(first: int, last: int, message: str = "said") -> list[str]:
    return [row(number, now(), "INFO", 1, message) for number in range(first, last + 1)]


@pytest.fixture
def held(store: Store) -> tuple[Store, str, str]:
    """A store with a run that is held: its id and its token."""
    (run_id,) = submitted(store.ledger)
    claim = one_begun(store.ledger, seated(store.ledger, "w1"))
    return store, run_id, claim.token


def numbers(store: Store, run_id: str) -> list[int]:
    return [each.number for each in store.ledger.logs(run_id)]


def test_rows_progress_and_name_are_stored_with_the_run(held: tuple[Store, str, str]) -> None:
    store, run_id, token = held
    said = Note(run_id, token, "so called", "0.5 halfway", 2, rows(1, 2))
    assert store.ledger.note([said]) == ["OK"]
    run = store.ledger.get(run_id)
    told = [(each.number, each.level, each.attempt, each.message) for each in store.ledger.logs(run_id)]
    assert (run.name, run.progress, told) == (
        "so called",
        "0.5 halfway",
        [(1, "INFO", 1, "said"), (2, "INFO", 1, "said")],
    )
    assert faults(store) == []


def test_a_repeat_stores_nothing_twice(held: tuple[Store, str, str]) -> None:
    store, run_id, token = held
    said = Note(run_id, token, last=2, rows=rows(1, 2))
    store.ledger.note([said])
    store.ledger.note([said])
    store.ledger.note([Note(run_id, token, last=3, rows=rows(3, 3))])
    assert numbers(store, run_id) == [1, 2, 3]


def test_an_attempt_that_is_over_says_nothing_more(held: tuple[Store, str, str]) -> None:
    store, run_id, _ = held
    said = [Note(run_id, "1", "no", "no", 1, rows(1, 1)), Note("gone", "1", last=1, rows=rows(1, 1))]
    assert (store.ledger.note(said), fields_of(store, run_id).get("name"), numbers(store, run_id)) == (
        ["FENCED", "GONE"],
        None,
        [],
    )


def test_of_a_long_log_the_first_and_the_last_rows_are_kept(held: tuple[Store, str, str]) -> None:
    store, run_id, token = held
    for start in range(1, 2001, 500):
        store.ledger.note([Note(run_id, token, last=start + 499, rows=rows(start, start + 499))])
    assert numbers(store, run_id) == [*range(1, 201), *range(1201, 2001)]


def test_a_log_has_at_most_256_kilobytes(held: tuple[Store, str, str]) -> None:
    store, run_id, token = held
    for start in range(1, 601, 100):
        store.ledger.note([Note(run_id, token, last=start + 99, rows=rows(start, start + 99, "x" * 2000))])
    stored = store.client.lrange(f"baton:run:{run_id}:logs", 0, -1)
    kept = numbers(store, run_id)
    assert (kept[:200], kept[-1], sum(map(len, stored)) <= 262_144, len(kept) > 250) == (
        list(range(1, 201)),
        600,
        True,
        True,
    )


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_log_lives_as_long_as_its_run(store: Store, when: str) -> None:
    (run_id,) = submitted(store.ledger)
    seat = seated(store.ledger, "w1")
    claim = one_begun(store.ledger, seat)
    said = Note(run_id, claim.token, last=1, rows=rows(1, 1))
    if when == "before":
        store.ledger.note([said])
    reported(store.ledger, seat, report(claim, COMPLETED))
    if when == "after":
        store.ledger.note([said])
    assert (numbers(store, run_id), lifetimes_of(store, run_id), faults(store)) == ([1], {3600}, [])


def test_the_log_stays_when_the_run_is_tried_again(store: Store) -> None:
    (run_id,) = submitted(store.ledger)
    seat = seated(store.ledger, "w1")
    claim = one_begun(store.ledger, seat)
    store.ledger.note([Note(run_id, claim.token, last=1, rows=rows(1, 1))])
    reported(store.ledger, seat, report(claim, COMPLETED))
    store.ledger.retry(run_id, store.ledger.get(run_id).seq, "again", rerun=True)
    again = one_begun(store.ledger, seat)
    store.ledger.note([Note(run_id, again.token, last=1, rows=rows(1, 1))])
    assert (numbers(store, run_id), lifetimes_of(store, run_id)) == ([1, 1], {-1})


@pytest.mark.parametrize("message", ["x" * 5000, "\N{SNOWMAN}" * 5000, "\x00\n" * 3000, ""])
def test_a_row_is_short_and_read_again(message: str) -> None:
    text = row(7, now(), "INFO", 2, message)
    found = read(text.encode())
    assert (len(text) <= 1000, found.number, found.attempt, found.message[:20]) == (True, 7, 2, message[:20])
