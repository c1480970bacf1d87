"""Plain forms as JSON and back: what only msgpack has is written as tags. Limits and bytes are codec.py's.

A tag is an object with one key that begins with `$`: `$b` data in base64, `$e` a scalar (its ext code, its payload in
base64), `$t` tuple, `$s` set, `$f` frozenset, `$r` a registered class's name and the value's data. A dict of the user's
with one key that begins so is written with one `$` more, so none is ever taken for a tag.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable
from reprlib import repr as short_repr
from typing import Any, Final

from msgpack import ExtType

from shared.errors import BadEnvelope

_MARK: Final = "$"
_BYTES, _EXT = f"{_MARK}b", f"{_MARK}e"


def to_json(plain: Any) -> Any:
    """The JSON values of a plain form; it is not changed."""
    kind = type(plain)
    if kind is dict:
        return _tagged(plain) if len(plain) == 1 else {key: to_json(item) for key, item in plain.items()}
    if kind is list:
        return [to_json(item) for item in plain]
    if kind is bytes:
        return {_BYTES: _text(plain)}
    if kind is ExtType:
        return {_EXT: [plain.code, _text(plain.data)]}
    return plain


def _tagged(plain: dict[Any, Any]) -> dict[str, Any]:
    ((key, content),) = plain.items()
    if type(key) is bytes:
        key = _MARK + key.decode()
    elif key.startswith(_MARK):
        key = _MARK + key
    return {key: to_json(content)}


def from_json(value: Any) -> Any:
    """The plain form of JSON values that were read from outside.

    Raises:
        BadEnvelope: a tag that `to_json` does not make.
        ValueError: data that is no base64, or an ext code out of range.
    """
    kind = type(value)
    if kind is list:
        return [from_json(item) for item in value]
    if kind is not dict:
        return value
    if len(value) == 1:
        ((key, content),) = value.items()
        if key.startswith(_MARK):
            return _untagged(key, content)
    return {key: from_json(item) for key, item in value.items()}


def _untagged(key: str, content: Any) -> Any:
    if key.startswith(_MARK * 2):
        return {key[1:]: from_json(content)}
    read = _READERS.get(key)
    if read is None:
        raise BadEnvelope(f"unknown tag {short_repr(key)}")
    return read(content)


def _ext(content: Any) -> ExtType:
    if type(content) is not list or [type(part) for part in content] != [int, str]:
        raise BadEnvelope(f"a scalar that is never stored like this: {short_repr(content)}")
    return ExtType(content[0], _data(content[1]))


def _marked(tag: bytes) -> Callable[[Any], dict[bytes, Any]]:
    return lambda content: {tag: from_json(content)}


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def _data(text: Any) -> bytes:
    if type(text) is not str:
        raise BadEnvelope(f"data that is never stored like this: {short_repr(text)}")
    return b64decode(text, validate=True)


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    _BYTES: _data,
    _EXT: _ext,
    **{_MARK + tag.decode(): _marked(tag) for tag in (b"t", b"s", b"f", b"r")},
}
