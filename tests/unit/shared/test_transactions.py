"""Transactions: what is staged is recorded as a whole or undone as a whole, in which order, and who is told."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest

from shared.errors import ConfigError, InvalidCall
from shared.isolation import IsolationLevel
from shared.results import record_of
from shared.transactions import CommitMode, Transaction, TransactionState, get_transaction, transaction
from tests.support.memory_store import MemoryStore

LAZY, EAGER, OFF = CommitMode.LAZY, CommitMode.EAGER, CommitMode.OFF
COMMITTED, ROLLED_BACK = TransactionState.COMMITTED, TransactionState.ROLLED_BACK


class Lockless(MemoryStore):
    """A store without locks."""

    def acquire_lock(self, key: str, *_: Any) -> bool:
        raise ConfigError(f"no lock for {key}")


class Undone(Exception):
    """What a body raises."""


@contextmanager
def raising() -> Iterator[None]:
    """Around a block that raises it."""
    with pytest.raises(Undone):
        yield


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def said() -> list[str]:
    """What hooks say when they are called."""
    return []


def hooks(said: list[str], name: str) -> dict[str, list[Callable[[Transaction], None]]]:
    """Two hooks for each end, for `stage`."""
    return {
        f"on_{end}_hooks": [
            (lambda _txn, number=number, end=end: said.append(f"{end} {name}{number}")) for number in (1, 2)
        ]
        for end in ("commit", "rollback")
    }


# --- one transaction --------------------------------------------------------------------------------------------------


def test_a_value_is_recorded_with_the_commit(store: MemoryStore) -> None:
    seen = []
    with transaction("k", store) as txn:
        seen.append(txn.state)
        txn.stage(1)
        seen += [txn.state, store.values()]
    record = txn.read()
    assert (seen, txn.state, record and record.result) == (
        [TransactionState.ACTIVE, TransactionState.STAGED, {}],
        COMMITTED,
        1,
    )


def test_an_async_block_does_the_same(store: MemoryStore, said: list[str]) -> None:
    async def commit(_txn: Transaction) -> None:
        await asyncio.sleep(0)
        said.append("committed")

    async def story() -> list[Any]:
        async with transaction("k", store, isolation_level=IsolationLevel.SERIALIZABLE) as txn:
            txn.stage(1, on_commit_hooks=[commit])
            locked = list(store.holders)
        async with transaction("k", store) as second:
            return [locked, second.state, await second.aread(), second.is_committed()]

    assert asyncio.run(story()) == [["k"], COMMITTED, record_of(1, "k"), True]
    assert (said, store.holders) == (["committed"], {})


def test_an_async_hook_is_awaited_in_plain_code_even_where_a_loop_runs(said: list[str]) -> None:
    async def commit(_txn: Transaction) -> None:
        said.append("committed")

    def block() -> None:
        with transaction() as txn:
            txn.stage(None, on_commit_hooks=[commit])

    async def story() -> None:
        block()

    block()
    asyncio.run(story())
    assert said == ["committed"] * 2


def test_a_record_of_the_stores_own_is_written_as_it_is(store: MemoryStore) -> None:
    with transaction("k", store) as txn:
        txn.stage(record_of(5, "k"))
    assert store.records == {"k": record_of(5, "k")}


def test_an_exception_rolls_back_and_comes_through(store: MemoryStore, said: list[str]) -> None:
    with raising(), transaction("k", store) as txn:
        txn.stage(1, **hooks(said, "a"))
        raise Undone
    assert (txn.state, store.values(), said) == (ROLLED_BACK, {}, ["rollback a2", "rollback a1"])


def test_nothing_is_written_without_a_key_or_a_store_or_when_it_shall_not(store: MemoryStore, said: list[str]) -> None:
    for txn in (transaction(None, store), transaction("k"), transaction("k", store, write_on_commit=False)):
        with txn:
            txn.stage(1, on_commit_hooks=[lambda _txn: said.append("committed")])
    assert (store.values(), said) == ({}, ["committed"] * 3)


def test_what_stages_nothing_writes_nothing(store: MemoryStore) -> None:
    with transaction("k", store) as txn:
        pass
    assert (txn.state, store.writes) == (COMMITTED, [])


def test_a_transaction_whose_record_exists_is_committed_when_it_begins(store: MemoryStore, said: list[str]) -> None:
    store.records["k"] = record_of("old", "k")
    with transaction("k", store) as txn:
        found = txn.read()
        seen = (txn.is_committed(), found and found.result)
        txn.stage("new", **hooks(said, "a"))
    assert (seen, store.values(), said) == ((True, "old"), {"k": "old"}, [])


def test_with_overwrite_a_record_is_not_looked_for(store: MemoryStore) -> None:
    store.records["k"] = record_of("old", "k")
    with transaction("k", store, overwrite=True) as txn:
        seen = txn.is_active()
        txn.stage("new")
    assert (seen, store.values()) == (True, {"k": "new"})


@pytest.mark.parametrize(("by_hand", "state", "values"), [(False, ROLLED_BACK, {}), (True, COMMITTED, {"k": 1})])
def test_off_rolls_back_unless_it_is_committed_by_hand(
    store: MemoryStore, *, by_hand: bool, state: TransactionState, values: dict[str, Any]
) -> None:
    with transaction("k", store, OFF) as txn:
        txn.stage(1)
        done = by_hand and txn.commit()
    assert (done, txn.state, store.values()) == (by_hand, state, values)


def test_what_is_over_ends_no_second_time(store: MemoryStore, said: list[str]) -> None:
    with transaction("k", store) as txn:
        txn.stage(1, **hooks(said, "a"))
        answers = [txn.commit(), txn.commit(), txn.rollback()]
    assert (answers, said, txn.state) == ([True, False, False], ["commit a1", "commit a2"], COMMITTED)


def test_a_transaction_is_entered_once_and_stages_only_in_its_block() -> None:
    txn = transaction()
    with pytest.raises(InvalidCall, match="cannot stage"):
        txn.stage(1)
    with txn, pytest.raises(InvalidCall, match="entered once"):
        txn.__enter__()
    with pytest.raises(InvalidCall, match="entered once"):
        txn.__enter__()


# --- failures ---------------------------------------------------------------------------------------------------------


def fails(_txn: Transaction) -> None:
    raise OSError("no")


def test_a_hook_that_fails_in_the_commit_undoes_everything_and_nothing_is_written(
    store: MemoryStore, said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with transaction("k", store) as txn:
        with transaction("inner", store) as inner:
            inner.stage(1, **hooks(said, "i"))
        txn.stage(2, on_commit_hooks=[fails], on_rollback_hooks=[lambda _txn: said.append("rollback o")])
        answer = txn.commit()
    assert (answer, txn.state, inner.state, store.values()) == (False, ROLLED_BACK, ROLLED_BACK, {})
    assert said == ["commit i1", "commit i2", "rollback o", "rollback i2", "rollback i1"]
    assert "not committed" in caplog.text


def test_a_write_that_fails_undoes_everything(store: MemoryStore, said: list[str]) -> None:
    store.is_full = True
    with transaction("k", store, logger=logging.getLogger("test")) as txn:
        txn.stage(1, **hooks(said, "a"))
    assert (txn.state, said[2:]) == (ROLLED_BACK, ["rollback a2", "rollback a1"])


def test_a_second_store_that_fails_leaves_nothing_in_the_first(store: MemoryStore) -> None:
    full = MemoryStore()
    full.is_full = True
    with transaction("k", full) as txn:
        txn.stage(1)
        with transaction("inner", store) as inner:
            inner.stage(2)
    assert (store.writes, store.values(), inner.state) == ([["inner"]], {}, ROLLED_BACK)


def test_a_hook_that_fails_in_the_rollback_stops_no_other(said: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with transaction() as txn:
        txn.stage(1, [lambda _txn: said.append("first"), fails, lambda _txn: said.append("last")])
        answer = txn.rollback()
    assert (answer, said, "the others are called" in caplog.text) == (False, ["last", "first"], True)


def test_an_interrupt_in_a_hook_of_the_commit_undoes_everything_and_comes_through(said: list[str]) -> None:
    def interrupted(_txn: Transaction) -> None:
        raise KeyboardInterrupt

    txn = transaction()
    with pytest.raises(KeyboardInterrupt), txn:
        txn.stage(1, [lambda _txn: said.append("undone")], [interrupted])
    assert (said, txn.state) == (["undone"], ROLLED_BACK)


def _closes(_txn: Transaction) -> None:
    raise GeneratorExit


async def _acloses(txn: Transaction) -> None:
    _closes(txn)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_hook_that_raises_what_ends_generators_ends_none_of_the_rollback(
    store: MemoryStore, said: list[str], caplog: pytest.LogCaptureFixture, asynchronous: bool
) -> None:
    async def story() -> None:
        async with transaction("k", store, OFF, IsolationLevel.SERIALIZABLE) as txn:
            txn.stage(1, [lambda _txn: said.append("first"), _acloses])

    if asynchronous:
        asyncio.run(story())
    else:
        with transaction("k", store, OFF, IsolationLevel.SERIALIZABLE) as txn:
            txn.stage(1, [lambda _txn: said.append("first"), _closes])
    assert (said, store.holders, "the function raised GeneratorExit" in caplog.text) == (["first"], {}, True)


# --- one in another ---------------------------------------------------------------------------------------------------


def test_lazy_ones_commit_with_the_outermost_children_first_and_all_in_one_write(
    store: MemoryStore, said: list[str]
) -> None:
    with transaction("o", store) as outer:
        outer.stage(0, **hooks(said, "o"))
        for name in ("a", "b"):
            with transaction(name, store) as inner:
                inner.stage(name, **hooks(said, name))
                with transaction(name * 2, store) as innermost:
                    innermost.stage(name * 2)
        before = (said.copy(), store.values(), inner.state)
    assert before == ([], {}, TransactionState.STAGED)
    assert (inner.state, said) == (
        COMMITTED,
        ["commit a1", "commit a2", "commit b1", "commit b2", "commit o1", "commit o2"],
    )
    assert store.writes == [["aa", "a", "bb", "b", "o"]]


def test_a_rollback_undoes_what_was_done_last_first(said: list[str]) -> None:
    with transaction() as outer:
        outer.stage(0, **hooks(said, "o"))
        for name in ("a", "b"):
            with transaction() as inner:
                inner.stage(name, **hooks(said, name))
        assert outer.rollback()
    assert said == [f"rollback {name}{number}" for name in "oba" for number in (2, 1)]


def test_an_eager_one_commits_alone_and_is_not_undone(store: MemoryStore, said: list[str]) -> None:
    with raising(), transaction("o", store):
        with transaction("e", store, EAGER) as inner:
            inner.stage(1, **hooks(said, "e"))
        seen = store.values()
        raise Undone
    assert (seen, store.values(), said, inner.state) == ({"e": 1}, {"e": 1}, ["commit e1", "commit e2"], COMMITTED)


def test_one_that_rolls_back_rolls_back_those_around_it(store: MemoryStore, said: list[str]) -> None:
    with transaction("o", store) as outer:
        outer.stage(1, **hooks(said, "o"))
        with transaction("before", store) as before:
            before.stage(2, **hooks(said, "b"))
        with raising(), transaction("i", store) as inner:
            inner.stage(3, **hooks(said, "i"))
            raise Undone
        with transaction("after", store) as after:
            after.stage(4, **hooks(said, "a"))
    assert {txn.state for txn in (outer, before, inner, after)} == {ROLLED_BACK}
    assert (said, store.values()) == ([f"rollback {name}{number}" for name in "ioba" for number in (2, 1)], {})


def test_within_one_that_is_committed_already_a_transaction_stands_alone(store: MemoryStore) -> None:
    store.records["k"] = record_of("old", "k")
    with transaction("o", store) as outer:
        with transaction("k", store), transaction("i", store) as inner:
            inner.stage(1)
        seen = inner.state
        outer.stage(2)
    with transaction("k", store), transaction("alone", store) as alone:
        alone.stage(3)
    assert (seen, alone.state) == (TransactionState.STAGED, COMMITTED)
    assert store.values() == {"k": "old", "o": 2, "i": 1, "alone": 3}


def test_settings_are_those_of_the_transaction_around(store: MemoryStore) -> None:
    serializable = IsolationLevel.SERIALIZABLE
    outer = transaction(commit_mode=EAGER, isolation_level=serializable)
    with outer, transaction() as inner, transaction(commit_mode=LAZY) as innermost:
        modes = [(txn.commit_mode, txn.isolation_level) for txn in (inner, innermost)]
    with transaction("k", store) as alone:
        modes.append((alone.commit_mode, alone.isolation_level))
    assert modes == [(EAGER, serializable), (LAZY, serializable), (LAZY, IsolationLevel.READ_COMMITTED)]


def test_the_innermost_transaction_is_found() -> None:
    found = [get_transaction()]
    with transaction() as outer:
        with transaction() as inner:
            found.append(get_transaction())
        found.append(get_transaction())
    assert [*found, get_transaction()] == [None, inner, outer, None]


# --- values -----------------------------------------------------------------------------------------------------------


def test_values_are_copied_and_looked_up_outwards() -> None:
    given = [1]
    with transaction() as outer:
        outer.set("a", given)
        given.append(2)
        with transaction() as inner:
            inner.get("a").append(3)
            inner.set("b", "inner")
            seen = [inner.get("a"), inner.get("b"), inner.get("c", None), outer.get("b", "none")]
            with pytest.raises(ValueError, match=r"^Could not retrieve value for unknown key: c$"):
                inner.get("c")
    assert seen == [[1], "inner", None, "none"]


# --- isolation --------------------------------------------------------------------------------------------------------


def _side_by_side(store: MemoryStore, level: IsolationLevel) -> list[str]:
    """What two threads do that come to the same key at once."""
    both, said = threading.Barrier(2), list[str]()

    def block() -> None:
        both.wait(10)
        with transaction("k", store, isolation_level=level) as txn:
            if txn.is_committed():
                said.append("read")
                return
            if level is IsolationLevel.READ_COMMITTED:
                both.wait(10)
            said.append("ran")
            txn.stage(1)

    threads = [threading.Thread(target=block) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return said


def test_serializable_lets_one_run_and_the_other_read(store: MemoryStore) -> None:
    assert (_side_by_side(store, IsolationLevel.SERIALIZABLE), store.holders) == (["ran", "read"], {})


def test_read_committed_lets_both_run(store: MemoryStore) -> None:
    assert (_side_by_side(store, IsolationLevel.READ_COMMITTED), store.values()) == (["ran", "ran"], {"k": 1})


def test_a_transaction_does_not_wait_for_the_lock_of_one_around_it(store: MemoryStore) -> None:
    with transaction("k", store, isolation_level=IsolationLevel.SERIALIZABLE) as outer:
        with transaction("k", store) as inner:
            inner.stage(1)
        seen = len(store.holders)
        outer.stage(2)
    assert (seen, store.holders, store.values()) == (1, {}, {"k": 2})


@pytest.mark.parametrize("end", ["raises", "hook fails", "write fails"])
def test_a_lock_is_freed_however_it_ends(store: MemoryStore, end: str) -> None:
    store.is_full = end == "write fails"
    with (
        raising() if end == "raises" else nullcontext(),
        transaction("k", store, isolation_level=IsolationLevel.SERIALIZABLE) as txn,
    ):
        txn.stage(1, [fails], [fails] if end == "hook fails" else [])
        if end == "raises":
            raise Undone
    assert (store.holders, txn.state) == ({}, ROLLED_BACK)


@pytest.mark.parametrize("store", [None, Lockless()], ids=["no store", "a store without locks"])
def test_serializable_needs_a_store_with_locks(store: MemoryStore | None) -> None:
    with pytest.raises(ConfigError):
        transaction("k", store, isolation_level=IsolationLevel.SERIALIZABLE).__enter__()
    assert get_transaction() is None
