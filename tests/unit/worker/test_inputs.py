"""What a run takes from others, told and resolved."""

import pytest

from shared.annotations import allow_failure, opaque, quote
from shared.errors import InvalidCall, InvalidValue
from shared.ids import new_id
from shared.runs import RunInput, TaskRun
from shared.states import Completed, Failed, Running, State
from worker.inputs import inputs_of, named_inputs, resolved, upstreams_in

ONE, TWO, THREE = new_id(), new_id(), new_id()


def ended(run_id: str, value: object = None) -> State[object]:
    return Completed(data=value, state_details={"task_run_id": run_id})


def test_what_stands_for_no_other_run_is_left_as_it_is() -> None:
    own, quoted = Completed(data=1), ended(ONE)
    inputs = inputs_of({"a": [1, {"b": own}], "quoted": quote(quoted)})
    assert (inputs.parameters, inputs.sources) == ({"a": [1, {"b": own}], "quoted": quoted}, {})


def test_inputs_are_told_by_parameter() -> None:
    inputs = inputs_of({"a": [ended(ONE), ended(TWO), ended(ONE)], "b": 5}, wait_for=ended(TWO))
    named = named_inputs(inputs, {"c": {RunInput("task", THREE)}, "b": [THREE]}, "parent")
    assert named == {
        "a": (ONE, TWO),
        "wait_for": (TWO,),
        "c": (THREE,),
        "b": (THREE,),
        "__parents__": ("parent",),
    }


def test_results_take_the_places_of_their_runs() -> None:
    inputs = inputs_of({"a": [ended(ONE), {"x": ended(TWO)}]}, wait_for=[ended(THREE)])
    upstreams = upstreams_in(
        inputs.parameters, lambda _ids: {ONE: ended(ONE, 1), TWO: ended(TWO, 2), THREE: ended(THREE)}
    )
    assert [upstream.id for upstream in upstreams] == [ONE, TWO, THREE]
    assert resolved(inputs.parameters, upstreams) == {"a": [1, {"x": 2}]}


def test_a_failure_is_allowed_only_where_every_mention_of_the_run_allows_it() -> None:
    failed = Failed(state_details={"task_run_id": ONE})
    for parameters, may_fail in (
        ({"a": allow_failure(failed)}, True),
        ({"a": allow_failure(failed), "b": failed}, False),
    ):
        inputs = inputs_of(parameters)
        (upstream,) = upstreams_in(inputs.parameters, lambda _ids: {ONE: failed})
        assert upstream.allow_failure is may_fail


def test_a_runs_record_is_refused_unless_it_is_meant() -> None:
    run = TaskRun(id=ONE, task="k", name="k", queue="default", state=ended(ONE))
    with pytest.raises(InvalidCall, match=f"the record of run {ONE} is among the arguments: pass its future"):
        inputs_of({"a": [run]})
    assert inputs_of({"a": opaque(run)}).parameters == {"a": run}


def test_a_state_of_a_run_that_has_not_ended_is_refused() -> None:
    with pytest.raises(InvalidValue, match=f"of run {ONE} is not final: pass the run's future instead"):
        inputs_of({"a": [Running(state_details={"task_run_id": ONE})]})
