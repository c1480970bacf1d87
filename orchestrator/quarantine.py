"""What becomes of an entry of the quarantine that is asked for again: whether its run can be put to work."""

from typing import NamedTuple

from orchestrator.operations import Operations
from shared.errors import BadEnvelope, RunGone, TransitionRefused
from shared.ids import is_id
from shared.ledger import RunLedger
from shared.views.quarantine import Entry

CRASHED = "crashed"
UNREADABLE = "unreadable"
_LATE = {
    "fenced": "its attempt was superseded, and the run has gone on without it; `baton runs retry` runs it again",
    "gone": "its run is not there any more",
    "broken": "an outcome is recorded by the attempt that it is of, or not at all; `baton runs retry` runs it again",
}


class Requeued(NamedTuple):
    """Whether the run was put to work again, and what was done or why not."""

    is_done: bool
    told: str


def requeued(entry: Entry, ledger: RunLedger, operations: Operations) -> Requeued:
    """Put the run of this entry to work again, where that makes sense.

    A run that was given up (`crashed`) is retried. One that was taken out since it could not be read (`unreadable`) is
    put back where its record says, once somebody has mended that. An outcome that came too late stays what it is.

    Raises:
        RedisUnavailable: no answer.
    """
    run_id = entry.run_id
    if run_id is None or not is_id(run_id):
        return Requeued(False, "it names no run")
    if entry.reason in _LATE:
        return Requeued(False, _LATE[entry.reason])
    try:
        if entry.reason == CRASHED:
            return Requeued(True, f"retried, it is {operations.retry(run_id).type}")
        if entry.reason == UNREADABLE:
            ledger.get(run_id)
            (done,) = ledger.reconcile([run_id])
            return Requeued(True, done) if done else Requeued(False, "nothing is wrong with its run any more; drop it")
    except (BadEnvelope, RunGone, TransitionRefused) as error:
        return Requeued(False, str(error))
    return Requeued(False, f"nobody knows what to do about {entry.reason!r}")
