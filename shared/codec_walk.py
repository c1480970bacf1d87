"""Values to plain forms and back, under the limits of shape. Knows nothing of envelopes and checksums: codec.py does.

A plain form is what msgpack writes as it is: None, bool, int of 64 bits, finite float, str, bytes, list, and dict with
text keys, each of exactly that type. All other values are tagged:

- A scalar is an ext value of its own code.
- All else is a map with one entry whose key is of type bytes, which no dict of the user's can have: `t` tuple, `s` set
  and `f` frozenset hold a list, `r` holds a list of a registered class's name and the value's data.
"""

from collections.abc import Callable, Collection
from math import isfinite
from reprlib import repr as short_repr
from types import NoneType
from typing import Any, Final

from msgpack import ExtType, Packer

from shared.codec_types import SCALAR_TYPES, UnsendableError, build, from_ext, kind_of, to_ext
from shared.errors import BadEnvelope, LimitExceeded

MAX_DEPTH: Final = 64
MAX_ENTRIES: Final = 100_000
FEW_CONTAINERS: Final = 65_536

_TAGS: dict[type, bytes] = {tuple: b"t", set: b"s", frozenset: b"f"}
_TAGGED = {tag: make for make, tag in _TAGS.items()}
_CLASS = b"r"
_WEIGHTLESS = frozenset((NoneType, bool, int))
_DONE = _WEIGHTLESS | {str, bytes}
_BOXES = (list, dict)
_LONG = 100


def most_containers(limit: int) -> int:
    """How many lists and maps the plain form of a value of at most `limit` bytes may hold.

    An empty list has 1 byte when stored and 64 in memory, a small dict 3 and 230: bytes alone do not bound memory.
    """
    return max(FEW_CONTAINERS, limit // 4)


def pack_plain(plain: object) -> bytes:
    """The msgpack bytes of a plain form.

    Raises:
        OverflowError, UnicodeEncodeError: an integer beyond 64 bits, a text with a lone surrogate.
    """
    # A packer per call costs 0.1 us; a shared one would have to be guarded against threads and finalizers.
    packer: Any = Packer(strict_types=True)
    packed: bytes = packer.pack(plain)
    return packed


def is_plain(value: object, limit: int) -> bool:  # noqa: C901, PLR0912 - calls would cost more than the rest
    """True if `value` is its own plain form and within the limits, but for what `pack_plain` refuses.

    It is looked at level by level, so that a cycle ends at the depth limit. `room` shrinks by less than the bytes that
    packing makes: values that repeat one part many times are stopped before they fill the memory.
    """
    room, containers = 4 * limit, most_containers(limit)
    level: list[Any] = [value if type(value) in _BOXES else [value]]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for box in level:
            size = len(box)
            room -= size
            if room < 0 or size > MAX_ENTRIES:
                return False
            parts = box
            if type(box) is dict:
                for key in box:
                    if type(key) is not str:
                        return False
                    room -= len(key)
                parts = box.values()
            elif size > _LONG and _all_numbers(box):
                continue
            for part in parts:
                kind = type(part)
                if kind in _WEIGHTLESS:
                    continue
                if kind is str or kind is bytes:
                    room -= len(part)
                elif kind is dict or kind is list:
                    below.append(part)
                elif kind is not float or not isfinite(part):
                    return False
        containers -= len(below)
        if not below or containers < 0:
            return room >= 0 <= containers
        level = below
    return False


def _all_numbers(items: list[Any]) -> bool:
    # Long rows of numbers are common, and looked at four times faster like this.
    kinds = set(map(type, items))
    return kinds <= _WEIGHTLESS or (kinds == {float} and all(map(isfinite, items)))


# ---- to plain forms


Maker = Callable[["Walk", Any, int], Any]


class Walk:
    """One way through a value: makes its plain form, or names the part that has none; ends at the limits.

    `canonical` sorts maps and sets for digests; it cannot be read back.
    """

    def __init__(self, limit: int, *, canonical: bool = False) -> None:
        self.limit = limit
        self.canonical = canonical
        self._room = 4 * limit
        self._containers = most_containers(limit)

    def plain(self, value: Any, depth: int = 1) -> Any:
        """The plain form of a value that stands `depth` levels deep.

        Raises:
            UnsendableError: it has none; its `steps` lead from here to the part that is meant.
        """
        self.spend(1)
        maker: Maker = _MAKERS.get(type(value), _plain_object)
        return maker(self, value, depth)

    def spend(self, size: int) -> None:
        """Count bytes; far above the limit there is no use in going on for the exact size."""
        self._room -= size
        if self._room < 0:
            text = f"more than {4 * self.limit:,} bytes, the limit is {self.limit:,}"
            raise UnsendableError(text, LimitExceeded, located=False)

    def measure(self, size: int, what: str) -> None:
        """Count the bytes of one text or piece of data."""
        if size > self.limit:
            raise UnsendableError(f"{what} of {size:,} bytes, the limit is {self.limit:,}", LimitExceeded)
        self.spend(size)

    def enter(self, depth: int, entries: int, containers: int = 1) -> None:
        """Count a list or dict at this depth, before its entries are looked at."""
        self._containers -= containers
        if depth > MAX_DEPTH:
            text = f"nested deeper than the limit of {MAX_DEPTH} levels, or it contains itself"
            raise UnsendableError(text, LimitExceeded, located=False)
        if self._containers < 0:
            text = f"more lists, dicts and objects than the limit of {most_containers(self.limit):,}"
            raise UnsendableError(text, LimitExceeded, located=False)
        if entries > MAX_ENTRIES:
            raise UnsendableError(f"{entries:,} entries, the limit is {MAX_ENTRIES:,}", LimitExceeded)


def _same(_walk: Walk, value: Any, _depth: int) -> Any:
    return value


def _plain_int(_walk: Walk, value: int, _depth: int) -> int:
    if not -(2**63) <= value < 2**64:
        raise UnsendableError("an integer of more than 64 bits: send it as text")
    return value


def _plain_float(walk: Walk, value: float, depth: int) -> Any:
    return value if isfinite(value) else _plain_scalar(walk, value, depth)


def _plain_text(walk: Walk, value: str, _depth: int) -> str:
    try:
        size = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError as error:
        raise UnsendableError(f"text with a lone surrogate at {error.start}, which is no character") from error
    walk.measure(size, "text")
    return value


def _plain_bytes(walk: Walk, value: bytes, _depth: int) -> bytes:
    walk.measure(len(value), "data")
    return value


def _plain_scalar(walk: Walk, value: Any, _depth: int) -> ExtType:
    ext = to_ext(value)
    walk.measure(len(ext.data), type(value).__name__)
    return ext


def _plain_items(walk: Walk, value: Collection[Any], depth: int) -> list[Any]:
    walk.enter(depth, len(value))
    plain: list[Any] = []
    try:
        for item in value:
            plain.append(walk.plain(item, depth + 1))  # noqa: PERF401 - its length tells where it stopped
    except UnsendableError as refusal:
        refusal.steps.append(f"[{len(plain)}]" if type(value) in (list, tuple) else "{...}")
        raise
    return plain


def _plain_entries(walk: Walk, value: dict[Any, Any], depth: int) -> dict[str, Any]:
    walk.enter(depth, len(value))
    plain: dict[str, Any] = {}
    for key, item in value.items():
        if type(key) is not str:
            raise UnsendableError(f"a dict with the key {short_repr(key)}: keys must be text")
        _plain_text(walk, key, depth)
        try:
            plain[key] = walk.plain(item, depth + 1)
        except UnsendableError as refusal:
            refusal.steps.append(f".{key}" if key.isidentifier() else f"[{short_repr(key)}]")
            raise
    return dict(sorted(plain.items())) if walk.canonical else plain


def _plain_tagged(walk: Walk, value: Collection[Any], depth: int) -> dict[bytes, list[Any]]:
    walk.enter(depth, 0)
    if type(value) is not tuple and _is_crowded(value):
        raise UnsendableError("more than half of the elements share their hashes: send a list", LimitExceeded)
    items = _plain_items(walk, value, depth)
    if walk.canonical and type(value) is not tuple:
        items = sorted(map(pack_plain, items))
    return {_TAGS[type(value)]: items}


def _plain_object(walk: Walk, value: object, depth: int) -> dict[bytes, list[Any]]:
    walk.enter(depth, 0, containers=2)
    kind = kind_of(value)
    try:
        data = kind.canonical(value) if walk.canonical else kind.dump(value)
    except UnsendableError:
        raise
    except Exception as error:
        raise UnsendableError(f"{kind.name} cannot be taken apart ({type(error).__name__})") from error
    return {_CLASS: [kind.name, walk.plain(data, _depth_of_data(data, depth))]}


_MAKERS: dict[type, Maker] = {
    **dict.fromkeys(SCALAR_TYPES, _plain_scalar),
    **dict.fromkeys(_TAGS, _plain_tagged),
    NoneType: _same,
    bool: _same,
    int: _plain_int,
    float: _plain_float,
    str: _plain_text,
    bytes: _plain_bytes,
    list: _plain_items,
    dict: _plain_entries,
}


def _depth_of_data(data: object, depth: int) -> int:
    # An object and the list or dict of its own data are one level, so that trees of objects may be 64 levels deep.
    own = type(data) is list or (type(data) is dict and type(next(iter(data), "")) is str)
    return depth if own else depth + 1


# ---- from plain forms


def lift(plain: Any, depth: int = 1) -> Any:
    """The value of a plain form that was read from outside; its lists and dicts are changed in place.

    Raises:
        BadEnvelope: whatever `Walk.plain` does not make.
    """
    kind = type(plain)
    if kind in _DONE or (kind is float and isfinite(plain)):
        return plain
    if kind is ExtType:
        return from_ext(plain)
    if kind is list:
        return _lift_items(plain, depth)
    if kind is dict:
        return _lift_entries(plain, depth)
    raise BadEnvelope(f"a {kind.__name__} that is never stored like this: {short_repr(plain)}")


def _lift_items(items: list[Any], depth: int) -> list[Any]:
    _check_shape(items, depth)
    for index, item in enumerate(items):
        if type(item) not in _DONE:
            items[index] = lift(item, depth + 1)
    return items


def _lift_entries(entries: dict[Any, Any], depth: int) -> Any:
    _check_shape(entries, depth)
    for key, item in entries.items():
        if type(key) is not str:
            return _lift_tagged(entries, depth)
        if type(item) not in _DONE:
            entries[key] = lift(item, depth + 1)
    return entries


def _check_shape(plain: Collection[Any], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise BadEnvelope(f"nested deeper than {MAX_DEPTH} levels")
    if len(plain) > MAX_ENTRIES:
        raise BadEnvelope(f"{len(plain):,} entries, the limit is {MAX_ENTRIES:,}")


def _lift_tagged(entries: dict[Any, Any], depth: int) -> Any:
    tag, content = next(iter(entries.items()))
    if len(entries) != 1 or type(content) is not list:
        raise BadEnvelope("a map with a key that is not text")
    if tag == _CLASS and len(content) == 2 and type(content[0]) is str:  # noqa: PLR2004 - name and data
        name, data = content
        return build(name, lift(data, _depth_of_data(data, depth)))
    if tag not in _TAGGED:
        raise BadEnvelope(f"unknown tag {short_repr(tag)}")
    make = _TAGGED[tag]
    items = _lift_items(content, depth)
    if make is tuple:
        return tuple(items)
    try:
        made = None if _is_crowded(items) else make(items)
    except Exception as error:  # the elements may be of users' classes, whose hash can raise anything
        raise BadEnvelope(f"a {make.__name__} of what it cannot hold") from error
    if made is None or len(made) != len(items):
        raise BadEnvelope(f"a {make.__name__} with equal elements or equal hashes")
    return made


def _is_crowded(elements: Collection[Any]) -> bool:
    # Hashes of numbers and tuples are the same everywhere: a set of 45,000 chosen to collide takes 20 s to build.
    return len(elements) > _LONG and 2 * len(set(map(hash, elements))) < len(elements)
