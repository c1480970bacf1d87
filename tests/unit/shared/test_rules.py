"""The rules of a run's state as a whole: both tables cell by cell, and the order."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.clock import as_utc
from shared.rules import ALLOWED, RULES, Facts, Kind, Limit, Proposer, Upstream, Verdict, decide
from shared.rules_transforms import RunRecord
from shared.state_types import TERMINAL_STATES, StateType
from shared.states import (
    Cancelled,
    Cancelling,
    Completed,
    Crashed,
    Failed,
    Paused,
    Pending,
    Running,
    Scheduled,
    State,
    StateDetails,
    Suspended,
)

AT = as_utc(datetime(2026, 11, 20, 9, tzinfo=UTC))
SOON, PAST = AT + timedelta(seconds=90), AT - timedelta(seconds=90)
DUE, AHEAD = StateDetails(scheduled_time=PAST), StateDetails(scheduled_time=SOON)
MAKERS: dict[StateType, Any] = {
    StateType.SCHEDULED: Scheduled,
    StateType.PENDING: Pending,
    StateType.RUNNING: Running,
    StateType.COMPLETED: Completed,
    StateType.FAILED: Failed,
    StateType.CANCELLED: Cancelled,
    StateType.CRASHED: Crashed,
    StateType.PAUSED: Paused,
    StateType.CANCELLING: Cancelling,
}
PROPOSERS: tuple[Proposer, ...] = ("attempt", "client", "housekeeping", "supervisor")

# A stored. a stored if named Cached or Skipped, else refused; o the same, but stored for the run's own attempt.
# T stored; WAIT while the due time lies ahead. N stored from the run's own attempt, else as R.
# B stored from those who end the attempt, else refused. C rejected, CANCELLED is stored instead.
# P stored while a process holds the run, else as C. R rejected, nothing is stored. X refused.
TABLES: dict[Kind, str] = {
    "task": """
                SCHEDULED PENDING RUNNING COMPLETED FAILED CANCELLED CRASHED PAUSED CANCELLING
    (none)          A        A       X        X       X        X        X       X        X
    SCHEDULED       A        A       T        a       A        A        A       A        C
    PENDING         A        R       T        a       A        A        A       A        C
    RUNNING         A        B       N        A       A        A        A       A        A
    PAUSED          A        A       A        a       A        A        A       R        C
    CANCELLING      C        C       R        C       C        A        C       C        R
    COMPLETED       X        X       X        X       X        X        X       X        X
    FAILED          X        X       X        X       X        X        X       X        X
    CRASHED         X        X       X        X       X        X        X       X        X
    CANCELLED       X        X       X        X       X        X        X       X        X
    """,
    "flow": """
                SCHEDULED PENDING RUNNING COMPLETED FAILED CANCELLED CRASHED PAUSED CANCELLING
    (none)          A        A       X        X       X        X        X       X        X
    SCHEDULED       A        A       T        a       A        A        A       R        C
    PENDING         A        R       T        a       A        A        A       R        C
    RUNNING         A        B       N        A       A        A        A       A        A
    PAUSED          A        B       A        o       A        A        A       R        P
    CANCELLING      C        C       R        C       C        A        C       C        R
    COMPLETED       X        X       X        X       X        X        X       X        X
    FAILED          X        X       X        X       X        X        X       X        X
    CRASHED         X        X       X        X       X        X        X       X        X
    CANCELLED       X        X       X        X       X        X        X       X        X
    """,
}


def rows() -> Iterator[tuple[Kind, StateType | None, dict[StateType, str]]]:
    for kind, table in TABLES.items():
        head, *lines = table.strip().splitlines()
        for line in lines:
            name, *codes = line.split()
            cells = zip(map(StateType, head.split()), codes, strict=True)
            yield kind, None if name == "(none)" else StateType(name), dict(cells)


ROWS = list(rows())
CELLS: list[tuple[Kind, StateType | None, StateType, str]] = [
    (kind, source, target, code) for kind, source, cells in ROWS for target, code in cells.items()
]


def cells_of(code: str) -> list[tuple[Kind, StateType | None, StateType]]:
    return [(kind, source, target) for kind, source, target, given in CELLS if given == code]


def run_in(kind: Kind, source: StateType | None, target: StateType, **fields: Any) -> RunRecord:
    """A run that has no try and no crash left. Of flows, a suspended one is scheduled, a paused one goes on."""
    is_suspended = (kind, source, target) == ("flow", StateType.PAUSED, StateType.SCHEDULED)
    state = None if source is None else Suspended() if is_suspended else MAKERS[source](state_details=DUE)
    return RunRecord(**{"kind": kind, "state": state, "attempt": 1, "run_count": 1, "crash_budget": 1, **fields})


def judged(run: RunRecord, proposed: State[Any], facts: Facts) -> tuple[str, StateType | None]:
    verdict = decide(run, proposed, facts, AT)
    return verdict.kind, verdict.state and verdict.state.type


def expected(code: str, target: StateType, proposer: Proposer) -> tuple[str, StateType | None]:
    refused, nothing = ("ABORT", None), ("REJECT", None)
    stored, cancelled = ("ACCEPT", target), ("REJECT", StateType.CANCELLED)
    match code:
        case "N":
            return stored if proposer == "attempt" else nothing
        case "B":
            return stored if proposer in ("housekeeping", "supervisor") else refused
        case "o":
            return stored if proposer == "attempt" else refused
    return {"A": stored, "T": stored, "a": refused, "C": cancelled, "P": cancelled, "R": nothing, "X": refused}[code]


@pytest.mark.parametrize("proposer", PROPOSERS)
@pytest.mark.parametrize(("kind", "source", "cells"), ROWS)
def test_every_cell_of_both_tables_holds_for_everybody(
    kind: Kind, source: StateType | None, cells: dict[StateType, str], proposer: Proposer
) -> None:
    verdicts = {to: judged(run_in(kind, source, to), MAKERS[to](), Facts(proposer)) for to in cells}
    assert verdicts == {to: expected(code, to, proposer) for to, code in cells.items()}


@pytest.mark.parametrize("name", ["Cached", "Skipped"])
@pytest.mark.parametrize("proposer", PROPOSERS)
def test_what_does_not_run_completes_as_a_copy_or_skipped(name: str, proposer: Proposer) -> None:
    verdicts = {
        judged(run_in(*cell), Completed(name=name), Facts(proposer)) for cell in (*cells_of("a"), *cells_of("o"))
    }
    assert verdicts == {("ACCEPT", StateType.COMPLETED)}


@pytest.mark.parametrize("proposer", PROPOSERS)
def test_nothing_starts_before_its_time(proposer: Proposer) -> None:
    verdicts = [
        decide(RunRecord(kind=kind, state=MAKERS[source](state_details=AHEAD)), Running(), Facts(proposer), AT)
        for kind, source, _ in cells_of("T")
        if source is not None
    ]
    assert verdicts == [Verdict("WAIT", None, "Scheduled time is in the future", 90)] * 4


@pytest.mark.parametrize("proposer", PROPOSERS)
def test_an_attempt_that_is_given_back_returns_to_the_queue(proposer: Proposer) -> None:
    verdicts = [judged(run_in(*cell), Pending(), Facts(proposer, give_back=True)) for cell in cells_of("B")]
    assert verdicts == [("ACCEPT", StateType.PENDING)] * 3


def test_a_flow_that_is_paused_in_its_process_is_told_to_cancel() -> None:
    verdicts = [judged(run_in(*cell), Cancelling(), Facts("client", held=True)) for cell in cells_of("P")]
    assert verdicts == [("ACCEPT", StateType.CANCELLING)]


@pytest.mark.parametrize("kind", TABLES)
def test_the_table_of_moves_has_what_can_be_stored(kind: Kind) -> None:
    assert ALLOWED[kind] == {
        source: {target for target, code in cells.items() if code in "AaoTNBP"}
        for of, source, cells in ROWS
        if of == kind
    }


@pytest.mark.parametrize("kind", TABLES)
def test_no_path_leads_out_of_a_terminal_state(kind: Kind) -> None:
    ends = {state: ALLOWED[kind][state] for state in TERMINAL_STATES}
    assert ends == dict.fromkeys(TERMINAL_STATES, frozenset())


# --- the order --------------------------------------------------------------------------------------------------------


def test_rules_are_asked_in_their_order() -> None:
    assert list(dict.fromkeys(rule.ask.__name__ for rule in RULES)) == [
        "repeated",
        "terminal_is_final",
        "cancelling_ends_cancelled",
        "cancel_what_waits",
        "born_waiting",
        "already_there",
        "back_to_the_queue",
        "completed_by_attempt",
        "late_once",
        "copy_due_time",
        "wait_for_due_time",
        "flow_is_alive",
        "upstreams_done",
        "cached_result",
        "pausing",
        "resuming",
        "limits",
        "crash_budget",
        "retry_failed",
        "name_starts",
    ]


def test_each_rule_says_what_it_rules() -> None:
    assert [rule.ask.__name__ for rule in RULES if not (rule.ask.__doc__ or "").strip()] == []


SAME = StateDetails(transition_id="t")
ASKS_CACHE = Running(state_details=StateDetails(cache_key="k"))
FULL = [Limit("tag:db", 1, 1)]
BOTH = {
    "repeated before terminal_is_final": (
        RunRecord(state=Completed(state_details=SAME)),
        Failed(state_details=SAME),
        Facts("client"),
        "This run has already made this state transition.",
    ),
    "cancelling_ends_cancelled before back_to_the_queue": (
        RunRecord(kind="flow", state=Cancelling()),
        Pending(),
        Facts("client"),
        "Cannot transition runs that are cancelling to a state other than Cancelled.",
    ),
    "already_there before pausing": (
        RunRecord(kind="flow", state=Paused()),
        Paused(),
        Facts("attempt"),
        "The run is already PAUSED.",
    ),
    "wait_for_due_time before flow_is_alive": (
        RunRecord(state=Pending(state_details=AHEAD)),
        Running(),
        Facts("attempt", flow_state=Cancelled()),
        "Scheduled time is in the future",
    ),
    "flow_is_alive before upstreams_done": (
        RunRecord(state=Pending()),
        Running(),
        Facts("attempt", flow_state=Cancelled(), upstreams=[Upstream("u", Failed())]),
        "The parent flow run was cancelled.",
    ),
    "upstreams_done before cached_result": (
        RunRecord(state=Pending()),
        ASKS_CACHE,
        Facts("attempt", upstreams=[Upstream("u", None)], cache=Completed()),
        "Upstream task run 'u' is gone.",
    ),
    "cached_result before limits": (
        RunRecord(state=Pending()),
        ASKS_CACHE,
        Facts("attempt", cache=Completed(), limits=FULL),
        "Retrieved state from cache",
    ),
    "resuming before limits": (
        RunRecord(kind="flow", state=Suspended()),
        Running(),
        Facts("attempt", limits=FULL),
        "A suspended flow run is resumed by scheduling it.",
    ),
    "limits before name_starts": (
        RunRecord(state=Pending(), attempt=1),
        Running(),
        Facts("attempt", limits=FULL),
        "Concurrency limit reached for tags: db",
    ),
}


@pytest.mark.parametrize(("run", "proposed", "facts", "reason"), BOTH.values(), ids=BOTH)
def test_of_two_rules_the_earlier_one_wins(run: RunRecord, proposed: State[Any], facts: Facts, reason: str) -> None:
    assert decide(run, proposed, facts, AT).reason == reason
