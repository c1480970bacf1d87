"""The store of results over each of its storages: Redis, the in-process server, a directory, memory."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared import clock, codec
from shared.codec import SERIALIZERS
from shared.errors import (
    BadEnvelope,
    InvalidValue,
    MissingResult,
    RedisUnavailable,
    ResultNotSerialisable,
    ResultTooLarge,
    StorageFull,
)
from shared.exceptions_as_data import ExceptionData
from shared.outcomes import exception_to_failed_state, return_value_to_state
from shared.result_redis import RedisStorage
from shared.result_storage import DirectoryStorage, MemoryStorage, Storage, StoredRecord
from shared.results import ResultRecord, ResultRecordMetadata, ResultStore, record_of
from shared.scripts import SCRIPTS
from shared.version import __version__
from tests.contract.conftest import fake_store, real_store
from tests.support.ledgers import Store, closed
from tests.support.waiting import eventually

VALUE = {"rows": [(1, datetime(2026, 1, 1, tzinfo=UTC))] * 40, "kinds": {"a", b"b"}}


@pytest.fixture(params=["redis", "fakeredis", "directory", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """Each storage in turn, empty."""
    match request.param:
        case "directory":
            yield DirectoryStorage(tmp_path / "results")
        case "memory":
            yield MemoryStorage()
        case kind:
            found = fake_store() if kind == "fakeredis" else real_store(request.getfixturevalue("server"))
            yield RedisStorage(found.exchange)
            closed(found)


@pytest.fixture
def results(storage: Storage) -> ResultStore:
    return ResultStore(storage)


def after(**span: float) -> datetime:
    return clock.now() + timedelta(**span)


def kept(results: ResultStore, value: Any = 5, key: str = "k", **span: float) -> ResultRecord[Any]:
    """A record that was written, for so long."""
    record = results.create_record(value, key, after(**span) if span else None, run_id="r")
    results.write(record)
    return record


# --- records ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [VALUE, None, 0, "", []], ids=["nested", "None", "0", "text", "list"])
def test_what_is_written_is_read(results: ResultStore, value: object) -> None:
    record = kept(results, value, hours=1)
    assert results.read("k") == record
    assert record.metadata == ResultRecordMetadata("k", record.metadata.expiration, "msgpack", __version__, "r")


def test_a_record_without_an_end_has_none(results: ResultStore) -> None:
    kept(results)
    assert results.read("k").metadata.expiration is None


@pytest.mark.parametrize("key", ["a/../../b", "é\n", "x" * 2000, "*", "k:parameters"], ids=lambda key: ascii(key[:9]))
def test_any_text_is_a_key(results: ResultStore, key: str) -> None:
    kept(results, 1, key)
    kept(results, 2, f"{key}.")
    assert (results.read(key).result, results.exists(f"{key}.."), results.exists(key[1:])) == (1, False, False)


def test_what_was_never_written_is_missing(results: ResultStore) -> None:
    with pytest.raises(MissingResult, match="There is no result under the key 'k'"):
        results.read("k")
    assert (results.find("k"), results.exists("k")) == (None, False)


def test_what_is_written_again_replaces(results: ResultStore) -> None:
    kept(results, 1, hours=1)
    kept(results, 2)
    assert (results.read("k").result, results.read("k").metadata.expiration) == (2, None)


def test_what_is_deleted_is_missing_and_may_be_deleted_again(results: ResultStore) -> None:
    kept(results)
    results.delete("k")
    results.delete("k")
    assert results.exists("k") is False


def test_an_expired_record_does_not_exist(results: ResultStore) -> None:
    kept(results, milliseconds=300)
    was_there = results.exists("k")
    eventually(lambda: results.find("k") is None)
    assert (was_there, results.exists("k")) == (True, False)


@pytest.mark.parametrize("seconds", [0, -1, -1e9])
def test_a_record_that_is_written_after_its_end_does_not_exist_nor_does_the_one_before(
    results: ResultStore, seconds: float
) -> None:
    kept(results, "before")
    kept(results, "late", seconds=seconds)
    assert results.find("k") is None


def test_a_record_may_live_until_the_last_year_that_there_is(results: ResultStore) -> None:
    results.write(results.create_record(1, "k", datetime(9999, 12, 31, tzinfo=UTC)))
    assert results.read("k").result == 1


def test_prefixes_keep_stores_apart(storage: Storage) -> None:
    mine, yours = ResultStore(storage, "mine/"), ResultStore(storage, "yours/")
    kept(mine, 1)
    kept(yours, 2)
    yours.delete("k")
    assert (mine.read("k").result, mine.read("k").metadata.storage_key, yours.exists("k")) == (1, "k", False)


def test_many_are_written_in_one_step_and_none_if_one_cannot_be(results: ResultStore) -> None:
    records = [results.create_record(n, f"k{n}") for n in range(3)]
    with pytest.raises(ResultNotSerialisable):
        results.write_many([*records, results.create_record(object(), "odd")])
    before = [results.exists(f"k{n}") for n in range(3)]
    results.write_many(records)
    results.write_many([])
    assert (before, [results.read(f"k{n}").result for n in range(3)]) == ([False] * 3, [0, 1, 2])


def test_a_record_without_a_key_gets_one_of_its_own_and_lives_for_a_day(results: ResultStore) -> None:
    first, second = results.create_record(1), results.create_record(1)
    keys = {first.metadata.storage_key, second.metadata.storage_key}
    end = first.metadata.expiration
    assert len(keys - {None}) == 2
    assert end is not None
    assert timedelta(hours=23) < end - clock.now() <= timedelta(days=1)


def test_a_record_that_no_store_made_needs_a_key(results: ResultStore) -> None:
    with pytest.raises(InvalidValue, match="without a storage_key"):
        results.write(record_of(5))
    results.write(record_of(5, "k"))
    assert results.read("k").result == 5


def test_the_twins_for_event_loops_do_the_same(results: ResultStore) -> None:
    async def all_of_them() -> list[Any]:
        await results.awrite(results.create_record(1, "a"))
        await results.awrite_many([results.create_record(2, "b"), results.create_record(3, "c")])
        await results.adelete("c")
        found, gone = await results.afind("b"), await results.afind("c")
        return [(await results.aread("a")).result, found and found.result, gone, await results.aexists("a")]

    assert asyncio.run(all_of_them()) == [1, 2, None, True]


# --- serializers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", ["msgpack", "compressed/json"])
@pytest.mark.parametrize("writer", SERIALIZERS)
def test_stores_read_what_any_serializer_wrote(storage: Storage, writer: str, reader: str) -> None:
    kept(ResultStore(storage, serializer=writer), VALUE)
    record = ResultStore(storage, serializer=reader).read("k")
    assert (record.result, record.metadata.serializer) == (VALUE, writer)


def test_an_unknown_serializer_is_refused_when_it_is_chosen_and_when_it_is_written(results: ResultStore) -> None:
    record = results.create_record(5, "k")
    with pytest.raises(InvalidValue, match="unknown serializer 'pickle'"):
        ResultStore(results.storage, serializer="pickle")
    with pytest.raises(InvalidValue, match="unknown serializer 'pickle'"):
        results.write(replace(record, metadata=replace(record.metadata, serializer="pickle")))


def test_what_cannot_be_stored_is_refused_with_its_place(storage: Storage) -> None:
    small = ResultStore(storage, limit=100)
    with pytest.raises(ResultNotSerialisable, match=r"^result\[1\].x: "):
        small.write(small.create_record([1, {"x": object()}], "k"))
    with pytest.raises(ResultTooLarge, match="the limit is 100"):
        small.write(small.create_record("x" * 200, "k"))
    assert small.exists("k") is False


def test_a_value_as_large_as_the_limit_is_read_again(storage: Storage) -> None:
    small = ResultStore(storage, limit=1000)
    kept(small, "x" * 997, "k" * 2000)
    assert small.read("k" * 2000).result == "x" * 997


# --- bad records ------------------------------------------------------------------------------------------------------


def sealed(**changes: Any) -> bytes:
    """The bytes of a record of 5 under `k`, some of whose fields are others."""
    fields = {"storage_key": "k", "expiration": None, "serializer": "msgpack", "baton_version": "1", "run_id": None}
    return codec.encode({**fields, "result": codec.encode(5), **changes})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"x", "no envelope of Baton"),
        (sealed()[:-1], "cut or lengthened"),
        (codec.encode(5), "no record of a result"),
        (codec.encode({"result": codec.encode(5)}), "no record of a result"),
        (sealed(storage_key=5), "no record of a result"),
        (sealed(storage_key="other"), "the record is that of the key 'other'"),
        (sealed(expiration="tomorrow"), "not an ISO 8601 time"),
        (sealed(run_id=5), "no record of a result"),
        (sealed(serializer="pickle"), "written by the serializer 'pickle', which this Baton does not know"),
        (sealed(result=5), "no record of a result"),
        (sealed(result=b"\x80\x04K\x05."), "no envelope of Baton"),
        (codec.encode("x" * 2_000_000, limit=3_000_000), "bytes, the limit is"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_bad_record_cannot_be_read_and_counts_as_missing_with_a_warning(
    storage: Storage, data: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    results = ResultStore(storage)
    storage.write([StoredRecord("k", sealed(), None)])
    assert results.read("k").result == 5
    storage.write([StoredRecord("k", data, None)])
    with pytest.raises(BadEnvelope) as caught:
        results.read("k")
    with caplog.at_level(logging.WARNING):
        found = results.find("k")
    told = [(record.levelname, reason in record.getMessage()) for record in caplog.records]
    assert (reason in str(caught.value), found, told) == (True, None, [("WARNING", True)])
    kept(results, "mended")
    assert results.read("k").result == "mended"


# --- states -----------------------------------------------------------------------------------------------------------


def test_a_state_of_a_stored_value_is_read_from_the_store(results: ResultStore) -> None:
    state = return_value_to_state(VALUE, results, "k", write_result=True)
    reference = state.to_state_create().data
    assert (state.result(), results.read("k").result) == (VALUE, VALUE)
    assert reference.storage_key == "k"


def test_an_exception_is_stored_as_data_under_a_key_of_its_own(results: ResultStore) -> None:
    state = exception_to_failed_state(KeyError("x"), results, write_result=True)
    key = state.data.metadata.storage_key
    record = results.read(key)
    stored, end = record.result, record.metadata.expiration
    assert (stored.type_name, stored.arguments, type(stored)) == ("KeyError", ("x",), ExceptionData)
    assert end is not None
    assert end - clock.now() <= timedelta(days=1)


# --- Redis alone ------------------------------------------------------------------------------------------------------


def test_the_lifetime_of_a_record_is_that_of_its_key(store: Store) -> None:
    results = ResultStore(RedisStorage(store.exchange))
    kept(results, seconds=90)
    kept(results, key="for ever")
    lives = store.client.pttl("baton:result:k"), store.client.pttl("baton:result:for ever")
    assert (80_000 < lives[0] <= 90_000, lives[1]) == (True, -1)


def test_a_key_of_another_type_is_a_bad_record_and_is_replaced(store: Store) -> None:
    results = ResultStore(RedisStorage(store.exchange))
    store.client.lpush("baton:result:k", "x")
    with pytest.raises(BadEnvelope, match="WRONGTYPE"):
        results.read("k")
    kept(results)
    assert results.read("k").result == 5


@pytest.mark.parametrize("arguments", [["soon", "x"], ["1"], ["-1", "x"], ["1.5", "x"], ["", "x", "1"]])
def test_arguments_that_do_not_fit_write_nothing(store: Store, arguments: list[str]) -> None:
    names = ["baton:result:a", "baton:result:b"][: (len(arguments) + 1) // 2]
    with pytest.raises(RedisUnavailable, match="a lifetime and a record for each key"):
        store.exchange.evaluate(SCRIPTS["keep"], names, arguments)
    assert store.client.keys("*") == []


def test_a_full_server_keeps_what_was_there(real: Store) -> None:
    results = ResultStore(RedisStorage(real.exchange))
    kept(results, "before")
    real.client.config_set("maxmemory", "1")
    try:
        with pytest.raises(StorageFull):
            kept(results, "after")
    finally:
        real.client.config_set("maxmemory", "0")
    assert results.read("k").result == "before"
