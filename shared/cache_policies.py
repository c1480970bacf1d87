"""How the key is made under which a task's result is cached. No I/O, no Redis; `cache.py` has the public names."""

# A key must be the same in every process and differ wherever results could: so values are digested in the codec's
# canonical form and by nothing else, and what has none is an error and never a guess.

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from inspect import iscoroutine
from pathlib import Path
from string import Formatter
from typing import Any, Final, Protocol, Self, TypeAlias

from shared.codec import digest
from shared.errors import InvalidCall, InvalidValue, LimitExceeded
from shared.isolation import IsolationLevel
from shared.result_storage import DirectoryStorage, Storage
from shared.results import LockManager, ResultRecord
from shared.runs import TaskRun
from shared.sources import source_digest
from shared.texts import shown

LONGEST_KEY: Final = 2000
KEY_ERROR: Final = "Error encountered when computing cache key - result will not be persisted."
"""What the log of a run says that goes on uncached, with the cause."""
_SETTINGS: Final = {
    "key_storage": "storage",
    "isolation_level": "isolation levels",
    "lock_manager": "lock managers",
}
_FIELD: Final = re.compile(r"(parameters|run)([.\[]|$)")
_PARAMETER: Final = re.compile(r"parameters\[([^\]]+)\]")
Values: TypeAlias = Mapping[str, Any]


class CachedTask(Protocol):
    """What a policy knows of a task; a TaskSpec is one."""

    @property
    def key(self) -> str:
        """By which workers find it."""

    @property
    def fn(self) -> Callable[..., Any]:
        """Its function."""

    @property
    def source(self) -> str | None:
        """The digest of its source as it was when it was defined, None where nobody has asked for it."""


@dataclass(frozen=True, slots=True)
class CacheContext:
    """The run that a key is computed for, as `cache_key_fn` gets it."""

    task: CachedTask
    task_run: TaskRun


@dataclass(frozen=True, kw_only=True)
class CachePolicy(ABC):
    """How keys are made, and optionally where records are kept and how their transactions are isolated.

    A policy of one's own is a frozen dataclass that overrides `key_part`. Policies are values: `+`, `-` and `configure`
    make new ones.
    """

    key_storage: Storage | None = None
    isolation_level: IsolationLevel | None = None
    lock_manager: LockManager | None = None

    @property
    def is_caching(self) -> bool:
        """False if there is never a key."""
        return True

    @property
    def needs_source(self) -> bool:
        """True if the source of the function is part of the key."""
        return False

    @abstractmethod
    def key_part(self, context: CacheContext, inputs: Values, flow_parameters: Values | None) -> str | None:
        """What this policy puts into the key: None for nothing, '' where the task's own key is enough."""

    def compute_key(self, context: CacheContext, inputs: Values, flow_parameters: Values | None = None) -> str | None:
        """The key of a run with these arguments, which begins with that of its task; None: it is not cached.

        Raises:
            HashError: a value has no canonical form; names its path.
            LimitExceeded: the key has more than 2,000 characters.
        """
        part = self.key_part(context, inputs, flow_parameters)
        if part is None:
            return None
        return _checked(f"{context.task.key}/{part}" if part else context.task.key)

    def configure(
        self,
        key_storage: Storage | Path | str | None = None,
        isolation_level: IsolationLevel | None = None,
        lock_manager: LockManager | None = None,
    ) -> Self:
        """The same policy with other settings; what is None is kept. `key_storage` may be the path of a directory.

        Raises:
            InvalidValue: no such isolation level.
        """
        if isolation_level is not None and isolation_level not in list(IsolationLevel):
            levels = " or ".join(IsolationLevel)
            raise InvalidValue(f"'isolation_level' is {levels}, got {shown(isolation_level)}")
        storage = DirectoryStorage(Path(key_storage)) if isinstance(key_storage, Path | str) else key_storage
        level = None if isolation_level is None else IsolationLevel(isolation_level)
        given: dict[str, Any] = {"key_storage": storage, "isolation_level": level, "lock_manager": lock_manager}
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    def without(self, names: frozenset[str]) -> "CachePolicy":
        """The same policy without these arguments.

        Raises:
            InvalidCall: it takes no arguments into the key.
        """
        raise InvalidCall(f"{', '.join(sorted(names))} cannot be left out of a policy that takes no arguments")

    def __add__(self, other: object) -> "CachePolicy":
        if not isinstance(other, CachePolicy):
            return NotImplemented
        settings = _joined(self, other)
        parts = [part for policy in (self, other) for part in _parts(policy)]
        if not parts:
            return replace(self, **settings)
        return replace(parts[0], **settings) if len(parts) == 1 else _Compound(policies=tuple(parts), **settings)

    def __sub__(self, names: object) -> "CachePolicy":
        return self.without(names_of(names))


def _parts(policy: CachePolicy) -> Iterable[CachePolicy]:
    if isinstance(policy, _Compound):
        return policy.policies
    return () if isinstance(policy, NoCache) else (policy,)


def _joined(one: CachePolicy, other: CachePolicy) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, words in _SETTINGS.items():
        mine, theirs = getattr(one, name), getattr(other, name)
        if mine is not None and theirs is not None and mine != theirs:
            raise InvalidValue(f"Cannot add cache policies with different {words}.")
        settings[name] = theirs if mine is None else mine
    return settings


def names_of(names: object) -> frozenset[str]:
    """A name, or those in a collection.

    Raises:
        InvalidCall: it is or holds something else.
    """
    found = frozenset([names] if isinstance(names, str) else names if isinstance(names, Iterable) else [None])
    if not all(isinstance(name, str) for name in found):
        raise InvalidCall(f"arguments are named by texts, got {shown(names)}")
    return found


def values_of(values: Values | None) -> dict[str, Any]:
    """The values by name; of records what is in them."""
    return {name: value.result if isinstance(value, ResultRecord) else value for name, value in (values or {}).items()}


def _checked(key: str) -> str:
    if not key:
        raise InvalidValue("the cache key is empty")
    if len(key) > LONGEST_KEY:
        raise LimitExceeded(f"the cache key has {len(key):,} characters, the limit is {LONGEST_KEY:,}")
    if not key.isascii() and key != key.encode(errors="replace").decode():
        raise InvalidValue(f"the cache key has a lone surrogate, which is no character: {key!a}")
    return key


# --- policies ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Inputs(CachePolicy):
    excluded: frozenset[str] = frozenset()

    def key_part(self, context: CacheContext, inputs: Values, flow_parameters: Values | None) -> str | None:  # noqa: ARG002
        kept = {name: value for name, value in values_of(inputs).items() if name not in self.excluded}
        return digest(kept, where="parameters") if kept else None

    def without(self, names: frozenset[str]) -> CachePolicy:
        return replace(self, excluded=self.excluded | names)


@dataclass(frozen=True, kw_only=True)
class _TaskSource(CachePolicy):
    @property
    def needs_source(self) -> bool:
        return True

    def key_part(self, context: CacheContext, inputs: Values, flow_parameters: Values | None) -> str | None:  # noqa: ARG002
        return context.task.source or source_digest(context.task.fn)


@dataclass(frozen=True, kw_only=True)
class _RunId(CachePolicy):
    def key_part(self, context: CacheContext, inputs: Values, flow_parameters: Values | None) -> str | None:  # noqa: ARG002
        return context.task_run.flow or context.task_run.id


@dataclass(frozen=True, kw_only=True)
class _FlowParameters(CachePolicy):
    def key_part(self, context: CacheContext, inputs: Values, flow_parameters: Values | None) -> str | None:  # noqa: ARG002
        return digest(values_of(flow_parameters), where="flow_parameters") if flow_parameters else None


@dataclass(frozen=True, kw_only=True)
class NoCache(CachePolicy):
    """There is never a key. In a sum it adds nothing."""

    @property
    def is_caching(self) -> bool:
        """Never."""
        return False

    def key_part(self, context: CacheContext, inputs: Values, flow_parameters: Values | None) -> str | None:  # noqa: ARG002
        """None."""
        return None


@dataclass(frozen=True, kw_only=True)
class _Compound(CachePolicy):
    policies: tuple[CachePolicy, ...]

    @property
    def needs_source(self) -> bool:
        return any(policy.needs_source for policy in self.policies)

    def key_part(self, context: CacheContext, inputs: Values, flow_parameters: Values | None) -> str | None:
        parts = [
            [type(policy).__name__, part]
            for policy in self.policies
            if (part := policy.key_part(context, inputs, flow_parameters)) is not None
        ]
        return digest(parts) if parts else None

    def without(self, names: frozenset[str]) -> CachePolicy:
        if not any(isinstance(policy, _Inputs) for policy in self.policies):
            return super().without(names)
        policies = tuple(policy.without(names) if isinstance(policy, _Inputs) else policy for policy in self.policies)
        return replace(self, policies=policies)


@dataclass(frozen=True)
class CacheKeyFnPolicy(CachePolicy):
    """The key is what a function `(context, parameters)` gives, as it is, so that tasks can share; None: no caching."""

    cache_key_fn: Callable[[CacheContext, Values], str | None]

    def key_part(self, context: CacheContext, inputs: Values, flow_parameters: Values | None) -> str | None:  # noqa: ARG002
        """What the function gives.

        Raises:
            InvalidCall: neither text nor None.
        """
        key: object = self.cache_key_fn(context, values_of(inputs))
        if key is None or isinstance(key, str):
            return key
        if iscoroutine(key):
            key.close()  # else a warning would follow that it was never awaited
        raise InvalidCall(f"cache_key_fn gave a {type(key).__name__}: it gives text, or None for no caching")

    def compute_key(self, context: CacheContext, inputs: Values, flow_parameters: Values | None = None) -> str | None:
        """What the function gives; as `CachePolicy.compute_key`."""
        key = self.key_part(context, inputs, flow_parameters)
        return None if key is None else _checked(key)


@dataclass(frozen=True)
class StorageKeyPolicy(CachePolicy):
    """The key is a template filled in: a `result_storage_key`, which tasks can share as well."""

    template: str

    def key_part(self, context: CacheContext, inputs: Values, flow_parameters: Values | None) -> str | None:  # noqa: ARG002
        """The template with the run and its arguments in it.

        Raises:
            InvalidValue: it names what is not there.
        """
        try:
            return self.template.format(parameters=values_of(inputs), run=context.task_run)
        except (LookupError, AttributeError, ValueError, TypeError) as error:
            raise InvalidValue(f"'result_storage_key' {self.template!r}: {error!r}") from error

    def compute_key(self, context: CacheContext, inputs: Values, flow_parameters: Values | None = None) -> str | None:
        """As `CachePolicy.compute_key`, but without the task's key."""
        return _checked(self.key_part(context, inputs, flow_parameters) or "")


def check_template(template: str) -> str:
    """The template, if it is one: text with `{parameters[name]}` and `{run.field}` in it.

    Raises:
        InvalidValue: it is empty or too long, or names something else.
    """
    try:
        fields = [name for _, name, _, _ in Formatter().parse(_checked(template)) if name is not None]
    except ValueError as error:
        raise InvalidValue(f"'result_storage_key' is {shown(template)}: {error}") from error
    for name in fields:
        if _FIELD.match(name) is None:
            raise InvalidValue(f"'result_storage_key' has {{{name}}}: it takes {{parameters[...]}} and {{run. ...}}")
    return template


def parameters_named(template: str) -> set[str]:
    """The parameters that a template takes values from."""
    fields = [name for _, name, _, _ in Formatter().parse(template) if name]
    return {found[1] for name in fields if (found := _PARAMETER.match(name))}


INPUTS: Final = _Inputs()
TASK_SOURCE: Final = _TaskSource()
RUN_ID: Final = _RunId()
FLOW_PARAMETERS: Final = _FlowParameters()
NO_CACHE: Final = NoCache()
DEFAULT: Final = INPUTS + TASK_SOURCE + RUN_ID
