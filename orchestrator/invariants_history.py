"""What went before: I2, I3 and I5. Pure functions from a Snapshot to what breaks them."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from orchestrator.invariants_common import RECONCILE, Violation, cli, sound
from orchestrator.invariants_places import is_above
from shared import keys
from shared.run_fields import Row
from shared.seen import SeenRun, Snapshot, Stray
from shared.state_types import TERMINAL_STATES, StateType

KEPT_ROWS: Final = 1000
"""Rows of a history from which on old ones are dropped, all but the first."""
SECOND: Final = 2
_NOTHING: Final = "nothing by hand; keep what `baton runs show ID --json` says and report it"


def history_is_whole(snapshot: Snapshot) -> Iterator[Violation]:
    """A history counts up by one from 1, and ends with the run's seq and state. Of a long one old rows are dropped."""
    for run in sound(snapshot):
        if keys.run_part(run.id, "history") in snapshot.unreadable:
            continue
        fault, repair = _fault_of_history(run)
        if fault:
            yield Violation("I2", (run.id,), fault, repair)


def _fault_of_history(run: SeenRun) -> tuple[str, str]:
    stays = "rows that are gone stay gone; the run goes on all the same"
    before, last = 0, ""
    for number, row in enumerate(run.history, start=1):
        if isinstance(row, str):
            return f"row {number} of its history cannot be read: {row}", stays
        may_jump = number == SECOND and len(run.history) >= KEPT_ROWS and row.seq > before
        if row.seq != before + 1 and not may_jump:
            return f"row {number} of its history has seq {row.seq}, after {before}", stays
        before, last = row.seq, row.type
    seq = int(run.fields["seq"])
    if before < seq:
        what = f"its history ends with seq {before}, its record says {seq}" if run.history else "has no history"
        # One row is written again, from the record; of what else is gone nobody knows what it said.
        return what, RECONCILE if before + 1 == seq else f"{RECONCILE} writes the last row again; other {stays}"
    by_hand = f"{cli('HSET {} seq SEQ', keys.job('ID'))} with the seq of its last row"
    if before > seq:
        return f"its history ends with seq {before}, its record says {seq}", by_hand
    return ("", "") if last == run.state else (f"its history ends with {last}, its record says {run.state}", stays)


def ended_once(snapshot: Snapshot) -> Iterator[Violation]:
    """Nothing follows the end of a run but a new wait, where somebody retried or forced it."""
    for run in sound(snapshot):
        for row, after in pairwise(row for row in run.history if isinstance(row, Row)):
            if row.type in TERMINAL_STATES and after.type is not StateType.PENDING:
                what = f"ended as {row.type} with seq {row.seq}, but {after.type} follows"
                yield Violation("I3", (run.id,), what, _NOTHING)
                break


def tokens_grow(snapshot: Snapshot) -> Iterator[Violation]:
    """Neither tokens nor attempts go back: no row knows a later one than the run's record."""
    for run in sound(snapshot):
        yield from _later_tokens(run)
        attempts = [row.attempt for row in run.history if isinstance(row, Row) and row.attempt is not None]
        back = next((pair for pair in pairwise(attempts) if pair[1] < pair[0]), None)
        if back:
            yield Violation("I5", (run.id,), f"attempt {back[1]} follows attempt {back[0]} in its history", _NOTHING)
        elif attempts and attempts[-1] > int(run.fields.get("attempt", 0)):
            what = f"its history tells of attempt {attempts[-1]}, its record of {run.fields.get('attempt', 0)}"
            yield Violation("I5", (run.id,), what, _NOTHING)


def _later_tokens(run: SeenRun) -> Iterator[Violation]:
    if not run.is_held:
        return
    for place in run.places:
        if place.kind == keys.WIP and is_above(place.token, run):
            stray = Stray(run.id, "wip", place.key, f"{run.id}:{place.token}")
            what = f"{place.key} lists it with a later token than its record's"
            yield Violation("I5", (run.id,), what, stray=stray)
    for holding in run.holdings:
        if holding.worker == run.fields["worker_name"] and is_above(holding.token, run):
            what = f"is held by {holding.worker} with a later token than its record's"
            yield Violation("I5", (run.id,), what)
