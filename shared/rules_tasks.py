"""The rules of task runs alone: their flow, their upstreams, their cache. Pure functions."""

from datetime import datetime
from typing import Any

from shared.clock import as_utc
from shared.errors import UpstreamTaskError
from shared.rules_facts import Facts, RunLike, Verdict, changed, present, substitute
from shared.state_types import StateType
from shared.states import State
from shared.texts import printable


def flow_is_alive(run: RunLike, proposed: State[Any], facts: Facts, at: datetime) -> Verdict | None:
    """A task of a paused flow waits with it, one of a flow that is over is cancelled."""
    flow = facts.flow_state
    if flow is None:
        return None
    if flow.is_paused():
        reason = f"The flow is paused, new tasks can execute after resuming flow run: {run.flow}."
        if present(run).is_paused():
            return Verdict("REJECT", reason=reason)
        timeout = flow.state_details.pause_timeout
        paused = substitute(proposed, at, StateType.PAUSED, "Paused", reason, pause_timeout=timeout)
        return Verdict("REJECT", paused, reason)
    if flow.is_cancelling() or flow.is_cancelled():
        reason = "The parent flow run was cancelled."
    elif flow.is_final() and not run.outlives_flow:
        reason = "The enclosing flow must be running to begin task execution."
    else:
        return None
    return Verdict("REJECT", substitute(proposed, at, StateType.CANCELLED, "Cancelled", reason), reason)


def upstreams_done(_run: RunLike, proposed: State[Any], facts: Facts, at: datetime) -> Verdict | None:
    """A run begins when the runs that it waits for are final and its trigger is met."""
    unfinished = sum(state is not None and not state.is_final() for _, state, _ in facts.upstreams)
    if unfinished:
        return Verdict("WAIT", reason=f"Upstream runs are not finished: {unfinished}")
    reason = _unmet(facts) or _gone(facts)
    if reason is None:
        return None
    error = UpstreamTaskError(reason)
    failed = substitute(proposed, at, StateType.FAILED, "TriggerFailed", reason, data=error)
    return Verdict("REJECT", failed, reason)


def _unmet(facts: Facts) -> str | None:
    """Why the trigger is not met, or None. The default one wants every upstream COMPLETED."""
    if facts.trigger_met is not None:
        return None if facts.trigger_met else printable(facts.why or "Trigger failed")
    for run_id, state, allow_failure in facts.upstreams:
        if not (state is None or state.is_completed() or allow_failure):
            return f"Upstream task run '{run_id}' did not reach a 'COMPLETED' state."
    return None


def _gone(facts: Facts) -> str | None:
    for run_id, state, _ in facts.upstreams:
        if state is None:
            return f"Upstream task run '{run_id}' is gone."
    return None


def cached_result(_run: RunLike, proposed: State[Any], facts: Facts, at: datetime) -> Verdict | None:
    """A result that is cached under the run's key ends the run: its body is not called."""
    asked, found = proposed.state_details, facts.cache
    if asked.cache_key is None or asked.refresh_cache or found is None or not found.is_completed():
        return None
    expiration = found.state_details.cache_expiration
    if expiration is not None and expiration <= at:
        return None
    # What the copy keeps of the details names the run that made the result.
    details = found.state_details.replaced(
        cache_key=asked.cache_key, transition_id=asked.transition_id, seq=None, attempt=None, worker=None, actor=None
    )
    cached = changed(found, id=proposed.id, name="Cached", timestamp=as_utc(at), state_details=details)
    return Verdict("REJECT", cached, "Retrieved state from cache")
