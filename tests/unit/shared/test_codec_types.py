"""Round trips of every supported type at every depth, and the registration of classes."""

import dataclasses
import struct
import sys
import zlib
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, localcontext
from enum import Enum, Flag, IntEnum, IntFlag, auto
from fractions import Fraction
from functools import cached_property
from io import BytesIO
from math import copysign, inf, isnan, nan
from pathlib import PurePosixPath
from typing import Any, Generic, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import pendulum
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel
from pydantic.dataclasses import dataclass as pydantic_dataclass

from shared.codec import decode, encode
from shared.codec_types import refuse_type, register_type
from shared.errors import BadEnvelope, InvalidCall

T = TypeVar("T")


def sealed(body: bytes) -> bytes:
    """An envelope around any body."""
    covered = b"\xbatn\x01\x00\x00" + body
    return covered + struct.pack(">II", zlib.crc32(covered), len(body))


@register_type
@dataclasses.dataclass(frozen=True)
class Point:
    x: Any
    y: Any = 0


@register_type
@dataclasses.dataclass(slots=True)
class Slotted:
    value: Any
    later: Any = dataclasses.field(init=False, default=None)


@register_type
@pydantic_dataclass
class Checked:
    value: Any


@register_type
class Colour(Enum):
    RED = 1
    GREEN = "g"
    ALSO_RED = 1  # noqa: PIE796 - an alias is what is tested


@register_type
class Level(IntEnum):
    LOW = 1


@register_type
class Rights(Flag):
    READ = auto()
    WRITE = auto()


@register_type
class Model(BaseModel):
    value: Any
    also: Any = None
    hidden: int = Field(default=1, exclude=True, repr=False)


@register_type
class Open(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)
    a: Any = Field(default=None, alias="b")
    b: Any = Field(default=None, alias="a")
    _own: Any = PrivateAttr(default=None)


@register_type
class Root(RootModel[Any]):
    pass


ZONES = ["Europe/Paris", "America/New_York", "Asia/Kathmandu", "Africa/Monrovia", "UTC"]
offsets = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).map(timezone)
zones = st.one_of(st.just(UTC), offsets, st.sampled_from(ZONES).map(ZoneInfo))
hashables = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(),
    st.binary(),
    st.datetimes(timezones=zones),
    st.dates(),
    st.times(timezones=st.one_of(st.none(), offsets)),
    st.timedeltas(),
    st.uuids(),
    st.decimals().filter(lambda number: not number.is_snan()),
    st.sampled_from([*Colour, *Level, *Rights, Rights(0), ~Rights(0)]),
)
nested_hashables = st.recursive(
    hashables,
    lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=4), st.builds(Point, inner, inner)),
    max_leaves=5,
)
values = st.recursive(
    st.one_of(nested_hashables, st.sets(nested_hashables, max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(), inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.builds(Point, inner, y=inner),
        st.builds(Slotted, inner),
        st.builds(Checked, inner),
        st.builds(Model, value=inner),
        st.builds(Model, value=inner, also=inner, hidden=st.integers(0, 9)),
        st.builds(Open, a=inner, extra_=inner),
        st.builds(Root, inner),
    ),
    max_leaves=20,
)


def shape(value: Any) -> Any:  # noqa: PLR0911 - a table of kinds
    """The value as nested tuples that are equal only if all types, signs, offsets and folds are, and NaN is NaN."""
    kind = type(value)
    if kind is float:
        return (kind, "nan") if isnan(value) else (kind, value, copysign(1, value))
    if kind is datetime:
        return (kind, value.isoformat(), value.fold, getattr(value.tzinfo, "key", None))
    if kind in (time, Decimal):
        return (kind, str(value), getattr(value, "fold", None))
    if kind in (list, tuple):
        return (kind, *map(shape, value))
    if kind in (set, frozenset):
        return (kind, *sorted(map(shape, value), key=repr))
    if kind is dict:
        return (kind, *((key, shape(item)) for key, item in value.items()))
    if dataclasses.is_dataclass(value):
        return (kind, *((field.name, shape(getattr(value, field.name))) for field in dataclasses.fields(value)))
    if isinstance(value, BaseModel):
        parts = (value.__dict__, value.__pydantic_extra__, value.__pydantic_private__)
        return (kind, *map(shape, parts), sorted(value.model_fields_set))
    return (kind, value)


# ---- round trips


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(values)
def test_a_value_comes_back_equal_and_of_the_same_types_at_every_depth(value: Any) -> None:
    assert shape(decode(encode(value))) == shape(value)


@settings(max_examples=200, deadline=None)
@given(values.filter(lambda value: "nan" not in repr(shape(value)).lower()))
def test_what_comes_back_is_equal_by_its_own_equality(value: Any) -> None:
    assert decode(encode(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        -(2**63),
        2**64 - 1,
        nan,
        inf,
        -inf,
        -0.0,
        5e-324,
        "",
        "\x00",
        "\U0010ffff",
        "e\u0301",
        b"",
        b"\x00\xff",
        (),
        (1,),
        ((),),
        set(),
        {(1, frozenset({2}))},
        {"": None},
        {"t": []},
        {"r": ["x", 1]},
        [[], {}, (), set()],
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=-1, microseconds=-1))),
        datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")),
        datetime(2026, 3, 29, 2, 30, tzinfo=ZoneInfo("Europe/Paris")),
        date.min,
        date.max,
        time(23, 59, 59, 999_999, fold=1),
        time(1, tzinfo=UTC),
        timedelta.min,
        timedelta.max,
        UUID(int=0),
        Decimal("-0"),
        Decimal("1.10"),
        Decimal("1E+999999"),
        Decimal("-Infinity"),
        Decimal("sNaN7"),
        Colour.ALSO_RED,
        Level.LOW,
        Rights.READ | Rights.WRITE,
        Rights(0),
        {nan, 1.0},
        Slotted([Slotted(1)]),
        Root([1, (2,)]),
    ],
    ids=lambda part: part if type(part) is str and part.isascii() and part.isprintable() else type(part).__name__,
)
def test_a_value_at_the_edge_of_its_type_comes_back(value: Any) -> None:
    assert shape(decode(encode(value))) == shape(value)


def test_a_time_keeps_its_offset_where_its_zone_is_unknown() -> None:
    moment = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Paris"))
    back = decode(sealed(encode(moment)[6:-8].replace(b"Europe/Paris", b"Europe/Nowhe")))
    assert (back, back.utcoffset(), back.tzinfo) == (moment, timedelta(hours=2), timezone(timedelta(hours=2)))


def test_moment_and_offset_win_where_the_rules_of_a_zone_have_changed() -> None:
    moment = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    back = decode(sealed(encode(moment)[6:-8].replace(b"\xc7\x11", b"\xc7\x1d") + b"Europe/Paris"))
    assert (back, back.utcoffset()) == (moment, timedelta(hours=5))


@pytest.mark.parametrize(
    "name", [b"../../etc/passwd", b"/etc/passwd", b"os", b"a\x00b", b"posixrules", b"x" * 5000, b"Europe"]
)
def test_a_zone_that_is_no_zone_is_neither_opened_nor_imported(name: bytes) -> None:
    before = set(sys.modules)
    back = decode(sealed(msgpack.packb(msgpack.ExtType(2, b"\x00" * 17 + name))))
    assert (back, back.tzinfo, set(sys.modules) - before) == (datetime(1970, 1, 1, tzinfo=UTC), UTC, set())


def test_a_pendulum_time_comes_back_as_one() -> None:
    moment = pendulum.datetime(2026, 10, 25, 2, 30, tz="Europe/Paris", fold=1)
    back = decode(encode([moment]))[0]
    assert (back, type(back), back.timezone_name, back.fold) == (moment, pendulum.DateTime, "Europe/Paris", 1)


def test_a_decimal_is_stored_the_same_in_every_context() -> None:
    expected = encode(Decimal("1E+50"))
    with localcontext() as context:
        context.capitals = 0
        context.traps = dict.fromkeys(context.traps, False)
        assert (encode(Decimal("1E+50")), decode(expected)) == (expected, Decimal("1E+50"))


# ---- what is refused


class Text(str):
    __slots__ = ()


class Loose(IntFlag):
    A = 1


class Sub(Point):
    pass


Pair = namedtuple("Pair", "a b")  # noqa: PYI024 - the untyped kind is what is tested


def generate() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (2**64, "an integer of more than 64 bits"),
        (-(2**63) - 1, "an integer of more than 64 bits"),
        ("\ud800", "a lone surrogate"),
        ("a" * 50 + "\udfff", "at 50"),
        ({"\ud800": 1}, "a lone surrogate"),
        (datetime(2026, 1, 1), "a naive datetime: give it a time zone"),  # noqa: DTZ001
        (time(1, tzinfo=ZoneInfo("Europe/Paris")), "a time of day in a zone"),
        ({1: 2}, "the key 1: keys must be text"),
        ({b"t": []}, "the key b't'"),
        ({None: 1}, "the key None"),
        ({Text("a"): 1}, "the key 'a'"),
        ({Level.LOW: 1}, "the key <Level.LOW: 1>"),
        (OrderedDict(a=1), "would come back as dict"),
        (Counter("a"), "would come back as dict"),
        (defaultdict(list), "would come back as dict"),
        (Text("a"), "would come back as str"),
        (Pair(1, 2), "would come back as tuple"),
        (pendulum.duration(days=1), "would come back as timedelta"),
        (pendulum.date(2026, 1, 1), "would come back as date"),
        (bytearray(b"x"), "convert it with bytes"),
        (memoryview(b"x"), "builtins.memoryview is no data"),
        (Sub(1), "is not registered: put @register_type above the class"),
        (Loose.A, "is not registered"),
        (generate(), "a generator: make a list of it"),
        (lambda: 1, "a function"),
        (object(), "builtins.object is no data"),
        (BytesIO(), "no data"),
        (range(3), "no data"),
        (deque(), "no data"),
        (1j, "no data"),
        (Fraction(1, 2), "no data"),
        (PurePosixPath("/"), "no data"),
        (Point, "builtins.type is no data"),
        (msgpack.ExtType(1, b"nan"), "would come back as tuple"),
        (msgpack.Timestamp(1), "no data"),
        (ValueError("x"), "no data"),
        (..., "no data"),
    ],
    ids=lambda part: part if type(part) is str and part.isascii() and part.isprintable() else type(part).__name__,
)
def test_what_would_not_come_back_the_same_is_refused_with_advice(value: object, advice: str) -> None:
    with pytest.raises(InvalidCall, match=r"^value\[0\]") as caught:
        encode([value])
    assert advice in str(caught.value)


def test_a_coroutine_is_to_be_awaited_first() -> None:
    async def ask() -> None: ...

    coroutine = ask()
    with pytest.raises(InvalidCall, match="a coroutine: await it first"):
        encode(coroutine)
    coroutine.close()


def test_a_class_can_be_refused_with_advice_of_its_own() -> None:
    class Handle:
        pass

    class SubHandle(Handle):
        pass

    refuse_type(Handle, "a handle: pass handle.number")
    with pytest.raises(InvalidCall, match=r"^args\[0\]: a handle: pass handle\.number$"):
        encode([SubHandle()], where="args")


# ---- registered classes


def test_an_object_is_stored_under_its_name_with_its_fields() -> None:
    body = encode(Point(1, (2,)))[6:-8]
    plain = msgpack.unpackb(body, strict_map_key=False)
    assert plain == {b"r": [f"{__name__}.Point", {"x": 1, "y": {b"t": [2]}}]}


def test_no_constructor_runs_when_an_object_comes_back() -> None:
    calls = []

    @register_type(name="test.Loud")
    @dataclasses.dataclass
    class Loud:
        x: int
        extra: dataclasses.InitVar[int] = 0

        def __post_init__(self, extra: int) -> None:
            calls.append(extra)
            self.x += 1

    @register_type(name="test.LoudModel")
    class LoudModel(BaseModel):
        x: int

        def model_post_init(self, context: Any) -> None:
            calls.append(context)

    made = [Loud(1, 2), LoudModel(x=1)]
    calls.clear()
    assert (decode(encode(made)), calls) == (made, [])


def test_a_cached_property_is_left_behind_and_any_other_attribute_is_refused() -> None:
    @register_type(name="test.Cached")
    @dataclasses.dataclass
    class Cached:
        x: int

        @cached_property
        def double(self) -> int:
            return self.x * 2

    value = Cached(2)
    assert (value.double, vars(decode(encode(value)))) == (4, {"x": 2})
    value.other = 1  # type: ignore[attr-defined]
    with pytest.raises(InvalidCall, match="attribute 'other' is no field"):
        encode(value)


def test_a_field_without_value_is_refused() -> None:
    @register_type(name="test.Late")
    @dataclasses.dataclass
    class Late:
        x: int = dataclasses.field(init=False)

    with pytest.raises(InvalidCall, match="a field has no value"):
        encode(Late())


def test_a_model_keeps_what_was_set_what_was_extra_and_what_is_private() -> None:
    model = Open.model_validate({"a": 1, "more": [(1,)]})
    model._own = {2}
    back = decode(encode(model))
    assert (back, back.model_fields_set, back.model_extra, back._own) == (model, {"b", "more"}, {"more": [(1,)]}, {2})


def test_a_generic_model_is_registered_by_parameter() -> None:
    class Box(BaseModel, Generic[T]):
        item: T

    register_type(Box[int], name="test.Box[int]")
    back = decode(encode(Box[int](item=1)))
    assert (back, type(back)) == (Box[int](item=1), Box[int])
    with pytest.raises(InvalidCall, match="is not registered"):
        encode(Box[str](item="a"))


def test_fields_that_an_older_process_did_not_know_take_their_defaults() -> None:
    @register_type(name="test.Grown")
    @dataclasses.dataclass
    class Grown:
        a: int
        b: int = 2
        c: list[int] = dataclasses.field(default_factory=lambda: [3])

    @register_type(name="test.GrownModel")
    class GrownModel(BaseModel):
        a: int
        b: int = 2
        c: list[int] = Field(default_factory=lambda: [3])
        _d: int = PrivateAttr(default=4)

    model = decode(stored("test.GrownModel", {"a": 1}))
    assert decode(stored("test.Grown", {"a": 1})) == Grown(1)
    assert (model, model._d, model.model_fields_set) == (GrownModel(a=1), 4, {"a"})


def stored(name: Any, data: Any) -> bytes:
    return sealed(msgpack.packb({b"r": [name, data]}))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("os.system", "id"),
        ("test.nobody", {}),
        (f"{__name__}.Point", {}),
        (f"{__name__}.Point", {"x": 1, "z": 2}),
        (f"{__name__}.Point", {"x": 1, "__class__": 2}),
        (f"{__name__}.Point", [1, 2]),
        (f"{__name__}.Model", {"also": 1}),
        (f"{__name__}.Model", {"value": 1, "new": 1}),
        (f"{__name__}.Model", {"value": 1, " extra": {"new": 1}}),
        (f"{__name__}.Model", {"value": 1, " unset": 5}),
        (f"{__name__}.Model", {"value": 1, " unset": [[]]}),
        (f"{__name__}.Open", {" extra": 5}),
        (f"{__name__}.Model", None),
        (f"{__name__}.Colour", "BLUE"),
        (f"{__name__}.Colour", 1),
        (f"{__name__}.Colour", []),
        (f"{__name__}.Rights", "READ"),
        (f"{__name__}.Rights", [["READ"]]),
        (f"{__name__}.Rights", 1),
        ("pendulum.DateTime", "2026-01-01"),
        ("pendulum.DateTime", {}),
        (1, 2),
        (None, {}),
        ([], {}),
    ],
)
def test_stored_data_that_fits_no_class_is_a_bad_envelope_and_imports_nothing(name: Any, data: Any) -> None:
    before = set(sys.modules)
    with pytest.raises(BadEnvelope):
        decode(stored(name, data))
    assert set(sys.modules) == before


def test_an_unknown_name_says_which_class_is_to_be_registered() -> None:
    with pytest.raises(BadEnvelope, match=r"no class is registered here as 'shop.Order': call register_type for it"):
        decode(stored("shop.Order", {}))


class Celsius:
    def __init__(self, degrees: float) -> None:
        self.degrees = degrees


class Oven(Celsius):
    pass


def load_celsius(degrees: Any) -> Celsius:
    if type(degrees) is not float:
        raise ZeroDivisionError
    return Celsius(degrees)


def test_any_class_can_travel_by_hooks_of_its_own() -> None:
    register_type(Celsius, "test.Celsius", dump=lambda value: value.degrees, load=load_celsius)
    back = decode(encode([Celsius(1.5)]))[0]
    assert (type(back), back.degrees) == (Celsius, 1.5)
    with pytest.raises(InvalidCall, match="Oven is no data"):
        encode(Oven(200.0))


def test_subclasses_travel_as_their_base_where_the_hooks_say_so() -> None:
    register_type(Celsius, "test.Celsius", dump=lambda value: value.degrees, load=load_celsius, subclasses=True)
    back = decode(encode(Oven(200.0)))
    assert (type(back), back.degrees) == (Celsius, 200.0)


def test_whatever_a_hook_raises_is_an_error_of_the_codec() -> None:
    register_type(Celsius, "test.Celsius", dump=lambda value: value.missing, load=load_celsius)
    with pytest.raises(InvalidCall, match=r"^value\[0\]: test\.Celsius cannot be taken apart \(AttributeError\)$"):
        encode([Celsius(1.5)])
    with pytest.raises(BadEnvelope, match=r"test\.Celsius does not fit its class \(ZeroDivisionError\)"):
        decode(stored("test.Celsius", 1))


def test_flags_with_bits_that_have_no_name_are_refused() -> None:
    register_type(Loose, "test.Loose")
    with pytest.raises(InvalidCall, match=r"has bits without a name"):
        encode(Loose(5))


def test_a_hook_that_gives_back_its_own_value_ends_at_the_depth_limit() -> None:
    register_type(Celsius, "test.Celsius", dump=lambda value: value, load=load_celsius)
    with pytest.raises(ValueError, match="contains itself"):
        encode(Celsius(1.5))


def test_a_name_belongs_to_one_class_but_a_class_that_is_defined_again_takes_it_over() -> None:
    def define() -> type:
        @register_type(name="test.Again")
        @dataclasses.dataclass
        class Again:
            x: int = 1

        return Again

    old, new = define(), define()
    assert type(decode(encode(new()))) is new
    with pytest.raises(InvalidCall, match="is not registered"):
        encode(old())
    with pytest.raises(InvalidCall, match=r"'test\.Again' is the registered name of"):
        register_type(Point, "test.Again")


def test_a_class_under_two_names_is_read_under_both_and_written_under_the_last() -> None:
    @dataclasses.dataclass
    class Moved:
        x: int = 1

    register_type(Moved, "test.old")
    before = encode(Moved())
    register_type(Moved, "test.new")
    assert (decode(before), decode(encode(Moved())), b"test.new" in encode(Moved())) == (Moved(), Moved(), True)


@pytest.mark.parametrize(
    ("cls", "hooks"),
    [
        (Text, {}),
        (object, {}),
        (Celsius, {}),
        (Celsius, {"dump": str}),
        (Celsius, {"load": str}),
        (Point, {"subclasses": True}),
        (dataclasses.make_dataclass("Filled", ["a"], bases=(dict,)), {}),
    ],
)
def test_a_class_that_cannot_be_rebuilt_is_refused_when_it_is_registered(cls: type, hooks: dict[str, Any]) -> None:
    with pytest.raises(InvalidCall):
        register_type(cls, "test.refused", **hooks)
