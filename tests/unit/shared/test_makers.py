from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from shared import clock
from shared import states as states_module
from shared.errors import InvalidCall, InvalidValue
from shared.states import (
    AwaitingConcurrencySlot,
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Completed,
    Crashed,
    Failed,
    Late,
    Paused,
    Pending,
    Retrying,
    Running,
    Scheduled,
    State,
    StateDetails,
    Suspended,
)

Maker = Callable[..., State[Any]]
MOMENT = clock.parse_iso("2026-11-20T09:15:00.000250Z")
NAIVE = datetime(2026, 11, 20, 9, 15)  # noqa: DTZ001 - naive on purpose
ID = "01a1ee56-5e00-7800-bfff-ffffffffffff"

FREE: dict[Maker, tuple[str, str]] = {
    Scheduled: ("SCHEDULED", "Scheduled"),
    Pending: ("PENDING", "Pending"),
    Running: ("RUNNING", "Running"),
    Completed: ("COMPLETED", "Completed"),
    Failed: ("FAILED", "Failed"),
    Crashed: ("CRASHED", "Crashed"),
    Cancelling: ("CANCELLING", "Cancelling"),
    Cancelled: ("CANCELLED", "Cancelled"),
    Paused: ("PAUSED", "Paused"),
}
NAMED: dict[Maker, tuple[str, str]] = {
    AwaitingRetry: ("SCHEDULED", "AwaitingRetry"),
    AwaitingConcurrencySlot: ("SCHEDULED", "AwaitingConcurrencySlot"),
    Late: ("SCHEDULED", "Late"),
    Retrying: ("RUNNING", "Retrying"),
    Suspended: ("PAUSED", "Suspended"),
}
ALL = FREE | NAMED
SCHEDULING: list[Maker] = [Scheduled, AwaitingRetry, AwaitingConcurrencySlot, Late]
PAUSING: list[Maker] = [Paused, Suspended]


def name_of(value: object) -> str:
    return getattr(value, "__name__", repr(value))


each_maker = pytest.mark.parametrize("maker", ALL, ids=name_of)
each_named = pytest.mark.parametrize("maker", NAMED, ids=name_of)
each_free = pytest.mark.parametrize("maker", FREE, ids=name_of)
each_scheduling = pytest.mark.parametrize("maker", SCHEDULING, ids=name_of)
each_pausing = pytest.mark.parametrize("maker", PAUSING, ids=name_of)


class Labelled(State[Any]):
    label: str = "none"


def test_there_are_fourteen_makers_and_all_are_exported() -> None:
    assert len(ALL) == 14
    assert {name_of(maker) for maker in ALL} <= set(states_module.__all__)
    assert sorted(states_module.__all__, key=lambda name: (not name.isupper() or len(name) == 1, name)) == list(
        states_module.__all__
    )


@each_maker
def test_a_maker_gives_type_name_and_time(maker: Maker) -> None:
    before, made, after = clock.now(), maker(), clock.now()
    assert (type(made), made.type, made.name) == (State, *ALL[maker])
    assert before <= made.timestamp <= after


@each_maker
def test_a_maker_takes_the_fields_of_a_state(maker: Maker) -> None:
    data = object()
    made = maker(message="m", data=data, timestamp=MOMENT, id=ID, state_details={"task_run_id": ID})
    assert (made.message, made.data, made.timestamp, made.id) == ("m", data, MOMENT, ID)
    assert made.state_details.task_run_id == ID


@each_maker
def test_a_maker_makes_states_of_a_subclass(maker: Maker) -> None:
    made = [maker(Labelled, label="x"), maker(cls=Labelled, label="x")]
    assert [(type(one), one.type, one.name, getattr(one, "label", "")) for one in made] == [
        (Labelled, *ALL[maker], "x")
    ] * 2
    assert getattr(maker(Labelled), "label", "") == "none"


@each_free
def test_a_free_name_can_be_given(maker: Maker) -> None:
    assert (maker(name="Mine").name, maker(name="").name) == ("Mine", "")


@each_named
def test_a_fixed_name_cannot_be_changed(maker: Maker) -> None:
    with pytest.raises(InvalidCall, match="'name'"):
        maker(name="Mine")


@each_maker
@pytest.mark.parametrize("cls", [State, Labelled], ids=name_of)
def test_no_maker_takes_a_type(maker: Maker, cls: type[State[Any]]) -> None:
    with pytest.raises(InvalidCall, match="'type'"):
        maker(cls, type="RUNNING")


@each_maker
def test_a_time_in_the_place_of_the_class_is_told_its_name(maker: Maker) -> None:
    with pytest.raises(InvalidCall, match="scheduled_time="):
        maker(MOMENT)


@each_maker
@pytest.mark.parametrize("cls", [None, "State", int, StateDetails, 5], ids=name_of)
def test_the_class_must_be_a_state(maker: Maker, cls: Any) -> None:
    with pytest.raises(InvalidCall, match=r"takes State or a subclass of it first, got .*: pass all else by its name"):
        maker(cls)


@each_maker
def test_unknown_fields_are_refused(maker: Maker) -> None:
    with pytest.raises(InvalidValue, match="colour: there is no such field"):
        maker(colour="red")


@each_maker
@pytest.mark.parametrize("details", [StateDetails(seq=1), {"seq": 1}], ids=["object", "mapping"])
def test_the_details_given_are_copied_and_never_change(maker: Maker, details: Any) -> None:
    made = maker(state_details=details)
    assert details == (StateDetails(seq=1) if isinstance(details, StateDetails) else {"seq": 1})
    assert made.state_details is not details
    assert made.state_details.seq == 1


@each_maker
def test_what_is_no_details_is_refused(maker: Maker) -> None:
    with pytest.raises(InvalidValue, match="state_details"):
        maker(state_details=5)


# --- scheduled --------------------------------------------------------------------------------------------------------


@each_scheduling
def test_without_a_time_it_is_due_now(maker: Maker) -> None:
    before, made, after = clock.now(), maker(), clock.now()
    due = made.state_details.scheduled_time
    assert due is not None
    assert before <= due <= after


@each_scheduling
@pytest.mark.parametrize("due", [MOMENT, MOMENT - timedelta(days=3650)], ids=["then", "past"])
def test_a_time_is_honoured_as_argument_and_in_the_details(maker: Maker, due: datetime) -> None:
    made = [
        maker(scheduled_time=due),
        maker(State, due),
        maker(state_details={"scheduled_time": due}),
        maker(state_details=StateDetails(scheduled_time=due)),
    ]
    assert [one.state_details.scheduled_time for one in made] == [due] * 4


@each_scheduling
@pytest.mark.parametrize(
    "details", [{"scheduled_time": MOMENT}, StateDetails(scheduled_time=MOMENT)], ids=["mapping", "object"]
)
def test_a_time_in_both_places_is_refused(maker: Maker, details: Any) -> None:
    with pytest.raises(InvalidValue) as caught:
        maker(scheduled_time=MOMENT, state_details=details)
    assert str(caught.value) == "An extra scheduled_time was provided in state_details"


@each_scheduling
def test_a_naive_time_to_be_due_is_refused(maker: Maker) -> None:
    with pytest.raises(InvalidValue, match="scheduled_time"):
        maker(scheduled_time=NAIVE)


@each_scheduling
def test_the_other_details_stay_beside_the_time(maker: Maker) -> None:
    details = maker(scheduled_time=MOMENT, state_details={"cache_key": "k"}).state_details
    assert details == StateDetails(cache_key="k", scheduled_time=MOMENT)


# --- paused -----------------------------------------------------------------------------------------------------------


@each_pausing
def test_a_pause_has_no_time_out_unless_asked_for(maker: Maker) -> None:
    details = maker().state_details
    assert (details.pause_timeout, details.pause_key) == (None, None)


@each_pausing
@pytest.mark.parametrize("seconds", [0, 0.5, 300])
def test_a_time_out_in_seconds_counts_from_now(maker: Maker, seconds: float) -> None:
    before, made, after = clock.now(), maker(timeout_seconds=seconds), clock.now()
    timeout = made.state_details.pause_timeout
    assert timeout is not None
    assert before <= timeout - timedelta(seconds=seconds) <= after


@each_pausing
def test_a_time_out_may_be_a_moment(maker: Maker) -> None:
    assert maker(pause_expiration_time=MOMENT).state_details.pause_timeout == MOMENT


@each_pausing
def test_two_time_outs_are_refused(maker: Maker) -> None:
    with pytest.raises(InvalidValue) as caught:
        maker(timeout_seconds=0, pause_expiration_time=MOMENT)
    assert str(caught.value) == "Cannot supply both a pause_expiration_time and timeout_seconds"


@each_pausing
@pytest.mark.parametrize(
    "asked", [{}, {"timeout_seconds": 5}, {"timeout_seconds": 5, "pause_expiration_time": MOMENT}], ids=repr
)
def test_a_time_out_in_the_details_is_refused(maker: Maker, asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue) as caught:
        maker(state_details={"pause_timeout": MOMENT}, **asked)
    assert str(caught.value) == "An extra pause timeout was provided in state_details"


@each_pausing
@pytest.mark.parametrize("seconds", [-1, -0.001, float("nan"), float("inf"), 1e30])
def test_seconds_that_are_no_time_out_are_refused(maker: Maker, seconds: float) -> None:
    with pytest.raises(InvalidValue, match="timeout_seconds"):
        maker(timeout_seconds=seconds)


@each_pausing
def test_a_naive_time_out_is_refused(maker: Maker) -> None:
    with pytest.raises(InvalidValue, match="pause_timeout"):
        maker(pause_expiration_time=NAIVE)


def test_a_pause_reschedules_if_asked_to_and_a_suspension_always() -> None:
    made = [
        Paused(),
        Paused(reschedule=True),
        Paused(state_details={"pause_reschedule": True}),
        Suspended(),
        Suspended(state_details={"pause_reschedule": False}),
    ]
    assert [one.state_details.pause_reschedule for one in made] == [False, True, True, True, True]


@each_pausing
def test_the_pause_key_comes_from_the_argument_or_else_from_the_details(maker: Maker) -> None:
    made = [
        maker(pause_key="a"),
        maker(state_details={"pause_key": "d"}),
        maker(pause_key="a", state_details={"pause_key": "d"}),
    ]
    assert [one.state_details.pause_key for one in made] == ["a", "d", "a"]
