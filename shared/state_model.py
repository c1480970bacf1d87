"""The base of State and StateDetails: frozen fields, errors that name every bad field, the row form and the JSON form.

Knows neither types of states nor runs.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import partial
from inspect import getattr_static
from typing import Any, ClassVar, Final, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    SecretBytes,
    SecretStr,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import to_jsonable_python

from shared import clock
from shared.errors import InvalidCall, InvalidValue
from shared.results import ResultRecord, ResultRecordMetadata

HIDDEN: Final = "**********"
READ_BACK: Final = {"read_back": True}
"""Validation context of what was a state before: nothing that it lacks is made up."""

_TEXT_OPTIONS = frozenset({"indent", "sort_keys", "ensure_ascii", "separators"})
# What a model consists of, set without `__setattr__`, which refuses.
_set_dict, _set_fields_set, _set_extra, _set_private = (
    vars(BaseModel)[slot].__set__
    for slot in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)


class StateBaseModel(BaseModel):
    """A frozen model. Assigning to a field is an InvalidCall, a bad or unknown field an InvalidValue."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check_fields: ClassVar[Mapping[str, frozenset[str]]] = {}
    """The fields that each check over several fields reads, for `subclass`."""

    def __init__(self, /, **fields: Any) -> None:
        try:
            self.__pydantic_validator__.validate_python(fields, self_instance=self)
        except ValidationError as error:
            raise _refusal(type(self), error) from None

    # With this mark pydantic treats the method as its own. Without it, validating a mapping calls it from within the
    # validator, where its InvalidValue would become one field's ValidationError and the context would be lost.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """The model made of a mapping, or `obj` itself if it is one. `options` are pydantic's.

        Raises:
            InvalidValue: a field is bad or unknown.
        """
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            raise _refusal(cls, error) from None

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """The model made of JSON text, the inverse of `json`. `options` are pydantic's.

        Raises:
            InvalidValue: no JSON, or a field is bad or unknown.
        """
        try:
            return super().model_validate_json(json_data, **options)
        except ValidationError as error:
            raise _refusal(cls, error) from None

    @classmethod
    def filled(cls, values: dict[str, Any]) -> Self:
        """An instance with these values, which must be complete and right: nothing is checked, the dict is kept."""
        self = object.__new__(cls)
        _set_dict(self, values)
        _set_fields_set(self, set(values))
        _set_extra(self, None)
        _set_private(self, None)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self).__name__
        raise InvalidCall(f"{kind}.{name} cannot be assigned: a {kind} is immutable, make a changed copy of it")

    def __delattr__(self, name: str) -> None:
        kind = type(self).__name__
        raise InvalidCall(f"{kind}.{name} cannot be deleted: a {kind} is immutable, make a changed copy of it")

    def orm_dict(self, *, shallow: bool = False, json_compatible: bool = False) -> dict[str, Any]:
        """The row form: every field except `data`.

        Args:
            shallow: leave models inside as they are, instead of turning them into dicts.
            json_compatible: give JSON types only; times become ISO text.

        Raises:
            InvalidValue: both were asked for.
        """
        if shallow and json_compatible:
            raise InvalidValue("a shallow row holds objects, which are no JSON: choose 'shallow' or 'json_compatible'")
        if shallow:
            return {name: getattr(self, name) for name in type(self).model_fields if name != "data"}
        return self.model_dump(mode="json" if json_compatible else "python", exclude={"data"})

    @classmethod
    def from_orm_without_result(cls, row: Mapping[str, Any] | object, with_data: Any = None) -> Self:
        """The inverse of `orm_dict`: what the row has by key or attribute, defaults for the rest, `with_data` as data.

        What the row has besides is ignored, its data too.

        Raises:
            InvalidValue: a field of the row is bad, or one without a default is missing.
        """
        return cls.read_back(present(row, cls.model_fields.keys() - {"data"}), with_data)

    @classmethod
    def read_back(cls, values: dict[str, Any], with_data: Any = None) -> Self:
        """The model made of stored values, in which nothing is made up that they lack."""
        if with_data is not None:
            values["data"] = with_data
        return cls.model_validate(values, context=READ_BACK)

    def json(  # type: ignore[override] # pydantic's own, of the same name, is deprecated
        self,
        *,
        include_secrets: bool = False,
        include: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        encoder: Callable[[Any], Any] | None = None,
        **options: Any,
    ) -> str:
        """JSON text. Of a record only the metadata is shown.

        Args:
            include_secrets: show what SecretStr and SecretBytes hold, instead of asterisks.
            include: names of the fields to show; all unless given.
            exclude: names of fields to leave out.
            encoder: called with what JSON does not know inside of `data`; returns what to show instead.
            options: of `json.dumps`: indent, sort_keys, ensure_ascii, separators.

        Raises:
            InvalidCall: `data` is not JSON-compatible, or an unknown option.
            InvalidValue: both secrets and an encoder were asked for.
        """
        if include_secrets and encoder is not None:
            raise InvalidValue("Alternative encoder provided; can not set encoder for SecretFields.")
        if unknown := options.keys() - _TEXT_OPTIONS:
            raise InvalidCall(f"json has no option {', '.join(sorted(unknown))}")
        kept = type(self).model_fields.keys() if include is None else set(include)
        names = [name for name in type(self).model_fields if name in kept and name not in set(exclude)]
        fields = self.model_dump(include=set(names) - {"data"})
        plain = {name: fields[name] if name in fields else self._json_data(include_secrets, encoder) for name in names}
        return json.dumps(plain, default=partial(_plain_field, include_secrets), **options)

    def _json_data(self, include_secrets: bool, encoder: Callable[[Any], Any] | None) -> Any:
        data = getattr(self, "data", None)
        try:
            return json.loads(json.dumps(data, default=partial(_plain_data, include_secrets, encoder), allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidCall(f"data of type {type(data).__name__} is not JSON-compatible: {error}") from error

    @classmethod
    def subclass(
        cls,
        name: str | None = None,
        include_fields: Iterable[str] | None = None,
        exclude_fields: Iterable[str] | None = None,
    ) -> "type[StateBaseModel]":
        """A model with just those fields, named like this one unless `name` is given.

        Checks that need a field left out are left out too.

        Raises:
            InvalidValue: there is no field of such a name.
        """
        known = cls.model_fields
        included = set(known) if include_fields is None else set(include_fields)
        excluded = set(exclude_fields or ())
        if unknown := (included | excluded) - known.keys():
            raise InvalidValue(
                f"{cls.__name__} has no field {', '.join(sorted(unknown))}; its fields are {', '.join(known)}"
            )
        kept = [field for field in known if field in included - excluded]
        definitions: dict[str, Any] = {field: (known[field].annotation, known[field]) for field in kept}
        return create_model(
            name or cls.__name__, __base__=StateBaseModel, __validators__=cls._checks_within(set(kept)), **definitions
        )

    @classmethod
    def _checks_within(cls, kept: set[str]) -> dict[str, Any]:
        """Those of the class's checks that read none but these fields."""
        decorators, checks = cls.__pydantic_decorators__, dict[str, Any]()
        over_fields: Any = model_validator  # its overloads know a mode as a literal only
        for name, of_fields in decorators.field_validators.items():
            fields, mode = of_fields.info.fields, of_fields.info.mode
            if kept.issuperset(fields):
                checks[name] = field_validator(*fields, mode=mode)(getattr_static(cls, name))
        for name, of_model in decorators.model_validators.items():
            if kept.issuperset(cls.check_fields.get(name, cls.model_fields)):
                checks[name] = over_fields(mode=of_model.info.mode)(getattr_static(cls, name))
        return checks


def present(row: Mapping[str, Any] | object, names: AbstractSet[str]) -> dict[str, Any]:
    """Those of these keys or attributes that the row has with another value than None."""
    if isinstance(row, Mapping):
        return {name: value for name in row.keys() & names if (value := row[name]) is not None}
    return {name: value for name in names if (value := getattr(row, name, None)) is not None}


def _refusal(kind: type[BaseModel], error: ValidationError) -> InvalidValue:
    """One error that names every bad field."""
    return InvalidValue(f"{kind.__name__}: " + "; ".join(_complaint(one) for one in error.errors(include_url=False)))


def _complaint(one: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in one["loc"]) or "the value"
    match one["type"]:
        case "value_error":
            return f"{place}: {one['ctx']['error']}"
        case "extra_forbidden":
            return f"{place}: there is no such field"
        case "string_pattern_mismatch":
            return f"{place}: holds control characters other than newline and tab"
    return f"{place}: {one['msg']}"


def _plain_field(include_secrets: bool, value: Any) -> Any:
    if isinstance(value, datetime):
        return clock.iso(value)
    if isinstance(value, SecretStr | SecretBytes):
        return _plain_secret(include_secrets, value)
    return to_jsonable_python(value)


def _plain_data(include_secrets: bool, encoder: Callable[[Any], Any] | None, value: Any) -> Any:
    if isinstance(value, SecretStr | SecretBytes):
        return _plain_secret(include_secrets, value)
    if isinstance(value, ResultRecord):
        return value.metadata.to_json()
    if isinstance(value, ResultRecordMetadata):
        return value.to_json()
    if encoder is not None:
        return encoder(value)
    raise TypeError(f"JSON has no {type(value).__name__}")


def _plain_secret(include_secrets: bool, value: SecretStr | SecretBytes) -> str:
    if not include_secrets:
        return HIDDEN
    secret = value.get_secret_value()
    return secret if isinstance(secret, str) else secret.decode(errors="replace")
