"""What every accepted transition does to a run's record: its counts, its times, its due time. A pure function.

Scripts do the same in Redis, where they know the time; the contract tests hold them equal to this. What an attempt is
fenced with, slots, leases and indexes belong to the scripts alone.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from shared.clock import as_utc
from shared.rules_facts import REAPERS, Facts, Kind, LastEnd, OnCrash, changed
from shared.rules_flows import is_suspended
from shared.runs import TaskRun
from shared.specs import TaskSpec
from shared.state_types import IN_BODY, StateType
from shared.states import State

_WAITING: Final = frozenset({StateType.SCHEDULED, StateType.PENDING})
_TICK: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run as the rules and the transforms see it. Times are aware and in UTC, `total_run_time` is seconds."""

    kind: Kind = "task"
    crash_budget: int = 3
    retries: int = 0
    on_crash: OnCrash = "retry"
    flow: str | None = None
    outlives_flow: bool = False

    state: State[Any] | None = None
    seq: int = 0
    attempt: int = 0
    run_count: int = 0
    crashes: int = 0
    last_end: LastEnd = ""
    pause_keys: frozenset[str] = frozenset()
    expected_start: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    total_run_time: float = 0.0


def record_of(run: TaskRun, spec: TaskSpec[..., Any] | None, crash_budget: int = 3) -> RunRecord:
    """A run that was read, as the rules see it; `spec` is its task, None where that is unknown."""
    retries = run.max_retries if run.max_retries is not None else spec.retries if spec else 0
    return RunRecord(
        kind=run.kind,
        crash_budget=crash_budget,
        retries=retries,
        on_crash=spec.on_crash if spec else "retry",
        flow=run.flow,
        state=run.state,
        seq=run.seq,
        attempt=run.attempt,
        run_count=run.run_count,
        crashes=run.crashes,
        expected_start=run.expected_start,
        start_time=run.start_time,
        end_time=run.end_time,
        total_run_time=run.total_run_time,
    )


def transformed(run: RunRecord, state: State[Any], facts: Facts, at: datetime) -> RunRecord:
    """The run in a state that a verdict on these facts stored at this time, or that an operator forced on it."""
    time = as_utc(at) if run.state is None else max(as_utc(at), as_utc(run.state.timestamp + _TICK))
    counted = _counted(run, state, facts)
    due = state.state_details.scheduled_time if _keeps_due_time(run, state) else None
    details = state.state_details.replaced(seq=run.seq + 1, attempt=counted.attempt or None, scheduled_time=due)
    return replace(
        counted,
        state=changed(state, timestamp=time, state_details=details),
        seq=run.seq + 1,
        expected_start=run.expected_start or due or time,
        start_time=run.start_time or (time if state.is_running() else None),
        end_time=time if state.is_final() else None,
        total_run_time=run.total_run_time + _span_in_body(run, time),
    )


def _counted(run: RunRecord, state: State[Any], facts: Facts) -> RunRecord:
    """The run with the attempts counted that this move begins, ends or takes back."""
    previous = run.state
    if previous is None:
        return run
    if previous.is_final():  # an operator's doing: no rule leads out of a terminal state
        return replace(run, run_count=0, crashes=0, last_end="retried") if state.type in _WAITING else run
    in_process = run.kind == "flow" and previous.is_paused() and not is_suspended(previous)
    if state.is_running():
        return run if in_process else _begun(run, previous)
    return _ended(run, state, facts) if in_process or previous.type in IN_BODY else run


def _begun(run: RunRecord, previous: State[Any]) -> RunRecord:
    counted = replace(run, attempt=run.attempt + 1, run_count=run.run_count + 1)
    return _failed(counted) if previous.is_running() else counted


def _ended(run: RunRecord, state: State[Any], facts: Facts) -> RunRecord:
    """An attempt that was given back or paused never counted, one that was lost counts as a crash."""
    match state.type:
        case StateType.SCHEDULED:
            return _failed(run)
        case StateType.PENDING if facts.give_back:
            return replace(run, run_count=max(0, run.run_count - 1), last_end="given_back")
        case StateType.PENDING:
            return replace(run, crashes=run.crashes + 1, last_end="lost")
        case StateType.CRASHED if facts.proposer in REAPERS:
            return replace(run, crashes=run.crashes + 1)
        case StateType.PAUSED:
            return _paused(run, state)
    return run


def _failed(run: RunRecord) -> RunRecord:
    """The flow's body begins from the top, so that each of its pauses comes again."""
    return replace(run, last_end="failed", pause_keys=frozenset())


def _paused(run: RunRecord, state: State[Any]) -> RunRecord:
    key = state.state_details.pause_key
    keys = run.pause_keys if key is None else run.pause_keys | {key}
    if run.kind == "flow" and not is_suspended(state):
        return replace(run, pause_keys=keys)
    return replace(run, pause_keys=keys, run_count=max(0, run.run_count - 1), last_end="paused")


def _keeps_due_time(run: RunRecord, state: State[Any]) -> bool:
    """True for SCHEDULED and for the PENDING after it."""
    return state.is_scheduled() or (state.is_pending() and run.state is not None and run.state.is_scheduled())


def _span_in_body(run: RunRecord, time: datetime) -> float:
    previous = run.state
    if previous is None or previous.type not in IN_BODY:
        return 0.0
    return (time - previous.timestamp).total_seconds()
