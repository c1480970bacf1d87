"""The rules that tasks and flows have in common. Pure functions; `rules.py` says which moves each is asked about."""

import math
from datetime import datetime
from typing import Any, Final

from shared.clock import as_utc
from shared.rules_facts import REAPERS, Facts, RunLike, Verdict, changed, later, present, substitute
from shared.state_types import StateType
from shared.states import State
from shared.texts import printable

WITHOUT_A_BODY: Final = frozenset({"Cached", "Skipped"})
"""Names of COMPLETED states that a run can reach without an attempt."""


def repeated(run: RunLike, proposed: State[Any], _facts: Facts, _at: datetime) -> Verdict | None:
    """A transition is made once, however often it is proposed."""
    transition = proposed.state_details.transition_id
    if transition is None or run.state is None or run.state.state_details.transition_id != transition:
        return None
    return Verdict("REJECT", reason="This run has already made this state transition.")


def terminal_is_final(run: RunLike, _proposed: State[Any], _facts: Facts, _at: datetime) -> Verdict | None:
    """A terminal state absorbs everything."""
    return Verdict("ABORT", reason=f"Run is already in terminal state {present(run).type}.")


def cancelling_ends_cancelled(_run: RunLike, proposed: State[Any], facts: Facts, at: datetime) -> Verdict | None:
    """A cancelling run becomes CANCELLED, whatever its body still returned or raised."""
    reason = "Cannot transition runs that are cancelling to a state other than Cancelled."
    if proposed.is_running() or proposed.is_cancelling():
        return Verdict("REJECT", reason=reason)
    message = "Cancelled while running."
    if facts.proposer == "attempt" and not facts.give_back:
        message = f"Cancelled while running; its outcome {proposed.name} was not recorded."
    return Verdict("REJECT", substitute(proposed, at, StateType.CANCELLED, "Cancelled", message), reason)


def cancel_what_waits(run: RunLike, proposed: State[Any], facts: Facts, at: datetime) -> Verdict | None:
    """What no body would notice is cancelled at once; a flow that is paused in its process can be told."""
    if facts.held and run.kind == "flow" and present(run).is_paused():
        return None
    cancelled = substitute(proposed, at, StateType.CANCELLED, "Cancelled", proposed.message)
    return Verdict("REJECT", cancelled, "The run is not running; it was cancelled at once.")


def born_waiting(_run: RunLike, proposed: State[Any], _facts: Facts, _at: datetime) -> Verdict | None:
    """A run begins by waiting."""
    return Verdict("ABORT", reason=f"A run begins as SCHEDULED or PENDING, not {proposed.type}.")


def already_there(_run: RunLike, proposed: State[Any], facts: Facts, _at: datetime) -> Verdict | None:
    """A second PENDING, PAUSED or RUNNING changes nothing; only an attempt begins its run's next attempt in place."""
    if proposed.is_running() and facts.proposer == "attempt":
        return None
    return Verdict("REJECT", reason=f"The run is already {proposed.type}.")


def back_to_the_queue(_run: RunLike, _proposed: State[Any], facts: Facts, _at: datetime) -> Verdict | None:
    """Only what ends the attempt without an outcome puts a started run back."""
    if facts.give_back or facts.proposer in REAPERS:
        return None
    reason = "A started run returns to its queue only when its attempt is lost or given back."
    return Verdict("ABORT", reason=reason)


def completed_by_attempt(run: RunLike, proposed: State[Any], facts: Facts, _at: datetime) -> Verdict | None:
    """What does not run completes only as a copy or by being skipped; the body of a paused flow may still end."""
    if proposed.name in WITHOUT_A_BODY:
        return None
    if run.kind == "flow" and present(run).is_paused() and facts.proposer == "attempt":
        return None
    return Verdict("ABORT", reason="Only a running attempt can complete a run.")


def late_once(run: RunLike, proposed: State[Any], _facts: Facts, at: datetime) -> Verdict | None:
    """A run is marked late when its first time has passed, and not again."""
    if proposed.name != "Late":
        return None
    state = run.state
    if state is not None and state.is_scheduled() and state.name == "Scheduled" and _seconds_left(state, at) < 0:
        return None
    return Verdict("REJECT", reason="Only an overdue run named Scheduled is marked late.")


def copy_due_time(run: RunLike, proposed: State[Any], _facts: Facts, _at: datetime) -> Verdict | None:
    """A run that was queued early still waits for its time."""
    due, details = present(run).state_details.scheduled_time, proposed.state_details
    if due is None or details.scheduled_time is not None:
        return None
    return Verdict("ACCEPT", changed(proposed, state_details=details.replaced(scheduled_time=due)))


def wait_for_due_time(run: RunLike, _proposed: State[Any], _facts: Facts, at: datetime) -> Verdict | None:
    """No attempt begins before the run's time."""
    left = _seconds_left(present(run), at)
    if left <= 0:
        return None
    return Verdict("WAIT", reason="Scheduled time is in the future", seconds=math.ceil(left))


def _seconds_left(state: State[Any], at: datetime) -> float:
    """Seconds until the state's time; a state without one has been due for ever."""
    due = state.state_details.scheduled_time
    return -math.inf if due is None else (due - at).total_seconds()


def limits(run: RunLike, proposed: State[Any], facts: Facts, at: datetime) -> Verdict | None:
    """An attempt begins with a slot of every limit that it falls under; one that it holds already is enough."""
    full = [(name, slots) for name, slots, used, holds in facts.limits if used >= slots and not holds]
    if not full:
        return None
    shut = next((name for name, slots in full if slots == 0), None)
    if shut is None:
        names = ", ".join(_tag(name) for name, _ in full)
        reason = printable(f"Concurrency limit reached for tags: {names}")
    else:
        reason = f'The concurrency limit on tag "{_tag(shut)}" is 0: no run starts until it is raised.'
    state = present(run)
    if facts.inline or (state.is_paused() and run.kind == "flow"):
        return Verdict("WAIT", reason=reason)  # its process is there, and would not get it back from a queue
    # Who has waited before keeps the time since when: first come, first served.
    since = state.state_details.scheduled_time or as_utc(at)
    name = "AwaitingConcurrencySlot"
    return Verdict("REJECT", substitute(proposed, at, StateType.SCHEDULED, name, reason, scheduled_time=since), reason)


def _tag(limit: str) -> str:
    return limit.removeprefix("tag:")


def crash_budget(run: RunLike, proposed: State[Any], facts: Facts, at: datetime) -> Verdict | None:
    """A lost attempt is followed by another one, until so many were lost that the run itself must be the reason."""
    if facts.proposer not in REAPERS or not (facts.held or present(run).is_running()):
        return None
    message = printable(f"Attempt {run.attempt} was lost: {facts.why}.")
    if run.on_crash == "retry" and not facts.inline and run.crashes + 1 < run.crash_budget:
        return Verdict("REJECT", substitute(proposed, at, StateType.PENDING, "Pending", message), message)
    return Verdict("ACCEPT", changed(proposed, message=message), message)


def retry_failed(run: RunLike, proposed: State[Any], facts: Facts, at: datetime) -> Verdict | None:
    """A failure with tries left becomes AwaitingRetry, or without a delay the next attempt in place.

    In place only where the attempt itself reports: nobody else has a process that would go on.
    """
    if facts.retriable is False or proposed.state_details.retriable is False:
        return None
    if not has_tries_left(run):
        return None
    message, data = proposed.message, proposed.data
    if facts.delay == 0 and facts.proposer == "attempt":
        state = substitute(proposed, at, StateType.RUNNING, "Retrying", message, data=data)
    else:
        due = later(at, facts.delay)
        state = substitute(proposed, at, StateType.SCHEDULED, "AwaitingRetry", message, data=data, scheduled_time=due)
    return Verdict("REJECT", state, "Retrying")


def has_tries_left(run: RunLike) -> bool:
    """True if a failure of the present attempt may be followed by another one; lost attempts use up no try."""
    return run.run_count - run.crashes <= run.retries


def name_starts(run: RunLike, proposed: State[Any], _facts: Facts, _at: datetime) -> Verdict | None:
    """The name of an attempt but the first tells why there is one more."""
    state = present(run)
    if run.attempt == 0 or (run.kind == "flow" and state.is_paused()):
        return None  # a flow that was paused in its process goes on with the attempt that it was in
    name = "Retrying" if state.is_running() or run.last_end == "failed" else "Rerunning"
    return Verdict("ACCEPT", changed(proposed, name=name))
