"""What a task is: a function and its options, frozen, and the registry that finds one by its key. Calls nothing."""

import logging
import threading
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction, signature
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Literal, ParamSpec, Protocol, TypeVar

from shared.binding import Binding
from shared.cache import NO_CACHE, CachePolicy, parameters_named, policy_of
from shared.errors import ConfigError, InvalidCall, InvalidValue, ReservedArgumentError, TaskNotRegistered
from shared.options import (
    HOOKS,
    SUBMIT_OPTIONS,
    TRANSACTION_HOOKS,
    check_flow_options,
    check_options,
    check_submit_options,
    queue_name,
    usual_retries,
)
from shared.sources import source_digest
from shared.validation import Validation

__all__ = [
    "DEFAULTS",
    "HOOKS",
    "SUBMIT_OPTIONS",
    "TRANSACTION_HOOKS",
    "FlowSpec",
    "Registry",
    "TaskLike",
    "TaskSpec",
    "check_caching",
    "check_flow_options",
    "check_options",
    "check_submit_options",
    "describe",
    "describe_flow",
    "queue_name",
    "registry",
]

P = ParamSpec("P")
R = TypeVar("R")

_RESERVED = ("return_state", "wait_for")
_CACHING = ("persist_result", "cache_policy", "cache_key_fn", "result_storage_key")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TaskSpec(Generic[P, R]):
    """A task as producers and workers see it. Durations are seconds.

    `transacts`: an attempt has a transaction, since its result is cached or it has hooks of one.
    """

    kind: ClassVar[Literal["task", "flow"]] = "task"
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
    cache_policy: CachePolicy | None = None
    cache_key_fn: Callable[..., str | None] | None = None
    cache_expiration: float | None = None
    refresh_cache: bool | None = None
    result_storage_key: str | None = None
    on_crash: Literal["retry", "fail"] = "retry"
    description: str | None = None
    version: str | None = None
    tags: tuple[str, ...] = ()
    start_within: float | None = None
    retry_condition_fn: Callable[..., Any] | None = None
    task_run_name: str | Callable[..., Any] | None = None
    log_prints: bool = False
    trigger: Callable[..., Any] | None = None
    state_handlers: tuple[Callable[..., Any], ...] = ()
    limit: int | None = None
    on_running: tuple[Callable[..., Any], ...] = ()
    on_completion: tuple[Callable[..., Any], ...] = ()
    on_failure: tuple[Callable[..., Any], ...] = ()
    on_crashed: tuple[Callable[..., Any], ...] = ()
    on_cancellation: tuple[Callable[..., Any], ...] = ()
    on_commit: tuple[Callable[..., Any], ...] = ()
    on_rollback: tuple[Callable[..., Any], ...] = ()
    isasync: bool = False
    isgenerator: bool = False
    binding: Binding = field(compare=False, repr=False)
    source: str | None = field(default=None, compare=False, repr=False)
    transacts: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if unknown := parameters_named(self.result_storage_key or "") - self.binding.signature.parameters.keys():
            raise InvalidValue(
                f"'result_storage_key' names {', '.join(sorted(unknown))}: '{self.name}' has no such parameter"
            )
        if self.source is None and self.caching.needs_source:
            object.__setattr__(self, "source", source_digest(self.fn))
        # Asked for every attempt: those of tasks without any of it pay for nothing else.
        transacts = bool(self.on_commit or self.on_rollback or self.caching.is_caching)
        object.__setattr__(self, "transacts", transacts)

    @property
    def caching(self) -> CachePolicy:
        """What the options about caching come to. Nothing is cached unless it was asked for, and results are kept."""
        if not self.persist_result:
            return NO_CACHE
        return policy_of(self.cache_policy, self.cache_key_fn, self.result_storage_key)

    @property
    def spec(self) -> "TaskSpec[P, R]":
        """Itself: a spec will do wherever a task does."""
        return self


@dataclass(frozen=True, kw_only=True)
class FlowSpec(TaskSpec[P, R]):
    """A flow: a function that submits runs. `unfinished` says what becomes of those that have not ended when it has."""

    kind: ClassVar[Literal["task", "flow"]] = "flow"
    validate_parameters: bool = True
    unfinished: Literal["wait", "cancel", "leave"] = "wait"
    validation: Validation = field(compare=False, repr=False)

    def converted(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """The parameters of a call, each checked and converted by its annotation.

        Raises:
            ParameterBindError: they do not fit the function, or its annotations; names all that are wrong.
        """
        args, kwargs = self.binding.unbind(parameters)
        if not self.validate_parameters:
            return parameters
        return self.validation.converted(self.name, self.binding.bind(args, kwargs))


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
        HashError: the source of the function is to be in cache keys, and it has none.
    """
    retries = usual_retries()
    checked = check_options(options, retries)
    spec = TaskSpec(fn=fn, **_described(fn, checked, retries))
    check_caching(spec, checked)
    return spec


def describe_flow(fn: Callable[P, R], **options: Any) -> FlowSpec[P, R]:
    """The same of a flow, from options as `@flow` takes them.

    Raises:
        InvalidCall, InvalidValue, ReservedArgumentError: as `describe`.
    """
    retries = usual_retries()
    described = _described(fn, check_flow_options(options, retries), retries)
    return FlowSpec(fn=fn, validation=Validation(fn, described["binding"].signature), **described)


def _described(fn: Callable[..., Any], checked: dict[str, Any], retries: int) -> dict[str, Any]:
    """The fields of a spec from what the function tells of itself and from options that were checked."""
    if not callable(fn):
        raise InvalidCall("'fn' must be callable")
    try:
        shape = signature(fn)
    except ValueError as error:
        raise InvalidCall(f"{fn!r} does not tell its parameters: wrap it in a function of yours") from error
    for name in _RESERVED:
        if name in shape.parameters:
            raise ReservedArgumentError(
                f"'{name}' belongs to submit and map: give the parameter of {fn!r} another name"
            )
    code = fn if hasattr(fn, "__code__") else type(fn).__call__
    checked.setdefault("retries", retries)
    task_name = checked.setdefault("name", getattr(fn, "__name__", type(fn).__name__))
    checked.setdefault("key", _default_key(fn))
    checked.setdefault("description", getattr(fn, "__doc__", None))
    if checked.get("limit") is not None and any(map(str.isspace, checked["key"])):
        raise InvalidValue(f"'limit' needs a key without white space, since it is named after it: {checked['key']!r}")
    return {
        **checked,
        "isasync": iscoroutinefunction(code) or isasyncgenfunction(code),
        "isgenerator": isgeneratorfunction(code) or isasyncgenfunction(code),
        "binding": Binding(task_name, shape),
    }


def check_caching(spec: TaskSpec[..., Any], given: Container[str]) -> None:
    """Log a warning where options about caching contradict each other, if one of them was given just now."""
    if ("cache_policy" in given or "cache_key_fn" in given) and spec.cache_policy and spec.cache_key_fn:
        _log.warning("Both 'cache_policy' and 'cache_key_fn' are set on task '%s': 'cache_key_fn' is used.", spec.key)
    if not spec.persist_result and any(name in given for name in _CACHING):
        asked = policy_of(spec.cache_policy, spec.cache_key_fn, spec.result_storage_key)
        if asked.is_caching:
            _log.warning("Task '%s' does not persist its results, so that they are not cached either.", spec.key)


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
