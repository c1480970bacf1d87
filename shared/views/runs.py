"""Runs as operators see them: rows of the newest, and of those named. Only reads; never scans the keyspace.

# Places are read in the direction in which runs move, and records after places: a run that moves on meanwhile is seen,
# in its new state. One that moves back meanwhile, as to a retry, may be missed.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shared import keys
from shared.errors import InvalidValue
from shared.ids import is_id
from shared.pages import whole_list, whole_zset
from shared.run_fields import faults, is_ours
from shared.state_types import TERMINAL_STATES, StateType
from shared.transport import Command, Transport
from shared.views.limits import limit_names
from shared.views.queues import queue_names
from shared.views.reading import index, number, whole
from shared.walks import Refused, Steps, bytes_of, fields_of, read_all, text_of

PAGE: Final = 1000
"""Ids that are read of one place at most: of lists and due times half from each end, of the rest the newest."""
GONE: Final = "its record is gone"
FOREIGN: Final = "a job of RQ's own, no run of Baton"

_SCORE: Final = re.compile(r"\d{1,12}\.\d{6}", re.ASCII)
_HEX_OF_TIME: Final = 12
_LEAST_STEP: Final = 100
_QUEUE_PLACES: Final[Mapping[str, frozenset[StateType]]] = {
    keys.SCHEDULED: frozenset({StateType.SCHEDULED, StateType.PENDING}),
    keys.DEFERRED: frozenset({StateType.PENDING, StateType.PAUSED, StateType.SCHEDULED}),
    keys.QUEUE: frozenset({StateType.PENDING}),
}
_COMMON_PLACES: Final[Mapping[str, frozenset[StateType]]] = {
    keys.RUNNING: frozenset(StateType) - TERMINAL_STATES,
    keys.PAUSED: frozenset({StateType.PAUSED}),
}
_WAITS_FOR_A_SLOT: Final = frozenset({StateType.SCHEDULED})
_ENDS: Final[Mapping[str, frozenset[StateType]]] = {
    keys.FINISHED: frozenset({StateType.COMPLETED}),
    keys.FAILED: frozenset({StateType.FAILED, StateType.CRASHED}),
    keys.CANCELED: frozenset({StateType.CANCELLED}),
}


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run in a list. Times are as stored; `problem` says why it is not whole, None if it is."""

    id: str
    task: str | None
    name: str | None
    queue: str | None
    state_type: str | None
    state_name: str | None
    message: str | None
    state_time: str | None
    created: str | None
    started: str | None
    ended: str | None
    total_run_time: float | None
    attempt: int | None
    worker: str | None
    flow: str | None
    error: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs are asked for; without a field, any.

    `since` is in seconds since 1970, by the time in the id, or of a tag's runs by that of their submit.
    """

    states: frozenset[StateType] = frozenset()
    task: str | None = None
    queue: str | None = None
    since: float | None = None
    tag: str | None = None
    flow: str | None = None

    def fits(self, row: RunRow) -> bool:
        """True for a run with these properties; one that does not tell them fits only where nobody asks.

        Whether it has the tag is told by the tag's index, not by the row.
        """
        return (
            row.problem != FOREIGN
            and (self.tag is None or row.problem != GONE)
            and (not self.states or row.state_type in self.states)
            and self.task in (None, row.task)
            and self.queue in (None, row.queue)
            and self.flow in (None, row.flow)
        )


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest runs that were found, newest first."""

    at: float
    rows: tuple[RunRow, ...]
    gaps: Mapping[str, str]
    """Places that more rows may lie in, and why: what was read of each is not all. Empty where there are enough."""
    cursor: str | None = None
    """What `newest` has to be given as `after` for those that follow; None: there are none, but in the gaps."""


def newest(transport: Transport, wanted: Wanted, limit: int, page: int = PAGE, after: str | None = None) -> Newest:
    """The newest runs, by the creation time that their ids tell, `limit` of them at most.

    What is bounded: of each place that a run of these states can be in (per queue its list, its due times and its three
    registries of ends; for all queues together those that run, are paused or wait for a slot) at most `page` ids are
    read, and records only until there are enough. A run that lies deeper in its place is not found; `gaps` tells. Ids
    that are none, and RQ's own jobs, are left out.

    With a tag its index is read instead, `page` ids of it: then nothing is missed, but there may be fewer rows than
    asked for, and a cursor.

    Raises:
        RedisUnavailable: no answer, or an index cannot be read.
        InvalidValue: `after` is no cursor of such a question.
    """
    at, names = queue_names(transport)
    if wanted.tag is not None:
        return _newest_of_tag(transport, wanted, limit, page, at, after)
    if after is not None and not is_id(after):
        raise InvalidValue(f"{after!r} is no cursor of this question")
    ids: dict[str, None] = {}
    gaps: dict[str, str] = {}
    places = _places(_asked_queues(names, wanted), limit_names(transport), wanted.states, at, page)
    read_all(transport, (_ids(key, asked, ids, gaps) for key, asked in places))
    candidates = _candidates(ids, wanted, after)
    rows, looked_at = _fitting(transport, wanted, candidates, limit)
    is_more = looked_at < len(candidates)
    return Newest(at, tuple(rows), gaps if len(rows) < limit else {}, rows[-1].id if rows and is_more else None)


def every(transport: Transport, wanted: Wanted, gaps: dict[str, str]) -> Iterator[RunRow]:
    """Every run that is asked for, newest first: places are read whole, page by page. What has no record is left out.

    A place that cannot be read is noted in `gaps`. What moves meanwhile may be missed.

    Raises:
        RedisUnavailable: no answer, or an index cannot be read.
    """
    at, names = queue_names(transport)
    ids: dict[str, None] = {}
    if wanted.tag is not None:
        places = [keys.tag_runs(wanted.tag)]
    else:
        states, limits = wanted.states, limit_names(transport)
        places = [key for key, _ in _places(_asked_queues(names, wanted), limits, states, at, PAGE)]
    read_all(transport, (_whole(key, ids, gaps) for key in places))
    candidates = _candidates(ids, wanted)
    for start in range(0, len(candidates), PAGE):
        found = rows_of(transport, candidates[start : start + PAGE])
        yield from (row for row in found if row.problem != GONE and wanted.fits(row))


def _asked_queues(names: Iterable[str], wanted: Wanted) -> list[str]:
    return [name for name in names if wanted.queue in (None, name)]


def _candidates(ids: Iterable[str], wanted: Wanted, before: str | None = None) -> list[str]:
    """Ids that may be asked for, the newest first."""
    earliest = _first_id(wanted.since)
    return sorted(
        (one for one in ids if is_id(one) and one >= earliest and (before is None or one < before)), reverse=True
    )


def _fitting(transport: Transport, wanted: Wanted, candidates: Sequence[str], limit: int) -> tuple[list[RunRow], int]:
    """The first that fit, `limit` of them at most, and how many candidates these were found among."""
    rows: list[RunRow] = []
    step = max(limit, _LEAST_STEP)
    for start in range(0, len(candidates), step):
        for at, row in enumerate(rows_of(transport, candidates[start : start + step]), start=start + 1):
            if wanted.fits(row):
                rows.append(row)
                if len(rows) == limit:
                    return rows, at
    return rows, len(candidates)


# --- the index of a tag -----------------------------------------------------------------------------------------------


def tag_names(transport: Transport) -> list[str]:
    """The tags that were given to runs, sorted.

    Raises:
        RedisUnavailable: no answer, or the index of tags cannot be read.
    """
    (members,) = transport.read([("SMEMBERS", keys.TAGS)])
    return sorted(index(transport, keys.TAGS, members))


def _newest_of_tag(transport: Transport, wanted: Wanted, limit: int, page: int, at: float, after: str | None) -> Newest:
    key = keys.tag_runs(wanted.tag or "")
    score, last = _position(after) if after is not None else ("+inf", "")
    least = "-inf" if wanted.since is None else f"{wanted.since:.6f}"
    # Whole scores have to be passed at once: a page is longer than what one call of submit can give the same time.
    (answer,) = transport.read([("ZREVRANGEBYSCORE", bytes_of(key), score, least, "WITHSCORES", "LIMIT", 0, page)])
    flat = index(transport, key, answer)
    entries = [(float(flat[i + 1]), flat[i]) for i in range(0, len(flat), 2)]
    left = [entry for entry in entries if after is None or entry < (float(score), last)]
    rows, looked_at = _fitting(transport, wanted, [run_id for _, run_id in left], limit)
    is_more = looked_at < len(left) or len(entries) == page
    if not (is_more and looked_at):
        return Newest(at, tuple(rows), {})
    score_there, id_there = left[looked_at - 1]
    return Newest(at, tuple(rows), {}, f"{score_there:.6f} {id_there}")


def _position(cursor: str) -> tuple[str, str]:
    """Score and id at which a page of a tag's runs ended."""
    score, _, last = cursor.partition(" ")
    if _SCORE.fullmatch(score) is None or not is_id(last):
        raise InvalidValue(f"{cursor!r} is no cursor of this question")
    return score, last


def next_in(transport: Transport, queue: str, most: int = 10) -> list[RunRow]:
    """The runs that are next in a queue.

    Raises:
        RedisUnavailable: no answer.
    """
    (ids,) = transport.read([("LRANGE", bytes_of(keys.queue(queue)), 0, most - 1)])
    return [] if isinstance(ids, Exception) else rows_of(transport, map(text_of, ids))


def rows_of(transport: Transport, run_ids: Iterable[str]) -> list[RunRow]:
    """A row for each of these ids, in their order.

    Raises:
        RedisUnavailable: no answer.
    """
    found: dict[str, RunRow] = {}
    wanted = list(run_ids)
    read_all(transport, (_row(run_id, found) for run_id in dict.fromkeys(wanted)))
    return [found[run_id] for run_id in wanted]


# --- places -----------------------------------------------------------------------------------------------------------


def _places(
    queues: Sequence[str], limits: Sequence[str], states: frozenset[StateType], at: float, page: int
) -> Iterator[tuple[str, Sequence[Command]]]:
    """The keys where runs of these states can be, each with the commands that read some of it and its size."""

    def holds(kinds: frozenset[StateType]) -> bool:
        return not states or bool(states & kinds)

    for prefix, kinds in _QUEUE_PLACES.items():
        for queue in queues if holds(kinds) else ():
            yield prefix + queue, _both_ends(prefix, queue, page // 2)
    for name in limits if holds(_WAITS_FOR_A_SLOT) else ():
        key = keys.limit_part(name, "waiters")
        yield key, [("ZRANGE", bytes_of(key), -page, -1), ("ZCARD", bytes_of(key))]
    for key, kinds in _COMMON_PLACES.items():
        if holds(kinds):
            yield key, [("ZRANGE", key, -page, -1), ("ZCARD", key)]
    for prefix, kinds in _ENDS.items():
        for queue in queues if holds(kinds) else ():
            yield prefix + queue, _not_expired(prefix + queue, at, page)


def _both_ends(prefix: str, queue: str, half: int) -> Sequence[Command]:
    name = bytes_of(prefix + queue)
    pages, size = ("LRANGE", "LLEN") if prefix == keys.QUEUE else ("ZRANGE", "ZCARD")
    return [(pages, name, 0, half - 1), (pages, name, -half, -1), (size, name)]


def _not_expired(key: str, at: float, page: int) -> Sequence[Command]:
    """Those whose retention is over are gone already, or will be in a moment."""
    name, now = bytes_of(key), f"({at:.6f}"
    return [("ZREVRANGEBYSCORE", name, "+inf", now, "LIMIT", 0, page), ("ZCOUNT", name, now, "+inf")]


def _ids(key: str, commands: Sequence[Command], ids: dict[str, None], gaps: dict[str, str]) -> Steps[None]:
    """Adds what is read of a place to `ids`, and to `gaps` why that is not all."""
    *pages, size = yield commands
    for answer in (size, *pages):
        if isinstance(answer, Exception):
            gaps[key] = f"cannot be read: {answer}"
            return
    looked_at = {text_of(member) for page in pages for member in page}
    ids.update(dict.fromkeys(looked_at))
    if size > sum(map(len, pages)):
        gaps[key] = f"holds {size} ids, {len(looked_at)} were looked at"


def _whole(key: str, ids: dict[str, None], gaps: dict[str, str]) -> Steps[None]:
    """Adds all that a place lists to `ids`; the ids of rows whose time is over are of no harm."""
    name, is_list = bytes_of(key), key.startswith(keys.QUEUE)
    try:
        found: Iterable[str] = (yield from whole_list(name)) if is_list else (yield from whole_zset(name))
    except Refused as refusal:
        gaps[key] = f"cannot be read: {refusal}"
    else:
        ids.update(dict.fromkeys(found))


def _first_id(since: float | None) -> str:
    """The least id of a run that was created then or later."""
    if since is None:
        return ""
    text = f"{max(0, int(since * 1000)):0{_HEX_OF_TIME}x}"
    return f"{text[:8]}-{text[8:]}"


# --- records ----------------------------------------------------------------------------------------------------------


def _row(run_id: str, found: dict[str, RunRow]) -> Steps[None]:
    (answer,) = yield [("HGETALL", bytes_of(keys.job(run_id)))]
    fields = {} if isinstance(answer, Exception) else fields_of(answer)
    field = fields.get
    found[run_id] = RunRow(
        id=run_id,
        task=field("task"),
        name=field("name") or field("task", "").rpartition(".")[2] or None,
        queue=field("origin"),
        state_type=field("state_type"),
        state_name=field("state_name"),
        message=field("state_message"),
        state_time=field("state_time"),
        created=field("created_at"),
        started=field("start_time"),
        ended=field("ended_at"),
        total_run_time=number(field("total_run_time")),
        attempt=whole(field("attempt", "0")),
        worker=field("worker_name"),
        flow=field("flow"),
        error=field("error"),
        problem=str(answer) if isinstance(answer, Exception) else _problem(fields),
    )


def _problem(fields: Mapping[str, str]) -> str | None:
    if not fields:
        return GONE
    return "; ".join(faults(fields)) or None if is_ours(fields) else FOREIGN
