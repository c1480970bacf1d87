"""Flows without a server: what the decorator takes, what a call gives, and what becomes of a flow and of its runs."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import Orchestrator, flow, get_run_context, tags, task
from orchestrator.client import current_orchestrator
from orchestrator.graphs import Graph
from shared.errors import FailedRun, InvalidCall, InvalidValue, ParameterBindError
from shared.runs import FlowRun
from shared.states import Completed, Failed, State

DONE = "All states completed."
ONE_FAILED = "1 of {} task runs did not complete."


@task
def double(x: float) -> float:
    return 2 * x


@task
def boom(text: str) -> None:
    raise ValueError(text)


@flow(flow_run_name="sum of {xs}", tags=["sums"])
def sum_of(xs: list[float]) -> float:
    return sum(future.result() for future in [double.submit(x) for x in xs])


@flow
def given(value: Any) -> Any:
    """Whatever it is to return: calls it, if it can be called."""
    return value() if callable(value) else value


@pytest.fixture
def baton() -> Iterator[Orchestrator]:
    with Orchestrator("memory:") as baton:
        yield baton


def ended(state: State[Any]) -> tuple[str, str | None]:
    return state.name, state.message


# --- the decorator ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"unfinished": "forget"}, InvalidValue, "'unfinished' must be 'wait', 'cancel' or 'leave', got 'forget'"),
        ({"validate_parameters": "yes"}, InvalidCall, "'validate_parameters' must be True or False, got str"),
        ({"trigger": print}, InvalidCall, "unknown option 'trigger'"),
        ({"retries": -1}, InvalidValue, "'retries' must be >= 0, got -1"),
    ],
)
def test_a_wrong_option_is_told_where_the_decorator_stands(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        flow(**options)(lambda: None)


def test_options_are_replaced_or_reset() -> None:
    changed = sum_of.with_options(unfinished="leave", retries=2, flow_run_name=None)
    assert (changed.spec.unfinished, changed.spec.retries, changed.spec.task_run_name) == ("leave", 2, None)
    assert changed.with_options(unfinished=None).spec.unfinished == "wait"
    assert (sum_of.spec.kind, sum_of.spec.unfinished, repr(sum_of)) == ("flow", "wait", f"Flow({sum_of.spec.key!r})")


@pytest.mark.usefixtures("baton")
def test_what_only_the_decorator_can_say_is_not_submitted() -> None:
    with pytest.raises(InvalidCall, match=r"^'unfinished' of the flow '.*given' is what its decorator says"):
        given.with_options(unfinished="leave").submit(1)


# --- a call -----------------------------------------------------------------------------------------------------------


def test_a_call_runs_it_here_without_a_server() -> None:
    assert given(3) == 3
    assert given(3, return_state=True).result() == 3


def test_its_state_names_it_and_is_its_value_among_the_arguments_of_another() -> None:
    first, second = given(1, return_state=True), given(2, return_state=True)
    ids = {state.state_details.flow_run_id for state in (first, second)}
    assert (len(ids - {None}), given([first, second, 3])) == (2, [1, 2, 3])


def test_a_call_of_a_coroutine_function_gives_a_coroutine() -> None:
    @flow
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x

    async def both() -> tuple[int, State[int]]:
        return await later("4"), await later(5, return_state=True)  # type: ignore[arg-type] # it is converted

    value, state = asyncio.run(both())
    assert (value, state.result()) == (4, 5)


def test_a_wrong_argument_is_told_before_there_is_a_run() -> None:
    called = []

    @flow(on_running=[lambda *_: called.append("begun")])
    def loads(days: int) -> None:
        called.append(days)

    with pytest.raises(ParameterBindError, match=r"days: Input should be a valid integer"):
        loads("many")  # type: ignore[arg-type]
    assert called == []


def test_a_flow_that_raises_is_tried_again_and_then_failed() -> None:
    tries = []

    @flow(retries=1)
    def fails() -> None:
        tries.append(get_run_context().attempt)
        raise ValueError("no")

    state = fails(return_state=True)
    assert (tries, ended(state)) == ([1, 2], ("Failed", "Flow run encountered an exception ValueError: no"))
    with pytest.raises(ValueError, match=r"^no$"):
        fails()


def test_hooks_are_called_with_flow_run_and_state() -> None:
    told = []

    @flow(flow_run_name="named {x}")
    def fails(x: int) -> None:
        raise ValueError(x)

    @fails.on_failure
    def tell(spec: Any, run: Any, state: State[Any]) -> None:
        told.append((spec.kind, type(run), run.name, state.name))

    fails(1, return_state=True)
    assert told == [("flow", FlowRun, "named 1", "Failed")]


def test_a_name_that_is_no_text_fails_the_run() -> None:
    state = given.with_options(flow_run_name=lambda: 3)(1, return_state=True)  # type: ignore[arg-type, return-value]
    assert "for 'flow_run_name' returned type int but a string is required" in str(state.message)


def test_one_that_takes_too_long_is_timed_out() -> None:
    @flow(timeout_seconds=0.05)
    async def sleeps() -> None:
        await asyncio.sleep(10)

    state = asyncio.run(sleeps(return_state=True))
    assert ended(state) == ("TimedOut", "Flow run exceeded timeout of 0.05 second(s)")


def test_a_returned_running_state_is_refused() -> None:
    state = given(lambda: State(type="RUNNING"), return_state=True)
    assert ended(state) == ("Failed", "Flow returned a RUNNING state, which only the engine may set.")


def test_a_state_made_by_hand_is_the_flows() -> None:
    assert ended(given(lambda: Completed(message="by hand"), return_state=True)) == ("Completed", "by hand")
    with pytest.raises(FailedRun, match="by hand"):
        given(lambda: Failed(message="by hand"))


# --- with runs of its own ---------------------------------------------------------------------------------------------


def test_what_it_submits_is_its_child(baton: Orchestrator) -> None:
    seen = []

    @flow
    def outer() -> float:
        inner = sum_of.submit([1, 2])
        seen.extend([get_run_context().run_id, inner.run_id])
        return inner.result(20)

    assert outer() == 6
    outer_id, inner_id = seen
    inner, (first, _) = baton.get_run(inner_id), baton.find_runs(flow=inner_id).runs
    assert (baton.get_run(outer_id).kind, inner.kind, inner.name, inner.tags) == (
        "flow",
        "flow",
        "sum of [1.0, 2.0]",
        ("sums",),
    )
    assert (inner.flow, inner.parent, first.flow, first.parent) == (outer_id, outer_id, inner_id, inner_id)
    assert (first.name, first.kind) == (f"double-{first.id[-3:]}", "task")


@pytest.mark.parametrize(
    ("body", "name", "message"),
    [
        (lambda: double.submit(1), "Completed", "All states completed."),
        (lambda: [double.submit(1), boom.submit("x")], "Failed", "1/2 states failed."),
        (lambda: [double.submit(1), boom.submit("x")][:1], "Completed", DONE + " " + ONE_FAILED.format(2)),
        (lambda: boom.submit("x") and None, "Completed", ONE_FAILED.format(1)),
        (lambda: double.submit(1) and 3, "Completed", None),
        (lambda: {double.submit(1, return_state=True)}, "Completed", "All states completed."),
    ],
    ids=["future", "list with a failure", "list beside a failure", "failure beside", "value", "set of a state"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:A 'RunFuture' from a task call was cast")
@pytest.mark.usefixtures("baton")
def test_the_final_state_is_that_of_what_is_returned(body: Any, name: str, message: str | None) -> None:
    assert ended(given(body, return_state=True)) == (name, message)


@pytest.mark.usefixtures("baton")
def test_futures_deeper_inside_become_their_final_states() -> None:
    value = given(lambda: {"a": [double.submit(1)], "b": 2})
    assert (value["a"][0].result(), value["b"]) == (2, 2)


def test_arguments_that_are_futures_are_checked_by_what_they_give(baton: Orchestrator) -> None:
    future = double.submit(2)
    assert sum_of([1, future, "3"]) == 16  # type: ignore[list-item]
    failed = boom.submit("x")
    state = sum_of.submit(failed).wait(20)  # type: ignore[arg-type]
    assert state is not None
    told = f"Upstream task run '{failed.run_id}' did not reach a 'COMPLETED' state."
    assert (baton.get_run(future.run_id).state.name, ended(state)) == ("Completed", ("TriggerFailed", told))


@pytest.mark.usefixtures("baton")
def test_a_wrong_argument_fails_a_run_that_was_submitted() -> None:
    state = sum_of.submit("no list").wait(20)  # type: ignore[arg-type]
    assert state is not None
    assert str(state.message).startswith(
        "Flow run encountered an exception ParameterBindError: Error binding parameters"
    )


@pytest.mark.usefixtures("baton")
def test_a_loop_may_wait_for_a_flow_and_for_its_runs() -> None:
    @flow
    async def sums(xs: list[int]) -> float:
        return sum([await future for future in [await double.asubmit(x) for x in xs]])

    async def all_ways() -> tuple[float, float]:
        return await sums([1, 2]), await (await sums.asubmit([3]))

    assert asyncio.run(all_ways()) == (6, 6)


# --- what else a body may submit --------------------------------------------------------------------------------------


@task
def add_up(values: list[float]) -> float:
    return sum(values)


with Graph("sums") as sums:
    add_up([double(x) for x in (1, 2, 3)])


@flow
def through_a_graph() -> tuple[str, str]:
    future = sums.submit()
    return future.run_id, future.result(20)["add_up"]


def test_the_calls_of_a_graph_in_a_flow_are_runs_each_of_its_own(baton: Orchestrator) -> None:
    future = through_a_graph.submit()
    end, total = future.result(20)
    runs = [baton.get_run(run_id) for run_id in (end, total)]
    assert [(run.parent, run.flow, run.name) for run in runs] == [
        (future.run_id, future.run_id, "sums"),
        (future.run_id, end, "add_up"),
    ]
    assert baton.future(total).result(20) == 12


@flow
def planner() -> str:
    with tags("planned"):
        return current_orchestrator().create_schedule(double, {"x": 2}, interval=86400).id


def test_what_a_schedule_submits_is_no_child_of_the_flow_that_made_it(baton: Orchestrator) -> None:
    run_id = baton.run_schedule(planner.submit().result(20))
    run = baton.get_run(run_id)
    assert (run.parent, run.flow, run.name, run.tags) == (None, None, "double", ("planned",))
    assert baton.future(run_id).result(20) == 4


def test_on_an_event_loop_a_graph_is_submitted_and_its_run_read(baton: Orchestrator) -> None:
    async def told() -> list[str]:
        future = await sums.asubmit()
        await future.aresult(20)
        run, history = await asyncio.gather(baton.aget_run(future.run_id), baton.ahistory(future.run_id))
        return [run.name, run.state.name, history[-1].name]

    assert asyncio.run(told()) == ["sums", "Completed", "Completed"]
