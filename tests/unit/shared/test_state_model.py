import json
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretBytes, SecretStr, ValidationInfo, field_validator, model_validator

from shared import clock
from shared.errors import InvalidCall, InvalidValue
from shared.ids import is_id
from shared.results import ResultRecord, ResultRecordMetadata, ResultSource, record_of
from shared.state_model import StateBaseModel
from shared.states import Completed, Failed, Paused, Running, Scheduled, State, StateCreate, StateDetails, StateType

MOMENT = clock.parse_iso("2026-11-20T09:15:00.000250Z")
DUE = clock.parse_iso("2026-11-21T00:00:00.000000Z")
ID = "01a1ee56-5e00-7800-bfff-ffffffffffff"

moments = st.integers(min_value=0, max_value=4 * 10**15).map(
    lambda number: clock.EPOCH + timedelta(microseconds=number)
)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=20)
details = st.builds(
    StateDetails,
    flow_run_id=st.none() | st.uuids(),
    task_run_id=st.none() | st.uuids(),
    scheduled_time=st.none() | moments,
    cache_key=st.none() | texts,
    refresh_cache=st.none() | st.booleans(),
    untrackable_result=st.booleans(),
    pause_timeout=st.none() | moments,
    pause_reschedule=st.booleans(),
    run_input_keyset=st.none() | st.dictionaries(texts, texts, max_size=3),
    retriable=st.none() | st.booleans(),
    seq=st.none() | st.integers(min_value=1, max_value=2**53),
    worker=st.none() | texts,
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
states: st.SearchStrategy[State[Any]] = st.builds(
    State,
    type=st.sampled_from(StateType),
    name=texts,
    timestamp=moments,
    message=st.none() | texts,
    data=json_values,
    state_details=details,
)


def read(row: object, with_data: Any = None) -> State[Any]:
    return State.from_orm_without_result(row, with_data)


# --- rows -------------------------------------------------------------------------------------------------------------


@given(states)
def test_a_state_survives_the_way_through_its_row(made: State[Any]) -> None:
    for row in (made.orm_dict(), made.orm_dict(shallow=True), made.orm_dict(json_compatible=True)):
        again = read(row, made.data)
        assert (again, again.id) == (made, made.id)


@given(states)
def test_a_json_compatible_row_survives_json(made: State[Any]) -> None:
    row = json.loads(json.dumps(made.orm_dict(json_compatible=True)))
    assert read(row, made.data) == made


def test_a_row_holds_every_field_but_the_data() -> None:
    made = Failed(timestamp=MOMENT, id=ID, data=[1], state_details={"seq": 1})
    row = made.orm_dict()
    assert list(row) == ["id", "type", "name", "timestamp", "message", "state_details"]
    assert row["state_details"] == made.state_details.model_dump()
    assert (row["type"], row["timestamp"]) == (StateType.FAILED, MOMENT)


def test_a_shallow_row_leaves_the_details_an_object() -> None:
    made = Running()
    row = made.orm_dict(shallow=True)
    assert row["state_details"] is made.state_details
    assert "data" not in row


def test_a_json_compatible_row_holds_times_as_iso_text() -> None:
    row = Scheduled(timestamp=MOMENT, scheduled_time=DUE).orm_dict(json_compatible=True)
    times = (row["timestamp"], row["state_details"]["scheduled_time"])
    assert times == ("2026-11-20T09:15:00.000250Z", "2026-11-21T00:00:00.000000Z")
    assert (type(row["type"]), row["type"]) == (str, "SCHEDULED")


def test_a_row_cannot_be_shallow_and_json_compatible() -> None:
    with pytest.raises(InvalidValue):
        Running().orm_dict(shallow=True, json_compatible=True)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"type": "DONE"}'])
def test_text_that_is_no_state_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="State: "):
        State.model_validate_json(text)


def test_details_have_a_row_of_their_own() -> None:
    made = StateDetails(seq=3, scheduled_time=MOMENT)
    assert StateDetails.from_orm_without_result(made.orm_dict(json_compatible=True)) == made


class Noted(StateBaseModel):
    label: str = "none"
    data: Any = None


def test_any_model_ignores_the_data_of_a_row() -> None:
    row = {"label": "x", "data": "of the row", "colour": "red"}
    assert Noted.from_orm_without_result(row) == Noted(label="x")
    assert Noted.from_orm_without_result(row, 5) == Noted(label="x", data=5)


HISTORY_ROW = {
    "seq": 3,
    "type": "FAILED",
    "name": "TimedOut",
    "time": "2026-11-20T09:15:00.000250Z",
    "message": "m",
    "attempt": 2,
    "worker": "w1",
    "actor": "attempt",
}
FROM_HISTORY = {
    "type": "FAILED",
    "name": "TimedOut",
    "timestamp": MOMENT,
    "message": "m",
    "state_details": {"seq": 3, "attempt": 2, "worker": "w1", "actor": "attempt"},
}


@pytest.mark.parametrize("row", [HISTORY_ROW, SimpleNamespace(**HISTORY_ROW)], ids=["keys", "attributes"])
def test_a_history_row_is_read_by_key_or_attribute(row: object) -> None:
    assert read(row) == State.model_validate(FROM_HISTORY)


def test_the_hash_of_a_run_is_read_by_the_fields_of_its_state() -> None:
    row = {
        "id": "the run's",
        "name": "the run's",
        "status": "failed",
        "state_type": "FAILED",
        "state_name": "TimedOut",
        "state_message": "m",
        "state_time": "2026-11-20T09:15:00.000250Z",
        "seq": "3",
        "attempt": "2",
    }
    made = read(row)
    assert made == State.model_validate({**FROM_HISTORY, "state_details": {"seq": 3, "attempt": 2}})
    assert is_id(made.id)


def test_what_a_row_lacks_has_its_default_and_what_is_unknown_is_ignored() -> None:
    before, made, after = (
        clock.now(),
        read({"type": "RUNNING", "colour": "red", "state_details": {"lease": "x"}}),
        clock.now(),
    )
    assert (made.name, made.message, made.data, made.state_details) == ("Running", None, None, StateDetails())
    assert before <= made.timestamp <= after
    assert is_id(made.id)


@pytest.mark.parametrize("row", [{}, {"type": None}, {"type": "DONE"}, {"type": "FAILED", "time": "yesterday"}, 5])
def test_a_row_without_a_type_or_with_a_bad_field_is_refused(row: object) -> None:
    with pytest.raises(InvalidValue, match=r"type|timestamp"):
        read(row)


def test_data_in_a_row_is_ignored_and_the_given_data_taken() -> None:
    data = [1]
    assert read({"type": "COMPLETED", "data": "of the row"}).data is None
    assert read({"type": "COMPLETED", "data": "of the row"}, data).data is data


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("SCHEDULED", StateDetails(scheduled_time=DUE)),
        ("PENDING", StateDetails(scheduled_time=DUE)),
        ("PAUSED", StateDetails(pause_timeout=DUE)),
        ("RUNNING", StateDetails()),
    ],
)
def test_the_due_time_of_a_row_is_what_its_type_makes_of_it(kind: str, expected: StateDetails) -> None:
    assert read({"type": kind, "due": clock.iso(DUE)}).state_details == expected


def test_a_row_of_a_scheduled_state_without_a_due_time_invents_none() -> None:
    assert read({"type": "SCHEDULED"}).state_details.scheduled_time is None


def test_details_stand_in_the_row_or_in_a_part_of_it_and_the_row_wins() -> None:
    row = {"type": "RUNNING", "seq": 2, "state_details": {"seq": 1, "task_run_id": ID}}
    assert read(row).state_details == StateDetails(seq=2, task_run_id=ID)
    row["state_details"] = StateDetails(seq=1, task_run_id=ID)
    assert read(row).state_details == StateDetails(seq=2, task_run_id=ID)


class Labelled(State[Any]):
    label: str = "none"


def test_a_subclass_reads_its_own_fields_from_a_row() -> None:
    made = Labelled(type=StateType.RUNNING, label="x")
    again: Labelled = Labelled.from_orm_without_result(made.orm_dict())
    assert (again, again.label) == (made, "x")


# --- JSON -------------------------------------------------------------------------------------------------------------


@given(states)
def test_a_state_survives_the_way_through_json(made: State[Any]) -> None:
    again: State[Any] = State.model_validate_json(made.json())
    assert (again, again.id) == (made, made.id)


def test_json_shows_every_field_in_order() -> None:
    made = Failed(timestamp=DUE, id=ID, message="m", data={"a": [1]})
    shown = json.loads(made.json())
    assert list(shown) == ["id", "type", "name", "timestamp", "message", "data", "state_details"]
    assert (shown["timestamp"], shown["data"]) == ("2026-11-21T00:00:00.000000Z", {"a": [1]})


def test_fields_can_be_chosen_and_the_text_laid_out() -> None:
    assert Completed(data="ä").json(include=["data"], ensure_ascii=False) == '{"data": "ä"}'
    made = Completed(data=1)
    assert made.json(include=["data", "name"], indent=1) == '{\n "name": "Completed",\n "data": 1\n}'
    assert made.json(include=["data", "name"], exclude=["data"]) == '{"name": "Completed"}'
    assert made.json(include=["data", "name"], sort_keys=True, separators=(",", ":")) == '{"data":1,"name":"Completed"}'


@dataclass
class Plain:
    value: int


@pytest.mark.parametrize(
    "data",
    [ValueError("x"), object(), {1, 2}, b"x", Plain(1), MOMENT, float("nan"), {(1, 2): 3}],
    ids=lambda data: type(data).__name__,
)
def test_data_that_json_cannot_show_is_refused_by_its_type(data: object) -> None:
    with pytest.raises(TypeError, match=f"data of type {type(data).__name__} is not JSON-compatible"):
        Completed(data=data).json()


def test_data_that_contains_itself_is_refused() -> None:
    data: list[Any] = []
    data.append(data)
    with pytest.raises(InvalidCall, match="data of type list"):
        Completed(data=data).json()


def test_what_is_wrong_deep_in_the_data_is_named_too() -> None:
    with pytest.raises(InvalidCall, match="data of type dict is not JSON-compatible: JSON has no set"):
        Completed(data={"a": [{1}]}).json()


def test_an_encoder_shows_what_json_cannot() -> None:
    assert json.loads(Completed(data=[{1}]).json(encoder=sorted))["data"] == [[1]]


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(InvalidCall, match="json has no option colour"):
        Running().json(colour="red")


class Credentials(StateBaseModel):
    user: str
    account: UUID = UUID(ID)
    password: SecretStr
    key: SecretBytes


@pytest.mark.parametrize(
    ("value", "hidden", "revealed"),
    [
        (
            Credentials(user="u", password=SecretStr("pass"), key=SecretBytes(b"key")),
            {"user": "u", "account": ID, "password": "**********", "key": "**********"},
            {"user": "u", "account": ID, "password": "pass", "key": "key"},
        ),
        (
            Completed(data={"token": SecretStr("t"), "keys": [SecretBytes(b"k\xff")]}),
            {"data": {"token": "**********", "keys": ["**********"]}},
            {"data": {"token": "t", "keys": ["k\N{REPLACEMENT CHARACTER}"]}},
        ),
    ],
    ids=["fields", "data"],
)
def test_secrets_are_hidden_unless_asked_for(
    value: StateBaseModel, hidden: dict[str, Any], revealed: dict[str, Any]
) -> None:
    assert json.loads(value.json(include=hidden)) == hidden
    assert json.loads(value.json(include=revealed, include_secrets=True)) == revealed


def test_secrets_and_an_encoder_cannot_be_asked_for_together() -> None:
    with pytest.raises(InvalidValue) as caught:
        Running().json(include_secrets=True, encoder=str)
    assert str(caught.value) == "Alternative encoder provided; can not set encoder for SecretFields."


def test_of_a_record_only_the_metadata_is_shown() -> None:
    metadata = {
        "storage_key": "k",
        "expiration": "2026-11-20T09:15:00.000250Z",
        "serializer": "msgpack",
        "baton_version": ResultRecordMetadata().baton_version,
        "run_id": None,
    }
    record = record_of({1, 2}, "k", MOMENT)
    for data in (record, record.metadata):
        assert json.loads(Completed(data=data).json())["data"] == metadata


# --- models with fewer fields -----------------------------------------------------------------------------------------


def test_a_subclass_has_just_the_fields_asked_for() -> None:
    small = State.subclass("Small", include_fields=["type", "name", "message"], exclude_fields=["message"])
    assert (small.__name__, list(small.model_fields), issubclass(small, StateBaseModel)) == (
        "Small",
        ["type", "name"],
        True,
    )


def test_a_subclass_is_called_like_its_model_unless_named_and_may_leave_fields_out() -> None:
    small = State.subclass(exclude_fields=["state_details", "data"])
    assert (small.__name__, list(small.model_fields)) == ("State", ["id", "type", "name", "timestamp", "message"])


def test_a_subclass_keeps_the_checks_that_it_has_the_fields_for() -> None:
    made: Any = State.subclass(exclude_fields=["state_details"])(type="SCHEDULED")
    assert (made.name, is_id(made.id)) == ("Scheduled", True)
    timed: Any = State.subclass(include_fields=["type", "state_details"])(type="SCHEDULED")
    assert timed.state_details.scheduled_time is not None


def test_a_subclass_leaves_out_the_checks_that_need_a_field_left_out() -> None:
    nameless: Any = State.subclass(include_fields=["name"])()
    assert nameless.name is None


@pytest.mark.parametrize(
    "fields", [{"type": "DONE"}, {"type": "FAILED", "name": "\x00"}, {"type": "FAILED", "data": 1}]
)
def test_a_subclass_refuses_bad_fields_as_its_model_does(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match="Small: "):
        State.subclass("Small", include_fields=["type", "name"])(**fields)


class Checked(StateBaseModel):
    low: int
    high: int
    label: str = ""

    @field_validator("low")
    @classmethod
    def is_positive(cls, value: int) -> int:
        if value < 0:
            raise InvalidValue("is negative")
        return value

    @model_validator(mode="after")
    def is_ordered(self, _info: ValidationInfo) -> "Checked":
        if self.low > self.high:
            raise InvalidValue("is out of order")
        return self


def test_checks_of_ones_own_are_kept_where_their_fields_are() -> None:
    with pytest.raises(InvalidValue, match="low: is negative"):
        Checked.subclass(include_fields=["low"])(low=-1)
    with pytest.raises(InvalidValue, match="the value: is out of order"):
        Checked.subclass()(low=2, high=1)
    assert Checked.subclass(include_fields=["high"])(high=-1).model_dump() == {"high": -1}
    assert Checked.subclass(exclude_fields=["label"])(low=2, high=1).model_dump() == {"low": 2, "high": 1}


@pytest.mark.parametrize("asked", [{"include_fields": ["colour"]}, {"exclude_fields": ["colour"]}])
def test_a_field_that_does_not_exist_is_refused_and_the_known_ones_listed(asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue) as caught:
        StateDetails.subclass(**asked)
    assert "colour" in str(caught.value)
    assert [name for name in StateDetails.model_fields if name not in str(caught.value)] == []


# --- what a proposal carries ------------------------------------------------------------------------------------------


def record_nowhere() -> ResultRecord[Any]:
    raise AssertionError


async def arecord_nowhere() -> ResultRecord[Any]:
    raise AssertionError


REFERENCE = ResultRecordMetadata(storage_key="k")
STORED = REFERENCE.bound_to(ResultSource(record_nowhere, arecord_nowhere))


@pytest.mark.parametrize(
    ("data", "carried"),
    [
        (None, None),
        (5, None),
        ({"storage_key": "k"}, None),
        (ValueError("x"), None),
        (ResultRecord(REFERENCE, 5), None),
        (ResultRecord(STORED, 5), STORED),
        (REFERENCE, REFERENCE),
        (STORED, STORED),
    ],
    ids=["nothing", "value", "dict", "exception", "record", "stored record", "reference", "bound reference"],
)
def test_a_proposal_carries_no_value_but_the_reference_of_a_stored_one(data: object, carried: object) -> None:
    made = Paused(name="Held", message="m", data=data, pause_key="p")
    assert made.to_state_create() == StateCreate(StateType.PAUSED, "Held", "m", made.state_details, carried)  # type: ignore[arg-type] # of the table
