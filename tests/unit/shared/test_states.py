import copy
import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from shared import clock
from shared.errors import InvalidCall, InvalidValue, PausedRun, UnfinishedRun
from shared.ids import is_id
from shared.state_value import name_of
from shared.states import (
    TERMINAL_STATES,
    AutoEnum,
    Completed,
    Failed,
    Running,
    Scheduled,
    State,
    StateDetails,
    StateType,
)

MOMENT = clock.parse_iso("2026-11-20T09:15:00.000250Z")
LATER = clock.parse_iso("2026-11-20T10:00:00.000000Z")
ID = "01a1ee56-5e00-7800-bfff-ffffffffffff"
NAMES = ["SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "CRASHED", "PAUSED", "CANCELLING"]
each_type = pytest.mark.parametrize("kind", list(StateType), ids=str)


def state(**fields: Any) -> State[Any]:
    """A state of fields that a type checker would not let pass."""
    return State(**fields)


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError


# --- types ------------------------------------------------------------------------------------------------------------


def test_there_are_nine_types_in_this_order_whose_values_are_their_names() -> None:
    assert [(kind.name, kind.value) for kind in StateType] == [(name, name) for name in NAMES]


@each_type
def test_a_type_shows_as_its_bare_value_and_equals_its_text(kind: StateType) -> None:
    text: Any = kind.value
    assert (str(kind), f"{kind}", f"{kind:>10}", repr(kind)) == (text, text, text.rjust(10), f"StateType.{text}")
    assert (kind == text, hash(kind), {kind: 1}[text]) == (True, hash(text), 1)


def test_members_can_be_declared_without_a_second_import() -> None:
    class Mode(AutoEnum):
        LAZY = AutoEnum.auto()
        EAGER = AutoEnum.auto()

    assert [(mode.value, repr(mode)) for mode in Mode] == [("LAZY", "Mode.LAZY"), ("EAGER", "Mode.EAGER")]


def test_four_types_are_terminal() -> None:
    assert isinstance(TERMINAL_STATES, frozenset)
    assert sorted(TERMINAL_STATES) == ["CANCELLED", "COMPLETED", "CRASHED", "FAILED"]


# --- making one, and what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("given", [{}, {"name": None}], ids=["missing", "None"])
def test_without_a_name_a_state_is_called_after_its_type(name: str, given: dict[str, Any]) -> None:
    assert state(type=name, **given).name == name.capitalize()


def test_a_type_of_several_words_would_give_a_name_of_several_words() -> None:
    class Kind(AutoEnum):
        LONG_GONE = AutoEnum.auto()

    kind: Any = Kind.LONG_GONE
    assert name_of(kind) == "Long Gone"


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=255))
def test_a_given_name_is_kept_even_if_empty(name: str) -> None:
    assert state(type="RUNNING", name=name).name == name


def test_a_state_needs_no_more_than_its_type() -> None:
    before, made, after = clock.now(), state(type="PENDING"), clock.now()
    assert (made.type, made.message, made.data, made.state_details) == (StateType.PENDING, None, None, StateDetails())
    assert before <= made.timestamp <= after
    assert is_id(made.id)
    assert made.id != state(type="PENDING").id


def test_an_unknown_type_is_refused_and_the_nine_are_listed() -> None:
    with pytest.raises(InvalidValue) as caught:
        state(type="DONE")
    assert [name for name in NAMES if name not in str(caught.value)] == []


@pytest.mark.parametrize("error", [InvalidValue, ValueError])
def test_a_missing_type_is_refused_too(error: type[Exception]) -> None:
    with pytest.raises(error, match="State: type: Field required"):
        state()


def test_one_error_names_every_bad_field() -> None:
    with pytest.raises(InvalidValue) as caught:
        state(
            type="DONE",
            name="n" * 256,
            timestamp=datetime(2026, 11, 20),  # noqa: DTZ001 - naive on purpose
            message="\x1b[31m",
            colour="red",
            state_details={"seq": "first", "lease": "x", "scheduled_time": "2026-11-20T09:15:00"},
        )
    told = [part.split(":")[0] for part in str(caught.value).removeprefix("State: ").split("; ")]
    assert sorted(told) == [
        "colour",
        "message",
        "name",
        "state_details.lease",
        "state_details.scheduled_time",
        "state_details.seq",
        "timestamp",
        "type",
    ]


@pytest.mark.parametrize("text", ["a\x00", "a\x1b[0m", "a\r", "a\x7f", "a\x85", "a\x9f", "a\ud800"], ids=ascii)
@pytest.mark.parametrize("field", ["name", "message"])
def test_control_characters_are_refused(field: str, text: str) -> None:
    with pytest.raises(InvalidValue, match=field):
        state(type="RUNNING", **{field: text})


def test_control_characters_are_called_so() -> None:
    with pytest.raises(InvalidValue, match="State: message: holds control characters other than newline and tab"):
        state(type="FAILED", message="\x1b[31m")


@pytest.mark.parametrize("field", ["name", "message"])
def test_newline_and_tab_are_allowed(field: str) -> None:
    assert getattr(state(type="RUNNING", **{field: "a\n\tb\n"}), field) == "a\n\tb\n"


@pytest.mark.parametrize("letter", ["a", "ä", "😀"])
def test_a_message_holds_four_kilobytes(letter: str) -> None:
    full = letter * (4096 // len(letter.encode()))
    assert state(type="FAILED", message=full).message == full
    with pytest.raises(InvalidValue, match="message: is longer than 4096 bytes"):
        state(type="FAILED", message=full + "a")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (MOMENT, MOMENT),
        ("2026-11-20T11:15:00.000250+02:00", MOMENT),
        (MOMENT.astimezone(timezone(timedelta(hours=-5))), MOMENT),
    ],
)
def test_every_time_is_kept_as_utc(given: Any, kept: datetime) -> None:
    made = state(type="RUNNING", timestamp=given).timestamp
    assert (made, made.tzinfo, type(made)) == (kept, pendulum.UTC, pendulum.DateTime)


@pytest.mark.parametrize("given", [datetime(2026, 11, 20), "2026-11-20T09:15:00"])  # noqa: DTZ001 - naive on purpose
def test_a_naive_time_is_refused(given: Any) -> None:
    with pytest.raises(InvalidValue, match="timestamp"):
        state(type="RUNNING", timestamp=given)


def test_a_uuid_object_is_kept_as_text() -> None:
    made = state(type="RUNNING", id=UUID(ID), state_details={"task_run_id": UUID(ID), "flow_run_id": ID})
    assert (made.id, made.state_details.task_run_id, made.state_details.flow_run_id) == (ID, ID, ID)


@pytest.mark.parametrize("wrong", [5, None, object()], ids=lambda value: type(value).__name__)
def test_an_id_is_a_text(wrong: object) -> None:
    with pytest.raises(InvalidValue, match="State: id: "):
        state(type="RUNNING", id=wrong)


def test_a_scheduled_state_made_directly_is_due_now() -> None:
    before, made, after = clock.now(), state(type="SCHEDULED"), clock.now()
    due = made.state_details.scheduled_time
    assert due is not None
    assert before <= due <= after


def test_only_a_scheduled_state_is_given_a_time() -> None:
    assert [state(type=name).state_details.scheduled_time for name in NAMES if name != "SCHEDULED"] == [None] * 8


@pytest.mark.parametrize(
    "data", [{"storage_key": "k", "expiration": None}, {"type": "FAILED"}, [Completed()], ValueError("x"), object()]
)
def test_data_is_neither_interpreted_nor_copied(data: object) -> None:
    assert Completed(data=data).data is data
    assert state(type="COMPLETED", data=data).data is data


@pytest.mark.parametrize("value", [Running(), StateDetails()], ids=["state", "details"])
def test_a_field_can_be_neither_assigned_nor_deleted(value: Any) -> None:
    before = value.model_dump()
    for name in type(value).model_fields:
        with pytest.raises(InvalidCall, match=f"{name} cannot be assigned"):
            setattr(value, name, None)
        with pytest.raises(InvalidCall, match=f"{name} cannot be deleted"):
            delattr(value, name)
    with pytest.raises(TypeError):
        value.new = 1
    assert value.model_dump() == before


def test_details_refuse_names_that_they_do_not_know() -> None:
    with pytest.raises(InvalidValue, match="StateDetails: lease_id: there is no such field"):
        StateDetails.model_validate({"lease_id": "x"})


def test_details_are_empty_unless_filled() -> None:
    told = {name: value for name, value in StateDetails() if value is not None}
    assert told == {"untrackable_result": False, "pause_reschedule": False}


def test_a_parameter_changes_nothing_at_runtime() -> None:
    made = State[int](type=StateType.COMPLETED, data=1)
    assert (type(made), State[int]) == (State, State)
    assert made == State(**made.__dict__)


def test_a_state_fits_into_a_model_of_the_user() -> None:
    class Report(BaseModel):
        last: State[int]

    made = Completed(data=1)
    assert Report(last=made).last is made
    assert Report.model_validate({"last": {"type": "FAILED"}}).last.is_failed()


# --- the trusted way --------------------------------------------------------------------------------------------------


def trusted_and_validated() -> tuple[State[Any], State[Any]]:
    details = StateDetails.trusted(task_run_id=ID, seq=3)
    trusted: State[Any] = State.trusted(
        StateType.FAILED, "Broken", MOMENT, "m", data={"a": 1}, state_details=details, id=ID
    )
    validated = state(
        id=ID,
        type="FAILED",
        name="Broken",
        timestamp=MOMENT,
        message="m",
        data={"a": 1},
        state_details={"task_run_id": ID, "seq": 3},
    )
    return trusted, validated


@pytest.mark.parametrize(
    "look",
    [
        lambda made: made,
        hash,
        repr,
        str,
        lambda made: made.model_dump(),
        lambda made: made.model_dump(mode="json"),
        lambda made: made.model_fields_set,
        lambda made: made.model_extra,
        lambda made: made.json(),
        lambda made: made.orm_dict(),
        lambda made: made.copy(update={"timestamp": LATER}).model_dump(),
        copy.copy,
        copy.deepcopy,
        lambda made: pickle.loads(pickle.dumps(made)),  # noqa: S301 - our own bytes
        lambda made: pickle.loads(pickle.dumps(made)).id,  # noqa: S301 - our own bytes
        dict,
    ],
)
def test_a_trusted_state_cannot_be_told_from_a_validated_one(look: Any) -> None:
    trusted, validated = trusted_and_validated()
    assert look(trusted) == look(validated)


def test_a_trusted_state_is_as_immutable_as_any_other() -> None:
    trusted, _ = trusted_and_validated()
    with pytest.raises(InvalidCall):
        trusted.name = "other"


def test_trusted_states_have_ids_of_their_own() -> None:
    made: list[State[Any]] = [State.trusted(StateType.RUNNING, "Running", MOMENT) for _ in range(2)]
    assert made[0] == made[1]
    assert made[0].id != made[1].id
    assert is_id(made[0].id)


def test_trusted_details_equal_validated_ones() -> None:
    fields: dict[str, Any] = {"scheduled_time": MOMENT, "retriable": False, "run_input_keyset": {"a": "b"}}
    trusted, validated = StateDetails.trusted(**fields), StateDetails(**fields)
    assert (trusted, trusted.model_dump(), repr(trusted)) == (validated, validated.model_dump(), repr(validated))


# --- predicates -------------------------------------------------------------------------------------------------------

ANSWERS = {
    "is_scheduled": {"SCHEDULED"},
    "is_pending": {"PENDING"},
    "is_running": {"RUNNING"},
    "is_completed": {"COMPLETED"},
    "is_failed": {"FAILED"},
    "is_crashed": {"CRASHED"},
    "is_cancelled": {"CANCELLED"},
    "is_cancelling": {"CANCELLING"},
    "is_paused": {"PAUSED"},
    "is_final": {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"},
}


@pytest.mark.parametrize("question", ANSWERS)
@each_type
def test_a_predicate_reads_the_type_alone(kind: StateType, question: str) -> None:
    answers = [getattr(State(type=kind, name=name), question)() for name in ("Completed", "Failed", "")]
    assert answers == [kind in ANSWERS[question]] * 3


LABELS = {
    StateType.SCHEDULED: ("Scheduled", "AwaitingRetry", "AwaitingConcurrencySlot", "Late", "Resuming"),
    StateType.PENDING: ("Pending", "Submitted"),
    StateType.RUNNING: ("Running", "Retrying", "Rerunning"),
    StateType.COMPLETED: ("Completed", "Cached", "Skipped", "Mapped"),
    StateType.FAILED: ("Failed", "TimedOut", "TriggerFailed", "UnknownTask", "ValidationFailed", "ClientFailed"),
    StateType.CRASHED: ("Crashed",),
    StateType.CANCELLED: ("Cancelled", "Expired"),
    StateType.CANCELLING: ("Cancelling",),
    StateType.PAUSED: ("Paused", "Suspended"),
}
"""The names that Baton itself gives, the one made of the type first."""
labels = st.sampled_from([name for names in LABELS.values() for name in names])


def answers(made: State[Any]) -> dict[str, Any]:
    """What a state says of itself but for its name."""
    told: dict[str, Any] = {question: getattr(made, question)() for question in ANSWERS}
    try:
        return {**told, "result": made.result(raise_on_failure=False)}
    except (PausedRun, UnfinishedRun) as error:
        return {**told, "error": repr(error)}


@given(st.sampled_from(StateType), labels | st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=255))
def test_whatever_it_is_called_a_state_says_the_same(kind: StateType, name: str) -> None:
    plain, named = state(type=kind, data=5), state(type=kind, name=name, data=5)
    assert (answers(named), plain.name) == (answers(plain), LABELS[kind][0])


@given(st.sampled_from(StateType), labels)
def test_the_text_names_the_type_where_the_name_is_not_the_types_own(kind: StateType, name: str) -> None:
    assert str(State(type=kind, name=name)) == (f"{name}()" if name == LABELS[kind][0] else f"{name}(type={kind})")


# --- text, equality, hash ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (Failed(message="m"), "Failed(message='m', type=FAILED, result=None)"),
        (Completed(name="Cached", data=[1]), "Cached(message=None, type=COMPLETED, result=[1])"),
        (
            Completed(data=Unprintable()),
            "Completed(message=None, type=COMPLETED, result=<unprintable Unprintable>)",
        ),
        (Completed(data="x" * 300), f"Completed(message=None, type=COMPLETED, result='{'x' * 199}...)"),
    ],
)
def test_the_repr_tells_name_message_type_and_result(made: State[Any], text: str) -> None:
    assert repr(made) == text


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (Completed(message="m"), "Completed('m')"),
        (Scheduled(name="AwaitingRetry", message="m"), "AwaitingRetry('m', type=SCHEDULED)"),
        (Completed(name="Cached"), "Cached(type=COMPLETED)"),
        (state(type="PENDING"), "Pending()"),
        (state(type="PENDING", name="pENDING"), "pENDING()"),
        (state(type="PENDING", message=""), "Pending()"),
    ],
)
def test_the_text_is_the_name_with_what_it_does_not_tell(made: State[Any], text: str) -> None:
    assert str(made) == text


def test_equal_are_states_whose_fields_but_the_id_are_equal() -> None:
    fields: dict[str, Any] = {
        "type": "FAILED",
        "name": "n",
        "timestamp": MOMENT,
        "message": "m",
        "data": [1],
        "state_details": {"seq": 1},
    }
    others = {
        "type": "CRASHED",
        "name": "o",
        "timestamp": MOMENT + timedelta(microseconds=1),
        "message": None,
        "data": [2],
        "state_details": {"seq": 2},
    }
    one = state(**fields)
    assert one == state(**fields)
    assert [one == state(**{**fields, name: other}) for name, other in others.items()] == [False] * len(others)


def test_a_state_equals_no_other_kind_of_thing() -> None:
    made: Any = Running()
    assert made != "RUNNING"
    assert made != made.__dict__
    assert made.__eq__(1) is NotImplemented


def test_a_state_is_equal_to_itself_whatever_its_data() -> None:
    made = Completed(data=float("nan"))
    assert made == made.copy(update={"timestamp": made.timestamp})


def test_equal_states_are_one_in_sets_and_keys() -> None:
    one = state(type="RUNNING", timestamp=MOMENT)
    other = state(type="RUNNING", timestamp=MOMENT)
    assert (len({one, other}), {one: "x"}[other], hash(one)) == (1, "x", hash(other))


def test_the_hash_reads_run_ids_time_and_type() -> None:
    made = state(type="FAILED", timestamp=MOMENT, data=[], state_details={"flow_run_id": "f", "task_run_id": "t"})
    assert hash(made) == hash(("f", "t", MOMENT, StateType.FAILED))


# --- copies -----------------------------------------------------------------------------------------------------------


def an_old_state(**fields: Any) -> State[Any]:
    return state(**{"type": "RUNNING", "timestamp": MOMENT, "data": [1], "id": ID, **fields})


@pytest.mark.parametrize("name", ["copy", "model_copy"])
def test_a_copy_keeps_the_id_and_has_a_new_time(name: str) -> None:
    old = an_old_state(state_details={"run_input_keyset": {"a": "b"}})
    before, made, after = clock.now(), getattr(old, name)(), clock.now()
    assert (made.id, made.data is old.data, made.state_details) == (ID, True, old.state_details)
    assert before <= made.timestamp <= after
    assert made == state(**{**old.__dict__, "timestamp": made.timestamp})


def test_copies_share_no_details() -> None:
    old = an_old_state(state_details={"run_input_keyset": {"a": "b"}})
    for made in (old.copy(), old.model_copy(), old.fresh_copy(), old.copy(update={"message": "m"})):
        assert made.state_details is not old.state_details
        keyset = made.state_details.run_input_keyset
        assert keyset is not None
        keyset["a"] = "changed"
        assert old.state_details.run_input_keyset == {"a": "b"}


@pytest.mark.parametrize("name", ["copy", "model_copy", "fresh_copy"])
def test_a_given_time_is_respected_in_a_copy(name: str) -> None:
    made = getattr(an_old_state(), name)(update={"timestamp": LATER.astimezone(timezone(timedelta(hours=1)))})
    assert (made.timestamp, made.timestamp.tzinfo) == (LATER, pendulum.UTC)


def test_reset_fields_and_fresh_copy_give_new_ids() -> None:
    old = an_old_state()
    made = [old.copy(reset_fields=True).id, old.fresh_copy().id, old.fresh_copy(update={"message": "m"}).id, ID]
    assert len(set(made)) == 4
    assert all(map(is_id, made))


@pytest.mark.parametrize("name", ["copy", "model_copy", "fresh_copy"])
@pytest.mark.parametrize(
    "update",
    [{"colour": "red"}, {"type": "DONE"}, {"message": "\x00"}, {"timestamp": datetime(2026, 1, 1)}],  # noqa: DTZ001 - naive on purpose
)
def test_an_update_is_checked_like_arguments(name: str, update: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match=next(iter(update))):
        getattr(an_old_state(), name)(update=update)


def test_another_type_gives_another_name_unless_one_is_given() -> None:
    old = an_old_state(name="Retrying")
    assert old.copy(update={"type": "COMPLETED"}).name == "Completed"
    assert old.copy(update={"type": StateType.COMPLETED, "name": "Cached"}).name == "Cached"
    assert old.copy(update={"type": "RUNNING"}).name == "Retrying"
    assert old.copy(update={"message": "m"}).name == "Retrying"


def test_what_is_no_longer_scheduled_loses_its_time() -> None:
    old = Scheduled(scheduled_time=MOMENT)
    assert old.copy(update={"type": "PENDING"}).state_details.scheduled_time is None
    assert old.copy(update={"message": "m"}).state_details.scheduled_time == MOMENT
    kept = {"type": "PENDING", "state_details": {"scheduled_time": LATER}}
    assert old.copy(update=kept).state_details.scheduled_time == LATER


def test_what_becomes_scheduled_is_given_a_time() -> None:
    assert an_old_state().copy(update={"type": "SCHEDULED"}).state_details.scheduled_time is not None


def test_a_scheduled_state_given_other_details_without_a_time_is_due_now() -> None:
    made = Scheduled(scheduled_time=MOMENT).copy(update={"state_details": {"seq": 1}})
    assert made.state_details.seq == 1
    assert made.state_details.scheduled_time not in (None, MOMENT)


def test_a_scheduled_state_read_without_a_time_is_copied_without_one() -> None:
    read: State[Any] = State.from_orm_without_result({"type": "SCHEDULED"})
    copies = (read.copy(), read.fresh_copy(), read.copy(update={"message": "m"}))
    assert [made.state_details.scheduled_time for made in copies] == [None] * 3


def test_a_deep_model_copy_copies_the_data_too() -> None:
    old = an_old_state()
    made = old.model_copy(deep=True)
    assert made.data == old.data
    assert made.data is not old.data


class Labelled(State[Any]):
    label: str = "none"


def test_a_subclass_is_copied_as_itself_with_its_own_fields() -> None:
    old = Labelled(type=StateType.RUNNING, label="x")
    copies = (old.copy(), old.copy(update={"message": "m"}), old.fresh_copy())
    assert [(type(made), made.label) for made in copies] == [(Labelled, "x")] * 3
    assert old != State(**{name: value for name, value in old if name != "label"})
    assert old != old.copy(update={"label": "y", "timestamp": old.timestamp})


@given(st.sampled_from(StateType), st.sampled_from(StateType))
def test_no_copy_has_the_name_of_another_type(before: StateType, after: StateType) -> None:
    assert State(type=before).copy(update={"type": after}).name == State(type=after).name


def test_copies_by_the_standard_library_are_exact() -> None:
    old = an_old_state()
    for made in (copy.copy(old), copy.deepcopy(old), pickle.loads(pickle.dumps(old))):  # noqa: S301 - our own bytes
        assert (made, made.id, type(made)) == (old, ID, State)


def test_now_in_another_zone_is_still_now() -> None:
    assert abs(state(type="RUNNING").timestamp - datetime.now(UTC)) < timedelta(minutes=1)
