"""What may become of a run's state: pure functions over facts. No Redis, no clock, no code of the user's.

# Every move that a run can make is in ALLOWED. What changes or refuses a move is in RULES, asked in their order.
# The scripts move runs without Python too; the moves that they make are held equal to these by the contract tests.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, Protocol, TypeAlias

from shared.state_types import TERMINAL_STATES, StateType
from shared.states import AwaitingRetry, Cancelled, Retrying, State

Proposer: TypeAlias = Literal["attempt", "client", "housekeeping", "supervisor"]

_COLUMNS: Final = (
    StateType.SCHEDULED,
    StateType.PENDING,
    StateType.RUNNING,
    StateType.COMPLETED,
    StateType.FAILED,
    StateType.CANCELLED,
    StateType.CRASHED,
    StateType.PAUSED,
    StateType.CANCELLING,
)


def _moves(table: str) -> Mapping[StateType | None, frozenset[StateType]]:
    """From each state (None: not yet a run) the states that a run may be in next, marked `x` in the table."""
    moves: dict[StateType | None, frozenset[StateType]] = {}
    for line in table.strip().splitlines():
        name, *marks = line.split()
        source = None if name == "(none)" else StateType(name)
        moves[source] = frozenset(target for target, mark in zip(_COLUMNS, marks, strict=True) if mark == "x")
    return moves


ALLOWED: Final = _moves(
    """
    (none)      x  x  .  .  .  .  .  .  .
    SCHEDULED   x  x  x  x  x  x  x  x  .
    PENDING     x  .  x  x  x  x  x  x  .
    RUNNING     x  x  x  x  x  x  x  x  x
    PAUSED      x  x  x  x  x  x  x  .  x
    CANCELLING  .  .  .  .  .  x  .  .  .
    COMPLETED   .  .  .  .  .  .  .  .  .
    FAILED      .  .  .  .  .  .  .  .  .
    CRASHED     .  .  .  .  .  .  .  .  .
    CANCELLED   .  .  .  .  .  .  .  .  .
    """
)
"""Columns: SCHEDULED PENDING RUNNING COMPLETED FAILED CANCELLED CRASHED PAUSED CANCELLING."""


class RunLike(Protocol):
    """What the rules need to know of a run. `retries` are those it may have, `state` is None before its first."""

    state: State[Any] | None
    run_count: int
    crashes: int
    retries: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found out before asking.

    `retriable`: what the task's condition said, None if it was not asked. `delay`: seconds before a retry, with its
    jitter already drawn. `given_back`: the proposer ends the attempt without an outcome.
    """

    proposer: Proposer
    retriable: bool | None = None
    delay: float = 0.0
    given_back: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """ACCEPT: `state` is stored. REJECT: `state` is stored instead, or nothing if it is None. ABORT: refused."""

    kind: Literal["ACCEPT", "REJECT", "ABORT"]
    state: State[Any] | None = None
    reason: str = ""


def decide(run: RunLike, proposed: State[Any], facts: Facts, at: datetime) -> Verdict:
    """What becomes of a proposal. Total: every proposal has a verdict, and the same one each time."""
    for rule in RULES:
        verdict = rule(run, proposed, facts, at)
        if verdict is not None:
            return verdict
    source = run.state.type if run.state is not None else None
    if proposed.type not in ALLOWED[source]:
        return Verdict("ABORT", reason=f"A run cannot go from {source or 'nothing'} to {proposed.type}.")
    return Verdict("ACCEPT", proposed)


# --- the rules, in their order ----------------------------------------------------------------------------------------


def terminal_is_final(run: RunLike, _proposed: State[Any], _facts: Facts, _at: datetime) -> Verdict | None:
    """A terminal state absorbs everything."""
    if run.state is None or run.state.type not in TERMINAL_STATES:
        return None
    return Verdict("ABORT", reason=f"Run is already in terminal state {run.state.type}.")


def cancelling_ends_cancelled(run: RunLike, proposed: State[Any], _facts: Facts, _at: datetime) -> Verdict | None:
    """A cancelling run becomes CANCELLED, whatever its body still returned or raised."""
    if run.state is None or not run.state.is_cancelling() or proposed.is_cancelled():
        return None
    if proposed.is_running() or proposed.is_cancelling():
        reason = "Cannot transition runs that are cancelling to a state other than Cancelled."
        return Verdict("REJECT", reason=reason)
    reason = f"Cancelled while running; its outcome {proposed.name} was not recorded."
    return Verdict("REJECT", Cancelled(message=reason), reason)


def born_waiting(run: RunLike, proposed: State[Any], _facts: Facts, _at: datetime) -> Verdict | None:
    """A run begins by waiting."""
    if run.state is not None or proposed.is_scheduled() or proposed.is_pending():
        return None
    return Verdict("ABORT", reason=f"A run begins as SCHEDULED or PENDING, not {proposed.type}.")


def already_there(run: RunLike, proposed: State[Any], facts: Facts, _at: datetime) -> Verdict | None:
    """A second PENDING, PAUSED or RUNNING changes nothing; only an attempt begins its run's next attempt in place."""
    if run.state is None or run.state.type is not proposed.type:
        return None
    if not (proposed.is_pending() or proposed.is_paused() or (proposed.is_running() and facts.proposer != "attempt")):
        return None
    return Verdict("REJECT", reason=f"The run is already {proposed.type}.")


def back_to_the_queue(run: RunLike, proposed: State[Any], facts: Facts, _at: datetime) -> Verdict | None:
    """Only what ends the attempt without an outcome puts a started run back."""
    if run.state is None or not (run.state.is_running() and proposed.is_pending()):
        return None
    if facts.given_back or facts.proposer == "housekeeping":
        return None
    reason = "A started run returns to its queue only when its attempt is lost or given back."
    return Verdict("ABORT", reason=reason)


def retry_failed(run: RunLike, proposed: State[Any], facts: Facts, at: datetime) -> Verdict | None:
    """A failure with tries left becomes AwaitingRetry, or without a delay the next attempt in place."""
    if run.state is None or not (run.state.is_running() and proposed.is_failed()) or facts.retriable is False:
        return None
    if run.run_count - run.crashes > run.retries:
        return None
    kept = {"message": proposed.message, "data": proposed.data}
    if facts.delay == 0:
        return Verdict("REJECT", Retrying(**kept), "Retrying")
    return Verdict("REJECT", AwaitingRetry(scheduled_time=at + timedelta(seconds=facts.delay), **kept), "Retrying")


Rule: TypeAlias = Callable[[RunLike, State[Any], Facts, datetime], Verdict | None]
RULES: Final[tuple[Rule, ...]] = (
    terminal_is_final,
    cancelling_ends_cancelled,
    born_waiting,
    already_there,
    back_to_the_queue,
    retry_failed,
)
