"""Any commands in any order, drawn by Hypothesis: after each one all that is stored has to fit together.

Every command is sent as if its first reply had been lost: a second time, at once or later.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.commands import Claim, NewRun, Outcome, Report, Seat
from shared.steering import Steered
from shared.upkeep import Death, Ended, Pulse
from tests.support.invariants import (
    REGISTRIES,
    Scan,
    is_held,
    scanned,
    steps_back,
    violations,
    waiting_beside_free_slots,
)
from tests.support.ledgers import (
    CANCELLED,
    CANCELLING,
    COMPLETED,
    FAILED,
    PAUSED_IN_PLACE,
    PENDING,
    RETRYING,
    Store,
    closed,
    new_run,
    new_runs,
    retry_in,
    seated,
    suspended_for,
)

T = TypeVar("T")
QUEUES = ("a", "b")
WORKERS = (0, 1)
LIMITS = ("tag:x", "tag:y")
TAGGED = (*LIMITS, "tag:x tag:y")
SOON = 0.000001
"""Seconds that are over with the next command."""
LATE = 1000.0

workers = st.sampled_from(WORKERS)
ends = [COMPLETED, FAILED, CANCELLED, retry_in(0), retry_in(LATE), suspended_for(0), suspended_for(SOON)]
fields = st.sampled_from(
    [{}, {}, {"on_crash": "fail"}, {"kind": "flow", "ties": 1}, *({"limits": text, "ties": 1} for text in TAGGED)]
)
within = st.sampled_from([None, None, None, SOON, LATE])


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
        self.born = self.asked = 0
        self.seats: dict[int, Seat] = {}
        self.hands: dict[int, dict[str, Claim]] = {}
        self.repeats: dict[int, Callable[[], None]] = {}
        self.past: list[Claim] = []
        self.before: Scan = scanned(store)

    def be_born(self, worker: int) -> None:
        """The worker starts under a new name; it listens to both queues, each to another one first.

        The first one says that it knows one task only, the other takes every task.
        """
        self.born += 1
        queues = QUEUES if worker else QUEUES[::-1]
        self.seats[worker] = seated(self.ledger, f"w{self.born}", *queues)
        if worker == 0:
            self.ledger.beat([Pulse(f"w{self.born}", queues, {"tasks": "shop.add"})])
        self.hands[worker] = {}
        self.repeats.pop(worker, None)

    @initialize()
    def open_the_shop(self) -> None:
        for worker, limit in zip(WORKERS, LIMITS, strict=True):
            self.be_born(worker)
            self.ledger.set_limit(limit, 1)
        self.ledger.submit([*new_runs(2, queue="a"), *new_runs(2, queue="b")])

    def twice(self, command: Callable[[], T]) -> T:
        """The answer of a command, which is the same when it is sent again and then stores nothing more."""
        self.asked += 1
        first = command()
        stored = scanned(self.store)
        assert command() == first
        assert scanned(self.store) == stored
        return first

    @property
    def operation(self) -> str:
        """The id of the present operation: the same for its repeat, and for no other."""
        return f"operation-{self.asked}"

    def drawn_run(self, data: st.DataObject) -> tuple[str, int]:
        """Any run, and its seq."""
        run_id = data.draw(st.sampled_from(sorted(self.before.runs)))
        return run_id, int(self.before.runs[run_id]["seq"])

    def drawn_runs(self, data: st.DataObject, most: int) -> list[str]:
        return data.draw(st.lists(st.sampled_from(sorted(self.before.runs)), max_size=most, unique=True))

    # --- clients ------------------------------------------------------------------------------------------------------

    @rule(
        number=st.integers(1, 2),
        queue=st.sampled_from(QUEUES),
        delay=st.sampled_from([None, None, 0.0, LATE]),
        at_front=st.booleans(),
        fields=fields,
        task=st.sampled_from(["shop.add", "shop.add", "shop.rare"]),
    )
    def submit(self, number: int, **given: Any) -> None:
        runs = new_runs(number, **given)
        assert self.accepted(runs) == ["OK"] * number

    @rule(
        queue=st.sampled_from(QUEUES),
        delay=st.sampled_from([None, None, 0.0]),
        fields=fields,
        within=within,
        key=st.sampled_from([None, None, "k"]),
        data=st.data(),
    )
    def submit_tied(self, within: float | None, key: str | None, data: st.DataObject, **given: Any) -> None:
        ties: list[tuple[str, Any]] = [("up", run_id) for run_id in self.drawn_runs(data, 3)]
        ties += [("within", within)] if within else []
        ties += [("idem", key), ("digest", "d")] if key else []
        parents = self.drawn_runs(data, 1)
        if parents:
            given["fields"] = given["fields"] | {"parent": parents[0]}
        (answer,) = self.accepted([new_run(ties=ties, **given)])
        assert answer.split()[0] in ({"OK", "SAME"} if key else {"OK"})

    def accepted(self, runs: Sequence[NewRun]) -> list[str]:
        answers = self.ledger.submit(runs)
        stored = scanned(self.store)
        assert self.ledger.submit(runs) == [answer.replace("OK", "EXISTS") for answer in answers]
        assert scanned(self.store) == stored
        return answers

    @rule(outcome=st.sampled_from([CANCELLED, FAILED, retry_in(0), suspended_for(0)]), data=st.data())
    def end_delay_or_suspend(self, outcome: Outcome, data: st.DataObject) -> None:
        run_id, seq = self.drawn_run(data)
        assert self.asked_twice(run_id, seq, outcome) <= {"OK", "TERMINAL", "CANCELLING", "CHANGED"}

    @precondition(anything_runs)
    @rule(data=st.data())
    def cancel_a_running_one(self, data: st.DataObject) -> None:
        running = [run_id for run_id, run in self.before.runs.items() if run["state_type"] == "RUNNING"]
        run_id = data.draw(st.sampled_from(sorted(running)))
        assert self.asked_twice(run_id, int(self.before.runs[run_id]["seq"]), CANCELLING) == {"OK"}

    def asked_twice(self, run_id: str, seq: int, outcome: Outcome) -> set[str]:
        self.asked += 1
        return {self.ledger.propose(run_id, outcome, self.operation, seq=seq, actor="alice").tag for _ in range(2)}

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        run_ids = self.drawn_runs(data, 3)
        answers = self.twice(lambda: self.ledger.cancel(run_ids, actor="alice", message="No more."))
        assert {answer.tag for answer in answers} <= {"OK", "TERMINAL"}

    @rule(delay=st.sampled_from([0.0, LATE]), rerun=st.booleans(), data=st.data())
    def retry(self, data: st.DataObject, **given: Any) -> None:
        run_id, seq = self.drawn_run(data)
        answer = self.twice(lambda: self.ledger.retry(run_id, seq, self.operation, actor="alice", **given))
        assert answer.tag in {"OK", "TERMINAL", "RUNNING"}

    @rule(
        outcome=st.sampled_from([PENDING, COMPLETED, FAILED, CANCELLED, retry_in(0), suspended_for(0)]),
        data=st.data(),
    )
    def force(self, outcome: Outcome, data: st.DataObject) -> None:
        run_id, seq = self.drawn_run(data)
        answer = self.twice(lambda: self.ledger.force(run_id, seq, self.operation, outcome, actor="alice"))
        assert (answer.tag, answer.state_type) == ("OK", outcome.state_type)

    @precondition(lambda machine: any(run["state_type"] == "PAUSED" for run in machine.before.runs.values()))
    @rule(given=st.sampled_from([b"", b"yes"]), data=st.data())
    def resume(self, given: bytes, data: st.DataObject) -> None:
        paused = [run_id for run_id, run in self.before.runs.items() if run["state_type"] == "PAUSED"]
        run_id = data.draw(st.sampled_from(sorted(paused)))
        seq = int(self.before.runs[run_id]["seq"])
        answer: Steered = self.twice(
            lambda: self.ledger.resume(run_id, seq, self.operation, actor="alice", given=given)
        )
        assert answer.tag in {"OK", "LATE"}

    @rule(data=st.data())
    def wait_for(self, data: st.DataObject) -> None:
        self.ledger.wait_for(self.drawn_runs(data, 2))

    @rule(name=st.sampled_from(LIMITS), slots=st.integers(0, 2))
    def set_limit(self, name: str, slots: int) -> None:
        self.twice(lambda: self.ledger.set_limit(name, slots))

    @rule(queue=st.sampled_from(QUEUES), what=st.sampled_from(["pause", "resume", "resume"]))
    def set_queue(self, queue: str, what: Any) -> None:
        self.ledger.set_queue(queue, what, "alice")
        assert self.ledger.set_queue(queue, what, "alice") is False

    # --- workers ------------------------------------------------------------------------------------------------------

    @rule(worker=workers, want=st.integers(1, 4), late=st.booleans())
    def begin(self, worker: int, want: int, late: bool) -> None:
        self.cycled(worker, self.reports_too_late() if late else [], want)

    def reports_too_late(self) -> list[Report]:
        """The end of an attempt that was given back or taken away; if there is one, of a run that was begun again."""
        begun_again = [claim for claim in self.past if is_held(self.before.runs[claim.run_id])]
        return [Report(claim.run_id, claim.token, COMPLETED) for claim in (begun_again or self.past)[-1:]]

    def busy(self) -> st.SearchStrategy[int]:
        """Workers that hold something."""
        return st.sampled_from([worker for worker, hand in self.hands.items() if hand])

    @precondition(anybody_holds)
    @rule(
        ends=st.lists(st.sampled_from(ends), min_size=1, max_size=3),
        want=st.integers(0, 2),
        late=st.booleans(),
        data=st.data(),
    )
    def report(self, ends: list[Outcome], want: int, late: bool, data: st.DataObject) -> None:
        worker = data.draw(self.busy())
        ended = zip(self.hands[worker].values(), ends, strict=False)
        reports = [Report(claim.run_id, claim.token, outcome) for claim, outcome in ended]
        self.cycled(worker, [*reports, *(self.reports_too_late() if late else [])], want)

    def cycled(self, worker: int, reports: list[Report], want: int) -> None:
        hand, seat = self.hands[worker], self.seats[worker]
        number = seat.number
        answer = self.ledger.cycle(seat, reports, want)
        verdicts = [self.verdict_on(report) for report in reports]
        assert (answer.tag, answer.verdicts, len(answer.claims) <= want) == ("OK", verdicts, True)
        assert {claim.state for claim in answer.claims} <= {"RUNNING", "PENDING"}
        for report in reports:
            if report.run_id in hand and hand[report.run_id].token == report.token:
                del hand[report.run_id]
        hand.update({claim.run_id: claim for claim in answer.claims})

        def repeat() -> None:
            again = self.ledger.cycle(Seat(seat.worker, seat.queues, number), reports, want)
            held = self.store.client.hgetall(f"baton:worker:{seat.worker}:runs")
            still = [claim for claim in answer.claims if held.get(claim.run_id, "").startswith(claim.token)]
            assert (again.tag, again.verdicts) == ("OK", answer.verdicts)
            assert [(one.run_id, one.token) for one in again.claims] == [(one.run_id, one.token) for one in still]

        self.repeats[worker] = repeat

    def verdict_on(self, report: Report) -> str:
        run = self.before.runs[report.run_id]
        if not is_held(run) or run["token"] != report.token:
            return "FENCED"
        was_cancelled = run["state_type"] == "CANCELLING" and report.outcome.state_type != "CANCELLED"
        return "CANCELLED" if was_cancelled else "OK"

    @precondition(lambda machine: machine.repeats)
    @rule(data=st.data())
    def hear_an_answer_again(self, data: st.DataObject) -> None:
        self.repeats[data.draw(st.sampled_from(sorted(self.repeats)))]()
        assert scanned(self.store) == self.before

    @precondition(anybody_holds)
    @rule(outcome=st.sampled_from([RETRYING, RETRYING, PAUSED_IN_PLACE]), data=st.data())
    def go_on_in_place(self, outcome: Outcome, data: st.DataObject) -> None:
        """What was handed out begins, what failed begins again, a flow pauses in its process."""
        worker = data.draw(self.busy())
        name, claim = self.seats[worker].worker, data.draw(st.sampled_from(list(self.hands[worker].values())))
        answer = self.twice(
            lambda: self.ledger.propose(claim.run_id, outcome, self.operation, token=claim.token, worker=name)
        )
        assert answer.tag in ("OK", "FENCED", "CANCELLING", "TERMINAL", "FULL")
        del self.hands[worker][claim.run_id]
        is_here = self.store.client.hexists(f"baton:worker:{name}:runs", claim.run_id)
        if answer.tag == "OK" and is_here:
            self.hands[worker][claim.run_id] = claim._replace(token=answer.token)
            self.repeats.pop(worker, None)  # a worker that has gone on does not ask again

    @precondition(anybody_holds)
    @rule(number=st.integers(1, 2), data=st.data())
    def give_back(self, number: int, data: st.DataObject) -> None:
        worker = data.draw(self.busy())
        pairs = [(claim.run_id, claim.token) for claim in list(self.hands[worker].values())[:number]]
        answers = self.ledger.give_back(self.seats[worker].worker, pairs, "Given back.")
        again = self.ledger.give_back(self.seats[worker].worker, pairs, "Given back.")
        assert (set(answers) <= {"OK", "FENCED"}, set(again) <= {"FENCED"}) == (True, True)
        self.past += [self.hands[worker].pop(run_id) for run_id, _ in pairs]

    @rule(worker=workers)
    def beat(self, worker: int) -> None:
        name = self.seats[worker].worker
        answer = self.ledger.beat([Pulse(name, QUEUES, {})])
        to_end = {
            Ended(name, run_id, run["token"])
            for run_id, run in self.before.runs.items()
            if (run["state_type"], run.get("worker_name")) == ("CANCELLING", name)
        }
        assert (answer.buried, set(answer.to_cancel)) == ([], to_end)

    @rule(worker=workers, why=st.sampled_from(["it was killed", ""]), known=st.booleans())
    def die(self, worker: int, why: str, known: bool) -> None:
        in_body = next(iter(self.hands[worker]), "") if known else "*"
        death = Death(self.seats[worker].worker, why, in_body)
        self.past += self.hands[worker].values()
        (row,) = self.ledger.reap([death])
        assert self.ledger.reap([death]) == [(row.worker, 0, 0, 0)]
        self.be_born(worker)

    # --- anybody ------------------------------------------------------------------------------------------------------

    @rule()
    def promote(self) -> None:
        self.ledger.promote()
        self.ledger.promote()
        assert waiting_beside_free_slots(scanned(self.store)) == []

    @rule()
    def expire(self) -> None:
        self.ledger.expire()

    @rule(most=st.integers(1, 3))
    def go_on(self, most: int) -> None:
        self.ledger.go_on(most)

    @rule(data=st.data())
    def reconcile_what_is_sound(self, data: st.DataObject) -> None:
        """Nothing is found but that somebody could wait for an upstream again, which was retried."""
        run_ids = self.drawn_runs(data, 4)
        behind = {run_id: "told what it waits for" for run_id in run_ids if self.could_wait_again(run_id)}
        assert self.ledger.reconcile(run_ids) == [behind.get(run_id, "") for run_id in run_ids]
        assert behind or scanned(self.store) == self.before

    def could_wait_again(self, run_id: str) -> bool:
        run, before = self.before.runs[run_id], self.before
        is_early = (run["state_type"], "place" in run, "attempt" in run) == ("SCHEDULED", False, False)
        unfinished = {up for up in before.part(run_id, "upstream") if not before.is_final(up)}
        return (is_early or run.get("place") == "deferred") and unfinished != before.part(run_id, "waits")

    @precondition(lambda machine: machine.ended())
    @rule(data=st.data())
    def requeue_with_rq(self, data: st.DataObject) -> None:
        run_id = data.draw(st.sampled_from(self.ended()))
        run = self.before.runs[run_id]
        self.store.client.zrem(f"rq:{REGISTRIES[run['state_type']]}:{run['origin']}", run_id)
        self.store.client.hset(f"rq:job:{run_id}", "status", "queued")
        self.store.client.rpush(f"rq:queue:{run['origin']}", run_id)
        assert self.ledger.reconcile([run_id]) == ["retried, as RQ asked"]

    def ended(self) -> list[str]:
        return sorted(run_id for run_id in self.before.runs if self.before.is_final(run_id))

    @invariant()
    def everything_fits_together(self) -> None:
        after = scanned(self.store)
        broken = [*violations(after), *steps_back(self.before, after)]
        assert broken == [], broken
        self.before = after

    def teardown(self) -> None:
        closed(self.store)
