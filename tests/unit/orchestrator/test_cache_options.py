"""Options about caching: what is taken, what is refused, which one wins."""

import logging
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import task
from orchestrator.calls import fields_of
from shared.cache import INPUTS, NO_CACHE, CacheKeyFnPolicy, StorageKeyPolicy, never_use, partial_inputs_only
from shared.errors import InvalidCall, InvalidValue
from shared.result_storage import MemoryStorage
from shared.specs import describe, registry

STORAGE = MemoryStorage()
BOTH = "Both 'cache_policy' and 'cache_key_fn' are set on task 'k': 'cache_key_fn' is used."
UNKEPT = "Task 'k' does not persist its results, so that they are not cached either."


def add(a: int, b: int = 2) -> int:
    return a + b


def key_fn(_context: object, _parameters: object) -> str:
    return "key"


async def async_key_fn(_context: object, _parameters: object) -> str:
    return "key"


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (5, 5.0),
        (0.5, 0.5),
        (timedelta(days=1, seconds=1), 86_401.0),
        (None, None),
        (timedelta(days=36_500), 3_153_600_000.0),
    ],
    ids=str,
)
def test_an_expiration_is_seconds_or_a_timedelta(given: Any, seconds: float | None) -> None:
    assert describe(add, cache_expiration=given).cache_expiration == seconds


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"cache_policy": 5}, InvalidCall, "'cache_policy' must be a policy of shared.cache such as INPUTS, got 5"),
        ({"cache_policy": key_fn}, InvalidCall, "a function is a 'cache_key_fn'"),
        ({"cache_policy": partial_inputs_only}, InvalidCall, "'cache_policy' must be a policy"),
        ({"cache_key_fn": "key"}, InvalidCall, "'cache_key_fn' must be callable, got str"),
        ({"cache_key_fn": async_key_fn}, InvalidCall, "'cache_key_fn' must be a plain function"),
        ({"cache_expiration": 0}, InvalidValue, "'cache_expiration' must be > 0"),
        ({"cache_expiration": timedelta(-1)}, InvalidValue, "'cache_expiration' must be a finite number >= 0"),
        ({"cache_expiration": float("nan")}, InvalidValue, "'cache_expiration' must be a finite number >= 0"),
        ({"cache_expiration": timedelta.max}, InvalidValue, "'cache_expiration' must be at most 100 years"),
        ({"cache_expiration": "1 day"}, InvalidCall, "'cache_expiration' must be a number of seconds, got str"),
        ({"refresh_cache": 1}, InvalidCall, "'refresh_cache' must be True or False, got int"),
        ({"result_storage_key": 5}, InvalidCall, "'result_storage_key' must be text, got int"),
        ({"result_storage_key": ""}, InvalidValue, "the cache key is empty"),
        ({"result_storage_key": "{"}, InvalidValue, "'result_storage_key' is '{'"),
        ({"result_storage_key": "{}"}, InvalidValue, "'result_storage_key' has {}: it takes {parameters[...]}"),
        ({"result_storage_key": "{day}"}, InvalidValue, "'result_storage_key' has {day}"),
        ({"result_storage_key": "{runs.id}"}, InvalidValue, "'result_storage_key' has {runs.id}"),
        ({"result_storage_key": "x" * 2001}, InvalidValue, "the limit is 2,000"),
        ({"result_storage_key": "{parameters[c].d}"}, InvalidValue, "names c: 'add' has no such parameter"),
    ],
    ids=range(19),
)
def test_a_wrong_option_fails_where_the_decorator_stands(
    given: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as caught:
        describe(add, **given)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("given", "caching", "warnings"),
    [
        ({}, NO_CACHE, []),
        ({"cache_policy": INPUTS}, INPUTS, []),
        ({"cache_key_fn": key_fn}, CacheKeyFnPolicy(key_fn), []),
        ({"cache_policy": INPUTS, "cache_key_fn": key_fn}, CacheKeyFnPolicy(key_fn), [BOTH]),
        ({"cache_policy": INPUTS, "result_storage_key": "k"}, StorageKeyPolicy("k"), []),
        ({"cache_policy": INPUTS, "persist_result": False}, NO_CACHE, [UNKEPT]),
        ({"cache_key_fn": key_fn, "persist_result": False}, NO_CACHE, [UNKEPT]),
        ({"result_storage_key": "k", "persist_result": False}, NO_CACHE, [UNKEPT]),
        ({"cache_policy": NO_CACHE, "persist_result": False}, NO_CACHE, []),
        ({"cache_policy": never_use, "persist_result": False}, NO_CACHE, []),
        ({"persist_result": False}, NO_CACHE, []),
        (
            {"cache_policy": INPUTS.configure(key_storage=STORAGE), "result_storage_key": "k"},
            StorageKeyPolicy("k", key_storage=STORAGE),
            [],
        ),
    ],
    ids=range(12),
)
def test_options_that_contradict_each_other_come_to_one_policy_with_a_warning(
    given: dict[str, Any], caching: object, warnings: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        spec = describe(add, key="k", **given)
    assert (spec.caching, [record.getMessage() for record in caplog.records]) == (caching, warnings)


def test_with_options_keeps_replaces_and_unsets_and_warns_of_what_is_new(caplog: pytest.LogCaptureFixture) -> None:
    cached = task(key="test.changed", cache_policy=INPUTS, cache_expiration=60)(add)
    with caplog.at_level(logging.WARNING):
        other = cached.with_options(cache_key_fn=key_fn, retries=1)
        again = other.with_options(retries=2)
        plain = again.with_options(cache_key_fn=None, cache_expiration=None, refresh_cache=True)
        unkept = plain.with_options(persist_result=False)
    told = [record.getMessage() for record in caplog.records]
    assert [one.spec.caching for one in (cached, other, again, plain, unkept)] == [
        INPUTS,
        *[CacheKeyFnPolicy(key_fn)] * 2,
        INPUTS,
        NO_CACHE,
    ]
    assert (plain.spec.cache_expiration, plain.spec.refresh_cache, told) == (
        None,
        True,
        [text.replace("'k'", "'test.changed'") for text in (BOTH, UNKEPT)],
    )


def test_a_run_tells_the_options_that_were_changed_for_it_and_code_does_not_travel() -> None:
    cached = task(key="test.travels", cache_policy=INPUTS, cache_expiration=60)(add)
    changed = cached.with_options(refresh_cache=True, cache_expiration=None, result_storage_key="day")
    assert registry.find("test.travels") is cached.spec
    assert (fields_of(cached.spec), fields_of(changed.spec)) == (
        {"name": "add"},
        {"name": "add", "refresh_cache": 1, "cache_expiration": 0, "result_storage_key": "day", "ties": "1"},
    )
    for code in ({"cache_key_fn": key_fn}, {"cache_policy": INPUTS - "b"}):
        with pytest.raises(InvalidCall, match=f"'{next(iter(code))}' is not that of the task 'test.travels'"):
            fields_of(cached.with_options(**code).spec)  # type: ignore[arg-type] # its options by name
    assert fields_of(cached.with_options(cache_policy=INPUTS).spec) == {"name": "add"}
