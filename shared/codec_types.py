"""Which values besides JSON's can be sent or stored, and the plain form of each. Bytes and limits are codec.py's.

- Scalars (datetime, date, time, timedelta, UUID, Decimal, NaN, infinities) become an ext value: `to_ext`, `from_ext`.
- Classes become their registered name and plain data: `register_type`, `kind_of`, `build`.
"""

# A class is found by the name that this process registered; nothing is imported because of stored data.
# A dataclass, model or member comes back from its fields as they were: no constructor, no validator, no property runs.
# Only the `load` hooks given to `register_type` are called while decoding, and they are called with hostile data too.

import dataclasses
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag
from functools import cache, cached_property, partial, reduce
from operator import attrgetter, or_
from struct import error as StructError  # noqa: N812 - it is a class
from struct import pack, unpack, unpack_from
from types import CoroutineType, FunctionType, GeneratorType
from typing import Any, TypeVar, overload
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

import pendulum
from msgpack import ExtType
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from shared.errors import BadEnvelope, BatonError, InvalidCall

T = TypeVar("T")
Hook = Callable[[Any], object] | None

_UNSET, _EXTRA = " unset", " extra"  # begin with a space, which no field's name can
_ORIGIN = datetime(1970, 1, 1)  # noqa: DTZ001 - wall times are counted from it, their offset is kept beside them
_MICROSECOND = timedelta(microseconds=1)


class UnsendableError(Exception):
    """A value was refused. Never leaves the codec, which raises `error` with the path that grew while unwinding."""

    def __init__(self, text: str, error: type[BatonError] = InvalidCall, *, located: bool = True) -> None:
        super().__init__(text)
        self.text = text
        self.error = error
        self.located = located
        self.steps: list[str] = []


# ---- scalars


def _read_float(payload: bytes) -> float:
    if payload not in (b"nan", b"inf", b"-inf"):
        raise ValueError
    return float(payload)


def _datetime_payload(value: datetime) -> bytes:
    offset = value.utcoffset()
    if offset is None:
        raise UnsendableError("a naive datetime: give it a time zone, for example datetime.now(UTC)")
    zone = value.tzinfo.key if isinstance(value.tzinfo, ZoneInfo) else None
    moment = value.replace(tzinfo=None) - _ORIGIN - offset
    return pack(">qqB", moment // _MICROSECOND, offset // _MICROSECOND, value.fold) + (zone or "").encode()


def _read_datetime(payload: bytes) -> datetime:
    moment, offset, fold = unpack_from(">qqB", payload)
    wall = (_ORIGIN + timedelta(microseconds=moment + offset)).replace(fold=fold)
    fixed = timezone(timedelta(microseconds=offset))
    name = payload[17:].decode()
    if name and name in _zone_names():
        local = wall.replace(tzinfo=ZoneInfo(name))
        # Where this machine's rules for the zone differ from the writer's, moment and offset win over the name.
        if local.utcoffset() == fixed.utcoffset(None):
            return local
    return wall.replace(tzinfo=fixed)


@cache
def _zone_names() -> frozenset[str]:
    # ZoneInfo turns a name into a path and, through the package tzdata, into an import: it may only see known names.
    return frozenset(available_timezones())


def _time_payload(value: time) -> bytes:
    if value.tzinfo is not None and type(value.tzinfo) is not timezone:
        raise UnsendableError("a time of day in a zone: send a datetime, or the time and the name of the zone")
    micros = ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond
    offset = value.utcoffset()
    return pack(">qB", micros, value.fold) + (b"" if offset is None else pack(">q", offset // _MICROSECOND))


def _read_time(payload: bytes) -> time:
    micros, fold = unpack(">qB", payload[:9])
    moment = _ORIGIN + timedelta(microseconds=micros)
    if moment.date() != _ORIGIN.date():
        raise ValueError
    offset = payload[9:]
    zone = timezone(timedelta(microseconds=unpack(">q", offset)[0])) if offset else None
    return moment.time().replace(fold=fold, tzinfo=zone)


def _decimal_payload(value: Decimal) -> bytes:
    # str() writes "e" where the caller's decimal context asks for it; the stored form must not depend on that.
    return str(value).replace("e", "E").encode()


def _read_decimal(payload: bytes) -> Decimal:
    value = Decimal(payload.decode("ascii"))
    # A context that does not trap InvalidOperation makes NaN of anything.
    if _decimal_payload(value) != payload:
        raise ValueError
    return value


_SCALARS: tuple[tuple[int, type, Callable[[Any], bytes], Callable[[bytes], object]], ...] = (
    (1, float, lambda value: repr(value).encode(), _read_float),
    (2, datetime, _datetime_payload, _read_datetime),
    (3, date, lambda day: pack(">I", day.toordinal()), lambda payload: date.fromordinal(*unpack(">I", payload))),
    (4, time, _time_payload, _read_time),
    (
        5,
        timedelta,
        lambda span: pack(">iii", span.days, span.seconds, span.microseconds),
        lambda payload: timedelta(*unpack(">iii", payload)),
    ),
    (6, UUID, attrgetter("bytes"), lambda payload: UUID(bytes=payload)),
    (7, Decimal, _decimal_payload, _read_decimal),
)
_WRITERS = {cls: (code, write) for code, cls, write, _ in _SCALARS}
_READERS = {code: (cls, read) for code, cls, _, read in _SCALARS}
SCALAR_TYPES = frozenset(_WRITERS)


def to_ext(value: object) -> ExtType:
    """The ext value of a value whose type, exactly, is in SCALAR_TYPES.

    Raises:
        UnsendableError: a naive datetime, or a time of day in a zone.
    """
    code, write = _WRITERS[type(value)]
    return ExtType(code, write(value))


def from_ext(ext: ExtType) -> object:
    """The inverse of `to_ext`.

    Raises:
        BadEnvelope: an unknown code, or a payload that means nothing.
    """
    code, payload = ext
    if code not in _READERS:
        raise BadEnvelope(f"unknown ext code {code}")
    cls, read = _READERS[code]
    try:
        return read(payload)
    except (ValueError, ArithmeticError, StructError) as error:
        raise BadEnvelope(f"no {cls.__name__}: {payload[:40].hex()}") from error


# ---- classes


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """How values of one class are stored: `dump` gives data, `load` takes it, `canonical` gives what is digested."""

    cls: type
    name: str
    dump: Callable[[Any], object]
    load: Callable[[Any], object]
    canonical: Callable[[Any], object]
    subclasses: bool = False


_BY_CLASS: dict[type, Kind] = {}
_BY_NAME: dict[str, Kind] = {}
_REFUSED: dict[type, str] = {
    GeneratorType: "a generator: make a list of it",
    CoroutineType: "a coroutine: await it first",
    FunctionType: "a function: send a name that the reader can look up",
    bytearray: "a bytearray: convert it with bytes(...)",
}


@overload
def register_type(
    cls: type[T], name: str | None = None, *, dump: Hook = None, load: Hook = None, subclasses: bool = False
) -> type[T]: ...


@overload
def register_type(
    cls: None = None, name: str | None = None, *, dump: Hook = None, load: Hook = None, subclasses: bool = False
) -> Callable[[type[T]], type[T]]: ...


def register_type(
    cls: type[Any] | None = None,
    name: str | None = None,
    *,
    dump: Hook = None,
    load: Hook = None,
    subclasses: bool = False,
) -> Any:
    """Let values of this class be sent and stored, here and in every process that reads them; also a decorator.

    Dataclasses, pydantic models and enums need nothing else: their fields (or the member's name) are stored and put
    back as they were, without calling the constructor. A model's private attributes travel too. Other classes give
    `dump`, which makes supported data of a value, and `load`, which must refuse what it does not expect.
    `name` is what is stored, by default `module.QualName`: name a class that is defined in a script, since `__main__`
    differs between processes. A class registered under several names is written under the last, and read under all.
    With `subclasses`, values of subclasses are taken as well, and come back as whatever `load` makes.

    Raises:
        InvalidCall: not such a class, one hook without the other, or a name that another class has.
    """
    if cls is None:
        return partial(register_type, name=name, dump=dump, load=load, subclasses=subclasses)
    stored = f"{cls.__module__}.{cls.__qualname__}" if name is None else name
    old = _BY_NAME.get(stored)
    if old is not None and (old.cls.__module__, old.cls.__qualname__) != (cls.__module__, cls.__qualname__):
        raise InvalidCall(f"{stored!r} is the registered name of {old.cls!r}: give {cls!r} another one")
    if (dump is None) != (load is None) or (subclasses and dump is None):
        raise InvalidCall(f"register_type({cls.__qualname__}): dump and load go together, and subclasses needs both")
    if dump is not None and load is not None:
        kind = Kind(cls, stored, dump, load, dump, subclasses)
    else:
        kind = _kind_of_class(cls, stored)
    if old is not None:  # its module was executed again, as notebooks do: values of the old class would change type
        _BY_CLASS.pop(old.cls, None)
    _BY_CLASS[cls] = _BY_NAME[stored] = kind
    return cls


def refuse_type(cls: type, advice: str) -> None:
    """Refuse values of this class and its subclasses in words of their own: what they are, a colon, what to do."""
    _REFUSED[cls] = advice


def kind_of(value: object) -> Kind:
    """How this value is stored.

    Raises:
        UnsendableError: its class is not registered.
    """
    cls = type(value)
    for base in cls.__mro__:
        kind = _BY_CLASS.get(base)
        if kind is not None and (base is cls or kind.subclasses):
            return kind
    raise UnsendableError(_advice(value))


def build(name: str, plain: object) -> object:
    """The value that was stored under this registered name as this data.

    Raises:
        BadEnvelope: the name is unknown here, or the data does not fit the class.
    """
    kind = _BY_NAME.get(name)
    if kind is None:
        raise BadEnvelope(f"no class is registered here as {name[:200]!r}: call register_type for it in this process")
    try:
        return kind.load(plain)
    except BadEnvelope:
        raise
    except Exception as error:  # whatever a class or its hook raises over hostile data means the same
        raise BadEnvelope(f"a stored {name} does not fit its class ({type(error).__name__})") from error


def _advice(value: object) -> str:
    cls = type(value)
    for base in cls.__mro__:
        if base in _REFUSED:
            return _REFUSED[base]
    name = f"{cls.__module__}.{cls.__qualname__}"
    if isinstance(value, Enum | BaseModel) or dataclasses.is_dataclass(cls):
        return f"{name} is not registered: put @register_type above the class, in every process that reads it"
    for base in (str, int, bytes, list, dict, tuple, set, frozenset, datetime, *SCALAR_TYPES):
        if isinstance(value, base):
            return f"{name} would come back as {base.__name__}: convert it, or register_type it with a dump and a load"
    return f"{name} is no data: send what it was made from, or register_type it with a dump and a load"


def _kind_of_class(cls: type[Any], name: str) -> Kind:
    try:
        if issubclass(cls, Flag):
            return Kind(cls, name, _dump_flag, partial(_load_flag, cls), _dump_flag)
        if issubclass(cls, Enum):
            return Kind(cls, name, attrgetter("_name_"), cls.__members__.__getitem__, attrgetter("_name_"))
        object.__new__(cls)  # refuses what has abstract methods or inherits from a builtin that holds data
    except TypeError as error:
        raise InvalidCall(f"{cls!r} cannot be rebuilt from its fields: give dump and load") from error
    if issubclass(cls, BaseModel) and all(map(str.isidentifier, cls.model_fields)):
        return Kind(cls, name, _dump_model, partial(_load_model, cls), _dump_fields_of_model)
    if dataclasses.is_dataclass(cls):
        dump = partial(_dump_fields, names=tuple(field.name for field in dataclasses.fields(cls)))
        return Kind(cls, name, dump, partial(_load_dataclass, cls), dump)
    raise InvalidCall(f"register_type takes dataclasses, pydantic models and enums; for {cls!r} give dump and load")


def _dump_flag(flags: Flag) -> list[str | None]:
    single = list(flags)
    if reduce(or_, single, type(flags)(0)) != flags:
        raise UnsendableError(f"{flags!r} has bits without a name: send the number")
    return [flag.name for flag in single]


def _load_flag(cls: type[Flag], names: list[str]) -> Flag:
    return reduce(or_, [cls.__members__[name] for name in names], cls(0))


def _dump_fields(value: object, names: tuple[str, ...]) -> dict[str, object]:
    held: Mapping[str, object] = getattr(value, "__dict__", {})
    for name in held:
        if name not in names and not isinstance(getattr(type(value), name, None), cached_property):
            raise UnsendableError(f"attribute {name!r} is no field: declare it, or give dump and load")
    try:
        return {name: held[name] if name in held else getattr(value, name) for name in names}
    except AttributeError as error:
        raise UnsendableError(f"a field has no value: {error}") from error


def _load_dataclass(cls: type[Any], plain: object) -> object:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    given = _known_fields(plain, fields)
    value = object.__new__(cls)
    for name, field in fields.items():
        if name in given:
            content = given[name]
        elif field.default_factory is not dataclasses.MISSING:
            content = field.default_factory()
        else:
            content = field.default
        if content is dataclasses.MISSING:
            raise BadEnvelope(f"a stored {cls.__qualname__} lacks {name!r}")
        object.__setattr__(value, name, content)
    return value


def _known_fields(plain: object, names: Mapping[str, object]) -> dict[str, Any]:
    if not isinstance(plain, dict):
        raise BadEnvelope("the fields of a stored object are not a map")
    if unknown := sorted(plain.keys() - names.keys()):
        raise BadEnvelope(f"a stored object has fields that its class lacks: {', '.join(unknown)[:200]}")
    return plain


def _dump_fields_of_model(model: BaseModel) -> dict[str, object]:
    plain = _dump_fields(model, tuple(type(model).model_fields))
    plain.update(model.__pydantic_private__ or {})
    if model.__pydantic_extra__:
        plain[_EXTRA] = dict(model.__pydantic_extra__)
    return plain


def _dump_model(model: BaseModel) -> dict[str, object]:
    plain = _dump_fields_of_model(model)
    # Which fields were given is part of a model (exclude_unset) but not of its equality: digests leave it out.
    if unset := sorted(type(model).model_fields.keys() - model.model_fields_set):
        plain[_UNSET] = unset
    return plain


def _load_model(cls: type[BaseModel], plain: object) -> BaseModel:
    fields, hidden = cls.model_fields, cls.__private_attributes__
    more = (_UNSET, _EXTRA) if cls.model_config.get("extra") == "allow" else (_UNSET,)
    given = _known_fields(plain, {**fields, **hidden, **dict.fromkeys(more)})
    extra = dict(given.get(_EXTRA, {}))
    values: dict[str, Any] = {name: given[name] for name in fields if name in given}
    for name, field in fields.items():
        if name not in given:
            values[name] = field.get_default(call_default_factory=True, validated_data=values)
    private = {name: given[name] if name in given else kept.get_default() for name, kept in hidden.items()}
    if any(value is PydanticUndefined for value in values.values()):
        raise BadEnvelope(f"a stored {cls.__qualname__} lacks a field: it has {', '.join(given)[:200]}")
    model = cls.__new__(cls)
    state = {
        "__dict__": {name: values[name] for name in fields},
        "__pydantic_fields_set__": ((given.keys() & fields.keys()) - set(given.get(_UNSET, ()))) | extra.keys(),
        "__pydantic_extra__": extra if _EXTRA in more else None,
        "__pydantic_private__": {k: v for k, v in private.items() if v is not PydanticUndefined} if hidden else None,
    }
    BaseModel.__setstate__(model, state)
    return model


def _dump_pendulum(value: pendulum.DateTime) -> datetime:
    wall = datetime(value.year, value.month, value.day, value.hour, value.minute, value.second, tzinfo=value.tzinfo)
    return wall.replace(microsecond=value.microsecond, fold=value.fold)


register_type(pendulum.DateTime, "pendulum.DateTime", dump=_dump_pendulum, load=pendulum.instance)
