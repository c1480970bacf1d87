"""What a task is: its options, checked where the decorator stands, and the registry."""

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from shared.errors import ConfigError, InvalidCall, InvalidValue, ReservedArgumentError, TaskNotRegistered
from shared.retries import exponential_backoff
from shared.specs import HOOKS, Registry, describe


def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


async def fetch() -> None: ...


def numbers() -> Iterator[int]:
    yield 1


async def stream() -> AsyncIterator[int]:
    yield 1


class Adder:
    def __call__(self, a: int) -> int:
        return a

    def method(self, a: int) -> int:
        return a


class AsyncAdder:
    async def __call__(self) -> None: ...


def test_a_function_gives_name_key_and_description() -> None:
    spec = describe(add)
    assert (spec.name, spec.key, spec.description) == ("add", f"{__name__}.add", "Add two numbers.")


@pytest.mark.parametrize(
    ("fn", "isasync", "isgenerator"),
    [
        (add, False, False),
        (fetch, True, False),
        (numbers, False, True),
        (stream, True, True),
        (Adder(), False, False),
        (AsyncAdder(), True, False),
        (Adder().method, False, False),
        (functools.partial(add, 1), False, False),
    ],
)
def test_the_kind_of_a_function_is_found_out_once(fn: Any, isasync: bool, isgenerator: bool) -> None:
    spec = describe(fn, key="k")
    assert (spec.isasync, spec.isgenerator) == (isasync, isgenerator)


def test_a_callable_object_is_called_after_its_class() -> None:
    spec = describe(Adder())
    assert (spec.name, spec.key) == ("Adder", f"{__name__}.Adder")


def test_only_callables_are_tasks() -> None:
    with pytest.raises(InvalidCall, match="'fn' must be callable"):
        describe(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["return_state", "wait_for"])
def test_names_that_submit_needs_are_refused_as_parameters(name: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def fn({name}): ...", namespace)  # noqa: S102 - the simplest way to a parameter of that name
    with pytest.raises(ReservedArgumentError, match=name):
        describe(namespace["fn"])


@pytest.mark.parametrize(
    ("given", "delays"),
    [
        ({}, ()),
        ({"retry_delay_seconds": 3}, (3.0,)),
        ({"retry_delay_seconds": [1, 2.5]}, (1.0, 2.5)),
        ({"retry_delay_seconds": lambda retries: [10.0 * n for n in range(retries)], "retries": 3}, (0.0, 10.0, 20.0)),
        ({"retry_delay_seconds": 0}, (0.0,)),
        ({"retry_delay_seconds": list(range(50))}, tuple(float(n) for n in range(50))),
    ],
)
def test_delays_are_a_number_a_list_or_a_callable(given: dict[str, Any], delays: tuple[float, ...]) -> None:
    assert describe(add, **given).retry_delays == delays


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"retries": -1}, InvalidValue, "'retries' must be >= 0, got -1"),
        ({"retries": 1.5}, InvalidCall, "'retries' must be a whole number, got float"),
        ({"retries": True}, InvalidCall, "'retries' must be a whole number, got bool"),
        ({"retry_delay_seconds": [1] * 51}, InvalidValue, "Can not configure more than 50 retry delays per task."),
        ({"retry_delay_seconds": -1}, InvalidValue, "'retry_delay_seconds' must be a finite number >= 0, got -1"),
        ({"retry_delay_seconds": "soon"}, InvalidCall, "'retry_delay_seconds' must be a number of seconds, got str"),
        ({"retry_jitter_factor": -0.1}, InvalidValue, "`retry_jitter_factor` must be >= 0."),
        ({"timeout_seconds": float("nan")}, InvalidValue, "'timeout_seconds' must be a finite number >= 0, got nan"),
        ({"timeout_seconds": -1}, InvalidValue, "'timeout_seconds' must be a finite number >= 0, got -1"),
        ({"persist_result": 1}, InvalidCall, "'persist_result' must be True or False, got int"),
        ({"result_ttl": 59}, InvalidValue, "'result_ttl' must be at least 60 seconds, got 59"),
        ({"on_crash": "ignore"}, InvalidValue, "'on_crash' must be 'retry' or 'fail', got 'ignore'"),
        ({"name": ""}, InvalidValue, "'name' is ''"),
        ({"name": "a\x1bb"}, InvalidValue, "without control characters"),
        ({"key": 5}, InvalidCall, "'key' must be text, got int"),
        ({"retry": 5}, InvalidCall, "unknown option 'retry'; there are"),
    ],
)
def test_a_wrong_option_fails_where_the_decorator_stands(
    given: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as caught:
        describe(add, **given)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["default", "a", "9", "shop.mail_2-x", "q" * 100])
def test_a_queue_has_a_plain_name(name: str) -> None:
    assert describe(add, queue=name).queue == name


@pytest.mark.parametrize(
    "name", ["", "A", "a b", "a:b", "{a}", "a*", "a\n", "\x00", "\u0430bc", "-a", ".a", "q" * 101, "x" * 10_240, 5]
)
def test_other_names_of_queues_are_refused_and_told_how_one_looks(name: Any) -> None:
    with pytest.raises(InvalidValue, match="a queue's name has 1 to 100 of") as caught:
        describe(add, queue=name)
    assert len(str(caught.value)) < 500


def test_a_queue_cannot_have_the_name_that_promoters_wait_under() -> None:
    with pytest.raises(InvalidValue, match="taken by Baton itself"):
        describe(add, queue="due")


@pytest.mark.parametrize("none", [0, None])
def test_no_time_limit_is_none(none: float | None) -> None:
    assert describe(add, timeout_seconds=none).timeout_seconds is None


def test_a_task_is_found_by_its_key() -> None:
    registry, spec = Registry(), describe(add, key="shop.add")
    registry.add(spec)
    assert (registry.find("shop.add"), registry.get("shop.add"), registry.get("other")) == (spec, spec, None)


def test_an_unknown_key_is_told_with_what_is_known() -> None:
    registry = Registry()
    for key in ("shop.b", "shop.a"):
        registry.add(describe(add, key=key))
    with pytest.raises(TaskNotRegistered) as caught:
        registry.find("os.system")
    assert str(caught.value) == "Task 'os.system' is not registered on this queue; known: shop.a, shop.b."


def test_two_functions_under_one_key_are_refused_with_both_places() -> None:
    registry = Registry()
    registry.add(describe(add, key="shop.add"))
    with pytest.raises(ConfigError) as caught:
        registry.add(describe(numbers, key="shop.add"))
    assert f"{__file__}:add" in str(caught.value)
    assert f"{__file__}:numbers" in str(caught.value)


def test_the_same_place_again_replaces_as_after_a_reload() -> None:
    registry = Registry()
    first, second = describe(add, key="k"), describe(add, key="k", retries=3)
    registry.add(first)
    registry.add(second)
    assert registry.find("k") is second


def test_a_builtin_that_does_not_tell_its_parameters_is_refused() -> None:
    with pytest.raises(InvalidCall, match="<class 'str'> does not tell its parameters"):
        describe(str)


# --- hooks, conditions and names --------------------------------------------------------------------------------------

EACH_HOOK = pytest.mark.parametrize("option", HOOKS)


def told(*_: object) -> None: ...


async def atold(*_: object) -> None: ...


@EACH_HOOK
def test_hooks_are_kept_in_their_order_whatever_holds_them(option: str) -> None:
    partial = functools.partial(told, 1)
    spec = describe(add, **{option: iter([told, atold, partial, Adder()])})
    assert getattr(spec, option)[:3] == (told, atold, partial)
    assert (len(getattr(spec, option)), getattr(describe(add), option)) == (4, ())


@EACH_HOOK
@pytest.mark.parametrize(("given", "kind"), [(5, "int"), (told, "function")])
def test_hooks_that_are_no_iterable_are_refused(option: str, given: Any, kind: str) -> None:
    with pytest.raises(InvalidCall) as caught:
        describe(add, **{option: given})
    assert str(caught.value) == f"Expected iterable for '{option}'; got {kind}."


@EACH_HOOK
@pytest.mark.parametrize(("given", "kind"), [([told, 5], "int"), ("told", "str"), ([None], "NoneType")])
def test_hooks_that_cannot_be_called_are_refused(option: str, given: Any, kind: str) -> None:
    with pytest.raises(InvalidCall) as caught:
        describe(add, **{option: given})
    assert str(caught.value) == f"Expected callables in '{option}'; got {kind}."


@pytest.mark.parametrize("condition", [told, atold, functools.partial(told, 1), Adder()])
def test_a_retry_condition_is_anything_that_can_be_called(condition: Any) -> None:
    assert describe(add, retry_condition_fn=condition).retry_condition_fn is condition


@pytest.mark.parametrize(
    "options",
    [{"retry_condition_fn": True}, {"task_run_name": 5}, {"log_prints": 1}],
    ids=lambda given: next(iter(given)),
)
def test_other_options_of_a_wrong_type_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidCall, match=next(iter(options))):
        describe(add, **options)


def test_the_environment_says_how_often_tasks_are_retried_that_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATON_TASK_RETRIES", "3")
    backoff = exponential_backoff(2)
    specs = [describe(add, retry_delay_seconds=backoff), describe(add, retries=0), describe(add, retries=None)]
    assert [(spec.retries, spec.retry_delays) for spec in specs] == [(3, (2, 4, 8)), (0, ()), (3, ())]
    monkeypatch.setenv("BATON_TASK_RETRIES", "-1")
    with pytest.raises(ConfigError, match="BATON_TASK_RETRIES"):
        describe(add)
