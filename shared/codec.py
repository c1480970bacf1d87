"""Values to bytes and back: every stored value in one envelope, under limits. Knows no key, no Redis and no run.

An envelope, in bytes:

    0   3   magic: BA 74 6E
    3   1   version: 1
    4   1   flags, see below
    5   1   key id: which key signed or encrypted, 0 for none
    6   n   body
    6+n 4   CRC-32 of all bytes before it, big-endian
    10+n 4  n, big-endian

Flags: 1 = the body is JSON (else msgpack), 2 = compressed by zlib, 4 = encrypted, 8 = signed; the others are zero.
Encryption and signing are not built yet and are refused by name. Their places are kept, so they need no new version:
an encrypted body is a nonce of 12 bytes, the ciphertext and its tag of 16; a signature of 32 bytes, over all before it
and the run it belongs to, stands in the place of the last 8 bytes. The checksum is there against flipped bits and cuts,
not against attackers. CRC-32 finds every flip of up to 3 bits in 11 kB, of 2 in any size, and every burst of 32;
the length finds cuts and additions; it costs a fifth of BLAKE2b, which at 100 kB would take longer than all the rest.

A msgpack body is a plain form of codec_walk.py; codec_types.py says which types there are besides JSON's. Types are
exact: a subclass of a supported type (OrderedDict, a named tuple) would come back as its base, so it is refused unless
its class is registered. A JSON body holds the same plain form as JSON, see codec_json.py; readers in other languages
find JSON's own types as they are.
"""

import hashlib
import json
import zlib
from collections.abc import Callable
from struct import Struct
from typing import Any, Final, NoReturn

from msgpack import unpackb

from shared.codec_json import from_json, to_json
from shared.codec_types import UnsendableError
from shared.codec_walk import FEW_CONTAINERS, MAX_ENTRIES, Walk, is_plain, lift, most_containers, pack_plain
from shared.errors import BadEnvelope, HashError, InvalidValue, LimitExceeded

DEFAULT_LIMIT: Final = 256 * 1024

_MAGIC, _VERSION = b"\xba\x74\x6e", 1
_JSON, _COMPRESSED, _ENCRYPTED, _SIGNED = 1, 2, 4, 8
_SERIALIZERS = {"msgpack": 0, "json": _JSON, "compressed/msgpack": _COMPRESSED, "compressed/json": _COMPRESSED | _JSON}
SERIALIZERS: Final = tuple(_SERIALIZERS)
"""The names that `encode` takes."""
_HEAD, _TAIL = Struct(">3sBBB"), Struct(">II")
_HEADS = {flags: _HEAD.pack(_MAGIC, _VERSION, flags, 0) for flags in _SERIALIZERS.values()}
_FLAGS = {head: flags for flags, head in _HEADS.items()}
_SEEDS = {flags: zlib.crc32(head) for flags, head in _HEADS.items()}
_OVERHEAD = _HEAD.size + _TAIL.size
_DIGEST_LIMIT = 16 * 1024 * 1024
_LINE = 200


def encode(value: object, *, limit: int = DEFAULT_LIMIT, where: str = "value", serializer: str = "msgpack") -> bytes:
    """The envelope of a value.

    Args:
        value: anything made of the types that the top of this file and `register_type` name.
        limit: the most bytes that the body may have before compression.
        where: what the value is to the caller; errors begin their paths with it, as in `where.items[3]['odd key']`.
        serializer: `msgpack`, `json`, `compressed/msgpack` or `compressed/json`.

    Raises:
        InvalidCall: it holds something that would not come back as the same type.
        LimitExceeded: too many bytes, entries or levels, or it contains itself.
        InvalidValue: no such serializer.
    """
    flags = _SERIALIZERS.get(serializer)
    if flags is None:
        raise InvalidValue(f"unknown serializer {serializer!r}: it is one of {', '.join(_SERIALIZERS)}")
    try:
        body = _to_json(value, limit) if flags & _JSON else _to_msgpack(value, limit)
        if len(body) > limit:
            Walk(limit).plain(value)  # names the place if one text alone is too large
    except UnsendableError as refusal:
        raise refusal.error(f"{_path(where, refusal)}: {refusal.text}") from refusal.__cause__
    if len(body) > limit:
        raise LimitExceeded(f"{where}: {len(body):,} bytes, the limit is {limit:,}")
    if flags & _COMPRESSED:
        small = zlib.compress(body)
        # What does not shrink stays as it is: it could come out above the limit, which its reader checks.
        flags, body = (flags, small) if len(small) < len(body) else (flags & ~_COMPRESSED, body)
    return b"".join((_HEADS[flags], body, _TAIL.pack(zlib.crc32(body, _SEEDS[flags]), len(body))))


def decode(data: bytes, *, limit: int = DEFAULT_LIMIT) -> Any:
    """The value in an envelope. `limit` is the most bytes that its body may have, compressed or not.

    Raises:
        BadEnvelope: anything else than what `encode` makes under this limit, or a class that is not registered here.
    """
    flags, stored = _open(data, limit)
    body = _inflate(stored, limit) if flags & _COMPRESSED else stored
    return _from_json(bytes(body), limit, tags=True) if flags & _JSON else _from_msgpack(body, limit)


def decode_parameters(data: bytes, *, limit: int = DEFAULT_LIMIT) -> dict[str, Any]:
    """The parameters of a run by name: an envelope around a dict, or raw JSON text of an object, at most `limit` bytes.

    Raises:
        BadEnvelope: neither of the two.
    """
    if not data.startswith(b"{"):
        value = decode(data, limit=limit)
    elif len(data) > limit:
        raise BadEnvelope(f"{len(data):,} bytes of JSON, the limit is {limit:,}")
    else:
        value = _from_json(data, limit, tags=False)
    if type(value) is not dict:
        raise BadEnvelope(f"parameters are a map with text keys, this is a {type(value).__name__}")
    return value


def digest(value: object, *, where: str = "value") -> str:
    """SHA-256 as 64 hex digits over the canonical form: the same for the same value in every process and machine.

    The order of dict keys and set elements does not count; types do: 1, 1.0 and True have three digests.

    Raises:
        HashError: it holds something without stored form, is nested too deep or larger than 16 MB.
    """
    try:
        form = pack_plain(Walk(_DIGEST_LIMIT, canonical=True).plain(value))
    except UnsendableError as refusal:
        advice = "it has no canonical form: leave the argument out, for example INPUTS - 'client'"
        raise HashError(f"{_path(where, refusal)}: {refusal.text}; {advice}") from refusal.__cause__
    return hashlib.sha256(form).hexdigest()


def _path(where: str, refusal: UnsendableError) -> str:
    path = where + "".join(reversed(refusal.steps)) if refusal.located else where
    return path if len(path) <= _LINE else f"{path[: _LINE // 2]}...{path[-_LINE // 2 :]}"


def _to_msgpack(value: object, limit: int) -> bytes:
    if is_plain(value, limit):
        try:
            return pack_plain(value)
        except (OverflowError, UnicodeEncodeError):
            pass  # the walk names the place
    return pack_plain(Walk(limit).plain(value))


def _to_json(value: object, limit: int) -> bytes:
    plain = to_json(Walk(limit).plain(value))
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()


def _open(data: bytes, limit: int) -> tuple[int, memoryview]:
    """The flags and the body of an envelope whose bytes are all in order."""
    if len(data) > limit + _OVERHEAD:
        raise BadEnvelope(f"{len(data):,} bytes, the limit is {limit:,} and {_OVERHEAD} around it")
    head = data[: _HEAD.size]
    flags = _FLAGS.get(head)
    if flags is None or len(data) < _OVERHEAD:
        raise BadEnvelope(_what_is_wrong(data))
    body = memoryview(data)[_HEAD.size : -_TAIL.size]
    checksum, size = _TAIL.unpack_from(data, len(data) - _TAIL.size)
    if size != len(body):
        raise BadEnvelope(f"cut or lengthened: {len(body):,} bytes of body, {size:,} were written")
    if checksum != zlib.crc32(body, _SEEDS[flags]):
        raise BadEnvelope("damaged: the checksum does not fit")
    return flags, body


def _what_is_wrong(data: bytes) -> str:
    if not data:
        return "empty"
    if not data.startswith(_MAGIC):
        return f"no envelope of Baton: it begins with {data[:8]!r}"
    if len(data) < _OVERHEAD:
        return f"cut off after {len(data)} bytes"
    _, version, flags, key = _HEAD.unpack_from(data)
    if version != _VERSION:
        return f"an envelope of version {version}, this Baton reads {_VERSION}"
    if flags & (_SIGNED | _ENCRYPTED):
        return f"{'signed' if flags & _SIGNED else 'encrypted'}, which this Baton cannot read"
    return f"unknown flags {flags:#x} or key {key}"


def _inflate(body: memoryview, limit: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        # One byte above the limit is enough to know, however much a bomb would make.
        inflated = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise BadEnvelope("the compressed body is damaged") from error
    if len(inflated) > limit:
        raise BadEnvelope(f"the body has more than {limit:,} bytes when it is decompressed")
    if not inflater.eof or inflater.unused_data:
        raise BadEnvelope("the compressed body is cut or lengthened")
    return inflated


def _from_msgpack(body: bytes | memoryview, limit: int) -> Any:
    on_list, on_map = _counting_hooks(limit) if len(body) > FEW_CONTAINERS else (None, _unique)
    most = min(MAX_ENTRIES, len(body))
    try:
        plain = unpackb(
            body,
            raw=False,
            strict_map_key=True,
            timestamp=0,
            max_array_len=most,
            max_map_len=most,
            list_hook=on_list,
            object_pairs_hook=on_map,
        )
    except (ValueError, MemoryError) as error:
        raise BadEnvelope(f"the body is no msgpack that Baton writes ({type(error).__name__}: {error})") from error
    return _lifted(plain, limit)


def _from_json(data: bytes, limit: int, *, tags: bool) -> Any:
    try:
        plain = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
        if tags:
            plain = from_json(plain)
        pack_plain(plain)  # refuses what JSON has and Baton has not: long integers, lone surrogates
        return _lifted(plain, limit)
    except (ValueError, OverflowError, MemoryError, RecursionError) as error:
        raise BadEnvelope(f"no JSON that Baton reads ({type(error).__name__}: {error})") from error


def _lifted(plain: Any, limit: int) -> Any:
    if is_plain(plain, limit):
        return plain
    try:
        return lift(plain)
    except RecursionError as error:
        raise BadEnvelope("nested too deep for the stack that is left") from error


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise BadEnvelope("a map has the same key twice")
    return entries


def _counting_hooks(limit: int) -> tuple[Callable[[list[Any]], list[Any]], Callable[[list[Any]], dict[Any, Any]]]:
    """Hooks for lists and maps that refuse a body before its containers fill the memory."""
    left = most_containers(limit)

    def count(items: list[Any]) -> list[Any]:
        nonlocal left
        left -= 1
        if left < 0:
            raise BadEnvelope(f"more lists and maps than the limit of {most_containers(limit):,}")
        return items

    return count, lambda pairs: _unique(count(pairs))


def _no_constant(name: str) -> NoReturn:
    raise BadEnvelope(f"JSON has no {name}")
