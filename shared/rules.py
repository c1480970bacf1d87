"""What may become of a run's state: pure functions over facts. No Redis, no clock, no code of the user's.

# Every move that a run can make is in ALLOWED. What changes or refuses a move is in RULES, asked in their order.
# The scripts move runs without Python too; the moves that they make are held equal to these by the contract tests.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias

from shared import rules_common, rules_flows, rules_tasks
from shared.rules_facts import (
    KINDS,
    Ask,
    Facts,
    Kind,
    LastEnd,
    Limit,
    OnCrash,
    Proposer,
    Rule,
    RunLike,
    Upstream,
    Verdict,
    moves,
)
from shared.state_types import TERMINAL_STATES, StateType
from shared.states import State

__all__ = [
    "ALLOWED",
    "RULES",
    "Facts",
    "Index",
    "Kind",
    "LastEnd",
    "Limit",
    "OnCrash",
    "Proposer",
    "Rule",
    "RunLike",
    "Upstream",
    "Verdict",
    "decide",
    "indexed",
]

log = logging.getLogger("baton.rules")

# In the order in which StateType lists them; so are the columns of the table below.
SCHEDULED, PENDING, RUNNING, COMPLETED, FAILED, CANCELLED, CRASHED, PAUSED, CANCELLING = StateType

Table: TypeAlias = Mapping[StateType | None, frozenset[StateType]]


def _table(text: str, marks: str) -> Table:
    """From each state (None: not yet a run) the moves with one of these marks."""
    rows = (line.split() for line in text.strip().splitlines())
    return {
        None if name == "(none)" else StateType(name): frozenset(
            target for target, mark in zip(StateType, given, strict=True) if mark in marks
        )
        for name, *given in rows
    }


_MOVES: Final = """
    (none)      x  x  .  .  .  .  .  .  .
    SCHEDULED   x  x  x  x  x  x  x  t  .
    PENDING     x  .  x  x  x  x  x  t  .
    RUNNING     x  x  x  x  x  x  x  x  x
    PAUSED      x  x  x  x  x  x  x  .  f
    CANCELLING  .  .  .  .  .  x  .  .  .
    COMPLETED   .  .  .  .  .  .  .  .  .
    FAILED      .  .  .  .  .  .  .  .  .
    CRASHED     .  .  .  .  .  .  .  .  .
    CANCELLED   .  .  .  .  .  .  .  .  .
"""
ALLOWED: Final[Mapping[Kind, Table]] = {"task": _table(_MOVES, "xt"), "flow": _table(_MOVES, "xf")}
"""Of each kind of runs, the states that may follow each one. Marks in the table: x for both kinds, t tasks, f flows."""

_WAITING: Final = (SCHEDULED, PENDING)
RULES: Final = (
    Rule(rules_common.repeated, moves((None, *StateType), *StateType)),
    Rule(rules_common.terminal_is_final, moves(TERMINAL_STATES, *StateType)),
    Rule(rules_common.cancelling_ends_cancelled, moves({CANCELLING}, *StateType) - {(CANCELLING, CANCELLED)}),
    Rule(rules_common.cancel_what_waits, moves({SCHEDULED, PENDING, PAUSED}, CANCELLING)),
    Rule(rules_common.born_waiting, moves({None}, *StateType) - moves({None}, *_WAITING)),
    Rule(rules_common.already_there, frozenset({(PENDING, PENDING), (PAUSED, PAUSED), (RUNNING, RUNNING)})),
    Rule(rules_common.back_to_the_queue, moves({RUNNING}, PENDING)),
    Rule(rules_common.back_to_the_queue, moves({PAUSED}, PENDING), kinds=("flow",)),
    Rule(rules_common.completed_by_attempt, moves({SCHEDULED, PENDING, PAUSED}, COMPLETED)),
    Rule(rules_common.late_once, moves((None, *StateType), SCHEDULED)),
    Rule(rules_common.copy_due_time, moves({SCHEDULED}, PENDING)),
    Rule(rules_common.wait_for_due_time, moves(_WAITING, RUNNING)),
    Rule(rules_tasks.flow_is_alive, moves(StateType, RUNNING), kinds=("task",)),
    Rule(rules_tasks.upstreams_done, moves(_WAITING, RUNNING), kinds=("task",)),
    Rule(rules_tasks.cached_result, moves(StateType, RUNNING), kinds=("task",)),
    Rule(rules_flows.pausing, moves(StateType, PAUSED), kinds=("flow",)),
    Rule(rules_flows.resuming, moves({PAUSED}, SCHEDULED, RUNNING), kinds=("flow",)),
    Rule(rules_common.limits, moves(StateType, RUNNING)),
    Rule(rules_common.crash_budget, moves({RUNNING, PAUSED}, CRASHED)),
    Rule(rules_common.retry_failed, moves({RUNNING}, FAILED)),
    Rule(rules_common.name_starts, moves(StateType, RUNNING)),
)
"""What changes or refuses moves, in the order in which it is asked."""


class Asked(NamedTuple):
    """What one move meets: the rules about it, in their order, and whether the table has it."""

    rules: tuple[Ask, ...]
    is_allowed: bool


Index: TypeAlias = Mapping[tuple[Kind, StateType | None, StateType], Asked]


def indexed(rules: Sequence[Rule]) -> Index:
    """The rules by the moves that they are about, so that only those are asked."""
    return {
        (kind, source, target): Asked(
            tuple(rule.ask for rule in rules if kind in rule.kinds and (source, target) in rule.moves),
            target in ALLOWED[kind][source],
        )
        for kind in KINDS
        for source in (None, *StateType)
        for target in StateType
    }


_INDEX: Final = indexed(RULES)


def decide(run: RunLike, proposed: State[Any], facts: Facts, at: datetime, index: Index = _INDEX) -> Verdict:
    """What becomes of a proposal at this time of `shared.clock`. Total: every proposal has a verdict, always the same.

    A rule says nothing, or gives a verdict. What it accepts it may rename or complete: the rules after it see that. Any
    other verdict ends the matter, and the state in it is judged no more.

    Raises:
        Exception: whatever a rule raises, which is a defect; so is a verdict with a state that the run cannot be in.
    """
    source = run.state.type if run.state is not None else None
    asked = index[run.kind, source, proposed.type]
    reason = ""
    for rule in asked.rules:
        try:
            verdict = rule(run, proposed, facts, at)
            if verdict is None:
                continue
            _check(verdict, proposed, ALLOWED[run.kind][source])
        except Exception as exc:
            log.exception("Aborting orchestration due to error in %s: %s", rule.__name__, exc)  # noqa: TRY401 - a fixed text
            raise
        if verdict.kind != "ACCEPT" or verdict.state is None:
            return verdict
        proposed, reason = verdict.state, verdict.reason
    if not asked.is_allowed:
        return Verdict("ABORT", reason=f"A run cannot go from {source or 'nothing'} to {proposed.type}.")
    return Verdict("ACCEPT", proposed, reason)


def _check(verdict: Verdict, proposed: State[Any], allowed: frozenset[StateType]) -> None:
    """Hold a rule to its law: what is accepted keeps its type, what is stored instead is a move of the table."""
    stored = verdict.state
    if verdict.kind == "ACCEPT" and (stored is None or stored.type is not proposed.type):
        raise AssertionError(f"{proposed.type} was accepted as {stored and stored.type}")
    if verdict.kind == "REJECT" and stored is not None and stored.type not in allowed:
        raise AssertionError(f"{proposed.type} was replaced by {stored.type}, which is no move of this run")
