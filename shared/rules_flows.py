"""The rules of flow runs alone: pausing and resuming. Pure functions."""

from datetime import datetime
from typing import Any

from shared.rules_facts import Facts, RunLike, Verdict, changed, present, substitute
from shared.state_types import StateType
from shared.states import State


def pausing(run: RunLike, proposed: State[Any], facts: Facts, _at: datetime) -> Verdict | None:
    """A flow pauses while it runs, once for each key; one that is suspended leaves its process."""
    verb = "suspend" if is_suspended(proposed) else "pause"
    if not present(run).is_running():
        return Verdict("REJECT", reason=f"Cannot {verb} flows that are not currently running.")
    key = proposed.state_details.pause_key
    if key is not None and key in run.pause_keys:
        return Verdict("REJECT", reason=f"This {verb} has already fired.")
    if verb == "suspend" and facts.inline:
        return Verdict("ABORT", reason="Cannot suspend a flow run that was not submitted to the fleet.")
    if key is not None:
        return None
    # Without a key of its own each pause is one of its kind, and so is the state's id.
    return Verdict("ACCEPT", changed(proposed, state_details=proposed.state_details.replaced(pause_key=proposed.id)))


def resuming(run: RunLike, proposed: State[Any], _facts: Facts, at: datetime) -> Verdict | None:
    """A paused flow goes on in its process, a suspended one through its queue; neither after its time-out."""
    state = present(run)
    suspended = is_suspended(state)
    timeout = state.state_details.pause_timeout
    if timeout is not None and timeout <= at:
        reason = f"The flow was {'suspended' if suspended else 'paused'} and never resumed."
        return Verdict("REJECT", substitute(proposed, at, StateType.FAILED, "Failed", reason), reason)
    if suspended and proposed.is_running():
        return Verdict("ABORT", reason="A suspended flow run is resumed by scheduling it.")
    if not suspended and proposed.is_scheduled():
        return Verdict("ABORT", reason="A paused flow run is resumed in its process.")
    return None


def is_suspended(state: State[Any]) -> bool:
    """True for a pause without a process."""
    return state.name == "Suspended" or state.state_details.pause_reschedule
