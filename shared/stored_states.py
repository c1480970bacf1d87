"""States as data, for results and arguments that hold some: what `register_type` needs to store one. No I/O."""

from typing import Any

from shared.clock import parse_iso
from shared.errors import BadEnvelope
from shared.exceptions_as_data import describe_exception
from shared.results import UNKEPT, ResultRecord, ResultRecordMetadata
from shared.states import State

_FIELDS = frozenset({"row", "kind", "data"})


def dump_state(state: State[Any]) -> dict[str, Any]:
    """A state as plain data; an exception in it becomes a description, a reference forgets where it was bound to."""
    data = state.data
    kind, plain = "value", data
    if isinstance(data, BaseException):
        plain = describe_exception(data)
    elif isinstance(data, ResultRecord):
        kind, plain = "record", [data.metadata.to_json(), data.result]
    elif isinstance(data, ResultRecordMetadata):
        kind, plain = "reference", data.to_json()
    return {"row": state.orm_dict(json_compatible=True), "kind": kind, "data": plain}


def load_state(plain: Any) -> State[Any]:
    """The inverse of `dump_state`; its fields are checked as a constructor's are.

    Raises:
        BadEnvelope, InvalidValue: this is no state.
    """
    if not isinstance(plain, dict) or plain.keys() != _FIELDS or not isinstance(plain["row"], dict):
        raise BadEnvelope("a state that is never stored like this")
    return State.from_orm_without_result(plain["row"], _data(plain["kind"], plain["data"]))


def _data(kind: object, plain: Any) -> Any:
    match kind:
        case "value":
            return plain
        case "reference":
            return _metadata(plain)
        case "record" if isinstance(plain, list) and len(plain) == 2:  # noqa: PLR2004 - how it is kept, and the value
            return ResultRecord(_metadata(plain[0]), plain[1])
    raise BadEnvelope("data of a state that is never stored like this")


def _metadata(plain: Any) -> ResultRecordMetadata:
    is_known = isinstance(plain, dict) and plain.keys() == UNKEPT.to_json().keys()
    if not is_known or not all(value is None or isinstance(value, str) for value in plain.values()):
        raise BadEnvelope("a reference that is never stored like this")
    fields = dict(plain)
    expiration = fields.pop("expiration")
    return ResultRecordMetadata(expiration=None if expiration is None else parse_iso(expiration), **fields)
