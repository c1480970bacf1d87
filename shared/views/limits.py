"""Limits as operators see them: how many slots there are, who holds one since when, who waits. Only reads."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared import keys
from shared.transport import Transport
from shared.views.reading import Look, chosen, index, number, ordered, present, readable, texts, whole
from shared.walks import Steps, bytes_of, read_all, text_of

MOST: Final = 100
"""Holders, and waiters, that are told of one limit at most: those of longest standing."""
RESERVED: Final = "reserved"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a slot: a run, a run for which one is kept until it begins, or a process (once for each of its slots)."""

    member: str
    """As it is stored."""
    run_id: str | None
    """None for a process."""
    is_reserved: bool
    since: float
    """When it got the slot, in seconds since 1970."""
    worker: str | None
    """The process that holds the run, or the process itself."""
    lease_left: float | None
    """Seconds that this process's lease goes on, None where there is none."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit. A number is None where Redis does not read the key; `problems` says what it says, by key."""

    name: str
    slots: int | None
    """None also for a limit that was deleted while runs wait for it: they are let go."""
    used: int | None
    waiting: int | None
    holders: tuple[Holder, ...]
    waiters: tuple[str, ...]
    """Ids, and processes as they are stored, in the order in which they get slots."""
    problems: Mapping[str, str]
    decay: float | None = None
    """Slots taken by rate that free themselves per second."""


def limit_names(transport: Transport) -> list[str]:
    """The names of all limits, sorted.

    Raises:
        RedisUnavailable: no answer, or the index of limits cannot be read.
    """
    (members,) = transport.read([("SMEMBERS", keys.LIMITS)])
    return sorted(index(transport, keys.LIMITS, members))


def limits(transport: Transport, only: Collection[str] | None = None) -> Look[Limit]:
    """Every limit, or those of these names that there are, by name.

    Raises:
        RedisUnavailable: no answer, or the index of limits cannot be read.
    """
    time, members = transport.read([("TIME",), ("SMEMBERS", keys.LIMITS)])
    at, names = present(transport, time), chosen(index(transport, keys.LIMITS, members), only)
    found: dict[str, Limit] = {}
    read_all(transport, (_limit(name, at, found) for name in names))
    return Look(at, ordered(found, names))


def _limit(name: str, at: float, found: dict[str, Limit]) -> Steps[None]:
    limit, holders, waiters = keys.limit(name), keys.limit_part(name, "holders"), keys.limit_part(name, "waiters")
    answers = yield [
        ("HGET", bytes_of(limit), "slots"),
        ("HGET", bytes_of(limit), "decay"),
        ("ZCARD", bytes_of(holders)),
        ("ZRANGE", bytes_of(holders), 0, MOST - 1, "WITHSCORES"),
        ("ZCARD", bytes_of(waiters)),
        ("ZRANGE", bytes_of(waiters), 0, MOST - 1),
    ]
    of = {"slots": limit, "decay": limit, "used": holders, "holders": holders, "waiting": waiters, "waiters": waiters}
    problems: dict[str, str] = {}
    told = readable(dict(zip(of, answers, strict=True)), of, problems)
    flat = told["holders"] or ()
    members = [(text_of(flat[i]), float(flat[i + 1])) for i in range(0, len(flat), 2)]
    found[name] = Limit(
        name=name,
        slots=None if told["slots"] is None else whole(text_of(told["slots"])),
        decay=None if told["decay"] is None else number(text_of(told["decay"])),
        used=told["used"],
        waiting=told["waiting"],
        holders=(yield from _holders(members, at)),
        waiters=tuple(map(text_of, told["waiters"] or ())),
        problems=problems,
    )


def _holders(members: Sequence[tuple[str, float]], at: float) -> Steps[tuple[Holder, ...]]:
    """Each with its process and the lease of that."""
    runs = ["" if keys.process_of(member) else member.rpartition(":")[0] for member, _ in members]
    records = yield [("HGET", bytes_of(keys.job(run_id)), "worker_name") for run_id in runs]
    workers = [
        keys.process_of(member) or member if not run_id else None if member.endswith(f":{RESERVED}") else _text(record)
        for (member, _), run_id, record in zip(members, runs, records, strict=True)
    ]
    leases = yield [("ZSCORE", keys.LEASES, bytes_of(worker or "")) for worker in workers]
    return tuple(
        Holder(member, run_id or None, member.endswith(f":{RESERVED}"), since, worker, _left(lease, at))
        for (member, since), run_id, worker, lease in zip(members, runs, workers, leases, strict=True)
    )


def _text(answer: Any) -> str | None:
    (text,) = texts(None if isinstance(answer, Exception) else [answer], 1)
    return text


def _left(answer: Any, at: float) -> float | None:
    end = number(_text(answer))
    return None if end is None else end - at
