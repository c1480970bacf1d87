"""What the laws share: violations, which runs a law is asked about, and how repairs are told. Finds nothing itself."""

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from shared import keys
from shared.seen import Needed, SeenRun, Snapshot, Stray

RECONCILE: Final = "baton reconcile"
"""The repair of what one call mends, by the run's record; see `reconcile.py`."""


COUNTERS: Final = "I7"
CONSUMERS: Final = "consumers"
"""Names of laws that can be judged only by all runs together."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A law that is broken, by which runs (keys, members), how, and what repairs it. ID stands for each of them."""

    invariant: str
    ids: tuple[str, ...]
    what: str
    repair: str = RECONCILE
    witnesses: tuple[str, ...] = ()
    """Other runs, and idempotency keys, by which this was seen: whoever looks again must look at them too."""
    stray: Stray | None = None
    """The row that is too much, where that is the fault."""
    needed: Needed | None = None
    """What the record should say, where it miscounts the runs that need this one."""


class Invariant(NamedTuple):
    """A law: its name, its text, and the function that finds what breaks it."""

    name: str
    law: str
    check: Callable[[Snapshot], Iterator[Violation]]


def sound(snapshot: Snapshot) -> Iterator[SeenRun]:
    """The runs that can be read."""
    return (run for run in snapshot.runs.values() if run.is_ours and not run.faults)


def missing(snapshot: Snapshot) -> Iterator[SeenRun]:
    """The ids that were found somewhere without a run."""
    for run in snapshot.runs.values():
        if not run.fields and keys.job(run.id) not in snapshot.unreadable:
            yield run


def is_gone(run_id: str, snapshot: Snapshot) -> bool:
    """True if there is nothing under this id that might be a run."""
    run = snapshot.runs.get(run_id)
    return keys.job(run_id) not in snapshot.unreadable and (run is None or not run.fields)


def found_sound(run_id: str, snapshot: Snapshot) -> SeenRun | None:
    """The run of this id, if it can be read."""
    run = snapshot.runs.get(run_id)
    return run if run is not None and run.is_ours and not run.faults else None


def cli(command: str, *words: str) -> str:
    """A line for people: nothing here sends a command. Each `{}` takes a word, quoted as a shell needs it."""
    return f"redis-cli {command.format(*map(shlex.quote, words))}"


def described(run: SeenRun) -> str:
    """The state of a run, and where it says that it lies."""
    return f"{run.state} ({run.place})" if run.place else str(run.state)
