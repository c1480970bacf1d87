"""Any commands in any order: after each step all that is stored must fit together, and nothing may go backwards."""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shared.commands import Claim, Cycle, Death, Outcome, Report, Seat
from tests.contract.conftest import fake_store, real_store
from tests.support.invariants import Scan, scanned, steps_back, violations
from tests.support.ledgers import (
    CANCELLED,
    CANCELLING,
    COMPLETED,
    FAILED,
    RETRYING,
    Store,
    closed,
    new_runs,
    retry_in,
    seated,
)
from tests.support.server import RedisServer

STATEFUL = settings(
    deadline=None,
    database=None,
    derandomize=os.environ.get("CI") == "true",
    stateful_step_count=25,
    suppress_health_check=list(HealthCheck),
)
QUEUES = ("a", "b")
WORKERS = (0, 1)

workers = st.sampled_from(WORKERS)
outcomes = st.sampled_from([COMPLETED, FAILED, CANCELLED, retry_in(0), retry_in(1000)])
numbers = st.integers(0, 1_000_000)


def anybody_holds(machine: "AnyOrder") -> bool:
    return any(machine.hands.values())


def anything_runs(machine: "AnyOrder") -> bool:
    return any(run["state_type"] == "RUNNING" for run in machine.before.runs.values())


class AnyOrder(RuleBasedStateMachine):
    """Two workers and some clients on two queues. What a worker holds is kept as the worker itself would know it."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.ledger = store.ledger
        self.born = 0
        self.seats: dict[int, Seat] = {}
        self.hands: dict[int, dict[str, Claim]] = {}
        self.repeats: dict[int, Callable[[], None]] = {}
        self.before: Scan = scanned(store)

    def be_born(self, worker: int) -> None:
        """The worker starts under a new name; it listens to both queues, each to another one first."""
        self.born += 1
        queues = QUEUES if worker else QUEUES[::-1]
        self.seats[worker] = seated(self.ledger, f"w{self.born}", *queues)
        self.hands[worker] = {}
        self.repeats.pop(worker, None)

    @initialize()
    def open_the_shop(self) -> None:
        for worker in WORKERS:
            self.be_born(worker)
        self.ledger.submit([*new_runs(2, queue="a"), *new_runs(2, queue="b")])

    # --- clients ------------------------------------------------------------------------------------------------------

    @rule(
        number=st.integers(1, 2),
        queue=st.sampled_from(QUEUES),
        delay=st.sampled_from([None, None, 0.0, 1000.0]),
        at_front=st.booleans(),
        fields=st.sampled_from([{}, {"on_crash": "fail"}]),
    )
    def submit(self, number: int, **given: Any) -> None:
        runs = new_runs(number, **given)
        answers = [self.ledger.submit(runs) for _ in range(2)]
        assert answers == [["OK"] * number, ["EXISTS"] * number]

    @rule(outcome=st.sampled_from([CANCELLED, FAILED, retry_in(0)]), ask=numbers, data=st.data())
    def end_or_delay(self, outcome: Outcome, ask: int, data: st.DataObject) -> None:
        run_id = data.draw(st.sampled_from(sorted(self.before.runs)))
        assert self.asked_twice(run_id, outcome, ask) <= {"OK", "TERMINAL", "CANCELLING", "CHANGED"}

    @precondition(anything_runs)
    @rule(ask=numbers, data=st.data())
    def cancel_a_running_one(self, ask: int, data: st.DataObject) -> None:
        running = [run_id for run_id, run in self.before.runs.items() if run["state_type"] == "RUNNING"]
        assert self.asked_twice(data.draw(st.sampled_from(sorted(running))), CANCELLING, ask) == {"OK"}

    def asked_twice(self, run_id: str, outcome: Outcome, ask: int) -> set[str]:
        seq = int(self.before.runs[run_id]["seq"])
        return {self.ledger.propose(run_id, outcome, f"ask{ask}", seq=seq, actor="alice").tag for _ in range(2)}

    # --- workers ------------------------------------------------------------------------------------------------------

    @rule(worker=workers, want=st.integers(1, 4))
    def begin(self, worker: int, want: int) -> None:
        self.cycled(worker, [], want)

    def busy(self) -> st.SearchStrategy[int]:
        """Workers that hold something."""
        return st.sampled_from([worker for worker, hand in self.hands.items() if hand])

    @precondition(anybody_holds)
    @rule(ends=st.lists(outcomes, min_size=1, max_size=3), want=st.integers(0, 2), data=st.data())
    def report(self, ends: list[Outcome], want: int, data: st.DataObject) -> None:
        worker = data.draw(self.busy())
        ended = zip(self.hands[worker].values(), ends, strict=False)
        self.cycled(worker, [Report(claim.run_id, claim.token, outcome) for claim, outcome in ended], want)

    def cycled(self, worker: int, reports: list[Report], want: int) -> None:
        hand, seat = self.hands[worker], self.seats[worker]
        number = seat.number
        answer = self.ledger.cycle(seat, reports, want)
        assert (answer.tag, len(answer.verdicts), len(answer.claims) <= want) == ("OK", len(reports), True)
        assert set(answer.verdicts) <= {"OK", "CANCELLED", "FENCED"}
        for report in reports:
            del hand[report.run_id]
        hand.update({claim.run_id: claim for claim in answer.claims})

        def repeat() -> None:
            again = self.ledger.cycle(Seat(seat.worker, seat.queues, number), reports, want)
            held = self.store.client.hgetall(f"baton:worker:{seat.worker}:runs")
            still = [claim for claim in answer.claims if held.get(claim.run_id, "").startswith(claim.token)]
            assert again == Cycle("OK", answer.verdicts, still)

        self.repeats[worker] = repeat

    @precondition(lambda machine: machine.repeats)
    @rule(data=st.data())
    def hear_an_answer_again(self, data: st.DataObject) -> None:
        self.repeats[data.draw(st.sampled_from(sorted(self.repeats)))]()
        assert scanned(self.store) == self.before

    @precondition(anybody_holds)
    @rule(operation=numbers, data=st.data())
    def restart_in_place(self, operation: int, data: st.DataObject) -> None:
        worker = data.draw(self.busy())
        name, claim = self.seats[worker].worker, data.draw(st.sampled_from(list(self.hands[worker].values())))
        answers = {
            self.ledger.propose(claim.run_id, RETRYING, f"op{operation}", token=claim.token, worker=name)
            for _ in range(2)
        }
        (answer,) = answers
        assert answer.tag in ("OK", "FENCED", "CANCELLING", "TERMINAL")
        del self.hands[worker][claim.run_id]
        if answer.tag == "OK":
            self.hands[worker][claim.run_id] = replaced(claim, answer.token)
            self.repeats.pop(worker, None)  # a worker that has gone on does not ask again

    @precondition(anybody_holds)
    @rule(number=st.integers(1, 2), data=st.data())
    def give_back(self, number: int, data: st.DataObject) -> None:
        worker = data.draw(self.busy())
        pairs = [(claim.run_id, claim.token) for claim in list(self.hands[worker].values())[:number]]
        answers = self.ledger.give_back(self.seats[worker].worker, pairs, "Given back.")
        again = self.ledger.give_back(self.seats[worker].worker, pairs, "Given back.")
        assert (set(answers) <= {"OK", "FENCED"}, set(again) <= {"FENCED"}) == (True, True)
        for run_id, _ in pairs:
            del self.hands[worker][run_id]

    @rule(worker=workers, why=st.sampled_from(["it was killed", ""]), known=st.booleans())
    def die(self, worker: int, why: str, known: bool) -> None:
        in_body = next(iter(self.hands[worker]), "") if known else "*"
        death = Death(self.seats[worker].worker, why, in_body)
        (row,) = self.ledger.reap([death])
        assert self.ledger.reap([death]) == [(row.worker, 0, 0, 0)]
        self.be_born(worker)

    # --- anybody ------------------------------------------------------------------------------------------------------

    @rule()
    def promote(self) -> None:
        self.ledger.promote()
        self.ledger.promote()

    @invariant()
    def everything_fits_together(self) -> None:
        after = scanned(self.store)
        assert violations(after) == []
        assert steps_back(self.before, after) == []
        self.before = after

    def teardown(self) -> None:
        closed(self.store)


def replaced(claim: Claim, token: str) -> Claim:
    """The same run, in its next attempt."""
    return Claim(claim.run_id, token, claim.attempt + 1, 0, claim.crashes, claim.started, claim.task, claim.parameters)


def run_on(make: Callable[[], Store], examples: int) -> None:
    run_state_machine_as_test(lambda: AnyOrder(make()), settings=settings(STATEFUL, max_examples=examples))


def test_any_order_of_commands_keeps_everything_together() -> None:
    run_on(fake_store, 60)


def test_any_order_of_commands_keeps_everything_together_on_a_real_server(server: RedisServer) -> None:
    def emptied() -> Store:
        store = real_store(server)
        store.client.flushall()
        return store

    run_on(emptied, 40)
