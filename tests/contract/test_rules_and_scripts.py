"""Scripts and rules agree: each move that a script makes stores what `decide` and `transformed` say."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from shared.clock import from_epoch, iso
from shared.commands import Claim, Outcome, Seat
from shared.reporting import outcome_of
from shared.rules import Facts, Verdict, decide
from shared.rules_facts import changed
from shared.rules_transforms import RunRecord, transformed
from shared.state_types import TERMINAL_STATES, StateType
from shared.states import (
    Cancelled,
    Cancelling,
    Completed,
    Crashed,
    Failed,
    Pending,
    Running,
    Scheduled,
    State,
)
from shared.upkeep import Death
from tests.support.ledgers import (
    Store,
    fields_of,
    new_run,
    quarantined,
    report,
    reported,
    rows_of,
    seated,
    server_time,
)
from tests.support.waiting import eventually

OWN, CLIENT, KEEPER = Facts("attempt", held=True), Facts("client"), Facts("housekeeping")
GIVEN_BACK = Facts("attempt", held=True, give_back=True)
KILLED = "killed by signal 9, perhaps out of memory"
SKEW = timedelta(seconds=5)
"""Within which the server reads its clock after we did."""


class Twin:
    """A run in Redis that scripts move, and its record that the rules move. After every step they are the same."""

    def __init__(self, store: Store, *, delay: float | None = None, retries: int = 0, on_crash: Any = "retry") -> None:
        self.store = store
        self.seat: Seat | None = None
        self.claim: Claim | None = None
        self.record = RunRecord(retries=retries, on_crash=on_crash, crash_budget=store.settings.crash_budget)
        new = new_run(delay=delay, fields={"on_crash": on_crash})
        self.id = new.id
        state = Pending() if delay is None else Scheduled(scheduled_time=self.at + timedelta(seconds=delay))
        verdict = self.judged(state, CLIENT)
        assert store.ledger.submit([new]) == ["OK"]
        self.agree(verdict, CLIENT)

    @property
    def at(self) -> datetime:
        return from_epoch(server_time(self.store))

    def judged(self, state: State[Any], facts: Facts) -> Verdict:
        return decide(self.record, state, facts, self.at)

    def agree(self, verdict: Verdict, facts: Facts) -> None:
        """Let the record follow the verdict, and compare it with what the script stored."""
        run, fields = self.store.ledger.get(self.id), fields_of(self.store, self.id)
        if verdict.state is not None:
            state = with_due_time_of(run.state, verdict.state)
            self.record = transformed(self.record, state, facts, run.state.timestamp)
        record, state = self.record, self.record.state
        assert state is not None
        assert (
            *(run.state.type, run.state.name, run.state.message, run.state.timestamp, run.state.state_details.attempt),
            *(run.seq, run.attempt, run.run_count, run.crashes, fields.get("last_end", "")),
            *(run.expected_start, run.start_time, run.end_time, run.total_run_time),
        ) == (
            *(state.type, state.name, state.message, state.timestamp, state.state_details.attempt),
            *(record.seq, record.attempt, record.run_count, record.crashes, record.last_end),
            *(
                record.expected_start,
                record.start_time,
                record.end_time,
                pytest.approx(record.total_run_time, abs=1e-5),
            ),
        )

    # --- what scripts do ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Let a new worker look for a run: it begins this one if the rules let it start."""
        verdict = self.judged(Running(), Facts("attempt"))
        self.seat = seated(self.store.ledger, f"w{self.record.seq}-{self.id}")
        claims = self.store.ledger.cycle(self.seat, [], 1).claims
        assert bool(claims) == (verdict.kind == "ACCEPT")
        if claims:
            self.claim = claims[0]
            self.agree(verdict, Facts("attempt"))

    def end(self, state: State[Any], delay: float = 0.0) -> str:
        """The script's verdict on an attempt's end, which its worker had judged as that of a running run."""
        assert self.seat is not None
        assert self.claim is not None
        facts = replace(OWN, delay=delay)
        known = replace(self.record, state=Running())
        answered = decide(known, state, facts, self.at).state
        assert answered is not None
        if answered.is_running():
            return self.restart(answered)
        (verdict,) = reported(self.store.ledger, self.seat, report(self.claim, self.outcome(answered)))
        self.agree(self.judged(answered, OWN), OWN)
        return verdict

    def restart(self, state: State[Any]) -> str:
        """Begin the next attempt in place."""
        assert self.seat is not None
        assert self.claim is not None
        answer = self.store.ledger.propose(
            self.id, self.outcome(state), "restart", token=self.claim.token, worker=self.seat.worker
        )
        self.agree(self.judged(state, OWN), OWN)
        if answer.tag == "OK":
            self.claim = self.claim._replace(token=answer.token)
        return answer.tag

    def give_back(self) -> None:
        assert self.seat is not None
        assert self.claim is not None
        verdict = self.judged(Pending(message="Not started."), GIVEN_BACK)
        answer = self.store.ledger.give_back(self.seat.worker, [(self.id, self.claim.token)], "Not started.")
        assert answer == ["OK"]
        self.agree(verdict, GIVEN_BACK)

    def lose(self, why: str = KILLED) -> None:
        """The worker is dead, with this run in its body."""
        assert self.seat is not None
        facts = Facts("supervisor", held=True, why=why or "the worker was stopped")
        verdict = self.judged(Crashed(), facts)
        self.store.ledger.reap([Death(self.seat.worker, why, self.id)])
        self.agree(verdict, facts)

    def lose_by_lease(self) -> None:
        """Nobody has heard of the worker for a lease."""
        assert self.seat is not None
        facts = Facts("housekeeping", held=True, why=f"the lease of {self.seat.worker} ended")
        verdict = self.judged(Crashed(), facts)
        eventually(self.store.ledger.reap)
        self.agree(verdict, facts)

    def bury(self, why: str, message: str) -> None:
        """The worker is over, and this run was not in its body, or may start again."""
        assert self.seat is not None
        verdict = self.judged(Pending(message=message), GIVEN_BACK)
        self.store.ledger.reap([Death(self.seat.worker, why, "" if why else self.id)])
        self.agree(verdict, GIVEN_BACK)

    def promote(self) -> None:
        eventually(lambda: self.store.ledger.promote().moved == 1)
        self.agree(self.judged(Pending(), KEEPER), KEEPER)

    def propose(self, state: State[Any]) -> None:
        """Let a client propose what the rules make of this; nothing if that is nothing."""
        verdict = self.judged(state, CLIENT)
        if verdict.state is not None:
            assert self.asked(verdict.state) == "OK"
            self.agree(verdict, CLIENT)

    def asked(self, state: State[Any]) -> str:
        """The script's own answer to a client's proposal."""
        seated(self.store.ledger, "client-1")
        name = f"ask-{self.record.seq}-{state.type}"
        outcome = self.outcome(state)
        return self.store.ledger.propose(self.id, outcome, name, seq=self.record.seq, worker="client-1").tag

    def outcome(self, state: State[Any]) -> Outcome:
        due = state.state_details.scheduled_time
        return outcome_of(state, self.store.settings, delay=max(0.0, (due - self.at).total_seconds()) if due else 0.0)


def with_due_time_of(stored: State[Any], state: State[Any]) -> State[Any]:
    """The state, with the due time that was stored if that is the same but for the moment of asking."""
    mine, theirs = state.state_details.scheduled_time, stored.state_details.scheduled_time
    if mine is None or theirs is None:
        return state
    assert abs(mine - theirs) < SKEW
    return changed(state, state_details=state.state_details.replaced(scheduled_time=theirs))


# --- lives ------------------------------------------------------------------------------------------------------------

Step = Callable[[Twin], Any]


def reports(state: State[Any], verdict: str = "OK", delay: float = 0.0) -> Step:
    def step(twin: Twin) -> None:
        assert twin.end(state, delay) == verdict

    return step


def proposes(state: State[Any]) -> Step:
    return lambda twin: twin.propose(state)


def reports_as_due_now(twin: Twin) -> None:
    assert twin.end(Scheduled(name="Mine")) == "OK"


def puts_off_until_now(twin: Twin) -> None:
    twin.propose(Scheduled(name="Later"))


def loses(why: str) -> Step:
    return lambda twin: twin.lose(why)


def buries(why: str, message: str) -> Step:
    return lambda twin: twin.bury(why, message)


FAILED, DONE = Failed(message="ValueError: no", data=ValueError("no")), Completed(data=3)
CANCEL = proposes(Cancelling(message="No longer needed."))
LIVES: dict[str, tuple[dict[str, Any], list[Step]]] = {
    "succeeds": ({}, [Twin.begin, reports(DONE)]),
    "fails": ({}, [Twin.begin, reports(FAILED)]),
    "reports its crash": ({}, [Twin.begin, reports(Crashed(message="Interrupted."))]),
    "returns a cancelled state": ({}, [Twin.begin, reports(Cancelled())]),
    "is due later": ({"delay": 0.05}, [Twin.promote, Twin.begin, reports(DONE)]),
    "is not due yet": ({"delay": 100.0}, [Twin.begin]),
    "is retried in place": ({"retries": 1}, [Twin.begin, reports(FAILED), reports(FAILED)]),
    "is retried later": (
        {"retries": 1},
        [Twin.begin, reports(FAILED, delay=0.05), Twin.begin, Twin.promote, Twin.begin, reports(FAILED)],
    ),
    "returns a scheduled state": ({}, [Twin.begin, reports_as_due_now, Twin.promote, Twin.begin]),
    "is given back": ({}, [Twin.begin, Twin.give_back, Twin.begin, reports(DONE)]),
    "is given back after a retry": ({"retries": 1}, [Twin.begin, reports(FAILED), Twin.give_back, Twin.begin]),
    "is lost twice": ({}, [Twin.begin, Twin.lose, Twin.begin, Twin.lose, Twin.begin, reports(DONE)]),
    "is lost too often": ({}, [Twin.begin, Twin.lose, Twin.begin, Twin.lose, Twin.begin, Twin.lose, Twin.begin]),
    "is lost by its lease": ({}, [Twin.begin, Twin.lose_by_lease, Twin.begin, reports(DONE)]),
    "is lost, then fails": ({"retries": 1}, [Twin.begin, Twin.lose, Twin.begin, reports(FAILED), reports(FAILED)]),
    "may start only once and is lost": ({"on_crash": "fail"}, [Twin.begin, Twin.lose]),
    "may start only once and is stopped": ({"on_crash": "fail"}, [Twin.begin, loses("")]),
    "is stopped as planned": ({}, [Twin.begin, buries("", "Given back: the worker stopped."), Twin.begin]),
    "was not in its body": ({}, [Twin.begin, buries(KILLED, "Given back: its worker is gone."), Twin.begin]),
    "is cancelled while it waits": ({}, [CANCEL, Twin.begin]),
    "is cancelled before it is due": ({"delay": 100.0}, [CANCEL, Twin.begin]),
    "is cancelled twice": ({}, [Twin.begin, CANCEL, CANCEL, reports(Cancelled(message="Cancelled while running."))]),
    "completes while cancelling": ({}, [Twin.begin, CANCEL, reports(DONE, "CANCELLED")]),
    "fails while cancelling": ({}, [Twin.begin, CANCEL, reports(FAILED, "CANCELLED")]),
    "crashes while cancelling": ({}, [Twin.begin, CANCEL, reports(Crashed(), "CANCELLED")]),
    "would be retried later while cancelling": (
        {"retries": 1},
        [Twin.begin, CANCEL, reports(FAILED, "CANCELLED", delay=60)],
    ),
    "would be retried in place while cancelling": ({"retries": 1}, [Twin.begin, CANCEL, reports(FAILED, "CANCELLING")]),
    "is given back while cancelling": ({}, [Twin.begin, CANCEL, Twin.give_back]),
    "is lost while cancelling": ({}, [Twin.begin, CANCEL, Twin.lose]),
    "reports after a client ended it": ({}, [Twin.begin, proposes(Failed()), reports(DONE, "FENCED")]),
    "reports twice": ({}, [Twin.begin, reports(DONE), reports(FAILED, "FENCED")]),
    "is begun by a client's process": ({}, [proposes(Running())]),
    "is put off by a client": ({}, [puts_off_until_now, Twin.promote, Twin.begin]),
    "is queued early by a client": ({"delay": 0.05}, [proposes(Pending())]),
}


@pytest.mark.parametrize(("given", "steps"), LIVES.values(), ids=LIVES)
def test_a_life_is_the_same_in_redis_and_by_the_rules(store: Store, given: dict[str, Any], steps: list[Step]) -> None:
    twin = Twin(store, **given)
    for step in steps:
        step(twin)


def test_a_run_that_was_lost_too_often_is_in_quarantine(store: Store) -> None:
    twin = Twin(store, on_crash="fail")
    twin.begin()
    twin.lose()
    entries = [(entry["reason"], entry["run"], entry["message"]) for entry in quarantined(store)]
    assert entries == [("crashed", twin.id, f"Attempt 1 was lost: {KILLED}.")]


# --- cells ------------------------------------------------------------------------------------------------------------

SOURCES: dict[str, tuple[dict[str, Any], list[Step]]] = {
    "SCHEDULED": ({"delay": 100.0}, []),
    "PENDING": ({}, []),
    "RUNNING": ({}, [Twin.begin]),
    "CANCELLING": ({}, [Twin.begin, CANCEL]),
    "COMPLETED": ({}, [Twin.begin, reports(DONE)]),
    "FAILED": ({}, [Twin.begin, reports(FAILED)]),
    "CRASHED": ({}, [Twin.begin, reports(Crashed())]),
    "CANCELLED": ({}, [CANCEL]),
}
# No script puts a run that pauses where it would be found.
TARGETS = [each for each in StateType if each is not StateType.PAUSED]


def twin_in(store: Store, source: str) -> Twin:
    given, steps = SOURCES[source]
    twin = Twin(store, **given)
    for step in steps:
        step(twin)
    assert twin.record.state is not None
    assert twin.record.state.type == source
    return twin


@pytest.mark.parametrize("source", SOURCES)
def test_a_client_moves_a_run_from_each_state_as_the_rules_say(store: Store, source: str) -> None:
    for target in TARGETS:
        twin_in(store, source).propose(State(type=target))


@pytest.mark.parametrize("source", ["CANCELLING", *sorted(TERMINAL_STATES)])
def test_what_only_the_record_can_tell_is_refused_by_the_script_as_by_the_rules(store: Store, source: str) -> None:
    for target in TARGETS:
        twin = twin_in(store, source)
        verdict, rows = twin.judged(State(type=target), CLIENT), rows_of(store, twin.id)
        if verdict.kind != "ACCEPT":
            answer = twin.asked(State(type=target))
            assert (answer, rows_of(store, twin.id)) == ("CANCELLING" if source == "CANCELLING" else "TERMINAL", rows)


def test_a_run_that_is_queued_keeps_its_due_time(store: Store) -> None:
    twin = Twin(store, delay=0.05)
    due = twin.record.expected_start
    twin.promote()
    assert due is not None
    assert rows_of(store, twin.id)[-1].get("due") == iso(due)
