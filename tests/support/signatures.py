"""Signatures as one would write them: without `self`, and without the modules that names come from."""

import inspect
import re
from collections.abc import Callable, Iterator
from enum import Enum
from functools import reduce
from importlib import import_module
from inspect import Parameter, Signature
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from shared.version import __version__

_NAMES: dict[Any, str] = {NoneType: "None", None: "None", ...: "...", AwareDatetime: "datetime"}
_STARS = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}


def _joined(parts: tuple[Any, ...], separator: str = ", ") -> str:
    return separator.join(map(type_text, parts))


_FORMS: dict[Any, Callable[[tuple[Any, ...]], str]] = {
    Annotated: lambda parts: type_text(parts[0]),
    Union: lambda parts: _joined(parts, " | "),
    UnionType: lambda parts: _joined(parts, " | "),
    Literal: lambda parts: f"Literal[{', '.join(map(repr, parts))}]",
}


def type_text(kind: Any) -> str:
    """An annotation."""
    if isinstance(kind, list):  # the parameters of a Callable
        return f"[{_joined(tuple(kind))}]"
    if isinstance(kind, str):  # of a name that is defined further down
        return re.sub(r"'(\w+)'", r"\1", kind)
    origin, parts = get_origin(kind), get_args(kind)
    if origin in _FORMS:
        return _FORMS[origin](parts)
    if origin is not None:
        return f"{type_text(origin)}[{_joined(parts)}]"
    return _NAMES[kind] if kind in _NAMES else str(getattr(kind, "__name__", kind)).rpartition(".")[2]


def default_text(default: Any) -> str:
    """A default; an object as its class is called, one that is made anew each time as three dots."""
    if default is PydanticUndefined:
        return "..."
    if default == __version__:
        return "__version__"
    if isinstance(default, BaseModel):
        return f"{type(default).__name__}()"
    return default.__name__ if isinstance(default, type) else repr(default)


def call_text(shape: Signature) -> str:
    """A call."""
    parameters = [parameter for parameter in shape.parameters.values() if parameter.name != "self"]
    parts = [_parameter_text(parameter) for parameter in parameters]
    by_name = [index for index, parameter in enumerate(parameters) if parameter.kind is Parameter.KEYWORD_ONLY]
    if by_name and not any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in parameters):
        parts.insert(by_name[0], "*")
    answer = shape.return_annotation
    return f"({', '.join(parts)})" + ("" if answer is Signature.empty else f" -> {type_text(answer)}")


def _parameter_text(parameter: Parameter) -> str:
    text = _STARS.get(parameter.kind, "") + parameter.name
    if parameter.annotation is not Parameter.empty:
        text += f": {type_text(parameter.annotation)}"
    return text if parameter.default is Parameter.empty else f"{text} = {default_text(parameter.default)}"


def signature_of(module: str, name: str) -> str:
    """How it is called; of what is not called its type, with the default."""
    *owners, last = name.split(".")
    owner: Any = reduce(getattr, owners, import_module(module))
    if isinstance(owner, type) and issubclass(owner, BaseModel) and last in owner.model_fields:
        return _field_text(owner.model_fields[last])
    found, value = inspect.getattr_static(owner, last), getattr(owner, last)
    if inspect.isroutine(value):
        return _kind_of_method(found) + call_text(inspect.signature(value))
    if isinstance(found, property) and found.fget is not None:
        return f"property -> {type_text(inspect.signature(found.fget).return_annotation)}"
    if inspect.ismemberdescriptor(found):
        return type_text(owner.__annotations__[last])
    return _class_text(value) if isinstance(value, type) else _constant_text(value)


def _field_text(field: FieldInfo) -> str:
    text = type_text(field.annotation)
    return text if field.is_required() else f"{text} = {default_text(field.default)}"


def _kind_of_method(found: Any) -> str:
    kind = next((f"{kind.__name__} " for kind in (classmethod, staticmethod) if isinstance(found, kind)), "")
    return f"{kind}async " if inspect.iscoroutinefunction(found) else kind


def _class_text(cls: type) -> str:
    """How it is made; of an exception or an enumeration what it is."""
    if issubclass(cls, BaseException | Enum):
        return f"class({', '.join(base.__name__ for base in _shown_bases(cls))})"
    if issubclass(cls, BaseModel):
        return "class(**fields: Any)"
    return f"class{call_text(inspect.signature(cls))}".removesuffix(" -> None")


def _shown_bases(cls: type) -> Iterator[type]:
    for base in cls.__bases__:
        yield from _shown_bases(base) if base.__name__.startswith("_") else (base,)


def _constant_text(value: Any) -> str:
    if get_origin(value) is Annotated:
        return type_text(value)
    return repr(value) if isinstance(value, Enum | int) else type(value).__name__
