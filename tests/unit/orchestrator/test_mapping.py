"""`map`: what it makes of its arguments, and the runs that come of it, on an Orchestrator in memory."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator import Orchestrator, RunFutureList, allow_failure, opaque, quote, task, unmapped
from orchestrator.calls import SubmitOptions
from orchestrator.mapping import MapCall, options_of_children
from shared.binding import Binding
from shared.errors import (
    IdempotencyConflict,
    LimitExceeded,
    MappingLengthMismatch,
    MappingMissingIterable,
    ParameterBindError,
    UpstreamTaskError,
)


class Owner(BaseModel):
    name: str


def two(x: Any, y: Any = (7, 8, 9)) -> Any:
    return x, y


def many(x: Any, *rest: Any, **named: Any) -> Any:
    return x, rest, named


def children(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
    return MapCall(Binding(fn.__name__, inspect.signature(fn)), args, kwargs).children({})


OWNER = Owner(name="Ada")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        pytest.param(([1, 2], [3, 4]), [{"x": 1, "y": 3}, {"x": 2, "y": 4}], id="two lists in step"),
        pytest.param(([1, 2], 5), [{"x": 1, "y": 5}, {"x": 2, "y": 5}], id="a number is the same for all"),
        pytest.param(([1, 2],), [{"x": 1}, {"x": 2}], id="a default is not mapped"),
        pytest.param(([1, 2], "ab"), [{"x": 1, "y": "ab"}, {"x": 2, "y": "ab"}], id="a text is one value"),
        pytest.param(([1], {"a": 1}), [{"x": 1, "y": {"a": 1}}], id="a mapping is one value"),
        pytest.param(([1], OWNER), [{"x": 1, "y": OWNER}], id="a model is one value"),
        pytest.param(([1], b"ab"), [{"x": 1, "y": b"ab"}], id="bytes are one value"),
        pytest.param((range(2), (5, 6)), [{"x": 0, "y": 5}, {"x": 1, "y": 6}], id="ranges and tuples are mapped"),
        pytest.param((iter("ab"),), [{"x": "a"}, {"x": "b"}], id="an iterator is read once"),
        pytest.param(
            ([1, 2], unmapped([3])),
            [{"x": 1, "y": unmapped([3])}, {"x": 2, "y": unmapped([3])}],
            id="unmapped is the same for all",
        ),
        pytest.param(
            ([1], allow_failure(unmapped([3]))),
            [{"x": 1, "y": allow_failure(unmapped([3]))}],
            id="unmapped counts in any layer",
        ),
        pytest.param(
            (allow_failure([1, 2]),),
            [{"x": allow_failure(1)}, {"x": allow_failure(2)}],
            id="an annotation is around each element",
        ),
        pytest.param(
            (opaque(quote([1])),),
            [{"x": opaque(quote(1))}],
            id="layers keep their order",
        ),
        pytest.param(([], []), [], id="nothing in, nothing out"),
    ],
)
def test_a_child_for_each_element(args: tuple[Any, ...], expected: list[Mapping[str, Any]]) -> None:
    assert children(two, *args) == expected


def test_each_variadic_argument_stands_for_itself() -> None:
    assert children(many, 1, [2, 3], unmapped([4]), a=[5, 6], b="c") == [
        {"x": 1, "rest": (2, unmapped([4])), "named": {"a": 5, "b": "c"}},
        {"x": 1, "rest": (3, unmapped([4])), "named": {"a": 6, "b": "c"}},
    ]


def broken() -> Iterator[int]:
    yield 1
    raise LookupError("the source broke")


@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        pytest.param((1, 2), MappingMissingIterable, "nothing to map over.*: one of .* x, y", id="nothing iterable"),
        pytest.param((unmapped([1]),), MappingMissingIterable, "nothing to map over", id="all unmapped"),
        pytest.param(([1], [2, 3]), MappingLengthMismatch, "different lengths: x: 1, y: 2", id="unequal"),
        pytest.param(([], [2]), MappingLengthMismatch, "x: 0, y: 1", id="one empty"),
        pytest.param((range(100_001),), LimitExceeded, "'x' has more than 100000", id="too many"),
        pytest.param((count(),), LimitExceeded, "'x' has more than 100000", id="endless"),
        pytest.param((broken(),), LookupError, "the source broke", id="an iterator that raises"),
        pytest.param(([1], 2, 3), ParameterBindError, "too many positional", id="does not fit"),
    ],
)
def test_what_cannot_be_mapped_says_why(args: tuple[Any, ...], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        children(two, *args)


def test_children_have_idempotency_keys_of_their_own() -> None:
    options = SubmitOptions(delay=5, idempotency_key="k")
    assert options_of_children(options, 2) == [SubmitOptions(5, idempotency_key=f"k[{i}]") for i in range(2)]


# --- on a fleet -------------------------------------------------------------------------------------------------------


@task(key="mapping.double")
def double(x: int) -> int:
    return 2 * x


@task(key="mapping.add")
def add(x: int, y: int = 10) -> int:
    return x + y


@task(key="mapping.numbers")
def numbers(end: int) -> list[int]:
    return list(range(end))


@task(key="mapping.fail")
def fail() -> list[int]:
    raise LookupError("not there")


@task(key="mapping.told")
def told(x: Any) -> str:
    return repr(x)


@pytest.fixture
def baton() -> Iterator[Orchestrator]:
    with Orchestrator("memory:") as baton:
        yield baton


def test_results_come_in_the_order_of_the_elements(baton: Orchestrator) -> None:  # noqa: ARG001 - it is the default
    futures = add.map(range(5), [1, 2, 3, 4, 5])
    assert (type(futures), futures.result(timeout=30)) == (RunFutureList, [1, 3, 5, 7, 9])


def test_a_list_of_futures_is_mapped_child_by_child(baton: Orchestrator) -> None:
    chain = double.map(double.map([1, 2, 3]))
    needs = [baton.history(future.run_id)[0].message for future in chain]
    assert (chain.result(timeout=30), set(needs) <= {"Waiting for 1 upstream runs.", None}) == ([4, 8, 12], True)


def test_a_future_is_waited_for_and_its_result_is_mapped(baton: Orchestrator) -> None:  # noqa: ARG001
    assert double.map(numbers.submit(4)).result(timeout=30) == [0, 2, 4, 6]


def test_what_failed_cannot_be_mapped_over(baton: Orchestrator) -> None:  # noqa: ARG001
    future = fail.submit()
    with pytest.raises(UpstreamTaskError, match=f"Upstream task run '{future.run_id}' did not reach") as raised:
        double.map(future)
    assert repr(raised.value.__cause__) == "LookupError('not there')"


def test_a_failure_that_is_allowed_is_the_same_for_every_child(baton: Orchestrator) -> None:  # noqa: ARG001
    told_of = add.map([1, 2], unmapped(3)).result(timeout=30)
    failed = told.map(allow_failure([fail.submit(), double.submit(1)])).result(timeout=30)
    assert (told_of, failed) == ([4, 5], ["LookupError('not there')", "2"])


def test_return_state_waits_and_gives_states(baton: Orchestrator) -> None:  # noqa: ARG001
    states = double.map([1, 2], return_state=True, wait_for=double.submit(5))
    assert [(state.name, state.result()) for state in states] == [("Completed", 2), ("Completed", 4)]


def test_nothing_is_submitted_for_nothing(baton: Orchestrator) -> None:
    assert (double.map([]), baton.find_runs().runs) == ([], ())


def test_the_same_map_again_under_one_key_is_the_same_runs(baton: Orchestrator) -> None:  # noqa: ARG001
    once = double.with_options(idempotency_key="nightly")
    first, again = once.map([1, 2]), once.map([1, 2])
    with pytest.raises(IdempotencyConflict):
        once.map([3])
    assert [future.run_id for future in again] == [future.run_id for future in first]


@task
def shown(value: Any) -> Any:
    return value


async def _on_a_loop() -> tuple[list[int], list[Any]]:
    futures = await double.amap(await numbers.asubmit(3))
    states = await double.amap([4], return_state=True)
    return await futures, [state.result() for state in states]


@pytest.mark.asyncio
async def test_the_same_on_an_event_loop() -> None:
    with Orchestrator("memory:"):
        assert await _on_a_loop() == ([0, 2, 4], [8])


def test_what_map_gives_may_be_given_to_another_task_and_arrives_as_a_list() -> None:
    with Orchestrator("memory:"):
        futures = double.map([1, 2])
        told = [shown.submit(value).result(20) for value in (futures, [futures, 3], double.map([]))]
    assert told == [[2, 4], [[2, 4], 3], []]
