"""Invariants as pure functions over snapshots made by hand, how violations are merged, and how they are told."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.cli.doctor import document, report
from orchestrator.doctor import Diagnosis, merged
from orchestrator.invariants import INVARIANTS, Violation, violations
from shared.rq_words import REGISTRIES, call_of, word_of
from shared.run_fields import Row, faults
from shared.seen import Census, Holding, IdempotencyKey, Place, SeenRun, Snapshot, Ties
from shared.state_types import TERMINAL_STATES, StateType

TIME = "2026-11-20T09:15:00.000250Z"
ID = "01a1f879-5eda-7005-8876-23ab1bc095ff"
QUEUED = Place("rq:queue:", "rq:queue:q", "q")
DUE = Place("rq:scheduled:", "rq:scheduled:q", "q", 2000.0)
PAUSED = Place("baton:paused", "baton:paused", "", float("inf"))
WIP = Place("rq:wip:", "rq:wip:q", "q", float("inf"), 1, "7")
INDEX = Place("baton:running", "baton:running", "", 1000.0)
DEFERRED = Place("rq:deferred:", "rq:deferred:q", "q", 1000.0)
WAITS_FOR_A_SLOT = Place("baton:limit:", "baton:limit:db:waiters", "", 1000.0)
LATE = Place("baton:deadlines", "baton:deadlines", "", 2000.0)
OTHER = "01a1f879-5eda-7005-8876-23ab1bc095fe"
WAITING = Ties(upstream=frozenset({OTHER}), waits=frozenset({OTHER}))
HELD = Holding("w1", "7", "1", "1")
HISTORIES = {
    StateType.PENDING: (StateType.PENDING,),
    StateType.SCHEDULED: (StateType.SCHEDULED,),
    StateType.PAUSED: (StateType.PENDING, StateType.RUNNING, StateType.PAUSED),
    StateType.RUNNING: (StateType.PENDING, StateType.RUNNING),
    StateType.CANCELLING: (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING),
}


def a_run(
    state: StateType, *places: Place, holdings: tuple[Holding, ...] = (), place: str = "", **changes: Any
) -> SeenRun:
    """A run in this state, and perhaps at that place, of which nothing is wrong but what is given."""
    types = HISTORIES.get(state, (StateType.PENDING, StateType.RUNNING, state))
    fields = {
        "state_type": state.value,
        "state_name": state.value.title(),
        "state_time": TIME,
        "seq": str(len(types)),
        "task": "shop.add",
        "origin": "q",
        "created_at": TIME,
        "status": word_of(state, place),
        "data": call_of(ID),
    }
    if StateType.RUNNING in types:
        begun = {"attempt": "1", "token": "7", "run_count": "1", "worker_name": "w1"}
        fields |= {**begun, "started_at": TIME, "start_time": TIME, "ended_at": TIME}
    if place:
        fields |= {"place": place, "ties": "1", "token": "7", "worker_name": "w1"}
    history = tuple(Row(seq, kind) for seq, kind in enumerate(types, start=1))
    lifetime = 60 if state in TERMINAL_STATES else -1
    run = SeenRun(ID, fields, faults(fields), lifetime, history, (), places, holdings)
    return replace(run, **changes)


UNKNOWN = SeenRun(OTHER, {"origin": "q"}, (), -1, (), (), (), ())
"""What somebody else keeps under that id: no law is asked about it."""


def a_snapshot(*runs: SeenRun, **changes: Any) -> Snapshot:
    """A snapshot of these runs, whose counters are right."""
    states = {run.fields["state_type"]: 1 for run in runs if run.fields}
    counters = {state: "1" for state in states if state not in TERMINAL_STATES}
    snapshot = Snapshot(
        at=1000.0,
        runs={OTHER: UNKNOWN} | {run.id: run for run in runs},
        queues=frozenset({"rq:queue:q"}),
        leases={"w1": 1030.0},
        odd_members=(),
        unreadable={},
        census=Census(counters, states, 0, quiet=True),
        limits=frozenset({"db"}),
    )
    return replace(snapshot, **changes)


def broken(snapshot: Snapshot) -> list[tuple[str, str]]:
    return [(violation.invariant, violation.what) for violation in violations(snapshot)]


def ended(state: StateType) -> Place:
    return Place(REGISTRIES[state], f"{REGISTRIES[state]}q", "q", 1060.0)


@pytest.mark.parametrize(
    "run",
    [
        a_run(StateType.PENDING, QUEUED),
        a_run(StateType.PENDING, QUEUED._replace(times=3)),
        a_run(StateType.PENDING, DEFERRED, place="deferred", ties=WAITING),
        a_run(StateType.PENDING, DUE, place="passed"),
        a_run(StateType.PENDING, WIP, INDEX, holdings=(HELD,), place="held"),
        a_run(StateType.SCHEDULED, DUE),
        a_run(StateType.SCHEDULED, DUE, QUEUED),
        a_run(StateType.SCHEDULED, WAITS_FOR_A_SLOT, place="limit:db"),
        a_run(StateType.PAUSED, PAUSED),
        a_run(StateType.PAUSED, WIP, INDEX, holdings=(HELD,), place="held"),
        a_run(StateType.PAUSED, WIP, INDEX, LATE, holdings=(HELD,), place="held"),
        a_run(StateType.RUNNING, WIP, INDEX, QUEUED, holdings=(HELD,)),
        a_run(StateType.CANCELLING, WIP, INDEX, holdings=(HELD,)),
        a_run(StateType.CANCELLING, WIP, INDEX, LATE, holdings=(HELD,)),
        *(a_run(state, ended(state)) for state in sorted(TERMINAL_STATES)),
        *(a_run(state, ended(state), QUEUED) for state in sorted(TERMINAL_STATES)),
    ],
    ids=lambda run: f"{run.fields['state_type']}-{run.place}-{len(run.places)}",
)
def test_a_run_in_its_place_breaks_nothing(run: SeenRun) -> None:
    assert broken(a_snapshot(run)) == []


WAYS: list[tuple[StateType, str, tuple[Place, ...]]] = [
    (StateType.PENDING, "", (QUEUED,)),
    (StateType.PENDING, "deferred", (DEFERRED,)),
    (StateType.PENDING, "passed", (DUE,)),
    (StateType.PENDING, "held", (WIP, INDEX)),
    (StateType.SCHEDULED, "", (DUE,)),
    (StateType.SCHEDULED, "limit:db", (WAITS_FOR_A_SLOT,)),
    (StateType.PAUSED, "", (PAUSED,)),
    (StateType.PAUSED, "held", (WIP, INDEX)),
    (StateType.RUNNING, "", (WIP, INDEX)),
    *((state, "", (ended(state),)) for state in sorted(TERMINAL_STATES)),
]
ROWS = (DUE, DEFERRED, PAUSED, WIP, INDEX, WAITS_FOR_A_SLOT, LATE, *map(ended, sorted(TERMINAL_STATES)))
LAWS = {"rq:wip:": "I4", "baton:running": "I4", "baton:limit:": "I6", "baton:deadlines": "deadlines"}


@pytest.mark.parametrize(("state", "place", "own"), WAYS, ids=lambda part: str(part) if isinstance(part, str) else "")
def test_a_row_of_any_other_place_is_one_fault(state: StateType, place: str, own: tuple[Place, ...]) -> None:
    ties = WAITING if place == "deferred" else Ties()
    holdings = (HELD,) if WIP in own else ()
    others = [row for row in ROWS if row.key not in {mine.key for mine in own}]
    if (state, place) == (StateType.PAUSED, "held"):
        others.remove(LATE)
    found = [broken(a_snapshot(a_run(state, *own, row, place=place, ties=ties, holdings=holdings))) for row in others]
    assert [[name for name, _ in one] for one in found] == [[LAWS.get(row.kind, "I1")] for row in others]


@pytest.mark.parametrize("state", sorted(HISTORIES))
def test_a_run_in_no_place_is_found_whatever_its_state(state: StateType) -> None:
    assert [name for name, _ in broken(a_snapshot(a_run(state)))][:1] in (["I1"], ["I4"])


def test_a_row_of_a_run_that_is_gone_may_wait_for_the_sweep_and_no_longer() -> None:
    gone = SeenRun(ID, {}, (), -2, (), (), (ended(StateType.FAILED)._replace(score=999.0),), ())
    kept = replace(gone, places=(ended(StateType.FAILED),))
    assert (broken(a_snapshot(gone)), broken(a_snapshot(kept))) == (
        [],
        [("I1", "rq:failed:q lists a run that is not there")],
    )


def test_what_a_run_left_behind_may_wait_for_the_sweep_as_long_as_a_registry_lists_it() -> None:
    row = ended(StateType.FAILED)._replace(score=999.0)
    listed = SeenRun(ID, {}, (), -2, (), ("traceback",), (row,), ())
    forgotten = replace(listed, places=())
    assert (broken(a_snapshot(listed)), broken(a_snapshot(forgotten))) == (
        [],
        [("keys", "is gone, but left behind: traceback")],
    )


@pytest.mark.parametrize(
    ("seqs", "what"),
    [
        ([1, 2], ""),
        ([1, 3], "row 2 of its history has seq 3, after 1"),
        ([2], "row 1 of its history has seq 2, after 0"),
        ([1, 1, 2], "row 2 of its history has seq 1, after 1"),
        ([1, 2, 2], "row 3 of its history has seq 2, after 2"),
        ([1], "its history ends with seq 1, its record says 2"),
        ([], "has no history"),
    ],
)
def test_a_history_counts_up_by_one_to_the_seq_of_its_run(seqs: list[int], what: str) -> None:
    rows = tuple(Row(seq, StateType.RUNNING) for seq in seqs)
    run = a_run(StateType.RUNNING, WIP, INDEX, holdings=(HELD,), history=rows)
    assert broken(a_snapshot(run)) == ([("I2", what)] if what else [])


@pytest.mark.parametrize(("length", "whole"), [(1000, True), (999, False)])
def test_only_a_history_of_a_thousand_rows_may_jump_after_its_first(length: int, whole: bool) -> None:
    rows = (Row(1, StateType.PENDING), *(Row(5000 + number, StateType.PENDING) for number in range(length - 1)))
    run = a_run(StateType.PENDING, QUEUED, history=rows)
    run = replace(run, fields={**run.fields, "seq": str(rows[-1].seq)})
    assert (broken(a_snapshot(run)) == []) is whole


@pytest.mark.parametrize(("number", "seq"), [(1, 0), (1, 1), (500, 9000)])
def test_a_long_history_jumps_once_and_only_upwards(number: int, seq: int) -> None:
    rows = [Row(1, StateType.PENDING), *(Row(5000 + number, StateType.PENDING) for number in range(999))]
    rows[number] = Row(seq, StateType.PENDING)
    run = a_run(StateType.PENDING, QUEUED, history=tuple(rows))
    run = replace(run, fields={**run.fields, "seq": str(rows[-1].seq)})
    before = rows[number - 1].seq
    assert broken(a_snapshot(run)) == [("I2", f"row {number + 1} of its history has seq {seq}, after {before}")]


def test_a_second_holder_is_told_by_name() -> None:
    run = a_run(StateType.RUNNING, WIP, INDEX, holdings=(HELD, HELD._replace(worker="w9")))
    assert broken(a_snapshot(run)) == [("I4", "is held by w9, but its record names w1")]


def test_counters_may_be_off_by_as_many_runs_as_cannot_be_read() -> None:
    census = Census({"PENDING": "2"}, {"PENDING": 1}, 1, quiet=True)
    run = a_run(StateType.PENDING, QUEUED)
    wrong = replace(census, unreadable=0)
    assert (broken(a_snapshot(run, census=census)), broken(a_snapshot(run, census=wrong))) == (
        [],
        [("I7", "the counter of PENDING is 1 too high")],
    )


def test_counters_that_moved_while_runs_were_counted_are_not_judged() -> None:
    census = Census({"PENDING": "5"}, {"PENDING": 1}, 0, quiet=False)
    assert broken(a_snapshot(a_run(StateType.PENDING, QUEUED), census=census)) == []


def test_a_lease_that_is_over_is_for_the_reaper_and_one_long_over_is_a_fault() -> None:
    run = a_run(StateType.RUNNING, WIP, INDEX, holdings=(HELD,))
    answers = [broken(a_snapshot(run, leases={"w1": end})) for end in (990.0, 1000.0 - 301)]
    assert answers == [[], [("I4", "is held by w1, whose lease ended long ago")]]


def test_a_hostile_name_is_quoted_in_the_command_that_repairs() -> None:
    snapshot = a_snapshot(idempotency=(IdempotencyKey("baton:idem:k; reboot", "", -1),))
    assert [one.repair for one in violations(snapshot)] == ["redis-cli DEL 'baton:idem:k; reboot'"]


# --- merging and telling ----------------------------------------------------------------------------------------------


def test_violations_that_differ_in_their_ids_alone_become_one_in_the_order_of_the_invariants() -> None:
    found = [Violation("I8", ("b",), "w", "r"), Violation("I1", ("c",), "w", "r"), Violation("I8", ("a",), "w", "r")]
    assert merged(found) == (Violation("I1", ("c",), "w", "r"), Violation("I8", ("a", "b"), "w", "r"))


def test_every_invariant_has_a_name_of_its_own() -> None:
    names = [invariant.name for invariant in INVARIANTS]
    assert names == [
        *(f"I{number}" for number in range(1, 9)),
        "fields",
        "keys",
        "lifetime",
        "ties",
        "consumers",
        "deadlines",
        "idem",
    ]


def diagnosed(*found: Violation, compared: bool = True) -> Diagnosis:
    return Diagnosis(found, 3, {"PENDING": 1, "FAILED": 2}, 1, 2, compared)


def test_health_is_one_line_with_counts() -> None:
    assert list(report(diagnosed())) == ["well: 3 runs (1 PENDING, 2 FAILED), 1 queue, 2 workers"]


def test_counters_that_could_not_be_compared_are_said_to_be_so() -> None:
    (line,) = report(diagnosed(compared=False))
    assert line.endswith("2 workers; counters not compared, there was no quiet moment")


def test_of_many_ids_twenty_are_shown_with_the_total() -> None:
    ids = tuple(f"r{number:02}" for number in range(25))
    shown = ", ".join(ids[:20])
    assert list(report(diagnosed(Violation("I1", ids, "is lost", "look")))) == [
        "I1: Every run lies in exactly one place.",
        "    is lost",
        f"    25 ids: {shown} and 5 more",
        "    repair: look",
        "",
        "1 violation: 3 runs (1 PENDING, 2 FAILED), 1 queue, 2 workers",
    ]


def test_control_characters_and_marks_of_direction_never_reach_the_terminal() -> None:
    hostile = "\x1b[2J\r\n\u202ewell\x9b"
    text = "\n".join(report(diagnosed(Violation("I8", (hostile,), hostile, hostile))))
    assert text.count("\\x1b[2J\\r\\n\\u202ewell\\x9b") == 3
    assert text.replace("\n", "").isprintable()


def test_the_json_document_names_all_ids() -> None:
    ids = tuple(f"r{number:02}" for number in range(25))
    assert document(diagnosed(Violation("I1", ids, "is lost", "look"))) == {
        "well": False,
        "runs": 3,
        "states": {"PENDING": 1, "FAILED": 2},
        "queues": 1,
        "workers": 2,
        "compared_counters": True,
        "violations": [
            {
                "invariant": "I1",
                "law": "Every run lies in exactly one place.",
                "what": "is lost",
                "total": 25,
                "ids": ids,
                "repair": "look",
            }
        ],
    }
