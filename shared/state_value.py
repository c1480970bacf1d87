"""The value that a state is: its fields and their checks, predicates, text, equality and copies. Reads no result."""

from collections.abc import Mapping
from copy import deepcopy
from datetime import datetime
from functools import cache
from typing import Annotated, Any, ClassVar, Final, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetPydanticSchema,
    StringConstraints,
    ValidationInfo,
    model_validator,
)
from pydantic_core import core_schema

from shared import clock
from shared.clock import UtcDatetime
from shared.errors import InvalidValue
from shared.ids import new_id
from shared.state_model import READ_BACK, StateBaseModel, present
from shared.state_types import TERMINAL_STATES, StateType
from shared.texts import CONTROL_CHARACTERS, MESSAGE_BYTES, shown

NAME_CHARACTERS: Final = 255


def _id_text(value: object) -> object:
    return str(value) if isinstance(value, UUID) else value


def _within_limit(message: str) -> str:
    if len(message) * 4 > MESSAGE_BYTES and len(message.encode()) > MESSAGE_BYTES:
        raise InvalidValue(f"is longer than {MESSAGE_BYTES} bytes")
    return message


_CLEAN = rf"^[^{CONTROL_CHARACTERS}]*$"
Id = Annotated[str, BeforeValidator(_id_text)]
Message = Annotated[str, StringConstraints(pattern=_CLEAN), AfterValidator(_within_limit)]
# For readers it is text. None may be given: then the name is made of the type.
Name = Annotated[
    Annotated[str, StringConstraints(max_length=NAME_CHARACTERS, pattern=_CLEAN)],
    GetPydanticSchema(lambda source, handler: core_schema.nullable_schema(handler(source))),
]
_FROM_TYPE: Any = None


class StateDetails(StateBaseModel):
    """What belongs to a state besides its message and data. Immutable; most of it is filled in by the ledger."""

    flow_run_id: Id | None = None
    task_run_id: Id | None = None
    child_flow_run_id: Id | None = None
    scheduled_time: UtcDatetime | None = None
    cache_key: str | None = None
    cache_expiration: UtcDatetime | None = None
    refresh_cache: bool | None = None
    untrackable_result: bool = False
    pause_timeout: UtcDatetime | None = None
    pause_reschedule: bool = False
    pause_key: str | None = None
    run_input_keyset: dict[str, str] | None = None
    retriable: bool | None = None
    cache_error: str | None = None
    cached_from: str | None = None
    transition_id: str | None = None
    traceparent: str | None = None
    seq: int | None = None
    attempt: int | None = None
    worker: str | None = None
    actor: str | None = None

    @classmethod
    def trusted(cls, **fields: Any) -> Self:
        """Details of values known to be right: nothing is checked or converted, at a tenth of the cost."""
        return cls.filled({**_NO_DETAILS_VALUES, **fields})

    def replaced(self, **fields: Any) -> Self:
        """A copy with other values known to be right; it shares nothing with this one."""
        keyset = self.run_input_keyset
        values = {**self.__dict__, "run_input_keyset": None if keyset is None else dict(keyset), **fields}
        return self.filled(values)


NO_DETAILS: Final = StateDetails()
_NO_DETAILS_VALUES: Final = dict(NO_DETAILS.__dict__)


class StateValue(StateBaseModel):
    """All of a state but its result: immutable, compared by every field but `id`."""

    id: Id = Field(default_factory=new_id)
    type: StateType
    name: Name = _FROM_TYPE
    timestamp: UtcDatetime = Field(default_factory=clock.now)
    message: Message | None = None
    data: Any = None
    state_details: StateDetails = NO_DETAILS

    check_fields: ClassVar[Mapping[str, frozenset[str]]] = {
        "default_name_from_type": frozenset({"type", "name"}),
        "default_scheduled_start_time": frozenset({"type", "state_details"}),
    }

    @model_validator(mode="after")
    def default_name_from_type(self) -> Self:
        """Without a name a state is called after its type."""
        if self.__dict__["name"] is None:
            self.__dict__["name"] = name_of(self.type)
        return self

    @model_validator(mode="after")
    def default_scheduled_start_time(self, info: ValidationInfo) -> Self:
        """A scheduled state without a time is due now; one that is read back stays without."""
        details = self.state_details
        if self.type is StateType.SCHEDULED and details.scheduled_time is None and info.context is not READ_BACK:
            self.__dict__["state_details"] = details.replaced(scheduled_time=clock.now())
        return self

    @classmethod
    def trusted(
        cls,
        type: StateType,  # noqa: A002 - the name of the field
        name: str,
        timestamp: datetime,
        message: str | None = None,
        *,
        data: Any = None,
        state_details: StateDetails = NO_DETAILS,
        id: str | None = None,  # noqa: A002 - the name of the field
    ) -> Self:
        """A state of values known to be right: nothing is checked, converted or made up, at a third of the cost.

        `timestamp` must be a time of `shared.clock`.
        """
        return cls.filled(
            {
                "id": id or new_id(),
                "type": type,
                "name": name,
                "timestamp": timestamp,
                "message": message,
                "data": data,
                "state_details": state_details,
            }
        )

    @classmethod
    def from_orm_without_result(cls, row: Mapping[str, Any] | object, with_data: Any = None) -> Self:
        """The state that a history row, a run's hash or an `orm_dict` tells of, with `with_data` as data.

        Each field is read by key or attribute. `time` counts as `timestamp`; in a run's hash, where `name` is the
        run's, the state's own fields begin with `state_`. Details may stand among the fields; `due` is the scheduled
        time, of a paused state its time-out. What is missing has its default; what is unknown and the row's data are
        ignored.

        Raises:
            InvalidValue: a field of the row is bad, or its type is missing.
        """
        own = _own_fields(cls)
        found = present(row, _ROW_NAMES | own if own else _ROW_NAMES)
        prefix = "state_" if "state_type" in found else ""
        values = {name: found[prefix + name] for name in ("type", "name", "message") if prefix + name in found}
        values.update((name, found[name]) for name in own if name in found)
        if (moment := found.get(prefix + "time", found.get("timestamp"))) is not None:
            values["timestamp"] = moment
        if "id" in found and not prefix:  # in a run's hash it would be the run's
            values["id"] = found["id"]
        values["state_details"] = _details_of_row(found, values.get("type"))
        return cls.read_back(values, with_data)

    def is_scheduled(self) -> bool:
        """True for type SCHEDULED: it waits for a time or a slot."""
        return self.type is StateType.SCHEDULED

    def is_pending(self) -> bool:
        """True for type PENDING: it waits in a queue or for other runs."""
        return self.type is StateType.PENDING

    def is_running(self) -> bool:
        """True for type RUNNING."""
        return self.type is StateType.RUNNING

    def is_completed(self) -> bool:
        """True for type COMPLETED."""
        return self.type is StateType.COMPLETED

    def is_failed(self) -> bool:
        """True for type FAILED: the function raised, or could not be called."""
        return self.type is StateType.FAILED

    def is_crashed(self) -> bool:
        """True for type CRASHED: the process was interrupted or lost."""
        return self.type is StateType.CRASHED

    def is_cancelled(self) -> bool:
        """True for type CANCELLED."""
        return self.type is StateType.CANCELLED

    def is_cancelling(self) -> bool:
        """True for type CANCELLING: asked to end, not ended yet."""
        return self.type is StateType.CANCELLING

    def is_paused(self) -> bool:
        """True for type PAUSED."""
        return self.type is StateType.PAUSED

    def is_final(self) -> bool:
        """True if no other state follows: completed, failed, crashed or cancelled."""
        return self.type in TERMINAL_STATES

    def __repr__(self) -> str:
        return f"{self.name}(message={self.message!r}, type={self.type.value}, result={shown(self.data)})"

    def __str__(self) -> str:
        parts = [repr(self.message)] if self.message else []
        if self.name.lower() != self.type.value.lower():
            parts.append(f"type={self.type.value}")
        return f"{self.name}({', '.join(parts)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StateValue):
            return NotImplemented
        mine, theirs = self.__dict__, other.__dict__
        # The cheap and telling fields first: data may be large.
        if self.timestamp != other.timestamp or self.type is not other.type or mine.keys() != theirs.keys():
            return False
        return all(value is theirs[name] or value == theirs[name] for name, value in mine.items() if name != "id")

    def __hash__(self) -> int:
        details = self.state_details
        return hash((details.flow_run_id, details.task_run_id, self.timestamp, self.type))

    def copy(  # type: ignore[override] # pydantic's own, of the same name, is deprecated
        self, *, update: Mapping[str, Any] | None = None, reset_fields: bool = False
    ) -> Self:
        """A copy with the same id, a fresh timestamp, details of its own and the same data object.

        Args:
            update: other values of fields, checked like a constructor's arguments. With another type the name is made
                anew unless it is given, and what was scheduled loses its time.
            reset_fields: give the copy an id of its own.

        Raises:
            InvalidValue: a field of `update` is bad or unknown.
        """
        values = {**self.__dict__, "timestamp": clock.now(), "state_details": self.state_details.replaced()}
        if reset_fields:
            values["id"] = new_id()
        if not update:
            return self.filled(values)
        retyped = update.get("type", self.type) != self.type
        if retyped:
            del values["name"]
        if retyped and self.is_scheduled():
            values["state_details"] = self.state_details.replaced(scheduled_time=None)
        values.update(update)
        if retyped or "state_details" in update:
            return self.model_validate(values)
        return self.model_validate(values, context=READ_BACK)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """The same as `copy`; `deep` copies the data too."""
        copied = self.copy(update=update)
        return self.filled({**copied.__dict__, "data": deepcopy(copied.data)}) if deep else copied

    def fresh_copy(self, *, update: Mapping[str, Any] | None = None) -> Self:
        """Like `copy`, with an id of its own."""
        return self.copy(update=update, reset_fields=True)


_DETAIL_NAMES = frozenset(StateDetails.model_fields)
_ROW_NAMES = _DETAIL_NAMES | {
    *("id", "type", "name", "message", "time", "timestamp", "state_details", "due"),
    *("state_type", "state_name", "state_message", "state_time"),
}
_MEANING_OF_DUE: Mapping[object, str] = {
    StateType.SCHEDULED: "scheduled_time",
    StateType.PENDING: "scheduled_time",
    StateType.PAUSED: "pause_timeout",
}


@cache
def _own_fields(cls: type[StateValue]) -> frozenset[str]:
    """The fields that a user's subclass adds."""
    return frozenset(cls.model_fields.keys() - StateValue.model_fields.keys())


def _details_of_row(found: Mapping[str, Any], type_text: object) -> StateDetails:
    """The row's details, then those that stand among its fields, then its due time."""
    details = present(found["state_details"], _DETAIL_NAMES) if "state_details" in found else {}
    details.update((name, found[name]) for name in _DETAIL_NAMES & found.keys())
    if (due := found.get("due")) and (meaning := _MEANING_OF_DUE.get(str(type_text))):
        details[meaning] = due
    return StateDetails.read_back(details) if details else NO_DETAILS


def name_of(kind: StateType) -> str:
    """The name that a state has by its type: the type's words, capitalised."""
    return " ".join(word.capitalize() for word in kind.value.split("_"))
