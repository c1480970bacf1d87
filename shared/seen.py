"""What a look at the keyspace sees: runs, the places of their ids, counters. Values only; `snapshot.py` fills them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from shared.run_fields import Row, is_ours


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

    @property
    def queue(self) -> str:
        """The queue that it belongs to."""
        return self.fields.get("origin", "")

    @property
    def is_ours(self) -> bool:
        """False for a job of RQ's own, and where nothing is."""
        return is_ours(self.fields)


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
