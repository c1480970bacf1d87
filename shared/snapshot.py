"""Reads all of Baton's keyspace for checking: every run, every place it lies in, leases and counters. Judges nothing.

# Only reads, and never KEYS. What Redis refuses to read, because another type lies there, is noted and never raised.
# Many commands are no snapshot: under load a run moves between two of them. A second look, at some runs only, tells
# which of them moved while it was taken; whoever judges says nothing of those.
# No command takes long: whatever may be long is read page by page.
# Records are read before places, and a run's seq once more after them: what has the same seq did not move in between.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from shared import keys
from shared.errors import RedisUnavailable
from shared.run_fields import Row, faults, is_ours, row_of
from shared.seen import Census, Holding, Place, SeenRun, Snapshot
from shared.state_types import StateType
from shared.transport import Command, Transport
from shared.walks import BATCH, Refused, Steps, accepted, bytes_of, fields_of, read_all, text_of

PAGE: Final = 1000
"""Members of one key in one answer."""

_SPACES: Final = tuple(prefix.partition(":") for prefix in (keys.JOB, keys.RUN))
_EVERY_KEY: Final = tuple(f"{space}:*" for space, _, _ in _SPACES)
_KEYS_OF_NO_RUN: Final = tuple(f"{space}:[^{rest[0]}]*" for space, _, rest in _SPACES)
"""Those that list runs, without those of each run, told apart by a letter; `_OTHER_SETS` completes them."""
_END_OF_HELD: Final = keys.held("").removeprefix(keys.HELD)
_END_OF_WAITERS: Final = ":waiters"
_SETS_OF_QUEUES: Final = (keys.SCHEDULED, keys.DEFERRED, keys.FINISHED, keys.FAILED, keys.CANCELED, keys.WIP)
_OTHER_SETS: Final = (keys.PAUSED, keys.RUNNING)
_HELD_ENTRY: Final = re.compile(r"(\d+) (\d+) (\d+)", re.ASCII)


def take(transport: Transport) -> Snapshot:
    """Look at everything.

    Raises:
        RedisUnavailable: no answer, or this user may not scan.
    """
    look = _Look(wanted=None)
    before = _counters(transport, look.unreadable)
    ids: dict[str, None] = {}
    lists: dict[str, None] = {}
    for pattern in _EVERY_KEY:
        for name in key_names(transport, pattern):
            if run_id := run_of(name):
                ids[run_id] = None
            else:
                lists[name] = None
    at, queues, leases = _server_side(transport, look.unreadable)
    read_all(transport, (look.record(run_id) for run_id in ids))
    read_all(transport, look.indexes(lists))
    after = _counters(transport, look.unreadable)
    runs = look.runs()
    census = _census(after, quiet=before == after, of=_types_of(runs.values(), look.unreadable))
    return Snapshot(at, runs, queues, leases, tuple(look.odd), look.unreadable, census)


def take_again(transport: Transport, run_ids: Iterable[str], *, count: bool) -> Snapshot:
    """Look at these runs only, and with `count` at the states of all.

    Raises:
        RedisUnavailable: as for `take`.
    """
    wanted = frozenset(run_ids)
    look = _Look(wanted)
    at, queues, leases = _server_side(transport, look.unreadable)
    read_all(transport, (look.record(run_id) for run_id in wanted))
    names = (name for pattern in _KEYS_OF_NO_RUN for name in key_names(transport, pattern))
    read_all(transport, look.indexes(dict.fromkeys((*_OTHER_SETS, *names))))
    read_all(transport, (look.compare(run_id) for run_id in wanted))
    _counters(transport, look.unreadable)
    census = count_states(transport) if count else None
    moved = frozenset(look.moved)
    return Snapshot(at, look.runs(), queues, leases, tuple(look.odd), look.unreadable, census, moved)


def count_states(transport: Transport) -> Census:
    """Count the states that runs are in, and read the counters before and after.

    Raises:
        RedisUnavailable: as for `take`.
    """
    found: list[str | None] = []
    before = _counters(transport, {})
    ids = dict.fromkeys(run_of(name) for name in key_names(transport, f"{keys.JOB}*"))
    read_all(transport, (_state_type(run_id, found) for run_id in ids if run_id))
    after = _counters(transport, {})
    return _census(after, quiet=before == after, of=found)


def _state_type(run_id: str, found: list[str | None]) -> Steps[None]:
    """Adds the type of a run's state; None if it cannot be told, nothing if it is no run of ours."""
    names = ("state_type", "state_name", "state_time", "seq", "task")
    (answer,) = yield [("HMGET", bytes_of(keys.job(run_id)), *names)]
    if isinstance(answer, Exception):
        found.append(None)
    elif any(value is not None for value in answer):
        found.append(None if answer[0] is None else text_of(answer[0]))


def _types_of(runs: Iterable[SeenRun], unreadable: Mapping[str, str]) -> Iterable[str | None]:
    for run in runs:
        if run.is_ours or keys.job(run.id) in unreadable:
            yield run.fields.get("state_type")


def _census(counters: dict[str, str], *, quiet: bool, of: Iterable[str | None]) -> Census:
    states = Counter(of)
    known = {kind.value: states[kind] for kind in StateType if states[kind]}
    return Census(counters, known, states.total() - sum(known.values()), quiet)


def run_of(key: str) -> str:
    """The id of the run that a key belongs to alone, or ''."""
    if key.startswith(keys.JOB):
        run_id = key[len(keys.JOB) :]
        return run_id if ":" not in run_id else ""  # RQ hangs keys of its own below a job's
    if key.startswith(keys.RUN):
        return key[len(keys.RUN) :].rpartition(":")[0]
    return ""


# --- keys of any length -----------------------------------------------------------------------------------------------


def key_names(transport: Transport, pattern: str) -> Iterator[str]:
    """The names of all keys that match, each at least once.

    Raises:
        RedisUnavailable: no answer, or this user may not scan.
    """
    cursor: Any = 0
    while True:
        (answer,) = transport.read([("SCAN", cursor, "MATCH", pattern, "COUNT", PAGE)])
        if isinstance(answer, Exception):
            raise RedisUnavailable(f"Redis at {transport.address} refuses SCAN: {answer}", transport.address)
        cursor, names = answer
        for name in names:
            yield text_of(name)
        if int(cursor) == 0:
            return


def whole_list(key: bytes) -> Steps[Counter[str]]:
    """The members of a list, with how often each was seen.

    It is read from its tail. Ids leave it at its head: in pages counted from there, those that stay would move up and
    be missed. What is pushed at the tail meanwhile only shows an id twice.

    Raises:
        Refused: it is no list.
    """
    found: Counter[str] = Counter()
    end = -1
    while True:
        (answer,) = yield [("LRANGE", key, end - PAGE + 1, end)]
        found.update(text_of(member) for member in accepted(answer))
        if len(answer) < PAGE:
            return found
        end -= PAGE


def whole_zset(key: bytes) -> Steps[dict[str, float]]:
    """The members of a sorted set, with their scores.

    Raises:
        Refused: it is no sorted set.
    """
    found: dict[str, float] = {}
    cursor: Any = 0
    while True:
        (answer,) = yield [("ZSCAN", key, cursor, "COUNT", PAGE)]
        cursor, flat = accepted(answer)
        found.update((text_of(flat[i]), float(flat[i + 1])) for i in range(0, len(flat), 2))
        if int(cursor) == 0:
            return found


def some_of_zset(key: bytes, members: Sequence[str]) -> Steps[dict[str, float]]:
    """Those of these members that a sorted set has, with their scores.

    Raises:
        Refused: it is no sorted set.
    """
    found: dict[str, float] = {}
    for start in range(0, len(members), BATCH):
        page = members[start : start + BATCH]
        (answer,) = yield [("ZMSCORE", key, *map(bytes_of, page))]
        scores = zip(page, accepted(answer), strict=True)
        found.update((member, float(score)) for member, score in scores if score is not None)
    return found


def whole_hash(key: bytes) -> Steps[dict[str, str]]:
    """The fields of a hash.

    Raises:
        Refused: it is no hash.
    """
    (answer,) = yield [("HGETALL", key)]
    return fields_of(accepted(answer))


def stored_parts(transport: Transport, run_id: str, most: Mapping[str, int]) -> dict[str, Any]:
    """What is stored of one run, by name: `record`, `lifetime`, `history`, and parts with how many bytes at most.

    The answers are as Redis gives them, an exception for what it refuses.

    Raises:
        RedisUnavailable: no answer.
    """
    record, history = bytes_of(keys.job(run_id)), bytes_of(keys.run_part(run_id, "history"))
    commands: dict[str, Command] = {
        "record": ("HGETALL", record),
        "lifetime": ("TTL", record),
        "history": ("LRANGE", history, 0, -1),
    }
    for part, size in most.items():
        commands[part] = ("GETRANGE", bytes_of(keys.run_part(run_id, part)), 0, size - 1)
    return dict(zip(commands, transport.read(list(commands.values())), strict=True))


# --- what is not about runs -------------------------------------------------------------------------------------------


def _counters(transport: Transport, unreadable: dict[str, str]) -> dict[str, str]:
    (answer,) = transport.read([("HGETALL", keys.COUNTS)])
    if isinstance(answer, Exception):
        unreadable[keys.COUNTS] = str(answer)
        return {}
    return fields_of(answer)


def _server_side(transport: Transport, unreadable: dict[str, str]) -> tuple[float, frozenset[str], dict[str, float]]:
    """The server's time, the queues that RQ knows, the leases."""
    time, queues, leases = transport.read(
        [("TIME",), ("SMEMBERS", keys.QUEUES), ("ZRANGE", keys.LEASES, 0, -1, "WITHSCORES")]
    )
    if isinstance(time, Exception):
        raise RedisUnavailable(f"Redis at {transport.address} refuses TIME: {time}", transport.address)
    for key, answer in ((keys.QUEUES, queues), (keys.LEASES, leases)):
        if isinstance(answer, Exception):
            unreadable[key] = str(answer)
    known = frozenset() if keys.QUEUES in unreadable else frozenset(map(text_of, queues))
    ends = {} if keys.LEASES in unreadable else {worker: float(end) for worker, end in fields_of(leases).items()}
    return int(time[0]) + int(time[1]) / 1_000_000, known, ends


# --- runs and their places --------------------------------------------------------------------------------------------


class _Record(NamedTuple):
    fields: dict[str, str]
    lifetime: int
    history: tuple[Row | str, ...]
    leftovers: tuple[str, ...] = ()


class _Look:
    """What is gathered while a look is taken; `wanted` are the ids it is about, None for all."""

    def __init__(self, wanted: frozenset[str] | None) -> None:
        self.wanted = wanted
        self.unreadable: dict[str, str] = {}
        self.odd: list[tuple[str, str]] = []
        self.moved: set[str] = set()
        self._records: dict[str, _Record] = {}
        self._places: dict[str, list[Place]] = {}
        self._holdings: dict[str, list[Holding]] = {}

    def record(self, run_id: str) -> Steps[None]:
        """Read what is stored of a run."""
        key, history = keys.job(run_id), keys.run_part(run_id, "history")
        flat, lifetime, rows = yield [
            ("HGETALL", bytes_of(key)),
            ("TTL", bytes_of(key)),
            ("LRANGE", bytes_of(history), 0, -1),
        ]
        fields = fields_of(self._or_empty(key, flat))
        texts = self._or_empty(history, rows)
        leftovers: Sequence[str] = ()
        if not fields:
            there = yield [("EXISTS", bytes_of(keys.run_part(run_id, part))) for part in keys.RUN_PARTS]
            leftovers = [part for part, is_there in zip(keys.RUN_PARTS, there, strict=True) if is_there == 1]
        seconds = lifetime if isinstance(lifetime, int) else -1
        self._records[run_id] = _Record(fields, seconds, tuple(map(row_of, texts)), tuple(leftovers))

    def compare(self, run_id: str) -> Steps[None]:
        """See whether a run is still as `record` found it."""
        (seq,) = yield [("HGET", bytes_of(keys.job(run_id)), "seq")]
        now = None if seq is None or isinstance(seq, Exception) else text_of(seq)
        if now != self._records[run_id].fields.get("seq"):
            self.moved.add(run_id)

    def indexes(self, names: Iterable[str]) -> Iterable[Steps[None]]:
        """Read every key among these that lists runs."""
        for name in names:
            if name.startswith(keys.QUEUE):
                yield self._queue(name)
            elif name.startswith(keys.HELD) and name.endswith(_END_OF_HELD):
                yield self._held(name)
            elif name in _OTHER_SETS:
                yield self._sorted_set(name, name, "")
            elif name.startswith(keys.LIMIT) and name.endswith(_END_OF_WAITERS):
                yield self._sorted_set(keys.LIMIT, name, "")
            else:
                prefix = next((one for one in _SETS_OF_QUEUES if name.startswith(one)), "")
                if prefix:
                    yield self._sorted_set(prefix, name, name[len(prefix) :])

    def runs(self) -> dict[str, SeenRun]:
        """Every run that there is, and every id that was found somewhere."""
        ids = dict.fromkeys((*self._records, *self._places, *self._holdings))
        return {run_id: self._seen(run_id) for run_id in ids}

    def _seen(self, run_id: str) -> SeenRun:
        record = self._records.get(run_id, _NO_RECORD)
        places, holdings = self._places.get(run_id, ()), self._holdings.get(run_id, ())
        wrong = faults(record.fields) if is_ours(record.fields) else ()
        fields, lifetime, history, leftovers = record
        return SeenRun(run_id, fields, wrong, lifetime, history, leftovers, tuple(places), tuple(holdings))

    def _or_empty(self, key: str, answer: Any) -> Sequence[bytes]:
        try:
            found: Sequence[bytes] = accepted(answer)
        except Refused as error:
            self.unreadable[key] = str(error)
            return ()
        return found

    def _put(self, run_id: str, place: Place) -> None:
        if self.wanted is None or run_id in self.wanted:
            self._places.setdefault(run_id, []).append(place)

    def _queue(self, key: str) -> Steps[None]:
        try:
            members = yield from whole_list(bytes_of(key))
        except Refused as error:
            self.unreadable[key] = str(error)
            return
        for run_id, times in members.items():
            self._put(run_id, Place(keys.QUEUE, key, key[len(keys.QUEUE) :], times=times))

    def _sorted_set(self, kind: str, key: str, queue: str) -> Steps[None]:
        try:
            if self.wanted is None or kind == keys.WIP:
                members = yield from whole_zset(bytes_of(key))
            else:
                members = yield from some_of_zset(bytes_of(key), sorted(self.wanted))
        except Refused as error:
            self.unreadable[key] = str(error)
            return
        for member, score in members.items():
            run_id, _, token = member.rpartition(":") if kind == keys.WIP else (member, "", "")
            if kind == keys.WIP and not (run_id and token.isdecimal()):
                self.odd.append((key, member))
            else:
                self._put(run_id, Place(kind, key, queue, score, token=token))

    def _held(self, key: str) -> Steps[None]:
        worker = key[len(keys.HELD) : -len(_END_OF_HELD)]
        try:
            entries = yield from whole_hash(bytes_of(key))
        except Refused as error:
            self.unreadable[key] = str(error)
            return
        for run_id, text in entries.items():
            if self.wanted is None or run_id in self.wanted:
                entry = _HELD_ENTRY.fullmatch(text)
                token, cycle, place = entry.groups() if entry else ("", "", "")
                self._holdings.setdefault(run_id, []).append(Holding(worker, token, cycle, place))


_NO_RECORD: Final = _Record({}, -2, ())
