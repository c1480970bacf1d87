"""What is stored: counters (I7), fields, keys and lifetimes. Pure functions from a Snapshot to what breaks them."""

from collections.abc import Iterator
from typing import Final

from orchestrator.invariants_common import COUNTERS, Violation, cli, missing, sound
from shared import keys
from shared.seen import Snapshot
from shared.snapshot import run_of
from shared.state_types import TERMINAL_STATES, StateType

_COUNTED: Final = frozenset(kind.value for kind in StateType if kind not in TERMINAL_STATES)
_ENDS: Final = (keys.FINISHED, keys.FAILED, keys.CANCELED)


def counters_agree(snapshot: Snapshot) -> Iterator[Violation]:
    """The counters tell how many runs are in each state that is not final. Says nothing of runs counted under load."""
    census = snapshot.census
    if census is None or not census.quiet or keys.COUNTS in snapshot.unreadable:
        return
    for name in sorted({*census.counters, *_COUNTED.intersection(census.states)}):
        text, found = census.counters.get(name, "0"), census.states.get(name, 0)
        if name not in _COUNTED:
            yield Violation(COUNTERS, (), f"{keys.COUNTS} has a counter {name}, which is no state that is counted")
        elif not text.removeprefix("-").isdecimal():
            yield Violation(COUNTERS, (), f"the counter of {name} is {text}, which is no number")
        elif not found <= int(text) <= found + census.unreadable:  # one that cannot be read may be in any state
            off = int(text) - found
            yield Violation(COUNTERS, (), f"the counter of {name} is {abs(off)} too {'high' if off > 0 else 'low'}")


def fields_are_readable(snapshot: Snapshot) -> Iterator[Violation]:
    """Every field of a run reads as what it is, and none is missing that its state needs."""
    repair = f"look at `baton runs show ID` and its history, then {cli('HSET {} FIELD VALUE', keys.job('ID'))}"
    for run in snapshot.runs.values():
        for fault in run.faults:
            yield Violation("fields", (run.id,), fault, repair)


def keys_are_ours(snapshot: Snapshot) -> Iterator[Violation]:
    """Every key is of its type, none is left behind by a run that is gone, and no run has lost its parameters."""
    for key, error in snapshot.unreadable.items():
        run_id = run_of(key)
        name = key.replace(run_id, "ID") if run_id else key
        repair = (
            f"look at it ({cli('TYPE {}', name)}), then move it away: {cli('RENAME {} {}', name, f'broken:{name}')}"
        )
        yield Violation("keys", (run_id or key,), f"{name} cannot be read: {error}", repair)
    for run in missing(snapshot):
        # As long as a registry lists it, the sweep comes by and takes along what has no lifetime of its own.
        if run.leftovers and all(place.kind not in _ENDS for place in run.places):
            yield Violation("keys", (run.id,), f"is gone, but left behind: {', '.join(run.leftovers)}")
    for run in sound(snapshot):
        if not (run.has_parameters or run.has_ended):
            repair = "nothing by hand, for nobody knows them any more; `baton runs cancel ID`, and submit it anew"
            yield Violation("keys", (run.id,), "its parameters are gone", repair)


def lives_as_long_as_needed(snapshot: Snapshot) -> Iterator[Violation]:
    """A run has an end of its lifetime if, and only if, it has ended and nobody needs its result any more."""
    for run in sound(snapshot):
        if run.has_ended and "consumers" not in run.fields:
            if run.lifetime < 0:
                yield Violation("lifetime", (run.id,), f"is {run.state}, but nothing ends its lifetime")
        elif run.lifetime >= 0:
            why = "others need its result" if run.has_ended else f"is {run.state}"
            yield Violation("lifetime", (run.id,), f"{why}, but Redis will delete it when its lifetime ends")
