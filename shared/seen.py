"""What a look at the keyspace sees: runs, the places of their ids, counters. Values only; `snapshot.py` fills them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from shared import keys
from shared.rq_words import REGISTRIES
from shared.run_fields import DEFERRED, HELD, LIMIT, PASSED, Row, is_ours
from shared.state_types import TERMINAL_STATES, StateType


class Place(NamedTuple):
    """Where an id was found. `kind` is the prefix or name in keys.py, `queue` is empty where none belongs to it.

    `score` is that of a sorted set; `times` counts the occurrences in a list; `token` is what a row of rq:wip names.
    """

    kind: str
    key: str
    queue: str
    score: float = 0.0
    times: int = 1
    token: str = ""


class Holding(NamedTuple):
    """A run among those that a worker holds; the three texts are empty where what is stored is not readable."""

    worker: str
    token: str
    cycle: str
    place: str


class Stray(NamedTuple):
    """A row of an index in which a run is listed, or an id without a run, that does not belong there.

    `kind` says what such a row means: `place` (it lies there), `held` and `running` (a process holds it), `wip` (the
    same, to RQ), `deadline`, `slot` (it holds one of a limit), `parked` (a stock worker of RQ's took it).
    """

    run_id: str
    kind: str
    key: str
    member: str


class Needed(NamedTuple):
    """How many unfinished runs need a run's result: by its record ('' for none), and as they were found."""

    run_id: str
    counted: str
    found: int


class Ties(NamedTuple):
    """Sets of ids that tie a run to others: all it needs, those of them that have not ended, who waits for this run."""

    upstream: frozenset[str] = frozenset()
    waits: frozenset[str] = frozenset()
    feeds: frozenset[str] = frozenset()


class IdempotencyKey(NamedTuple):
    """An idempotency key: its name in Redis, what is stored there, and how many seconds it has left (-1: no end)."""

    key: str
    value: str
    lifetime: int


@dataclass(frozen=True, slots=True)
class SeenRun:
    """A run and every place of its id. Without fields there is no such run: only places, or keys it left behind."""

    id: str
    fields: Mapping[str, str]
    faults: tuple[str, ...]
    """What is wrong with the fields."""
    lifetime: int
    """Seconds that the hash has left, -1 for no end."""
    history: tuple[Row | str, ...]
    """Rows, oldest first; for one that cannot be read, why."""
    leftovers: tuple[str, ...]
    """Parts that are there although the run is not."""
    places: tuple[Place, ...]
    holdings: tuple[Holding, ...]
    ties: Ties = field(default_factory=Ties)
    has_parameters: bool = True

    @property
    def state(self) -> StateType:
        """The type of its state. Only a run without faults has one."""
        return StateType(self.fields["state_type"])

    @property
    def place(self) -> str:
        """What it says of where it lies; '' where its state says it all."""
        return self.fields.get("place", "")

    @property
    def token(self) -> int:
        """That of its last attempt or hand-out, 0 if there was none."""
        return int(self.fields.get("token", 0))

    @property
    def is_held(self) -> bool:
        """True while a process may report of it: it runs, was handed out before its start, is paused or waits there."""
        return self.state in (StateType.RUNNING, StateType.CANCELLING) or self.place == HELD

    @property
    def has_ended(self) -> bool:
        """True for a run in a terminal state."""
        return self.state in TERMINAL_STATES

    @property
    def queue(self) -> str:
        """The queue that it belongs to."""
        return self.fields.get("origin", "")

    @property
    def is_ours(self) -> bool:
        """False for a job of RQ's own, and where nothing is."""
        return is_ours(self.fields)


def own_place(run: SeenRun) -> str:
    """The key in which a run lies, '' for one that a process holds."""
    if run.has_ended:
        return REGISTRIES[run.state] + run.queue
    if run.is_held:
        return ""
    if run.place.startswith(LIMIT):
        return keys.limit_part(run.place.removeprefix(LIMIT), "waiters")
    if run.place == DEFERRED:
        return keys.DEFERRED + run.queue
    if run.place == PASSED or run.state is StateType.SCHEDULED:
        return keys.SCHEDULED + run.queue
    return keys.PAUSED if run.state is StateType.PAUSED else keys.queue(run.queue)


@dataclass(frozen=True, slots=True)
class Census:
    """The counters, and the states that runs were found in."""

    counters: Mapping[str, str]
    states: Mapping[str, int]
    unreadable: int
    """Runs whose state cannot be told."""
    quiet: bool
    """True if the counters were the same before the runs were read and after."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a look at the keyspace found."""

    at: float
    """The server's time when the look began, in seconds since 1970."""
    runs: Mapping[str, SeenRun]
    queues: frozenset[str]
    """Keys of queues that RQ knows."""
    leases: Mapping[str, float]
    """Workers, with the ends of their leases."""
    odd_members: tuple[tuple[str, str], ...]
    """Keys and members of rq:wip that name no run with its token."""
    unreadable: Mapping[str, str]
    """Keys that Redis does not read as what they should be, with what it says."""
    census: Census | None
    """None where runs were not counted."""
    moved: frozenset[str] = frozenset()
    """Runs that changed while this look was taken."""
    limits: frozenset[str] = frozenset()
    """Names of the limits that are listed."""
    holders: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Per limit who holds its slots, and since when."""
    waited_for: frozenset[str] = frozenset()
    """Limits for a slot of which somebody waits."""
    idempotency: tuple[IdempotencyKey, ...] = ()
    continued: frozenset[str] = frozenset()
    """Runs of which it is still to be told, to some of those that wait for them, that they have ended."""
    needed_by: Mapping[str, frozenset[str]] | None = field(default_factory=dict)
    """Per run those that need its result and have not ended; None where that was not looked for."""
