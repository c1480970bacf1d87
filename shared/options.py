"""The options of a task and of a submit: what each accepts, and what it becomes in a spec. Knows no function."""

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from inspect import iscoroutinefunction
from typing import Any, Final, TypeAlias

from shared.cache import CachePolicy, check_template
from shared.clock import as_utc
from shared.errors import InvalidCall, InvalidValue
from shared.retries import MAX_DELAYS
from shared.settings import PREFIX, Settings

LONGEST_NAME = 255
LONGEST_DELAY = 250e9
"""Seconds: nearly 8,000 years."""
HOOKS: Final = ("on_running", "on_completion", "on_failure", "on_crashed", "on_cancellation")
"""Options that hold functions to be called when a run has entered a state."""
TRANSACTION_HOOKS: Final = ("on_commit", "on_rollback")
"""Options that hold functions to be called with the transaction of an attempt."""
_QUEUE = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Promoters wait for due runs on the wake-up list of this name.
_TAKEN = frozenset({"due"})
_RETRIES = f"{PREFIX}TASK_RETRIES"
_LONGEST_LIFE = 100 * 365 * 86_400


def check_options(options: Mapping[str, Any], retries: int = 0) -> dict[str, Any]:
    """The options of a task as fields of its spec; one that is None is left out. `retries`: where they are not given.

    Raises:
        InvalidCall: an option that is unknown, or of a wrong type.
        InvalidValue: an option out of its range.
    """
    return _options(options, retries, _CHECKS)


def check_flow_options(options: Mapping[str, Any], retries: int = 0) -> dict[str, Any]:
    """The options of a flow as fields of its spec; one that is None is left out. `retries`: where they are not given.

    Raises:
        InvalidCall, InvalidValue: as `check_options`.
    """
    checked = _options(options, retries, _FLOW_CHECKS)
    if "flow_run_name" in checked:
        checked["task_run_name"] = checked.pop("flow_run_name")
    return checked


def _options(options: Mapping[str, Any], retries: int, checks: "Mapping[str, Check]") -> dict[str, Any]:
    checked = _checked(options, {**checks, "retry_delay_seconds": lambda _name, value: value})
    if "retry_delay_seconds" in checked:
        checked["retry_delays"] = _delays(checked.pop("retry_delay_seconds"), checked.get("retries", retries))
    if checked.get("timeout_seconds") == 0:
        checked["timeout_seconds"] = None
    return checked


def usual_retries() -> int:
    """The retries of a task that says nothing about them: the setting `task_retries`, from the environment.

    Raises:
        ConfigError: it is set to what is no number of retries.
    """
    # Asked for each task at import: nothing but this setting is looked at, and nothing at all where it is not given.
    return Settings.load({_RETRIES: os.environ[_RETRIES]}).task_retries if _RETRIES in os.environ else 0


def check_submit_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of one submit; one that is None is left out.

    `delay` in seconds or the time until which it waits, `at_front`, `idempotency_key`.

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


def _delay(option: str, value: Any) -> float | datetime:
    if isinstance(value, datetime):
        return as_utc(value)
    seconds = _seconds(option, value)
    if seconds > LONGEST_DELAY:
        raise InvalidValue(f"'{option}' is {seconds:g} seconds: times end with the year 9999")
    return seconds


def _span(option: str, value: Any) -> float:
    seconds = _seconds(option, value)
    if seconds == 0:
        raise InvalidValue(f"'{option}' must be > 0")
    return seconds


def _tags(option: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidCall(f"'{option}' must be a collection of texts, got {type(value).__name__}")
    tags = tuple(dict.fromkeys(_label(option, tag) for tag in value))
    for tag in tags:
        if any(char.isspace() for char in tag):
            raise InvalidValue(f"'{option}' has {_short(tag)}: a tag holds no white space")
    return tags


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
        raise InvalidValue(f"Can not configure more than {MAX_DELAYS} retry delays per task.")
    return tuple(_seconds("retry_delay_seconds", delay) for delay in value)


def _hooks(option: str, value: Any) -> tuple[Callable[..., Any], ...]:
    if not isinstance(value, Iterable):
        raise InvalidCall(f"Expected iterable for '{option}'; got {type(value).__name__}.")
    hooks = tuple(value)
    for hook in hooks:
        if not callable(hook):
            raise InvalidCall(f"Expected callables in '{option}'; got {type(hook).__name__}.")
    return hooks


def _callable(option: str, value: Any) -> Callable[..., Any]:
    if not callable(value):
        raise InvalidCall(f"'{option}' must be callable, got {type(value).__name__}")
    checked: Callable[..., Any] = value
    return checked


def _run_name(option: str, value: Any) -> str | Callable[..., Any]:
    if callable(value):
        return _callable(option, value)
    if not isinstance(value, str):
        raise InvalidCall(f"'{option}' must be text or a function that gives one, got {type(value).__name__}")
    return _label(option, value)


def _flag(option: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidCall(f"'{option}' must be True or False, got {type(value).__name__}")
    return value


def _retention(option: str, value: Any) -> int:
    seconds = _count(option, value)
    if seconds < 60:  # noqa: PLR2004 - less would vanish under the hands of whoever reads it
        raise InvalidValue(f"'{option}' must be at least 60 seconds, got {seconds}")
    return seconds


def _cache_policy(option: str, value: Any) -> CachePolicy:
    if not isinstance(value, CachePolicy):
        told = f"'{option}' must be a policy of shared.cache such as INPUTS, got {_short(value)}"
        raise InvalidCall(f"{told}; a function is a 'cache_key_fn'" if callable(value) else told)
    return value


def _cache_key_fn(option: str, value: Any) -> Callable[..., Any]:
    if iscoroutinefunction(value):
        raise InvalidCall(f"'{option}' must be a plain function, got a coroutine function")
    return _callable(option, value)


def _lifetime(option: str, value: Any) -> float:
    seconds = _span(option, value.total_seconds() if isinstance(value, timedelta) else value)
    if seconds > _LONGEST_LIFE:
        raise InvalidValue(f"'{option}' must be at most 100 years, got {value}; None is for ever")
    return seconds


def _storage_key(option: str, value: Any) -> str:
    return check_template(_text(option, value))


def _on_crash(option: str, value: Any) -> str:
    if value not in ("retry", "fail"):
        raise InvalidValue(f"'{option}' must be 'retry' or 'fail', got {_short(value)}")
    return str(value)


def _unfinished(option: str, value: Any) -> str:
    if value not in ("wait", "cancel", "leave"):
        raise InvalidValue(f"'{option}' must be 'wait', 'cancel' or 'leave', got {_short(value)}")
    return str(value)


def _unique(option: str, value: Any) -> str:
    if value not in ("until_started", "until_final"):
        raise InvalidValue(f"'{option}' must be 'until_started' or 'until_final', got {_short(value)}")
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
    "cache_policy": _cache_policy,
    "cache_key_fn": _cache_key_fn,
    "cache_expiration": _lifetime,
    "refresh_cache": _flag,
    "result_storage_key": _storage_key,
    "on_crash": _on_crash,
    "description": _text,
    "version": _text,
    "tags": _tags,
    "start_within": _span,
    "retry_condition_fn": _callable,
    "task_run_name": _run_name,
    "log_prints": _flag,
    "trigger": _callable,
    "state_handlers": _hooks,
    "limit": _count,
    **dict.fromkeys((*HOOKS, *TRANSACTION_HOOKS), _hooks),
}
_OF_TASKS: Final = frozenset(
    {
        "cache_policy",
        "cache_key_fn",
        "cache_expiration",
        "refresh_cache",
        "result_storage_key",
        "task_run_name",
        "trigger",
        *TRANSACTION_HOOKS,
    }
)
_FLOW_CHECKS: Final[Mapping[str, Check]] = {
    **{name: check for name, check in _CHECKS.items() if name not in _OF_TASKS},
    "flow_run_name": _run_name,
    "validate_parameters": _flag,
    "unfinished": _unfinished,
}
SUBMIT_OPTIONS: Final[Mapping[str, Check]] = {
    "delay": _delay,
    "at_front": _flag,
    "idempotency_key": _label,
    "unique": _unique,
}
