"""The envelope, parameters in both forms, serializers, paths of errors, and digests."""

import json
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from shared.codec import SERIALIZERS, decode, decode_parameters, digest, encode
from shared.codec_types import register_type
from shared.errors import BadEnvelope, HashError, InvalidCall, InvalidValue

SAMPLE = {"url": "https://example.org/a/b/c", "n": 5, "opts": {"a": 1, "b": [1, 2, 3]}}
ROOT = Path(__file__).parents[3]
JSON, COMPRESSED, ENCRYPTED, SIGNED = 1, 2, 4, 8


def sealed(body: bytes, *, magic: bytes = b"\xbatn", version: int = 1, flags: int = 0, key: int = 0) -> bytes:
    """An envelope as the layout says, made without the codec."""
    covered = magic + bytes((version, flags, key)) + body
    return covered + struct.pack(">II", zlib.crc32(covered), len(body))


@register_type(name="test.Order")
@dataclass
class Order:
    owner: Any
    items: Any = ()


class Unregistered(BaseModel):
    x: int = 1


class Colour(Enum):
    RED = 1


# ---- the envelope


def test_an_envelope_has_the_layout_that_is_written_at_the_top_of_the_codec() -> None:
    assert encode({"a": 1}) == sealed(b"\x81\xa1a\x01")


def test_an_envelope_made_by_hand_is_read() -> None:
    assert decode(sealed(b"\x81\xa1a\x01")) == {"a": 1}


def test_no_envelope_begins_like_json() -> None:
    assert not encode(SAMPLE).startswith(b"{")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (encode(SAMPLE)[:10], "cut off after 10 bytes"),
        (encode(SAMPLE)[:-1], "cut or lengthened: 48 bytes of body, "),
        (encode(SAMPLE) + b"\x00", "cut or lengthened: 50 bytes of body, "),
        (sealed(b"\xc0\xc0"), "extra data"),
        (sealed(b""), "incomplete"),
        (sealed(b"\xc0", magic=b"\xbato"), r"no envelope of Baton: it begins with b'\xbato"),
        (sealed(b"\xc0", version=0), "version 0"),
        (sealed(b"\xc0", version=255), "version 255"),
        (sealed(b"\xc0", flags=SIGNED, key=1), "signed, which this Baton cannot read"),
        (sealed(b"\xc0", flags=ENCRYPTED, key=1), "encrypted, which this Baton cannot read"),
        (sealed(b"\xc0", flags=16), "unknown flags 0x10"),
        (sealed(b"\xc0", key=7), "key 7"),
        (b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07os.kill.", "no envelope of Baton"),
        (b"{}", "no envelope of Baton"),
        (b"a: !!python/object/apply:os.system [id]", "no envelope of Baton"),
        (zlib.compress(b"worker.entry.run"), "no envelope of Baton"),
    ],
)
def test_what_is_no_envelope_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadEnvelope) as caught:
        decode(data)
    assert reason in str(caught.value)


def test_a_flipped_bit_at_any_place_is_found() -> None:
    envelope = encode({**SAMPLE, "when": datetime(2026, 11, 20, tzinfo=UTC), "pair": (1, {2})})
    for place in range(len(envelope) * 8):
        damaged = bytearray(envelope)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(BadEnvelope):
            decode(bytes(damaged))


def test_an_envelope_cut_at_any_place_is_refused() -> None:
    envelope = encode(SAMPLE)
    for size in range(len(envelope)):
        with pytest.raises(BadEnvelope):
            decode(envelope[:size])


def test_many_threads_may_use_the_codec_at_once() -> None:
    values = [
        {"thread": n, "text": "x" * n * 100, "when": datetime(2026, 1, 1, tzinfo=UTC), "pair": (n, n)} for n in range(8)
    ]
    with ThreadPoolExecutor(8) as pool:
        rounds = pool.map(lambda value: [decode(encode(value)) == value for _ in range(200)], values)
        assert all(all(answers) for answers in rounds)


# ---- serializers


@pytest.mark.parametrize(
    ("serializer", "flags"),
    [("msgpack", 0), ("json", JSON), ("compressed/msgpack", COMPRESSED), ("compressed/json", COMPRESSED | JSON)],
)
def test_a_reader_needs_no_name_of_the_serializer(serializer: str, flags: int) -> None:
    value = {"rows": [{"n": 1, "x": 0.5, "name": "é"}] * 50, "none": None, "yes": True}
    envelope = encode(value, serializer=serializer)
    assert (decode(envelope), envelope[4]) == (value, flags)


def test_an_unknown_serializer_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidValue, match="unknown serializer 'pickle': it is one of msgpack, json, "):
        encode(1, serializer="pickle")


def test_what_does_not_shrink_is_stored_uncompressed() -> None:
    assert encode([1], serializer="compressed/msgpack") == encode([1])


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_what_is_within_the_limit_is_readable_under_it_however_it_compresses(data: bytes) -> None:
    size = len(encode(data)) - 14
    assert decode(encode(data, limit=size, serializer="compressed/msgpack"), limit=size) == data


EVERY_TYPE = (
    *(None, True, 2**64 - 1, -(2**63), 0.5, float("inf"), "é", b"\x00\xff", [], {}, (), (1, (2,)), {1, "a"}),
    *(frozenset({b"x"}), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Rome"))),
    *(
        date(2026, 1, 1),
        time(1, 2, 3),
        timedelta(-1),
        UUID(int=5),
        Decimal("1.50"),
        Order((1,), {2}),
        {"a": {"b": (1,)}},
    ),
)
EACH_SERIALIZER = pytest.mark.parametrize("serializer", SERIALIZERS)


@EACH_SERIALIZER
@pytest.mark.parametrize("value", EVERY_TYPE, ids=lambda value: type(value).__name__)
def test_every_type_comes_back_as_itself_from_every_serializer(serializer: str, value: object) -> None:
    back = decode(encode([value] * 3, serializer=serializer))
    assert (back, [type(one) for one in back]) == ([value] * 3, [type(value)] * 3)


@EACH_SERIALIZER
@pytest.mark.parametrize("key", ["$", "$b", "$t", "$$t", "$$$", "$e", "$x"])
def test_no_dict_is_taken_for_a_tag(serializer: str, key: str) -> None:
    values = [{key: [1]}, {key: {key: "aGk="}}, {key: 1, "b": 2}, {key: (1,)}]
    assert decode(encode(values, serializer=serializer)) == values


@pytest.mark.parametrize(
    "body",
    [
        '{"$x":1}',
        '{"$":1}',
        '{"$b":1}',
        '{"$b":"a"}',
        '{"$b":"a\\n=="}',
        '{"$e":[99,""]}',
        '{"$e":[300,""]}',
        '{"$e":[true,""]}',
        '{"$e":["",1]}',
        '{"$e":[7,"enp6"]}',
        '{"$t":1}',
        '{"$t":{"a":1}}',
        '{"$s":[1,1]}',
        '{"$s":[[]]}',
        '{"$r":["nobody",1]}',
        '{"$r":["test.Order"]}',
        '{"$r":["test.Order",{"x":1}]}',
        '{"$t":' * 5000,
        '{"a":NaN}',
        '{"a":1,"a":2}',
    ],
    ids=lambda body: body[:20],
)
def test_a_json_body_is_read_strictly(body: str) -> None:
    with pytest.raises(BadEnvelope):
        decode(sealed(body.encode(), flags=JSON))


def test_raw_json_has_no_tags() -> None:
    assert decode_parameters(b'{"a": {"$t": [1]}}') == {"a": {"$t": [1]}}


@settings(deadline=None)
@given(
    st.recursive(
        st.one_of(
            st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.text(max_size=3), st.binary(max_size=3)
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(st.text(alphabet="$bte", max_size=3), inner, max_size=2),
        ),
        max_leaves=10,
    ),
    st.sampled_from(SERIALIZERS),
)
def test_serializers_agree_on_every_value(value: object, serializer: str) -> None:
    back = decode(encode(value, serializer=serializer))
    assert (back, digest(back)) == (value, digest(value))


def test_json_keeps_the_sign_of_zero() -> None:
    assert str(decode(encode([-0.0], serializer="json"))) == "[-0.0]"


# ---- parameters


def test_parameters_come_from_an_envelope_or_from_raw_json() -> None:
    raw = json.dumps(SAMPLE).encode()
    assert (decode_parameters(encode(SAMPLE)), decode_parameters(raw)) == (SAMPLE, SAMPLE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[1]",
        b' {"a": 1}',
        b"null",
        encode([1]),
        encode(Order(1)),
        encode((1,)),
        encode([], serializer="json"),
        b"{",
        b'{"a": 1} x',
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": 1, "a": 2}',
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": "\xff"}',
        b'{"a": 18446744073709551616}',
        b'{"a": -9223372036854775809}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b'{"a":' + b"[" * 100_000,
        '{"a": 1}'.encode("utf-16"),
        b'{"a": "' + b"x" * 300_000 + b'"}',
        b'{"a": [' + b"0," * 100_000 + b"0]}",
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_is_neither_is_no_parameters(data: bytes) -> None:
    with pytest.raises(BadEnvelope):
        decode_parameters(data)


def test_json_parameters_may_be_as_large_and_deep_as_the_limits() -> None:
    raw = b'{"a":' * 64 + b'"' + b"x" * 1000 + b'"' + b"}" * 64
    assert decode_parameters(raw, limit=len(raw))
    with pytest.raises(BadEnvelope, match="the limit is"):
        decode_parameters(raw, limit=len(raw) - 1)


@settings(deadline=None)
@given(st.text(alphabet='{}[]",:0123456789.eE+-truefalsn\\u ', max_size=60))
def test_no_json_text_raises_anything_but_bad_envelope(text: str) -> None:
    try:
        value = decode_parameters(b"{" + text.encode())
    except BadEnvelope:
        return
    assert value == json.loads("{" + text)


# ---- paths


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Lock(), "args"),
        ([0, Lock()], "args[1]"),
        ([0, {"x": Lock()}], "args[1].x"),
        ({"items": [1, 2, 3, Order(Lock())]}, "args.items[3].owner"),
        ({"odd key": (1, Lock())}, "args['odd key'][1]"),
        ({"a.b": Lock()}, "args['a.b']"),
        ({"pair": {(1, Order)}}, "args.pair{...}[1]"),
        ([Order(1, items=[{"k": Colour.RED}])], "args[0].items[0].k"),
        ({"": Lock()}, "args['']"),
        ({"\u202edrab": Lock()}, r"args['\u202edrab']"),
    ],
)
def test_an_error_names_the_place(value: object, path: str) -> None:
    with pytest.raises(InvalidCall) as caught:
        encode(value, where="args")
    assert str(caught.value).split(": ")[0] == path


def test_a_long_path_is_cut_in_its_middle() -> None:
    value: Any = Lock()
    for _ in range(40):
        value = {"a_rather_long_key": value}
    with pytest.raises(InvalidCall) as caught:
        encode(value, where="args")
    path = str(caught.value).split(": ")[0]
    assert (len(path), path[:10], path[-10:]) == (203, "args.a_rat", "r_long_key")


def test_an_error_has_no_inner_exception_of_the_codec_in_its_traceback() -> None:
    with pytest.raises(InvalidCall) as caught:
        encode([Lock()])
    assert (caught.value.__cause__, caught.value.__suppress_context__) == (None, True)


# ---- digests


def test_a_digest_is_the_same_for_ever() -> None:
    value = {
        "b": [1, 2.5, None],
        "a": {"y": True, "x": "é"},
        "when": datetime(2026, 11, 20, 9, tzinfo=UTC),
        "s": {1, 2},
    }
    assert digest(value) == "ef991dd73d972e3ae69e049302992837544ef66de8f07011d298e16ff2687350"


def test_a_digest_does_not_depend_on_the_process() -> None:
    code = "from shared.codec import digest; print(digest({'s': {'a', 'b', 'c', ('d', 1)}, 'f': frozenset('xyz')}))"
    seeds = [
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    ]
    assert seeds[0] == seeds[1] == f"{digest({'f': frozenset('xyz'), 's': {('d', 1), 'c', 'b', 'a'}})}\n".encode()


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.integers(0, 9)))
def test_the_order_of_keys_and_elements_does_not_count(value: dict[str, int]) -> None:
    backwards = dict(reversed(value.items()))
    assert digest({"d": value, "s": set(value)}) == digest({"s": set(backwards), "d": backwards})


def test_every_type_has_a_digest_of_its_own() -> None:
    values: list[Any] = [
        0,
        0.0,
        -0.0,
        False,
        None,
        "",
        b"",
        [],
        (),
        {},
        set(),
        frozenset(),
        "0",
        b"0",
        [0],
        (0,),
        {0},
        Order(0),
        [[]],
    ]
    assert len({digest(value) for value in values}) == len(values)


def test_which_fields_of_a_model_were_given_does_not_count() -> None:
    register_type(Unregistered, name="test.Unregistered")
    assert digest(Unregistered()) == digest(Unregistered(x=1))


@pytest.mark.parametrize("value", [Lock(), datetime(2026, 1, 1), 2**64, "\ud800", {1: 2}, Colour.RED])  # noqa: DTZ001
def test_what_has_no_canonical_form_is_a_hash_error_with_path_and_advice(value: object) -> None:
    with pytest.raises(HashError, match=r"^value\.client: .*: leave the argument out, for example INPUTS - 'client'$"):
        digest({"client": value})


def test_a_value_that_contains_itself_has_no_digest() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(HashError, match=r"^value: .*contains itself"):
        digest(value)


def test_times_at_different_offsets_have_different_digests() -> None:
    utc = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert digest(utc) != digest(utc.astimezone(timezone(timedelta(hours=1))))
