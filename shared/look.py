"""One look at the keyspace, while it is taken: what is read of each run and each index, gathered. Judges nothing.

# Records are read before indexes, and once more after them: a run whose record is the same did not move in between.
# What Redis refuses to read, because another type lies there, is noted and never raised.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from shared import keys
from shared.pages import some_of_zset, whole_hash, whole_list, whole_set, whole_zset
from shared.run_fields import Row, faults, is_ours, row_of
from shared.seen import Holding, IdempotencyKey, Place, SeenRun, Ties
from shared.state_types import TERMINAL_STATES
from shared.walks import Refused, Steps, accepted, bytes_of, fields_of, text_of

END_OF_HELD: Final = keys.held("").removeprefix(keys.HELD)
END_OF_WAITERS: Final = keys.limit_part("", "waiters").removeprefix(keys.LIMIT)
END_OF_HOLDERS: Final = keys.limit_part("", "holders").removeprefix(keys.LIMIT)
SETS_OF_NO_QUEUE: Final = (keys.PAUSED, keys.RUNNING, keys.DEADLINES)
_SETS_OF_QUEUES: Final = (keys.SCHEDULED, keys.DEFERRED, keys.FINISHED, keys.FAILED, keys.CANCELED, keys.WIP)
_MOVING: Final = ("seq", "token", "place", "consumers")
"""Fields of which a move changes at least one."""
_HELD_ENTRY: Final = re.compile(r"(\d+) (\d+) (\d+)", re.ASCII)
_FEED: Final = re.compile(r"feed (\S+)")
_TERMINAL: Final = frozenset(state.value for state in TERMINAL_STATES)


class _Record(NamedTuple):
    fields: dict[str, str]
    lifetime: int
    history: tuple[Row | str, ...]
    has_parameters: bool = True
    leftovers: tuple[str, ...] = ()


_NO_RECORD: Final = _Record({}, -2, ())
_NO_TIES: Final = Ties()


class Look:
    """What is gathered while a look is taken; `wanted` are the ids it is about, None for all."""

    def __init__(self, wanted: frozenset[str] | None) -> None:
        self.wanted = wanted
        self.unreadable: dict[str, str] = {}
        self.odd: list[tuple[str, str]] = []
        self.moved: set[str] = set()
        self.holders: dict[str, dict[str, float]] = {}
        self.waited_for: set[str] = set()
        self.idempotency: list[IdempotencyKey] = []
        self.continued: set[str] = set()
        self.needed_by: dict[str, set[str]] = {}
        self._records: dict[str, _Record] = {}
        self._ties: dict[str, Ties] = {}
        self._places: dict[str, list[Place]] = {}
        self._holdings: dict[str, list[Holding]] = {}

    # --- a run --------------------------------------------------------------------------------------------------------

    def record(self, run_id: str) -> Steps[None]:
        """Read what is stored of a run."""
        key, history = keys.job(run_id), keys.run_part(run_id, "history")
        flat, lifetime, rows, parameters = yield [
            ("HGETALL", bytes_of(key)),
            ("TTL", bytes_of(key)),
            ("LRANGE", bytes_of(history), 0, -1),
            ("EXISTS", bytes_of(keys.run_part(run_id, "parameters"))),
        ]
        fields = fields_of(self._or_empty(key, flat))
        texts = self._or_empty(history, rows)
        leftovers: Sequence[str] = ()
        if not fields:
            there = yield [("EXISTS", bytes_of(keys.run_part(run_id, part))) for part in keys.RUN_PARTS]
            leftovers = [part for part, is_there in zip(keys.RUN_PARTS, there, strict=True) if is_there == 1]
        seconds = lifetime if isinstance(lifetime, int) else -1
        self._records[run_id] = _Record(fields, seconds, tuple(map(row_of, texts)), parameters != 0, tuple(leftovers))

    def ties(self, run_id: str) -> Steps[None]:
        """Read what ties a run to others, and note it with those that it needs while it has not ended."""
        (state,) = yield [("HGET", bytes_of(keys.job(run_id)), "state_type")]
        upstream = yield from self._set(keys.run_part(run_id, "upstream"))
        if isinstance(state, bytes) and text_of(state) not in _TERMINAL:
            for needed in upstream if self.wanted is None else upstream & self.wanted:
                self.needed_by.setdefault(needed, set()).add(run_id)
        if self.wanted is None or run_id in self.wanted:
            waits = yield from self._set(keys.run_part(run_id, "waits"))
            feeds = yield from self._set(keys.run_part(run_id, "feeds"))
            self._ties[run_id] = Ties(upstream, waits, feeds)

    def compare(self, run_id: str) -> Steps[None]:
        """See whether a run is still as `record` found it."""
        (answer,) = yield [("HMGET", bytes_of(keys.job(run_id)), *_MOVING)]
        texts: Sequence[bytes | None] = [None] * len(_MOVING) if isinstance(answer, Exception) else answer
        fields = self._records[run_id].fields
        if [None if text is None else text_of(text) for text in texts] != [fields.get(name) for name in _MOVING]:
            self.moved.add(run_id)

    def runs(self) -> dict[str, SeenRun]:
        """Every run that there is, and every id that was found somewhere."""
        ids = dict.fromkeys((*self._records, *self._places, *self._holdings))
        return {run_id: self._seen(run_id) for run_id in ids}

    def _seen(self, run_id: str) -> SeenRun:
        record = self._records.get(run_id, _NO_RECORD)
        return SeenRun(
            run_id,
            record.fields,
            faults(record.fields) if is_ours(record.fields) else (),
            record.lifetime,
            record.history,
            record.leftovers,
            tuple(self._places.get(run_id, ())),
            tuple(self._holdings.get(run_id, ())),
            self._ties.get(run_id, _NO_TIES),
            record.has_parameters,
        )

    # --- indexes ------------------------------------------------------------------------------------------------------

    def indexes(self, names: Iterable[str]) -> Iterable[Steps[None]]:
        """Read every key among these that lists runs."""
        for name in names:
            if name.startswith(keys.QUEUE):
                yield self._queue(name)
            elif name.startswith(keys.HELD) and name.endswith(END_OF_HELD):
                yield self._held(name)
            elif name in SETS_OF_NO_QUEUE:
                yield self._sorted_set(name, name, "")
            elif name.startswith(keys.LIMIT) and name.endswith(END_OF_WAITERS):
                self.waited_for.add(name[len(keys.LIMIT) : -len(END_OF_WAITERS)])
                yield self._sorted_set(keys.LIMIT, name, "")
            elif name.startswith(keys.LIMIT) and name.endswith(END_OF_HOLDERS):
                yield self._holders(name)
            elif name.startswith(keys.IDEMPOTENCY) and self.wanted is None:
                yield self.idempotency_key(name)
            elif name == keys.CONTINUE:
                yield self._continuations(name)
            else:
                prefix = next((one for one in _SETS_OF_QUEUES if name.startswith(one)), "")
                if prefix:
                    yield self._sorted_set(prefix, name, name[len(prefix) :])

    def idempotency_key(self, key: str) -> Steps[None]:
        """Read an idempotency key."""
        value, lifetime = yield [("GET", bytes_of(key)), ("TTL", bytes_of(key))]
        if isinstance(value, Exception):
            self.unreadable[key] = str(value)
        elif value is not None and isinstance(lifetime, int):
            self.idempotency.append(IdempotencyKey(key, text_of(value), lifetime))

    def _or_empty(self, key: str, answer: Any) -> Sequence[bytes]:
        try:
            found: Sequence[bytes] = accepted(answer)
        except Refused as error:
            self.unreadable[key] = str(error)
            return ()
        return found

    def _set(self, key: str) -> Steps[frozenset[str]]:
        try:
            members = yield from whole_set(bytes_of(key))
        except Refused as error:
            self.unreadable[key] = str(error)
            return frozenset()
        return frozenset(members)

    def _put(self, run_id: str, place: Place) -> None:
        if self.wanted is None or run_id in self.wanted:
            self._places.setdefault(run_id, []).append(place)

    def _queue(self, key: str) -> Steps[None]:
        kind, queue = keys.QUEUE, key[len(keys.QUEUE) :]
        if queue.endswith(keys.INTERMEDIATE):
            kind, queue = keys.INTERMEDIATE, queue.removesuffix(keys.INTERMEDIATE)
        try:
            members = yield from whole_list(bytes_of(key))
        except Refused as error:
            self.unreadable[key] = str(error)
            return
        for run_id, times in members.items():
            self._put(run_id, Place(kind, key, queue, times=times))

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
            if kind == keys.LIMIT and keys.process_of(member):
                continue  # a process that waits: whoever gives slots away sees whether it still does
            run_id, _, token = member.rpartition(":") if kind == keys.WIP else (member, "", "")
            if kind == keys.WIP and not (run_id and token.isdecimal()):
                self.odd.append((key, member))
            else:
                self._put(run_id, Place(kind, key, queue, score, token=token))

    def _held(self, key: str) -> Steps[None]:
        worker = key[len(keys.HELD) : -len(END_OF_HELD)]
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

    def _holders(self, key: str) -> Steps[None]:
        try:
            members = yield from whole_zset(bytes_of(key))
        except Refused as error:
            self.unreadable[key] = str(error)
            return
        self.holders[key[len(keys.LIMIT) : -len(END_OF_HOLDERS)]] = members

    def _continuations(self, key: str) -> Steps[None]:
        try:
            texts = yield from whole_list(bytes_of(key))
        except Refused as error:
            self.unreadable[key] = str(error)
            return
        self.continued.update(match[1] for match in map(_FEED.match, texts) if match)
