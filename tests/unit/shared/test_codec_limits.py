"""Limits of size, number and depth on both sides, and hostile bytes: BadEnvelope and nothing else."""

import inspect
import itertools
import struct
import sys
import tracemalloc
import zlib
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.codec import DEFAULT_LIMIT, decode, encode
from shared.errors import BadEnvelope, LimitExceeded

MB = 1024 * 1024
JSON, COMPRESSED = 1, 2


def sealed(body: bytes, flags: int = 0) -> bytes:
    """An envelope around any body."""
    covered = b"\xbatn\x01" + bytes((flags, 0)) + body
    return covered + struct.pack(">II", zlib.crc32(covered), len(body))


def peak_of_refusing(envelope: bytes) -> int:
    """Bytes of memory while an envelope is refused."""
    tracemalloc.start()
    try:
        with pytest.raises(BadEnvelope):
            decode(envelope, limit=MB)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def nested(levels: int, *, inside: Any = 1) -> Any:
    for _ in range(levels):
        inside = [inside]
    return inside


def array(count: int, items: bytes) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big") + items


# ---- writing


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("x" * (DEFAULT_LIMIT + 1), "p: text of 262,145 bytes, the limit is 262,144"),
        ("x" * DEFAULT_LIMIT, "p: 262,149 bytes, the limit is 262,144"),
        ([1, b"x" * 300_000], "p[1]: data of 300,000 bytes, the limit is 262,144"),
        ({"a": {"b": "é" * 200_000}}, "p.a.b: text of 400,000 bytes, the limit is 262,144"),
        ({"k" * 300_000: 1}, "p: text of 300,000 bytes, the limit is 262,144"),
        (["x" * 200_000] * 2, "p: 400,011 bytes, the limit is 262,144"),
        ([("x" * 200_000,)] * 2, "p: 400,021 bytes, the limit is 262,144"),
        ({"a": [0] * 100_001}, "p.a: 100,001 entries, the limit is 100,000"),
        ([0] * 1_000_000, "p: 1,000,000 entries, the limit is 100,000"),
        (dict.fromkeys(map(str, range(100_001))), "p: 100,001 entries, the limit is 100,000"),
        ({"s": set(range(100_001))}, "p.s: 100,001 entries, the limit is 100,000"),
        (nested(65), "p: nested deeper than the limit of 64 levels, or it contains itself"),
        ([(nested(63),)], "p: nested deeper than the limit of 64 levels, or it contains itself"),
        ([[[]] * 40_000] * 2, "p: more lists, dicts and objects than the limit of 65,536"),
        ([["x" * 200_000] * 100_000] * 1000, "p: more than 1,048,576 bytes, the limit is 262,144"),
        ([(b"x" * 200_000,) * 100_000] * 1000, "p: more than 1,048,576 bytes, the limit is 262,144"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_value_over_a_limit_is_refused_with_size_and_limit(value: object, message: str) -> None:
    with pytest.raises(LimitExceeded) as caught:
        encode(value, where="p")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "value",
    [
        "x" * (DEFAULT_LIMIT - 5),
        nested(64),
        nested(63, inside=(1,)),
        [0] * 100_000,
        [[]] * 65_535,
        {"a": "é" * 131_000},
    ],
    ids=["text", "depth", "tuple", "entries", "containers", "two bytes a character"],
)
def test_a_value_at_a_limit_passes_both_ways(value: object) -> None:
    assert decode(encode(value)) == value


def test_a_value_that_contains_itself_is_refused_wherever_it_does() -> None:
    loop: list[Any] = []
    loop.append(loop)
    ring: dict[str, Any] = {}
    ring["a"] = [{"b": (ring,)}]
    for value in (loop, ring):
        with pytest.raises(LimitExceeded, match=r"^value: .*it contains itself"):
            encode(value)


@pytest.mark.parametrize("one", [list, tuple])
def test_a_value_that_holds_the_same_part_again_and_again_ends_at_the_limit(one: type) -> None:
    value: Any = "x"
    for _ in range(60):
        value = one((value, value))
    with pytest.raises(LimitExceeded):
        encode(value)


def test_a_part_that_is_held_twice_without_a_cycle_is_no_error() -> None:
    part = [1]
    assert decode(encode([part, {"a": part}, (part,)])) == [[1], {"a": [1]}, ([1],)]


def test_elements_chosen_to_share_their_hash_are_refused_on_both_sides() -> None:
    colliding = list(itertools.islice(itertools.product((-1, -2), repeat=14), 500))
    body = msgpack.packb({b"s": [{b"t": list(element)} for element in colliding]})
    with pytest.raises(LimitExceeded, match="share their hashes: send a list"):
        encode(set(colliding))
    with pytest.raises(BadEnvelope, match="equal hashes"):
        decode(sealed(body))


# ---- reading


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x91" * 2000 + b"\xc0", "StackError"),
        (b"\x91" * 65 + b"\xc0", "nested deeper than 64 levels"),
        (b"\x81\xa1a" * 65 + b"\xc0", "nested deeper than 64 levels"),
        (b"\x81\xc4\x01t\x91" * 65 + b"\xc0", "nested deeper than 64 levels"),
        (b"\x81\xc4\x01r\x92\xa1x" * 65 + b"\xc0", "nested deeper than 64 levels"),
        (b"\xdd\xff\xff\xff\xff", "exceeds max_array_len"),
        (b"\xdf\xff\xff\xff\xff", "exceeds max_map_len"),
        (b"\xdb\xff\xff\xff\xff", "incomplete"),
        (b"\xc6\xff\xff\xff\xff", "incomplete"),
        (b"\xc9\xff\xff\xff\xff\x01", "exceeds max_ext_len"),
        (array(100_001, b"\xc0" * 100_001), "exceeds max_array_len"),
        (b"\x82\xa1a\x01\xa1a\x02", "the same key twice"),
        (b"\x82\xc4\x01t\x90\xc4\x01t\x90", "the same key twice"),
        (b"\x81\x01\x02", "not allowed for map key"),
        (b"\x81\xc0\x02", "not allowed for map key"),
        (b"\x81\x90\x02", "not allowed for map key"),
        (b"\x81\xc4\x01t\xc0", "a map with a key that is not text"),
        (b"\x82\xc4\x01t\x90\xa1a\x01", "a map with a key that is not text"),
        (b"\x82\xa1a\x01\xc4\x01t\x90", "a map with a key that is not text"),
        (b"\x81\xc4\x01x\x90", "unknown tag b'x'"),
        (b"\x81\xc4\x00\x90", "unknown tag b''"),
        (b"\x81\xc4\x01r\x91\xa1x", "unknown tag b'r'"),
        (b"\x81\xc4\x01s\x91\x90", "a set of what it cannot hold"),
        (b"\x81\xc4\x01f\x91\x80", "a frozenset of what it cannot hold"),
        (b"\x81\xc4\x01s\x92\x01\x01", "a set with equal elements"),
        (b"\x81\xc4\x01s\x92\x01\xc3", "a set with equal elements"),
        (b"\xa1\xff", "UnicodeDecodeError"),
        (b"\xa3\xed\xa0\x80", "UnicodeDecodeError"),
        (b"\x81\xa1\xff\x01", "UnicodeDecodeError"),
        (b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", "a float that is never stored like this: nan"),
        (b"\xcb\xff\xf0\x00\x00\x00\x00\x00\x00", "a float that is never stored like this: -inf"),
        (b"\x91\xca\x7f\x80\x00\x00", "a float that is never stored like this: inf"),
        (b"\xc1", "FormatError"),
        (b"\xd4\x63\x00", "unknown ext code 99"),
        (b"\xd4\x80\x00", "code must be 0"),
        (b"\xd6\xff\x00\x00\x00\x01", "a Timestamp that is never stored like this"),
        (b"\xd4\xff\x00", "invalid timestamp"),
        (b"\xd4\x01x", "no float: 78"),
        (b"\xc7\x03\x0111.", "no float: 31312e"),
        (b"\xd8\x02" + b"\xff" * 16, "no datetime: "),
        (b"\xc7\x11\x02" + b"\x7f" * 17, "no datetime: "),
        (b"\xc7\x11\x02" + bytes(8) + (86_400_000_000).to_bytes(8, "big") + b"\x00", "no datetime: "),
        (b"\xc7\x11\x02" + bytes(16) + b"\x02", "no datetime: "),
        (b"\xc7\x12\x02" + bytes(17) + b"\xff", "no datetime: "),
        (b"\xd6\x03\x00\x00\x00\x00", "no date: 00000000"),
        (b"\xd6\x03\xff\xff\xff\xff", "no date: ffffffff"),
        (b"\xd7\x04" + bytes(8), "no time: "),
        (b"\xc7\x09\x04" + b"\xff" * 8 + b"\x00", "no time: "),
        (b"\xc7\x0a\x04" + bytes(10), "no time: "),
        (b"\xc7\x0c\x05" + b"\x7f" * 12, "no timedelta: "),
        (b"\xd7\x06" + bytes(8), "no UUID: "),
        (b"\xd4\x07x", "no Decimal: 78"),
        (b"\xd5\x07 1", "no Decimal: 2031"),
        (b"\xc7\x03\x071_0", "no Decimal: 315f30"),
        (b"\xd5\x07\xd9\xa1", "no Decimal: d9a1"),
        (b"\xc7\x17\x071E+99999999999999999999", "no Decimal: "),
        (b"\xc7\x00\x07", "no Decimal: "),
    ],
    ids=lambda part: repr(part[:24]),
)
def test_a_body_that_the_codec_does_not_write_is_refused_with_the_reason(body: bytes, reason: str) -> None:
    with pytest.raises(BadEnvelope) as caught:
        decode(sealed(body))
    assert reason in str(caught.value)


def test_the_limit_is_that_of_the_body() -> None:
    envelope = encode("x" * 100)
    assert decode(envelope, limit=102) == "x" * 100
    with pytest.raises(BadEnvelope, match="116 bytes, the limit is 101 and 14 around it"):
        decode(envelope, limit=101)


@pytest.mark.parametrize(
    "body",
    [
        array(1_000_000, b"\x90" * 1_000_000),
        b"\x9a" + array(100_000, b"\x90" * 100_000) * 10,
        b"\x9a" + array(100_000, b"\x80" * 100_000) * 10,
        b"\x9a" + array(34_000, b"\x81\xa0\xc0" * 34_000) * 10,
        b"\x9a" + array(20_000, b"\x81\xc4\x01t\x90" * 20_000) * 10,
        b"\x9a" + array(20_000, b"\x81\xc4\x01s\x90" * 20_000) * 10,
    ],
    ids=["arrays", "arrays in arrays", "maps", "maps with a key", "tuples", "sets"],
)
def test_a_megabyte_of_empty_containers_is_refused_before_it_fills_the_memory(body: bytes) -> None:
    assert peak_of_refusing(sealed(body)) < 80_000_000


def test_a_bomb_is_refused_at_the_limit_without_being_unpacked() -> None:
    bomb = sealed(zlib.compress(bytes(100 * MB)), COMPRESSED)
    assert (len(bomb) < 110_000, peak_of_refusing(bomb) < 4 * MB) == (True, True)
    with pytest.raises(BadEnvelope, match="more than 262,144 bytes when it is decompressed"):
        decode(bomb)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        zlib.compress(b"\xc0")[:-1],
        zlib.compress(b"\xc0") + b"x",
        zlib.compress(zlib.compress(b"\xc0")),
        zlib.compress(b"\xc0", wbits=-15),
        zlib.compress(b"\xc0", wbits=31),
    ],
)
def test_a_compressed_body_that_is_damaged_is_refused(body: bytes) -> None:
    with pytest.raises(BadEnvelope):
        decode(sealed(body, COMPRESSED))


def test_a_stack_that_is_nearly_full_is_a_bad_envelope() -> None:
    envelope = encode(nested(20, inside=nested(20, inside=(1,))))
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 30)
    try:
        refusal = read(envelope)
    finally:
        sys.setrecursionlimit(before)
    assert (type(refusal), str(refusal)) == (BadEnvelope, "nested too deep for the stack that is left")


def read(envelope: bytes) -> object:
    """What decoding gives; BadEnvelope is the only error that passes."""
    try:
        return decode(envelope)
    except BadEnvelope as refusal:
        return refusal


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_a_bad_envelope(data: bytes) -> None:
    assert isinstance(read(data), BadEnvelope)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([0, JSON, COMPRESSED, JSON | COMPRESSED]))
def test_a_random_body_raises_bad_envelope_or_is_a_value_that_can_be_stored_again(body: bytes, flags: int) -> None:
    value = read(sealed(body, flags))
    assert isinstance(value, BadEnvelope) or encode(value)


texts = st.one_of(st.text(max_size=5), st.sampled_from(["pendulum.DateTime", "value", " unset"]))
forms = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(),
        texts,
        st.binary(max_size=5),
        st.builds(msgpack.ExtType, st.integers(1, 9), st.binary(max_size=20)),
        st.builds(msgpack.ExtType, st.just(7), st.from_regex(rb"\A[+-]?[0-9.]{0,9}(E[+-]?[0-9]{1,20})?\Z")),
        st.builds(msgpack.ExtType, st.just(2), st.binary(min_size=17, max_size=17).map(lambda data: data + b"UTC")),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(texts, inner, max_size=3),
        st.dictionaries(st.sampled_from([b"t", b"s", b"f", b"r", b""]), inner, max_size=2),
        st.builds(lambda tag, items: {tag: items}, st.sampled_from([b"t", b"s", b"f"]), st.lists(inner, max_size=3)),
        st.builds(lambda name, data: {b"r": [name, data]}, texts, inner),
    ),
    max_leaves=15,
)


@settings(max_examples=1000, deadline=None)
@given(forms)
def test_a_hostile_body_of_known_parts_raises_bad_envelope_or_is_a_value_that_can_be_stored_again(form: Any) -> None:
    value = read(sealed(msgpack.packb(form)))
    assert isinstance(value, BadEnvelope) or encode(value)


@settings(deadline=None)
@given(forms, st.data())
def test_a_damaged_envelope_is_refused_whatever_it_held(form: Any, data: st.DataObject) -> None:
    envelope = bytearray(sealed(msgpack.packb(form)))
    place = data.draw(st.integers(0, len(envelope) * 8 - 1))
    envelope[place // 8] ^= 1 << place % 8
    assert isinstance(read(bytes(envelope)), BadEnvelope)
    assert isinstance(read(bytes(envelope[: data.draw(st.integers(0, len(envelope) - 1))])), BadEnvelope)
