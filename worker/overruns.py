"""The end of an attempt whose body ignored its time limit and was killed for it: recorded by its supervisor.

# A supervisor calls nothing of the user's. Hooks are left to a worker; a condition that cannot be asked counts as one
# that raised: there is no retry.
"""

import secrets

from shared import retries
from shared.clock import now
from shared.errors import BadEnvelope, RunGone, TaskRunTimeoutError
from shared.ledger import RunLedger
from shared.reporting import outcome_of
from shared.rules import Facts, decide
from shared.rules_transforms import record_of
from shared.runs import TaskRun
from shared.settings import Settings
from shared.specs import TaskSpec, registry
from shared.states import Failed
from worker.page import Body


def end_overrun(ledger: RunLedger, body: Body, settings: Settings) -> None:
    """Record FAILED `TimedOut` or, where the rules say so, the retry: as the body itself would have ended.

    Raises:
        RedisUnavailable: no answer; ask again.
    """
    try:
        run = ledger.get(body.run_id)
    except (RunGone, BadEnvelope):
        return  # nobody could record anything about it; the reaper forgets it
    spec = registry.get(run.task)
    error = TaskRunTimeoutError(f"Scope timed out after {body.seconds:g} second(s).")
    told = f"{run.kind.capitalize()} run exceeded timeout of {body.seconds:g} second(s)"
    failed = Failed(name="TimedOut", message=told, data=error)
    at = now()
    has_condition = spec is not None and spec.retry_condition_fn is not None
    facts = Facts("supervisor", held=True, delay=_delay(run, spec), retriable=False if has_condition else None)
    verdict = decide(record_of(run, spec, settings.crash_budget), failed, facts, at)
    state = verdict.state or failed
    due = state.state_details.scheduled_time if state.is_scheduled() else None
    delay = max(0.0, (due - at).total_seconds()) if due else 0.0
    # Under another token, somebody else has recorded the end, or began anew: the answer does not matter then.
    outcome, operation = outcome_of(state, settings, delay=delay), secrets.token_hex(6)
    ledger.propose(body.run_id, outcome, operation, token=str(body.token), leaves_hooks=True)


def _delay(run: TaskRun, spec: TaskSpec[..., object] | None) -> float:
    delays, jitter = run.retry_delays, run.retry_jitter_factor
    if spec is not None:
        delays = spec.retry_delays if delays is None else delays
        jitter = spec.retry_jitter_factor if jitter is None else jitter
    return retries.next_delay(delays or (), run.run_count, run.crashes, jitter)
