"""Who acts, and what came of it: shared by futures, the Orchestrator and the command line."""

import getpass
import os
import socket
from functools import cache
from typing import Any

from shared.errors import BadEnvelope, RunGone, TransitionRefused
from shared.ledger import RunLedger
from shared.states import State
from shared.steering import Steered
from shared.texts import printable


@cache
def actor() -> str:
    """Who acts here, for histories: `$BATON_ACTOR`, else user and host."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in a container
        user = str(os.getuid())
    return os.environ.get("BATON_ACTOR") or f"{user}@{socket.gethostname()}"


def cancelled(ledger: RunLedger, run_id: str, message: str) -> State[Any]:
    """Cancel a run, see `Operations.cancel`; the state that now holds.

    Raises:
        TransitionRefused: it has ended otherwise.
        RunGone: there is no such run, or no longer.
    """
    (answer,) = ledger.cancel([run_id], actor=actor(), message=printable(message))
    return state_after(ledger, run_id, answer, "cancelled")


def state_after(ledger: RunLedger, run_id: str, answer: Steered, done: str) -> State[Any]:
    """The state that holds after a run was steered.

    Raises:
        TransitionRefused: it was not, and why.
        RunGone, BadEnvelope: there is no such run, or it cannot be read.
    """
    if answer.tag == "GONE":
        raise RunGone(f"Run {run_id} is not in Redis: it was deleted, is past its retention, or never was.")
    if answer.tag == "BROKEN":
        raise BadEnvelope(f"run {run_id}: its record is unreadable; `baton doctor` says why")
    if answer.tag != "OK":
        why = {
            "CHANGED": "it moves on all the time",
            "LATE": "its time to be resumed is over",
        }.get(answer.tag, f"it is {answer.state_type}")
        raise TransitionRefused(f"Run {run_id} cannot be {done}: {why}.")
    return ledger.get(run_id).state
