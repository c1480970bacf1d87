"""What must hold of everything in Redis: the laws, each a pure function from a Snapshot to what breaks it.

# A run whose fields cannot be read breaks `fields`, and no other law is asked about it: one fault, one report.
# So too with a key of the wrong type: what would have been read there counts neither as present nor as missing.
# Texts of violations hold no run's id and nothing that changes by itself: equal ones are shown together, and a second
# look finds the same text again.
"""

from collections.abc import Iterator
from typing import Final

from orchestrator.invariants_common import CONSUMERS, COUNTERS, RECONCILE, Invariant, Violation
from orchestrator.invariants_history import ended_once, history_is_whole, tokens_grow
from orchestrator.invariants_keys import counters_agree, fields_are_readable, keys_are_ours, lives_as_long_as_needed
from orchestrator.invariants_places import deadlines_are_kept, held_by_one, limits_are_kept, one_place
from orchestrator.invariants_rq import rq_agrees
from orchestrator.invariants_ties import consumers_are_counted, idempotency_keys_hold, ties_agree
from shared.seen import Snapshot

__all__ = ["CONSUMERS", "COUNTERS", "INVARIANTS", "RECONCILE", "Invariant", "Violation", "violations"]

INVARIANTS: Final = (
    Invariant("I1", "Every run lies in exactly one place.", one_place),
    Invariant("I2", "Every history is whole and ends with its run's state.", history_is_whole),
    Invariant("I3", "Nothing follows the end of a run.", ended_once),
    Invariant("I4", "What runs is held by exactly one worker, and by one that counts.", held_by_one),
    Invariant("I5", "Tokens and attempts never go back.", tokens_grow),
    Invariant(
        "I6", "The slots of limits are held by those that may, and waited for by those that do.", limits_are_kept
    ),
    Invariant(COUNTERS, "The counters tell how many runs are in each state.", counters_agree),
    Invariant("I8", "RQ's own tools see the same.", rq_agrees),
    Invariant("fields", "Every field of a run can be read.", fields_are_readable),
    Invariant("keys", "Every key is of its type and belongs to something.", keys_are_ours),
    Invariant("lifetime", "Runs are deleted after their end, and only then.", lives_as_long_as_needed),
    Invariant("ties", "Who waits for a run is told of its end.", ties_agree),
    Invariant(CONSUMERS, "A run knows how many others need its result.", consumers_are_counted),
    Invariant("deadlines", "Deadlines belong to those that have one.", deadlines_are_kept),
    Invariant("idem", "Idempotency keys name their runs, as long as these need them.", idempotency_keys_hold),
)


def violations(snapshot: Snapshot) -> Iterator[Violation]:
    """Everything that breaks a law, one violation for each run and fault."""
    for invariant in INVARIANTS:
        yield from invariant.check(snapshot)
