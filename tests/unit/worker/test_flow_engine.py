"""The steps of a flow's run: what is asked for between what its body returned and the state that is proposed."""

from collections.abc import Callable
from typing import Any

import pytest

from shared.specs import describe_flow
from shared.states import Completed, Failed, Running, State
from tests.support.engines import engine_of
from worker.engine.steps import Call, Gather, Gathered, Propose, Step, Steps


def body(n: int = 1) -> int:
    """Not called by these tests."""
    return n


def called(**options: Any) -> Steps:
    """The steps of a flow's run, as far as the call of its body."""
    steps = engine_of(describe_flow(body, **options)).steps()
    assert isinstance(next(steps), Propose)
    assert isinstance(steps.send(Running()), Call)
    return steps


def proposed(step: Step) -> State[Any]:
    assert isinstance(step, Propose)
    return step.state


@pytest.mark.parametrize("unfinished", ["wait", "cancel", "leave"])
def test_once_the_body_has_returned_its_runs_are_seen_to(unfinished: str) -> None:
    assert called(unfinished=unfinished).send(3) == Gather(3, unfinished)


@pytest.mark.parametrize(
    ("gathered", "message"),
    [
        (Gathered(3), None),
        (Gathered(3, 5, 0), None),
        (Gathered(3, 5, 2), "2 of 5 task runs did not complete."),
        (Gathered([Completed()], 5, 2), "All states completed. 2 of 5 task runs did not complete."),
        (Gathered(Completed(message="by hand"), 5, 2), "by hand"),
        (Gathered([Completed(), Failed()], 2, 1), "1/2 states failed."),
    ],
    ids=["no runs", "all completed", "some did not", "beside those returned", "a state by hand", "a failure"],
)
def test_the_state_says_how_many_of_its_runs_did_not_complete(gathered: Gathered, message: str | None) -> None:
    steps = called()
    steps.send(gathered.value)
    assert proposed(steps.send(gathered)).message == message


def interrupted(steps: Steps) -> Step:
    steps.send(3)
    return steps.throw(KeyboardInterrupt())


@pytest.mark.parametrize(
    ("strike", "name"),
    [(lambda steps: steps.throw(ValueError("no")), "Failed"), (interrupted, "Crashed")],
    ids=["in the body", "while it waits for its runs"],
)
def test_what_is_raised_is_its_outcome(strike: Callable[[Steps], Step], name: str) -> None:
    assert proposed(strike(called())).name == name


def test_a_wrong_argument_ends_it_before_its_body() -> None:
    steps = engine_of(describe_flow(body), n="many").steps()
    state = proposed(next(steps))
    assert (state.name, str(state.message).splitlines()[0]) == (
        "Failed",
        "Flow run encountered an exception ParameterBindError: Error binding parameters for function 'body':",
    )
