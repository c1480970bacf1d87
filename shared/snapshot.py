"""Reads all of Baton's keyspace for checking: every run, every place it lies in, leases and counters. Judges nothing.

# Only reads, and never KEYS. What Redis refuses to read, because another type lies there, is noted and never raised.
# Many commands are no snapshot: under load a run moves between two of them. A second look, at some runs only, tells
# which of them moved while it was taken; whoever judges says nothing of those.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from shared import keys
from shared.errors import RedisUnavailable
from shared.look import SETS_OF_NO_QUEUE, Look
from shared.pages import key_names
from shared.seen import Census, SeenRun, Snapshot
from shared.state_types import StateType
from shared.transport import Command, Transport
from shared.walks import Steps, bytes_of, fields_of, read_all, text_of

_SPACES: Final = tuple(prefix.partition(":") for prefix in (keys.JOB, keys.RUN))
_EVERY_KEY: Final = tuple(f"{space}:*" for space, _, _ in _SPACES)
_KEYS_OF_NO_RUN: Final = tuple(f"{space}:[^{rest[0]}]*" for space, _, rest in _SPACES)
"""Those that list runs, without those of each run, told apart by a letter; `SETS_OF_NO_QUEUE` completes them."""
_END_OF_UPSTREAM: Final = ":upstream"
_TYING_PARTS: Final = (_END_OF_UPSTREAM, ":waits", ":feeds")


class _Server(NamedTuple):
    """The server's time, and sets that list what is no run."""

    at: float
    queues: frozenset[str]
    leases: dict[str, float]
    limits: frozenset[str]


def take(transport: Transport) -> Snapshot:
    """Look at everything.

    Raises:
        RedisUnavailable: no answer, or this user may not scan.
    """
    look = Look(wanted=None)
    before = _counters(transport, look.unreadable)
    ids: dict[str, None] = {}
    tied: dict[str, None] = {}
    lists: dict[str, None] = {}
    for pattern in _EVERY_KEY:
        for name in key_names(transport, pattern):
            if not (run_id := run_of(name)):
                lists[name] = None
                continue
            ids[run_id] = None
            if name.endswith(_TYING_PARTS):
                tied[run_id] = None
    server = _server_side(transport, look.unreadable)
    read_all(transport, (look.record(run_id) for run_id in ids))
    read_all(transport, look.indexes(lists))
    read_all(transport, (look.ties(run_id) for run_id in tied))
    after = _counters(transport, look.unreadable)
    runs = look.runs()
    census = _census(after, quiet=before == after, of=_types_of(runs.values(), look.unreadable))
    return _snapshot(look, server, runs, census, has_needs=True)


def take_again(transport: Transport, names: Iterable[str], *, count: bool, needs: bool) -> Snapshot:
    """Look at these runs and idempotency keys only; with `count` at the states of all, with `needs` at who needs them.

    Raises:
        RedisUnavailable: as for `take`.
    """
    wanted = frozenset(names)
    idempotency = {name for name in wanted if name.startswith(keys.IDEMPOTENCY)}
    look = Look(wanted - idempotency)
    server = _server_side(transport, look.unreadable)
    read_all(transport, (look.record(run_id) for run_id in wanted - idempotency))
    lists = (name for pattern in _KEYS_OF_NO_RUN for name in key_names(transport, pattern))
    read_all(transport, look.indexes(dict.fromkeys((*SETS_OF_NO_QUEUE, *lists))))
    read_all(transport, (look.idempotency_key(key) for key in idempotency))
    tied = dict.fromkeys(wanted - idempotency)
    if needs:
        tied |= dict.fromkeys(map(run_of, key_names(transport, f"{keys.RUN}*{_END_OF_UPSTREAM}")))
    read_all(transport, (look.ties(run_id) for run_id in tied))
    read_all(transport, (look.compare(run_id) for run_id in wanted - idempotency))
    _counters(transport, look.unreadable)
    census = count_states(transport) if count else None
    return _snapshot(look, server, look.runs(), census, has_needs=needs)


def _snapshot(
    look: Look, server: _Server, runs: Mapping[str, SeenRun], census: Census | None, *, has_needs: bool
) -> Snapshot:
    return Snapshot(
        server.at,
        runs,
        server.queues,
        server.leases,
        tuple(look.odd),
        look.unreadable,
        census,
        frozenset(look.moved),
        server.limits,
        look.holders,
        frozenset(look.waited_for),
        tuple(look.idempotency),
        frozenset(look.continued),
        {run_id: frozenset(ids) for run_id, ids in look.needed_by.items()} if has_needs else None,
    )


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


# --- what is not about runs -------------------------------------------------------------------------------------------


def _counters(transport: Transport, unreadable: dict[str, str]) -> dict[str, str]:
    (answer,) = transport.read([("HGETALL", keys.COUNTS)])
    if isinstance(answer, Exception):
        unreadable[keys.COUNTS] = str(answer)
        return {}
    return fields_of(answer)


def _server_side(transport: Transport, unreadable: dict[str, str]) -> _Server:
    commands: dict[str, Command] = {
        keys.QUEUES: ("SMEMBERS", keys.QUEUES),
        keys.LEASES: ("ZRANGE", keys.LEASES, 0, -1, "WITHSCORES"),
        keys.LIMITS: ("SMEMBERS", keys.LIMITS),
    }
    time, *answers = transport.read([("TIME",), *commands.values()])
    if isinstance(time, Exception):
        raise RedisUnavailable(f"Redis at {transport.address} refuses TIME: {time}", transport.address)
    found: dict[str, Sequence[bytes]] = {}
    for key, answer in zip(commands, answers, strict=True):
        found[key] = () if isinstance(answer, Exception) else answer
        if isinstance(answer, Exception):
            unreadable[key] = str(answer)
    return _Server(
        int(time[0]) + int(time[1]) / 1_000_000,
        frozenset(map(text_of, found[keys.QUEUES])),
        {worker: float(end) for worker, end in fields_of(found[keys.LEASES]).items()},
        frozenset(map(text_of, found[keys.LIMITS])),
    )
