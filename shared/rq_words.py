"""What a run looks like to RQ: its word for each state, the registry of each end, the call. Tables only, no I/O.

The scripts write the same; the contract tests hold the two equal.
"""

from collections.abc import Mapping
from typing import Final

from shared import keys
from shared.state_types import StateType

WORDS: Final[Mapping[StateType, str]] = {
    StateType.SCHEDULED: "scheduled",
    StateType.PENDING: "queued",
    StateType.RUNNING: "started",
    StateType.CANCELLING: "started",
    StateType.PAUSED: "deferred",
    StateType.COMPLETED: "finished",
    StateType.FAILED: "failed",
    StateType.CRASHED: "failed",
    StateType.CANCELLED: "canceled",
}
"""The `status` that RQ's readers find."""

REGISTRIES: Final[Mapping[StateType, str]] = {
    StateType.COMPLETED: keys.FINISHED,
    StateType.FAILED: keys.FAILED,
    StateType.CRASHED: keys.FAILED,
    StateType.CANCELLED: keys.CANCELED,
}
"""Where a run lies once it has ended; the queue's name follows."""


PLACED: Final[Mapping[str, str]] = {"held": "started", "deferred": "deferred", "passed": "scheduled"}
"""The same for a run that lies elsewhere than its state says, by its field `place`; see `word_of` for limits."""

CALLBACKS: Final = ("success_callback_name", "failure_callback_name", "stopped_callback_name")
"""Fields that make RQ's workers import and call what they name. No run of ours has one."""


def word_of(state: StateType, place: str) -> str:
    """The `status` of a run in this state that lies there; '' is where its state says."""
    if not place:
        return WORDS[state]
    return PLACED.get(place, "deferred")  # who waits for a slot waits for others


def call_of(run_id: str) -> str:
    """The `data` of a run: what a stock RQ worker would call, which refuses. A pickle in its text form."""
    return f"(Vworker.entry.run\nN(V{run_id}\nt(dt."
