"""States in results and arguments: each comes back as it was."""

from datetime import UTC, datetime
from typing import Any

import pytest

import shared.records  # noqa: F401 - it registers what runs are made of
from shared.codec import SERIALIZERS, decode, encode
from shared.codec_types import build
from shared.errors import BadEnvelope
from shared.ids import new_id
from shared.outcomes import return_value_to_state
from shared.reporting import outcome_of
from shared.results import ResultRecordMetadata, record_of
from shared.settings import Settings
from shared.states import AwaitingRetry, Cancelled, Completed, Failed, Paused, Running, State

ID = new_id()
METADATA = ResultRecordMetadata("k", datetime(2030, 1, 1, tzinfo=UTC), "json", "1", ID)
STATES: list[State[Any]] = [
    Completed(message="done", data=record_of((1, {2}), "k", datetime(2030, 1, 1, tzinfo=UTC))),
    Completed(data=record_of(None)),
    Completed(data={"row": 1, "kind": "record"}),
    Completed(data=METADATA),
    Completed(),
    Completed(data=[Completed(data=1), Failed(data="no")]),
    AwaitingRetry(scheduled_time=datetime(2030, 1, 1, tzinfo=UTC)),
    Paused(timeout_seconds=60, pause_key="p"),
    Running(state_details={"task_run_id": ID, "seq": 3, "run_input_keyset": {"a": "b"}}),
    Cancelled(name="Expired", message="late"),
]


@pytest.mark.parametrize("serializer", SERIALIZERS)
@pytest.mark.parametrize("state", STATES, ids=range(10))
def test_a_state_comes_back_as_it_was(state: State[Any], serializer: str) -> None:
    back = decode(encode([state], serializer=serializer))[0]
    assert (back, back.id, type(back), type(back.data)) == (state, state.id, State, type(state.data))


def test_an_exception_in_a_state_comes_back_when_it_is_asked_for() -> None:
    back = decode(encode(Failed(data=KeyError("x"))))
    error = back.result(raise_on_failure=False)
    assert (type(error), error.args, back.type) == (KeyError, ("x",), "FAILED")


def test_a_run_that_returns_states_keeps_them() -> None:
    states = [Completed(data=1, state_details={"task_run_id": ID}), Failed(message="no")]
    outcome = outcome_of(return_value_to_state(states), Settings.load({}))
    assert (outcome.state_type, decode(outcome.result)) == ("FAILED", states)


ROW = Completed().orm_dict(json_compatible=True)


@pytest.mark.parametrize(
    "plain",
    [
        5,
        {},
        {"row": ROW, "data": 1},
        {"row": [], "kind": "value", "data": 1},
        {"row": {}, "kind": "value", "data": 1},
        {"row": {**ROW, "type": "DONE"}, "kind": "value", "data": 1},
        {"row": {**ROW, "timestamp": "soon"}, "kind": "value", "data": 1},
        {"row": {**ROW, "name": 5}, "kind": "value", "data": 1},
        {"row": ROW, "kind": "other", "data": 1},
        {"row": ROW, "kind": [], "data": 1},
        {"row": ROW, "kind": "record", "data": [1]},
        {"row": ROW, "kind": "record", "data": [{}, 1]},
        {"row": ROW, "kind": "reference", "data": 5},
        {"row": ROW, "kind": "reference", "data": {**METADATA.to_json(), "source": "x"}},
        {"row": ROW, "kind": "reference", "data": {**METADATA.to_json(), "odd": "x"}},
        {"row": ROW, "kind": "reference", "data": {**METADATA.to_json(), "run_id": 5}},
        {"row": ROW, "kind": "reference", "data": {**METADATA.to_json(), "expiration": "soon"}},
    ],
    ids=range(17),
)
def test_what_is_no_state_is_a_bad_envelope(plain: object) -> None:
    with pytest.raises(BadEnvelope):
        build("baton.state", plain)
