from typing import Any

import pytest

from shared.annotations import quote
from shared.errors import (
    InvalidValue,
)
from shared.outcomes import (
    StateGroup,
    is_state_iterable,
)
from shared.states import (
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Paused,
    Running,
    State,
    StateType,
)


def test_a_group_counts_its_states() -> None:
    states = [Running(), Completed(), Failed(), Crashed(), Cancelled(), Paused(), Completed()]
    group = StateGroup(states)
    assert group.states is states
    assert (group.total_count, group.final_count, group.not_final_count) == (7, 5, 2)
    assert (group.cancelled_count, group.paused_count, group.fail_count) == (1, 1, 2)
    assert list(group.type_counts.items()) == [
        (StateType.RUNNING, 1),
        (StateType.COMPLETED, 2),
        (StateType.FAILED, 1),
        (StateType.CANCELLED, 1),
        (StateType.CRASHED, 1),
        (StateType.PAUSED, 1),
    ]


@pytest.mark.parametrize(
    ("states", "answers"),
    [
        ([Completed()], (True, True, False, False, False)),
        ([Completed(), Failed()], (False, True, False, True, False)),
        ([Crashed()], (False, True, False, True, False)),
        ([Cancelled()], (False, True, True, False, False)),
        ([Paused(), Completed()], (False, False, False, False, True)),
        ([Running()], (False, False, False, False, False)),
    ],
)
def test_a_group_answers_questions(states: list[State[Any]], answers: tuple[bool, ...]) -> None:
    group = StateGroup(states)
    questions = (group.all_completed, group.all_final, group.any_cancelled, group.any_failed, group.any_paused)
    assert tuple(ask() for ask in questions) == answers


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ([Failed(), Completed(), Running()], "total=3, not_final=1, 'RUNNING'=1, 'COMPLETED'=1, 'FAILED'=1"),
        ([Failed(), Completed()], "total=2, 'COMPLETED'=1, 'FAILED'=1"),
        ([Paused(), Paused()], "total=2, not_final=2, 'PAUSED'=2"),
    ],
)
def test_a_group_tells_its_counts(states: list[State[Any]], message: str) -> None:
    group = StateGroup(states)
    assert (group.counts_message(), repr(group)) == (message, f"StateGroup<{message}>")


def test_an_empty_group_is_refused() -> None:
    with pytest.raises(InvalidValue, match="at least one"):
        StateGroup([])


@pytest.mark.parametrize(
    "value",
    [[Completed()], (Completed(), Failed()), {Completed()}, type("Items", (list,), {})([Completed()])],
    ids=lambda value: type(value).__name__,
)
def test_lists_tuples_and_sets_of_states_are_state_iterables(value: object) -> None:
    assert is_state_iterable(value) is True


@pytest.mark.parametrize(
    "value",
    [
        None,
        Completed(),
        [],
        (),
        set(),
        [Completed(), 5],
        {"a": Completed()},
        {Completed(): 1},
        frozenset({Completed()}),
        (state for state in [Completed()]),
        quote([Completed()]),
        [quote(Completed())],
        "text",
    ],
    ids=lambda value: type(value).__name__,
)
def test_nothing_else_is_a_state_iterable(value: object) -> None:
    assert is_state_iterable(value) is False
