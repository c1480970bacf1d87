"""Futures inside of nested values, replaced by results or states."""

import asyncio
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pydantic
import pytest

from orchestrator import (
    RunFuture,
    RunFutureList,
    allow_failure,
    opaque,
    quote,
    resolve_futures_to_data,
    resolve_futures_to_states,
    unmapped,
)
from orchestrator.resolve import aresolve_futures_to_data, aresolve_futures_to_states
from shared.errors import (
    CancelledRun,
    CrashedRun,
    InvalidCall,
    LimitExceeded,
    MissingResult,
    RunGone,
    UpstreamTaskError,
)
from shared.states import Cancelled, Completed, Crashed, Failed, State
from tests.support.desk import Desk, desk_on
from tests.support.fleets import in_thread

Pair = namedtuple("Pair", "left right")  # noqa: PYI024 - the kind that has no types


@dataclass(frozen=True)
class Box:
    content: Any
    more: Any = None


class Model(pydantic.BaseModel):
    content: Any


@pytest.fixture
def desk() -> Iterator[Desk]:
    with desk_on(future_sweep=30) as desk:
        yield desk


def ended(desk: Desk, *states: State[Any]) -> RunFutureList[Any]:
    """Runs that have ended in these states."""
    futures = desk.submit(len(states))
    desk.end_all(futures, lambda number: states[number])
    return futures


def data_both_ways(expr: Any, *how: Any) -> list[Callable[[], Any]]:
    return [
        lambda: resolve_futures_to_data(expr, *how),
        lambda: asyncio.run(aresolve_futures_to_data(expr, *how)),
    ]


def states_both_ways(expr: Any) -> list[Callable[[], Any]]:
    return [lambda: resolve_futures_to_states(expr), lambda: asyncio.run(aresolve_futures_to_states(expr))]


# --- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "around",
    [
        lambda x: x,
        lambda x: [x, 2],
        lambda x: (x, 2),
        lambda x: {x, "other"},
        lambda x: frozenset({x}),
        lambda x: {"key": x, x: "value"},
        lambda x: OrderedDict([("b", x), ("a", 1)]),
        lambda x: defaultdict(list, {"a": x}),
        lambda x: Pair(1, x),
        lambda x: Box([x], more={"x": (x,)}),
        lambda x: Model(content=[x]),
        lambda x: [{"deep": ({"er": [Box((x,))]},)}],
        unmapped,
        opaque,
        lambda x: allow_failure([x]),
        lambda x: unmapped(allow_failure({"x": x})),
        lambda x: allow_failure(unmapped({"x": x})),
    ],
)
def test_a_result_takes_the_place_of_its_future_wherever_it_lies(desk: Desk, around: Callable[[Any], Any]) -> None:
    (future,) = ended(desk, Completed(data=7))
    expected = around(7)
    for answer in data_both_ways(around(future)):
        resolved = answer()
        assert (resolved, type(resolved)) == (expected, type(expected))


def test_a_final_state_takes_the_place_of_its_future(desk: Desk) -> None:
    done, failed, cancelled = ended(desk, Completed(data=7), Failed(message="no"), Cancelled(name="Expired"))
    for answer in states_both_ways({"a": [done, failed], "b": allow_failure(cancelled)}):
        resolved = answer()
        assert [state.name for state in resolved["a"]] == ["Completed", "Failed"]
        assert resolved["b"].unwrap().name == "Expired"


def test_a_list_of_futures_becomes_a_plain_list(desk: Desk) -> None:
    futures = ended(desk, Completed(data=1), Completed(data=2))
    for answer in (*data_both_ways(futures), *data_both_ways([futures])):
        resolved = answer()
        assert resolved in ([1, 2], [[1, 2]])
        assert type(resolved) is list


@pytest.mark.parametrize(
    "expr",
    [
        None,
        1,
        "x",
        [],
        {"a": [1, (2,)]},
        RunFutureList(),
        Box([1]),
        Completed(data=1),
        allow_failure([Failed()]),
        quote(1),
    ],
)
def test_without_a_future_the_very_same_object_comes_back(expr: Any) -> None:
    assert all(answer() is expr for answer in (*data_both_ways(expr), *states_both_ways(expr)))


def test_states_stay_states(desk: Desk) -> None:
    (future,) = ended(desk, Completed(data=7))
    state = Failed(message="mine")
    assert resolve_futures_to_data([state, future]) == [state, 7]
    assert resolve_futures_to_data([state, future])[0] is state


def test_what_is_quoted_is_left_alone(desk: Desk) -> None:
    still_open, (future,) = desk.one(), ended(desk, Completed(data=7))
    quoted = quote([still_open])
    resolved = resolve_futures_to_data([quoted, future])
    assert (resolved[0] is quoted, resolved[1]) == (True, 7)


def test_of_an_opaque_future_the_result_is_not_looked_into(desk: Desk) -> None:
    still_open, (future,) = desk.one(), ended(desk, Completed(data=7))
    inside = opaque([still_open])
    resolved = resolve_futures_to_data([inside, opaque(future)])
    assert (resolved[0] is inside, resolved[1]) == (True, opaque(7))


def test_a_circle_stays_a_circle(desk: Desk) -> None:
    (future,) = ended(desk, Completed(data=7))
    circle: list[Any] = [future]
    circle.append(circle)
    resolved = resolve_futures_to_data(circle)
    assert (resolved[0], resolved[1] is resolved, circle[0] is future) == (7, True, True)


def test_what_lies_too_deep_is_refused_before_anything_is_waited_for(desk: Desk) -> None:
    expr: Any = desk.one()
    for _ in range(65):
        expr = [expr]
    for answer in (*data_both_ways(expr), *states_both_ways(expr)):
        with pytest.raises(LimitExceeded, match="quote"):
            answer()


def test_a_result_that_cannot_be_where_its_future_was_is_refused_with_the_place(desk: Desk) -> None:
    (future,) = ended(desk, Completed(data=[1]))
    for answer in data_both_ways({"items": [{future}]}):
        with pytest.raises(InvalidCall, match="items"):
            answer()


# --- failures ---------------------------------------------------------------------------------------------------------


def test_the_first_failure_in_time_is_raised_while_others_still_run(desk: Desk) -> None:
    slow, failing = futures = desk.submit(2)
    answers = [in_thread(answer) for answer in data_both_ways([slow, {"x": failing}])]
    desk.wait_until_heard(*futures)
    desk.end(failing, Failed(data=ValueError("x")))
    for answer in answers:
        with pytest.raises(ValueError, match=r"^x$"):
            answer()
    desk.wait_until_unheard(*futures)


FAILURES = [
    (Failed(data=ValueError("x")), ValueError),
    (Crashed(message="lost"), CrashedRun),
    (Cancelled(), CancelledRun),
    (Failed(name="TriggerFailed", data=UpstreamTaskError("upstream")), UpstreamTaskError),
]


@pytest.mark.parametrize(("state", "kind"), FAILURES, ids=lambda given: getattr(given, "name", ""))
def test_a_failure_may_take_the_place_of_its_future(desk: Desk, state: State[Any], kind: type[Exception]) -> None:
    (future,) = ended(desk, state)
    for answer in (*data_both_ways([future], False), *data_both_ways([allow_failure(future)], True)):
        (place,) = answer()
        assert type(place.unwrap() if isinstance(place, allow_failure) else place) is kind


@pytest.mark.parametrize(
    "around",
    [lambda x: allow_failure([x]), lambda x: unmapped(allow_failure(x)), lambda x: allow_failure(unmapped({"a": x}))],
)
def test_a_failure_is_allowed_at_any_depth_under_its_annotation(desk: Desk, around: Callable[[Any], Any]) -> None:
    (future,) = ended(desk, Failed(data=ValueError("x")))
    for answer in data_both_ways(around(future)):
        assert repr(answer()) == repr(around(ValueError("x")))


def test_a_failure_that_is_allowed_in_one_place_only_is_raised(desk: Desk) -> None:
    (future,) = ended(desk, Failed(data=ValueError("x")))
    for answer in data_both_ways([allow_failure(future), future]):
        with pytest.raises(ValueError, match=r"^x$"):
            answer()


def test_of_a_run_that_is_gone_the_error_is_raised_or_takes_its_place(desk: Desk) -> None:
    future = desk.one()
    desk.lose(future)
    for answer in (*data_both_ways([future]), *states_both_ways([future])):
        with pytest.raises(RunGone):
            answer()
    for answer in (*data_both_ways([future], False), *data_both_ways([allow_failure(future)])):
        assert "RunGone" in repr(answer())


def test_a_result_that_is_missing_is_an_error(desk: Desk) -> None:
    (future,) = ended(desk, Completed())
    for answer in data_both_ways([allow_failure(future)], False):
        with pytest.raises(MissingResult):
            answer()


# --- how often --------------------------------------------------------------------------------------------------------


def test_a_run_that_stands_in_many_places_is_one_object_in_all_of_them(desk: Desk) -> None:
    (future,) = ended(desk, Completed(data={"big": "x" * 1000}))
    same: list[RunFuture[Any]] = [desk.baton.future(future.run_id) for _ in range(3)]
    for answer in data_both_ways([future, {"a": same[0]}, (same[1], [same[2]])]):
        first, mapping, (third, (fourth,)) = answer()
        assert all(place is first for place in (mapping["a"], third, fourth))


def test_futures_of_several_orchestrators_are_resolved_together(desk: Desk) -> None:
    (here,) = ended(desk, Completed(data=1))
    with desk_on() as other:
        (there,) = ended(other, Completed(data=2))
        assert resolve_futures_to_data({"here": here, "there": [there]}) == {"here": 1, "there": [2]}


def test_all_are_waited_for_at_the_same_time(desk: Desk) -> None:
    futures = desk.submit(100)
    answers = [in_thread(answer) for answer in data_both_ways({"all": futures})]
    desk.wait_until_heard(*futures)
    desk.end_all(list(reversed(futures)), lambda number: Completed(data=99 - number))
    assert [answer() for answer in answers] == [{"all": list(range(100))}] * 2
