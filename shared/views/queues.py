"""Queues as operators see them: how much waits where, since when, paused by whom. Only reads."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared import keys
from shared.state_types import StateType
from shared.transport import Command, Transport
from shared.views.reading import Look, chosen, index, moment, ordered, present, readable, texts, whole
from shared.walks import Steps, bytes_of, read_all, text_of

HEAD: Final = 10
"""Ids at the head of a queue among which the oldest wait is looked for."""

_REGISTRIES: Final[Mapping[str, str]] = {
    "running": keys.WIP,
    "scheduled": keys.SCHEDULED,
    "deferred": keys.DEFERRED,
    "failed": keys.FAILED,
    "finished": keys.FINISHED,
    "cancelled": keys.CANCELED,
}


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue. A number is None where Redis does not read the key; `problems` says what it says, by key."""

    name: str
    waiting: int | None
    """Ids in the list; one of a run that was cancelled while it waited counts until a worker drops it."""
    running: int | None
    scheduled: int | None
    deferred: int | None
    failed: int | None
    finished: int | None
    cancelled: int | None
    oldest_wait: float | None
    """Seconds of the one that waits longest among the first `HEAD`, None if none of these waits."""
    next_due: float | None
    """When the next scheduled run is due, in seconds since 1970."""
    paused: str | None
    paused_by: str | None
    paused_at: str | None
    cap: int | None
    """How many may wait before submits are refused, None for any number."""
    problems: Mapping[str, str]


def queue_names(transport: Transport) -> tuple[float, list[str]]:
    """The server's time, and the names of all queues that were ever submitted to, sorted.

    Raises:
        RedisUnavailable: no answer, or the index of queues cannot be read.
    """
    time, members = transport.read([("TIME",), ("SMEMBERS", keys.QUEUES)])
    names = {member.removeprefix(keys.QUEUE) for member in index(transport, keys.QUEUES, members)}
    return present(transport, time), sorted(names)


def queues(transport: Transport, only: Collection[str] | None = None) -> Look[Queue]:
    """Every queue, or those of these names that there are, by name: three round trips, and more for each 50 queues.

    Raises:
        RedisUnavailable: no answer, or the index of queues cannot be read.
    """
    at, known = queue_names(transport)
    names = chosen(known, only)
    found: dict[str, Queue] = {}
    read_all(transport, (_queue(name, at, found) for name in names))
    return Look(at, ordered(found, names))


def _queue(name: str, at: float, found: dict[str, Queue]) -> Steps[None]:
    list_key, due_key, settings_key = keys.queue(name), keys.SCHEDULED + name, keys.queue_settings(name)
    of = {field: prefix + name for field, prefix in _REGISTRIES.items()}
    asked: dict[str, Command] = {field: ("ZCARD", bytes_of(key)) for field, key in of.items()}
    asked["waiting"] = ("LLEN", bytes_of(list_key))
    asked["head"] = ("LRANGE", bytes_of(list_key), 0, HEAD - 1)
    asked["due"] = ("ZRANGE", bytes_of(due_key), 0, 0, "WITHSCORES")
    asked["settings"] = ("HMGET", bytes_of(settings_key), "paused", "paused_by", "paused_at", "cap")
    of |= {"waiting": list_key, "head": list_key, "due": due_key, "settings": settings_key}
    answers = dict(zip(asked, (yield list(asked.values())), strict=True))
    problems: dict[str, str] = {}
    told = readable(answers, of, problems)
    states = yield [
        ("HMGET", bytes_of(keys.job(text_of(one))), "state_type", "state_time") for one in told["head"] or ()
    ]
    paused, paused_by, paused_at, cap = texts(told["settings"], 4)
    found[name] = Queue(
        name=name,
        **{field: told[field] for field in ("waiting", *_REGISTRIES)},
        oldest_wait=_oldest(states, at),
        next_due=float(told["due"][1]) if told["due"] else None,
        paused=paused,
        paused_by=paused_by,
        paused_at=paused_at,
        cap=whole(cap),
        problems=problems,
    )


def _oldest(states: Sequence[Any], at: float) -> float | None:
    """The longest of these waits; what does not wait, as a run that was cancelled, or cannot be read has none."""
    since = []
    for answer in states:
        kind, time = texts(None if isinstance(answer, Exception) else answer, 2)
        began = moment(time)
        if kind == StateType.PENDING and began is not None:
            since.append(began)
    return max(0.0, at - min(since)) if since else None
