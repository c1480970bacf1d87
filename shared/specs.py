"""What a task is: a function and its options, frozen, and the registry that finds one by its key. Calls nothing."""

import math
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction, signature
from pathlib import Path
from typing import Any, Final, Generic, Literal, ParamSpec, Protocol, TypeAlias, TypeVar

from shared.binding import Binding
from shared.errors import ConfigError, InvalidCall, InvalidValue, ReservedArgumentError, TaskNotRegistered

P = ParamSpec("P")
R = TypeVar("R")

MAX_DELAYS = 50
LONGEST_NAME = 255
_RESERVED = ("return_state", "wait_for")
_QUEUE = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Promoters wait for due runs on the wake-up list of this name.
_TAKEN = frozenset({"due"})


@dataclass(frozen=True, kw_only=True)
class TaskSpec(Generic[P, R]):
    """A task as producers and workers see it. Durations are seconds."""

    fn: Callable[P, R]
    key: str
    name: str
    queue: str = "default"
    retries: int = 0
    retry_delays: tuple[float, ...] = ()
    retry_jitter_factor: float | None = None
    timeout_seconds: float | None = None
    persist_result: bool = True
    result_ttl: int | None = None
    on_crash: Literal["retry", "fail"] = "retry"
    description: str | None = None
    version: str | None = None
    isasync: bool = False
    isgenerator: bool = False
    binding: Binding = field(compare=False, repr=False)


DEFAULTS: Final[Mapping[str, Any]] = {
    each.name: each.default for each in fields(TaskSpec) if each.default is not MISSING
}
"""What a spec's fields are where nothing else was said."""


class TaskLike(Protocol[P, R]):
    """Anything with a task's spec: a `Task`, or whatever wraps one."""

    @property
    def spec(self) -> TaskSpec[P, R]:
        """The task's description."""


def describe(fn: Callable[P, R], **options: Any) -> TaskSpec[P, R]:
    """A spec from a function and options as `@task` takes them; an option that is None takes its default.

    Raises:
        InvalidCall: not a function, or an option of a wrong type.
        InvalidValue: an option out of its range.
        ReservedArgumentError: a parameter has a name that belongs to `submit`.
    """
    if not callable(fn):
        raise InvalidCall("'fn' must be callable")
    shape = signature(fn)
    for name in _RESERVED:
        if name in shape.parameters:
            raise ReservedArgumentError(
                f"'{name}' belongs to submit and map: give the parameter of {fn!r} another name"
            )
    code = fn if hasattr(fn, "__code__") else type(fn).__call__
    checked = check_options(options)
    task_name = checked.setdefault("name", getattr(fn, "__name__", type(fn).__name__))
    checked.setdefault("key", _default_key(fn))
    checked.setdefault("description", getattr(fn, "__doc__", None))
    return TaskSpec(
        fn=fn,
        isasync=iscoroutinefunction(code) or isasyncgenfunction(code),
        isgenerator=isgeneratorfunction(code) or isasyncgenfunction(code),
        binding=Binding(task_name, shape),
        **checked,
    )


def _default_key(fn: Callable[..., Any]) -> str:
    module = getattr(fn, "__module__", None) or type(fn).__module__
    qualname = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    if module == "__main__":
        # Run as a script here, imported as a module by the worker: the file's stem is what both agree on.
        module = Path(_place(fn)[0]).stem
    return f"{module}.{qualname}"


def _place(fn: Callable[..., Any]) -> tuple[str, str]:
    code = getattr(fn, "__code__", None) or getattr(type(fn).__call__, "__code__", None)
    file = getattr(code, "co_filename", "?")
    return file, getattr(fn, "__qualname__", None) or type(fn).__qualname__


# --- options ----------------------------------------------------------------------------------------------------------


def check_options(options: Mapping[str, Any], retries: int = 0) -> dict[str, Any]:
    """The options of a task as fields of its spec; one that is None is left out. `retries`: where they are not given.

    Raises:
        InvalidCall: an option that is unknown, or of a wrong type.
        InvalidValue: an option out of its range.
    """
    checked = _checked(options, {**_CHECKS, "retry_delay_seconds": lambda _name, value: value})
    if "retry_delay_seconds" in checked:
        checked["retry_delays"] = _delays(checked.pop("retry_delay_seconds"), checked.get("retries", retries))
    if checked.get("timeout_seconds") == 0:
        checked["timeout_seconds"] = None
    return checked


def check_submit_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of one submit: `delay` in seconds and `at_front`; one that is None is left out.

    Raises:
        InvalidCall, InvalidValue: as `check_options`.
    """
    return _checked(options, SUBMIT_OPTIONS)


def _checked(options: Mapping[str, Any], checks: "Mapping[str, Check]") -> dict[str, Any]:
    unknown = [name for name in options if name not in checks]
    if unknown:
        raise InvalidCall(f"unknown option {', '.join(map(repr, unknown))}; there are {', '.join(sorted(checks))}")
    return {name: checks[name](name, value) for name, value in options.items() if value is not None}


def queue_name(option: str, value: Any) -> str:
    """A queue's name.

    Raises:
        InvalidValue: not such a name; says how one looks.
    """
    if not isinstance(value, str) or not _QUEUE.fullmatch(value):
        raise InvalidValue(
            f"'{option}' is {_short(value)}: a queue's name has 1 to 100 of a-z 0-9 . _ - and begins with a-z or 0-9"
        )
    if value in _TAKEN:
        raise InvalidValue(f"'{option}' is '{value}': that name is taken by Baton itself, choose another")
    return value


def _text(option: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidCall(f"'{option}' must be text, got {type(value).__name__}")
    return value


def _label(option: str, value: Any) -> str:
    text = _text(option, value)
    if not text or len(text) > LONGEST_NAME or _CONTROL.search(text):
        raise InvalidValue(f"'{option}' is {_short(text)}: 1 to {LONGEST_NAME} characters, without control characters")
    return text


def _count(option: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidCall(f"'{option}' must be a whole number, got {type(value).__name__}")
    if value < 0:
        raise InvalidValue(f"'{option}' must be >= 0, got {value}")
    return value


def _seconds(option: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidCall(f"'{option}' must be a number of seconds, got {type(value).__name__}")
    if not (value >= 0 and math.isfinite(value)):
        raise InvalidValue(f"'{option}' must be a finite number >= 0, got {value}")
    return float(value)


def _jitter(option: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidCall(f"'{option}' must be a number, got {type(value).__name__}")
    if not (value >= 0 and math.isfinite(value)):
        raise InvalidValue("`retry_jitter_factor` must be >= 0.")
    return float(value)


def _delays(value: Any, retries: int) -> tuple[float, ...]:
    if callable(value):
        value = value(retries)
    if not isinstance(value, list | tuple):
        value = [value]
    if len(value) > MAX_DELAYS:
        raise InvalidValue("Can not configure more than 50 retry delays per task.")
    return tuple(_seconds("retry_delay_seconds", delay) for delay in value)


def _flag(option: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidCall(f"'{option}' must be True or False, got {type(value).__name__}")
    return value


def _retention(option: str, value: Any) -> int:
    seconds = _count(option, value)
    if seconds < 60:  # noqa: PLR2004 - less would vanish under the hands of whoever reads it
        raise InvalidValue(f"'{option}' must be at least 60 seconds, got {seconds}")
    return seconds


def _on_crash(option: str, value: Any) -> str:
    if value not in ("retry", "fail"):
        raise InvalidValue(f"'{option}' must be 'retry' or 'fail', got {_short(value)}")
    return str(value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}..."


Check: TypeAlias = Callable[[str, Any], Any]
_CHECKS: Final[Mapping[str, Check]] = {
    "name": _label,
    "key": _label,
    "queue": queue_name,
    "retries": _count,
    "retry_jitter_factor": _jitter,
    "timeout_seconds": _seconds,
    "persist_result": _flag,
    "result_ttl": _retention,
    "on_crash": _on_crash,
    "description": _text,
    "version": _text,
}
SUBMIT_OPTIONS: Final[Mapping[str, Check]] = {"delay": _seconds, "at_front": _flag}


# --- the registry -----------------------------------------------------------------------------------------------------


class Registry:
    """The tasks that this process knows, by key. A worker runs these and nothing else."""

    def __init__(self) -> None:
        self._specs: dict[str, TaskSpec[..., Any]] = {}
        self._lock = threading.Lock()

    def add(self, spec: TaskSpec[..., Any]) -> None:
        """Make a task known. The same place in the code again, after a reload, replaces.

        Raises:
            ConfigError: another function has this key; names both places.
        """
        with self._lock:
            known = self._specs.get(spec.key)
            if known is not None and _place(known.fn) != _place(spec.fn):
                first, second = (":".join(_place(fn)) for fn in (known.fn, spec.fn))
                raise ConfigError(
                    f"Two tasks have the key '{spec.key}': {first} and {second}. Give one of them a key=."
                )
            self._specs[spec.key] = spec

    def find(self, key: str) -> TaskSpec[..., Any]:
        """The task of this key.

        Raises:
            TaskNotRegistered: there is none; lists what is known.
        """
        try:
            return self._specs[key]
        except KeyError:
            known = ", ".join(sorted(self._specs)) or "none"
            raise TaskNotRegistered(f"Task '{key}' is not registered on this queue; known: {known}.") from None

    def get(self, key: str) -> TaskSpec[..., Any] | None:
        """The task of this key, or None."""
        return self._specs.get(key)

    def specs(self) -> Sequence[TaskSpec[..., Any]]:
        """All known tasks."""
        return list(self._specs.values())

    def keys(self) -> Sequence[str]:
        """All known keys, sorted."""
        return sorted(self._specs)


registry = Registry()
