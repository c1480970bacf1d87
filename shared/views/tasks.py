"""Tasks as operators see them: which keys there are, who knows them, how their runs ended and how long they took.

Only reads. Counts are those of ended runs; where the others are is asked of the queues.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shared import keys
from shared.state_types import TERMINAL_STATES
from shared.transport import Transport
from shared.views.reading import Look, chosen, index, number, ordered, readable, whole
from shared.views.workers import Worker, workers
from shared.walks import Steps, bytes_of, fields_of, read_all

_BUCKET: Final = "took_le_"


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task's key, as far as Redis knows it."""

    key: str
    workers: int
    """Live workers that announce it."""
    submitted: bool
    """False for one that workers announce and nobody ever submitted."""
    counts: Mapping[str, int]
    """Ended runs by type of state."""
    seconds: float
    """Time that all its bodies took together."""
    took: Mapping[str, int]
    """Ended bodies by the seconds that they took at most, as text, shortest first; `inf` are those beyond."""
    problems: Mapping[str, str]

    @property
    def is_known(self) -> bool:
        """False if no live worker would run it."""
        return self.workers > 0

    @property
    def mean(self) -> float | None:
        """Seconds that a body took, None if none has ended."""
        bodies = sum(self.took.values())
        return self.seconds / bodies if bodies else None

    def within(self, share: float) -> str | None:
        """The bound of seconds that this share of its bodies kept, as text; None if none has ended."""
        left = share * sum(self.took.values())
        for bound, bodies in self.took.items():
            left -= bodies
            if bodies and left <= 0:
                return bound
        return None


@dataclass(frozen=True, slots=True)
class Known:
    """Who knows which tasks, at a time of the server."""

    at: float
    live: Sequence[Worker]
    submitted: frozenset[str]
    """Keys that were ever submitted."""

    @property
    def announced(self) -> frozenset[str]:
        """Keys that live workers announce."""
        return frozenset(key for worker in self.live for key in worker.tasks.split())


def known_tasks(transport: Transport) -> Known:
    """Who knows which tasks.

    Raises:
        RedisUnavailable: no answer, or the index of tasks or one of workers cannot be read.
    """
    fleet = workers(transport)
    (members,) = transport.read([("SMEMBERS", keys.TASKS)])
    live = tuple(worker for worker in fleet.rows if worker.is_live)
    return Known(fleet.at, live, frozenset(index(transport, keys.TASKS, members)))


def tasks(transport: Transport, only: Collection[str] | None = None) -> Look[TaskView]:
    """Every key that was ever submitted or that a live worker announces, or those of these, sorted.

    Raises:
        RedisUnavailable: as `known_tasks`.
    """
    known = known_tasks(transport)
    names = chosen(known.submitted | known.announced, only)
    found: dict[str, TaskView] = {}
    read_all(transport, (_task(key, known, found) for key in names))
    return Look(known.at, ordered(found, names))


def _task(key: str, known: Known, found: dict[str, TaskView]) -> Steps[None]:
    counts_key = keys.task_counts(key)
    answers = yield [("HGETALL", bytes_of(counts_key))]
    problems: dict[str, str] = {}
    told = readable({"counts": answers[0]}, {"counts": counts_key}, problems)
    fields = fields_of(told["counts"] or ())
    found[key] = TaskView(
        key=key,
        workers=sum(worker.announces(key) for worker in known.live),
        submitted=key in known.submitted,
        counts={kind.value: count for kind in sorted(TERMINAL_STATES) if (count := whole(fields.get(kind)))},
        seconds=number(fields.get("seconds")) or 0.0,
        took=_buckets(fields),
        problems=problems,
    )


def _buckets(fields: Mapping[str, str]) -> dict[str, int]:
    found = {
        name.removeprefix(_BUCKET): count
        for name, text in fields.items()
        if name.startswith(_BUCKET) and (count := whole(text)) is not None
    }
    return dict(sorted(found.items(), key=lambda row: _edge(row[0])))


def _edge(bound: str) -> float:
    edge = number(bound)
    return float("inf") if edge is None else edge
