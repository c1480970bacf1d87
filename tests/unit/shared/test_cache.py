"""Keys of cached results: what each policy takes into them, how policies are put together, and when there is none."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from shared import cache, clock
from shared.cache import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    RUN_ID,
    TASK_SOURCE,
    CacheContext,
    CacheKeyFnPolicy,
    CachePolicy,
    CacheValidator,
    StorageKeyPolicy,
    all_inputs,
    all_parameters,
    duration_only,
    never_use,
    partial_inputs_only,
    partial_parameters_only,
)
from shared.errors import HashError, InvalidCall, InvalidValue, LimitExceeded
from shared.isolation import IsolationLevel
from shared.result_storage import DirectoryStorage, MemoryStorage
from shared.results import record_of
from shared.runs import TaskRun
from shared.specs import TaskSpec, describe
from shared.states import Completed, Running, State

POLICIES = {
    "INPUTS": INPUTS,
    "TASK_SOURCE": TASK_SOURCE,
    "RUN_ID": RUN_ID,
    "FLOW_PARAMETERS": FLOW_PARAMETERS,
    "DEFAULT": DEFAULT,
    "all_inputs": all_inputs,
    "all_parameters": all_parameters,
}
EACH_POLICY = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)


def add(a: int, b: int = 2) -> int:
    return a + b


def context(run_id: str = "r1", flow: str | None = None, **options: Any) -> CacheContext:
    """A run of the task `shop.add`."""
    spec: TaskSpec[..., Any] = describe(add, **{"key": "shop.add", **options})
    return CacheContext(spec, TaskRun(id=run_id, task=spec.key, name="add", queue="q", state=Running(), flow=flow))


def key(policy: CachePolicy, inputs: Any = None, flow_parameters: Any = None, **changes: Any) -> str | None:
    given = {"a": 1, "b": 2} if inputs is None else inputs
    return policy.compute_key(context(**changes), given, {"day": 1} if flow_parameters is None else flow_parameters)


# --- policies ---------------------------------------------------------------------------------------------------------


def test_nothing_is_cached_unless_it_is_asked_for() -> None:
    assert (describe(add).caching, key(NO_CACHE), NO_CACHE.is_caching) == (NO_CACHE, None, False)


@EACH_POLICY
def test_a_key_is_the_same_for_the_same_and_begins_with_that_of_the_task(policy: CachePolicy) -> None:
    first, second = key(policy), key(policy)
    assert (first == second, str(first).startswith("shop.add/"), policy.is_caching) == (True, True, True)


@EACH_POLICY
def test_two_tasks_never_share(policy: CachePolicy) -> None:
    assert key(policy) != key(policy, key="shop.take")


@pytest.mark.parametrize(
    ("policy", "differs"),
    [
        (INPUTS, {"inputs", "others"}),
        (INPUTS - "a", {"others"}),
        (RUN_ID, {"run"}),
        (FLOW_PARAMETERS, {"flow_parameters"}),
        (TASK_SOURCE, set()),
        (INPUTS + RUN_ID, {"inputs", "others", "run"}),
        (DEFAULT, {"inputs", "others", "run"}),
        (DEFAULT - "a", {"others", "run"}),
        (all_inputs, {"inputs", "others"}),
        (all_parameters, {"flow_parameters"}),
        (partial_inputs_only(["a"]), {"inputs"}),
        (partial_inputs_only("b"), {"others"}),
        (partial_parameters_only(["day"]), {"flow_parameters"}),
        (partial_parameters_only(["hour"]), set()),
        (duration_only, set()),
    ],
    ids=range(15),
)
def test_a_key_differs_where_what_its_policy_takes_differs(policy: CachePolicy, differs: set[str]) -> None:
    changed = {
        "inputs": key(policy, {"a": 5, "b": 2}),
        "others": key(policy, {"a": 1, "b": 5}),
        "run": key(policy, run_id="r2"),
        "flow_parameters": key(policy, flow_parameters={"day": 2}),
    }
    assert {name for name, other in changed.items() if other != key(policy)} == differs


def test_types_count_and_orders_do_not() -> None:
    assert key(INPUTS, {"a": 1}) != key(INPUTS, {"a": 1.0}) != key(INPUTS, {"a": True})
    assert key(INPUTS, {"a": {1, 2, "x"}, "b": {"x": 1, "y": 2}}) == key(
        INPUTS, {"b": {"y": 2, "x": 1}, "a": {"x", 2, 1}}
    )


def test_what_is_left_out_does_not_count_even_if_it_cannot_be_digested() -> None:
    with_lock = {"a": 1, "client": Lock()}
    assert key(INPUTS - "client", with_lock) == key(INPUTS, {"a": 1}) == key(INPUTS - ["client", "other"], with_lock)


@pytest.mark.parametrize("policy", [INPUTS - ["a", "b"], INPUTS - "a" - "b"], ids=["at once", "one by one"])
def test_without_any_argument_left_there_is_no_key(policy: CachePolicy) -> None:
    assert (key(policy), key(INPUTS, {}), key(FLOW_PARAMETERS, flow_parameters={})) == (None, None, None)


def test_a_value_without_canonical_form_is_an_error_that_says_where_and_what_to_do() -> None:
    with pytest.raises(
        HashError, match=r"^parameters\.client\[1\]\.lock: .*leave the argument out, .*INPUTS - 'client'"
    ):
        key(DEFAULT, {"client": [1, {"lock": Lock()}]})
    with pytest.raises(HashError, match=r"^flow_parameters\.client: "):
        key(FLOW_PARAMETERS, flow_parameters={"client": Lock()})


def test_the_runs_of_a_flow_share_and_other_runs_do_not() -> None:
    in_flow = [key(RUN_ID, run_id="r1", flow="f"), key(RUN_ID, run_id="r2", flow="f")]
    assert (in_flow, key(RUN_ID, run_id="r1")) == (["shop.add/f"] * 2, "shop.add/r1")


def test_records_count_as_the_values_in_them() -> None:
    assert key(INPUTS, {"a": record_of(1), "b": record_of(2)}) == key(INPUTS)


def test_a_key_is_the_same_in_every_process() -> None:
    values = {"when": datetime(2026, 1, 1, tzinfo=UTC), "kinds": {"a", "b", "c"}, "n": (1, 2.5, None)}
    script = f"""
import datetime, sys
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from shared.cache import *
from shared.runs import TaskRun
from shared.specs import describe
from shared.states import Running
def add(a, b=2): return a + b
spec = describe(add, key="shop.add")
run = TaskRun(id="r1", task="shop.add", name="add", queue="q", state=Running())
print((INPUTS + RUN_ID + FLOW_PARAMETERS).compute_key(CacheContext(spec, run), {values!r}, {{"day": 1}}))
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert outputs == {key(INPUTS + RUN_ID + FLOW_PARAMETERS, values)}


# --- together ---------------------------------------------------------------------------------------------------------


def test_parts_that_are_none_do_not_count() -> None:
    assert key(INPUTS + FLOW_PARAMETERS, flow_parameters={}) == key(
        INPUTS + FLOW_PARAMETERS + FLOW_PARAMETERS, None, {}
    )
    assert key(INPUTS + FLOW_PARAMETERS, {}, {}) is None
    assert key(INPUTS + RUN_ID, {}) != key(INPUTS + RUN_ID)


def test_sums_are_flat_and_equal_by_their_parts() -> None:
    assert (INPUTS + TASK_SOURCE) + RUN_ID == INPUTS + (TASK_SOURCE + RUN_ID) == DEFAULT != INPUTS + RUN_ID


def test_no_cache_adds_nothing() -> None:
    assert (INPUTS + NO_CACHE, NO_CACHE + INPUTS, NO_CACHE + NO_CACHE) == (INPUTS, INPUTS, NO_CACHE)


def test_only_policies_are_added_and_only_names_of_arguments_taken_away() -> None:
    with pytest.raises(TypeError):
        INPUTS + "client"  # type: ignore[operator] # what is refused here
    with pytest.raises(InvalidCall, match="by texts, got 5"):
        INPUTS - 5
    with pytest.raises(InvalidCall, match="client cannot be left out of a policy that takes no arguments"):
        (TASK_SOURCE + RUN_ID) - "client"
    with pytest.raises(InvalidCall, match="cannot be left out"):
        NO_CACHE - "client"


def test_the_same_name_may_be_left_out_twice() -> None:
    assert DEFAULT - "a" - "a" == DEFAULT - "a"


def test_settings_are_kept_and_in_no_key(tmp_path: Path) -> None:
    policy = (INPUTS.configure(key_storage=str(tmp_path)) + RUN_ID).configure(
        isolation_level=IsolationLevel.SERIALIZABLE
    )
    less = policy - "a"
    assert (less.key_storage, less.isolation_level) == (DirectoryStorage(tmp_path), IsolationLevel.SERIALIZABLE)
    assert key(policy) == key(INPUTS + RUN_ID)


@pytest.mark.parametrize(
    ("setting", "one", "other", "words"),
    [
        ("key_storage", MemoryStorage(), MemoryStorage(), "storage"),
        ("isolation_level", IsolationLevel.SERIALIZABLE, IsolationLevel.READ_COMMITTED, "isolation levels"),
        ("lock_manager", object(), object(), "lock managers"),
    ],
    ids=["storage", "isolation", "locks"],
)
def test_policies_with_different_settings_cannot_be_added(setting: str, one: Any, other: Any, words: str) -> None:
    mine, yours = INPUTS.configure(**{setting: one}), RUN_ID.configure(**{setting: other})
    with pytest.raises(ValueError, match=f"^Cannot add cache policies with different {words}\\.$"):
        mine + yours
    joined = [
        mine + RUN_ID,
        RUN_ID + mine,
        mine + NO_CACHE,
        mine + mine,
        NO_CACHE + NO_CACHE.configure(**{setting: one}),
    ]
    assert [getattr(policy, setting) is one for policy in joined] == [True] * 5


def test_no_other_isolation_level_is_taken() -> None:
    chosen = INPUTS.configure(isolation_level="SERIALIZABLE")  # type: ignore[arg-type] # its text does as well
    assert chosen.isolation_level is IsolationLevel.SERIALIZABLE
    with pytest.raises(InvalidValue, match="'isolation_level' is READ_COMMITTED or SERIALIZABLE, got 'HIGH'"):
        INPUTS.configure(isolation_level="HIGH")  # type: ignore[arg-type] # what is refused here


# --- keys of one's own ------------------------------------------------------------------------------------------------


def test_the_key_of_a_function_is_used_as_it_is_so_that_tasks_can_share() -> None:
    policy = CacheKeyFnPolicy(lambda context, parameters: f"{context.task_run.flow}-{parameters['a']}")
    assert key(policy, flow="f") == key(policy, flow="f", key="shop.take") == "f-1"


def test_a_function_that_gives_none_turns_caching_off_for_the_run() -> None:
    assert key(CacheKeyFnPolicy(lambda _context, _parameters: None)) is None


async def coroutine(_context: object, _parameters: object) -> str:
    return "k"


@pytest.mark.parametrize(
    ("fn", "error", "text"),
    [
        (lambda _c, _p: 5, InvalidCall, "cache_key_fn gave a int: it gives text, or None"),
        (coroutine, InvalidCall, "cache_key_fn gave a coroutine"),
        (lambda _c, _p: "", InvalidValue, "the cache key is empty"),
        (lambda _c, _p: "k" * 2001, LimitExceeded, "the cache key has 2,001 characters, the limit is 2,000"),
        (lambda _c, _p: "\ud800", InvalidValue, "a lone surrogate"),
        (lambda _c, _p: {}["x"], KeyError, "x"),
    ],
    ids=["number", "coroutine", "empty", "long", "surrogate", "raises"],
)
def test_what_is_no_key_is_refused(fn: Callable[..., Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        key(CacheKeyFnPolicy(fn))


def test_the_longest_key_is_taken() -> None:
    assert key(CacheKeyFnPolicy(lambda _c, _p: "é" * 2000)) == "é" * 2000


def test_a_storage_key_is_filled_in_with_the_run_and_its_arguments() -> None:
    policy = describe(add, result_storage_key="day-{parameters[a]:02d}-{run.id}").caching
    assert key(policy) == "day-01-r1"


@pytest.mark.parametrize("template", ["{parameters[x]}", "{run.x}", "{parameters[a].x}", "{parameters[a]:q}"])
def test_a_storage_key_that_names_what_is_not_there_is_an_error(template: str) -> None:
    with pytest.raises(InvalidValue, match="'result_storage_key'"):
        key(StorageKeyPolicy(template))


# --- validators -------------------------------------------------------------------------------------------------------


def cached(policy: CachePolicy, expiration: datetime | None = None) -> State[Any]:
    return Completed(name="Cached", state_details={"cache_key": key(policy), "cache_expiration": expiration})


VALIDATORS = {
    "duration_only": (duration_only, True, True, True),
    "all_inputs": (all_inputs, False, False, True),
    "all_parameters": (all_parameters, True, True, False),
    "inputs a": (partial_inputs_only(["a"]), False, True, True),
    "inputs": (partial_inputs_only(), True, True, True),
    "parameters day": (partial_parameters_only(["day"]), True, True, False),
    "parameters": (partial_parameters_only(), True, True, True),
    "never_use": (never_use, False, False, False),
}


@pytest.mark.parametrize("row", VALIDATORS.values(), ids=VALIDATORS)
def test_a_validator_compares_with_what_was_recorded(row: tuple[CacheValidator, bool, bool, bool]) -> None:
    validator, *expected = row
    state = cached(validator)
    answers = [
        validator(state, {"a": 5, "b": 2}, {"day": 1}),
        validator(state, {"a": 1, "b": 5}, {"day": 1}),
        validator(state, {"a": 1, "b": 2}, {"day": 2}),
    ]
    assert (answers, validator(state, {"a": 1, "b": 2}, {"day": 1})) == (expected, validator is not never_use)


@pytest.mark.parametrize("row", VALIDATORS.values(), ids=VALIDATORS)
def test_none_is_valid_after_its_expiration(row: tuple[CacheValidator, bool, bool, bool]) -> None:
    validator = row[0]
    given = {"a": 1, "b": 2}, {"day": 1}
    before = validator(cached(validator, clock.now() + timedelta(hours=1)), *given)
    assert (before, validator(cached(validator, clock.now()), *given)) == (validator is not never_use, False)


def test_what_cannot_be_digested_is_not_valid() -> None:
    assert all_inputs(cached(all_inputs), {"a": Lock()}) is False


def test_validators_are_policies() -> None:
    caching = [describe(add, cache_policy=validator).caching for validator in (all_inputs, never_use)]
    assert (caching, key(duration_only), key(never_use)) == ([all_inputs, never_use], "shop.add", None)


def test_the_public_names_are_there() -> None:
    assert [name for name in cache.__all__ if not hasattr(cache, name)] == []
