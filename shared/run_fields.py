"""How a run's fields and the rows of its history must read. Judges texts; reads nothing from Redis, mends nothing."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from shared.state_types import IN_BODY, TERMINAL_STATES, StateType
from shared.texts import printable, shown

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_COUNT = re.compile(r"\d{1,16}", re.ASCII)
_POSITIVE = re.compile(r"[1-9]\d{0,15}", re.ASCII)
_INTEGER = re.compile(r"-?\d{1,16}", re.ASCII)
_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?", re.ASCII)
_SHOWN = 40
_ERROR_BYTES = 100


class Row(NamedTuple):
    """A row of a run's history, as far as its order goes; the attempt is None where it tells of none."""

    seq: int
    type: StateType
    attempt: int | None = None


def row_of(data: bytes) -> Row | str:
    """A row of a run's history, or why it cannot be read."""
    try:
        row: Any = json.loads(data)
        attempt = row.get("attempt")
        is_whole = type(row["seq"]) is int and is_time(row["time"]) and type(row["name"]) is str
        if not (is_whole and (attempt is None or type(attempt) is int)):
            return "seq, time, name or attempt is malformed"
        return Row(row["seq"], StateType(row["type"]), attempt)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        return printable(f"{type(error).__name__}: {error}", _ERROR_BYTES)


def is_time(text: str) -> bool:
    """True for a time as the scripts write it: UTC, six digits."""
    if _TIME.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


def _one_of(*texts: str) -> Callable[[str], bool]:
    return lambda text: text in texts


# What a field must be, in words, and the question that tells. A field that is not here may hold any text.
_COUNTED = ("a number", _matches(_COUNT))
_TIMED = ("a time in UTC with six digits", is_time)
_NAMED = ("a text", bool)
_SECONDS = ("a number of seconds", _matches(_NUMBER))
_MANY = ("a number above 0", _matches(_POSITIVE))
_ENDS_OF_ATTEMPTS = ("lost", "given_back", "failed", "paused", "retried")
_MARKED = ("1", _one_of("1"))

# What the field `place` may name: a process, the upstream runs it waits for, the due set where a run whose task was
# unknown is passed on, a limit.
HELD: Final = "held"
DEFERRED: Final = "deferred"
PASSED: Final = "passed"
LIMIT: Final = "limit:"
_PLACE = re.compile(f"{HELD}|{DEFERRED}|{PASSED}|{LIMIT}.+", re.DOTALL)

FORMS: Final[Mapping[str, tuple[str, Callable[[str], bool]]]] = {
    "state_type": ("a type of state", _one_of(*StateType)),
    "state_name": _NAMED,
    "state_time": _TIMED,
    "seq": _MANY,
    "task": _NAMED,
    "origin": _NAMED,
    "created_at": _TIMED,
    "enqueued_at": _TIMED,
    "started_at": _TIMED,
    "start_time": _TIMED,
    "ended_at": _TIMED,
    "expected_start": _TIMED,
    "token": _MANY,
    "attempt": _COUNTED,
    "run_count": _COUNTED,
    "crashes": _COUNTED,
    "max_retries": _COUNTED,
    "result": _COUNTED,
    "persist_result": ("0 or 1", _one_of("0", "1")),
    "retry_jitter_factor": ("a number", _matches(_NUMBER)),
    "result_ttl": ("a number", _matches(_INTEGER)),
    "total_run_time": _SECONDS,
    "timeout_seconds": _SECONDS,
    "kind": ("task or flow", _one_of("task", "flow")),
    "worker_name": _NAMED,
    "place": ("held, deferred, passed or limit:<name>", _matches(_PLACE)),
    "ties": _MARKED,
    "kids": _MARKED,
    "awaited": _MARKED,
    "consumers": _MANY,
    "upstreams": _MANY,
    "limits": _NAMED,
    "idem": _NAMED,
    "unique": ("until_started or until_final", _one_of("until_started", "until_final")),
    "flow": _NAMED,
    "outlives_flow": _MARKED,
    "parent": _NAMED,
    "start_within": _SECONDS,
    "slot_since": _SECONDS,
    "cache_expiration": _SECONDS,
    "refresh_cache": ("0, 1 or empty", _one_of("0", "1", "")),
    "cached_from": _NAMED,
    "rolled_back": _MARKED,
    "passed_at": _SECONDS,
    "last_end": ("lost, given_back, failed, paused or retried", _one_of(*_ENDS_OF_ATTEMPTS)),
}
_TIED: Final = (
    "place",
    "consumers",
    "kids",
    "limits",
    "idem",
    "start_within",
    "upstreams",
    "flow",
    "kind",
    "unique",
    "awaited",
    "cache_expiration",
    "refresh_cache",
    "result_storage_key",
)
"""Fields that scripts read only of a run that is marked with `ties`."""
_PLACES_OF: Final[Mapping[str, tuple[str, ...]]] = {
    StateType.PENDING: (HELD, DEFERRED, PASSED),
    StateType.SCHEDULED: (LIMIT, HELD),
    StateType.PAUSED: (HELD,),
}
"""Which places a run in this state may name; all others lie where their state says."""

ALWAYS: Final[tuple[str, ...]] = ("state_type", "state_name", "state_time", "seq", "task", "origin", "created_at")
STARTED: Final = ("attempt", "token", "run_count", "start_time")
PERFORMED: Final = (*STARTED, "worker_name", "started_at")
HANDED: Final = ("token", "worker_name")
ENDED: Final = ("ended_at",)
_MAYBE_EMPTY: Final = ("enqueued_at", "started_at", "ended_at", "worker_name")
"""Fields that RQ's tools write empty, with all others of theirs, where they know nothing of them."""
_REQUEUED: Final = "queued"
_OURS: Final = frozenset({"state_type", "state_name", "state_time", "seq", "task"})


def is_ours(fields: Mapping[str, str]) -> bool:
    """True if this was written by Baton, however damaged; False for a job of RQ's own, or nothing."""
    return not _OURS.isdisjoint(fields)


def faults(fields: Mapping[str, str]) -> tuple[str, ...]:
    """What is wrong with a run's fields, a text for each; none for a run that can be read."""
    known = {name: text for name, text in fields.items() if text or name not in _MAYBE_EMPTY}
    return (*_missing(known), *_malformed(known)) or tuple(_impossible(known))


def _missing(fields: Mapping[str, str]) -> Iterator[str]:
    state = fields.get("state_type")
    needed = ALWAYS
    if state in IN_BODY:
        needed += PERFORMED
    elif fields.get("attempt", "0") != "0":
        needed += STARTED
    if fields.get("place") == HELD:
        needed += HANDED
    if state in TERMINAL_STATES and fields.get("status") != _REQUEUED:  # `rq requeue` empties what told of the end
        needed += ENDED
    if not fields.keys().isdisjoint(_TIED):
        needed += ("ties",)
    return (f"{name} is missing" for name in dict.fromkeys(needed) if name not in fields)


def _malformed(fields: Mapping[str, str]) -> Iterator[str]:
    for name, text in fields.items():
        words, fits = FORMS.get(name, _ANY)
        if not fits(text):
            yield f"{name} is {shown(text, _SHOWN)}, not {words}"


def _impossible(fields: Mapping[str, str]) -> Iterator[str]:
    """What can be read by itself, and together cannot have come about."""
    seq, attempt = int(fields["seq"]), int(fields.get("attempt", 0))
    if attempt >= seq:
        yield f"attempt is {attempt}, which takes more transitions than the {seq} that seq tells of"
    for name in ("run_count", "crashes"):
        if int(fields.get(name, 0)) > attempt:
            yield f"{name} is {fields[name]}, above the number of the attempt, {attempt}"
    place, state = fields.get("place"), fields["state_type"]
    if place and not place.startswith(_PLACES_OF.get(state, ())):
        yield f"place is {shown(place, _SHOWN)}, where no run that is {state} lies"


def _anything(_text: str) -> bool:
    return True


_ANY: Final = ("", _anything)
