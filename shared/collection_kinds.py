"""The kinds of collections that are looked into: how each is taken apart and put together again.

A collection is told by its class alone, never by `isinstance`: a mock of a list says that it is one, and is none.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from pydantic import BaseModel

from shared.annotations import Annotation
from shared.errors import InvalidValue
from shared.texts import shown

KINDS_REMEMBERED: Final = 4096


class MisfitError(Exception):
    """The element at this index of a collection cannot be there. Never leaves the visit, which knows the path."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of collection is handled.

    `elements` takes it apart, `places` names the elements' places in a path, `build` makes one like it of other
    elements. `blank` makes one that `fill` completes: so other collections of a circle can point to it beforehand.
    """

    elements: Callable[[Any], Sequence[Any]]
    places: Callable[[Any], Iterable[str]]
    build: Callable[[Any, list[Any]], Any]
    blank: Callable[[Any], Any] | None = None
    fill: Callable[[Any, list[Any]], None] | None = None


# --- lists, tuples, sets ----------------------------------------------------------------------------------------------


def _indexes(value: Any) -> Iterable[str]:
    return (f"[{index}]" for index in range(len(value)))


def _like(value: Any, elements: list[Any]) -> Any:
    return type(value)(elements)


def _set_like(value: Any, elements: list[Any]) -> Any:
    for index, element in enumerate(elements):
        _check_hashable(index, element)
    return type(value)(elements)


def _check_hashable(index: int, element: Any) -> None:
    try:
        hash(element)
    except TypeError as error:
        raise MisfitError(index, str(error)) from error


LIST: Final = Kind(list, _indexes, _like, blank=lambda value: type(value)(()), fill=list.extend)
TUPLE: Final = Kind(tuple, _indexes, _like)
NAMED_TUPLE: Final = Kind(
    tuple, lambda value: (f".{name}" for name in value._fields), lambda value, elements: type(value)._make(elements)
)
SET: Final = Kind(list, lambda value: (f"{{{shown(element)}}}" for element in value), _set_like)


# --- dicts: keys and values in turn -----------------------------------------------------------------------------------


def _keys_and_values(value: Any) -> list[Any]:
    return [one for pair in value.items() for one in pair]


def _key_and_value_places(value: Any) -> Iterable[str]:
    for key in value:
        is_name = isinstance(key, str) and key.isidentifier()
        yield f"{{{shown(key)}}}"
        yield f".{key}" if is_name else f"[{shown(key)}]"


def _pairs(elements: list[Any]) -> dict[Any, Any]:
    keys, values = elements[::2], elements[1::2]
    for position, key in enumerate(keys):
        _check_hashable(2 * position, key)
    pairs = dict(zip(keys, values, strict=True))
    if len(pairs) < len(keys):
        raise InvalidValue(f"two keys of a dict became equal, of {', '.join(shown(key) for key in keys)}")
    return pairs


def _dict_like(value: Any, pairs: dict[Any, Any]) -> Any:
    if isinstance(value, defaultdict):
        return type(value)(value.default_factory, pairs)
    return type(value)(pairs)


MAPPING: Final = Kind(
    _keys_and_values,
    _key_and_value_places,
    lambda value, elements: _dict_like(value, _pairs(elements)),
    blank=lambda value: _dict_like(value, {}),
    fill=lambda blank, elements: blank.update(_pairs(elements)),
)


# --- dataclass instances: fields, without running __init__ or __post_init__ again -------------------------------------


def _field_names(value: Any) -> list[str]:
    return [field.name for field in fields(value) if hasattr(value, field.name)]


def _field_places(value: Any) -> Iterable[str]:
    return (f".{name}" for name in _field_names(value))


def _uninitialised(cls: Any) -> Any:
    return cls.__new__(cls)


def _blank_dataclass(value: Any) -> Any:
    """Another instance with all that the given one holds, in its dict and in its slots."""
    blank = _uninitialised(type(value))
    # Not the class's own __getstate__: that of a frozen dataclass with slots is a list of its fields.
    state = object.__getstate__(value)
    for part in state if isinstance(state, tuple) else (state,):
        for name, attribute in (part or {}).items():
            object.__setattr__(blank, name, attribute)
    return blank


def _fill_dataclass(blank: Any, elements: list[Any]) -> None:
    for name, element in zip(_field_names(blank), elements, strict=True):
        object.__setattr__(blank, name, element)


# --- pydantic models: fields, without validation ----------------------------------------------------------------------


def _model_values(value: Any) -> dict[str, Any]:
    """The fields' values, then those of extra fields; what else is in the dict is cached and belongs to no field."""
    extra = value.__pydantic_extra__ or {}
    return {name: value.__dict__[name] for name in type(value).model_fields if name in value.__dict__} | extra


def _blank_model(value: Any) -> Any:
    blank = _uninitialised(type(value))
    for slot in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
        part = getattr(value, slot, None)
        object.__setattr__(blank, slot, None if part is None else part.copy())
    return blank


def _fill_model(blank: Any, elements: list[Any]) -> None:
    for name, element in zip(_model_values(blank), elements, strict=True):
        home = blank.__dict__ if name in blank.__dict__ else blank.__pydantic_extra__
        home[name] = element


def _filled(
    blank_like: Callable[[Any], Any], fill: Callable[[Any, list[Any]], None]
) -> Callable[[Any, list[Any]], Any]:
    def build(value: Any, elements: list[Any]) -> Any:
        blank = blank_like(value)
        fill(blank, elements)
        return blank

    return build


DATACLASS: Final = Kind(
    lambda value: [getattr(value, name) for name in _field_names(value)],
    _field_places,
    _filled(_blank_dataclass, _fill_dataclass),
    blank=_blank_dataclass,
    fill=_fill_dataclass,
)
MODEL: Final = Kind(
    lambda value: list(_model_values(value).values()),
    lambda value: (f".{name}" for name in _model_values(value)),
    _filled(_blank_model, _fill_model),
    blank=_blank_model,
    fill=_fill_model,
)
ANNOTATION: Final = Kind(
    lambda value: (value.unwrap(),), lambda _value: ("",), lambda value, elements: value.rewrap(elements[0])
)


# --- the kinds in the order in which they are tried -------------------------------------------------------------------

_TESTS: Final[tuple[tuple[Callable[[type], bool], Kind | None], ...]] = (
    (lambda cls: issubclass(cls, Annotation), ANNOTATION),
    (lambda cls: issubclass(cls, BaseModel), MODEL),
    (lambda cls: issubclass(cls, Enum), None),
    (is_dataclass, DATACLASS),
    (lambda cls: issubclass(cls, dict), MAPPING),
    (lambda cls: issubclass(cls, list), LIST),
    (lambda cls: issubclass(cls, tuple) and hasattr(cls, "_make"), NAMED_TUPLE),
    (lambda cls: issubclass(cls, tuple), TUPLE),
    (lambda cls: issubclass(cls, set | frozenset), SET),
)


@lru_cache(maxsize=KINDS_REMEMBERED)
def _kind_of_class(cls: type) -> Kind | None:
    return next((kind for test, kind in _TESTS if test(cls)), None)


def kind_of(value: object) -> Kind | None:
    """How this value is looked into; None if it is not."""
    cls: Any = type(value)
    return _kind_of_class(cls)
