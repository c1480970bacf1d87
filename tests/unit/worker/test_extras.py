"""How many workers work in lent slots, and which of them."""

from dataclasses import dataclass, field

import pytest

from shared.clock import monotonic
from tests.support.waiting import eventually
from worker.extras import DEPTH, Extras, without_extras
from worker.page import Page


@dataclass
class Worker:
    """A worker that only notes what it is told."""

    name: str
    page: Page = field(default_factory=Page)
    told_to_stop: bool = False

    def quiet(self, *, on: bool) -> None:
        self.page.quiet(on=on)

    def tell_to_stop(self) -> None:
        self.told_to_stop = True


def of_the_fleet(*, parked: int = 0, free: int = 0) -> list[Worker]:
    workers = [Worker(f"w{number}") for number in range(parked + free)]
    for worker in workers[:parked]:
        worker.page.park(on=True)
    return workers


def extra(name: str = "e", *, in_body: bool = False, parked: bool = False) -> Worker:
    worker = Worker(name)
    worker.page.make_extra()
    if in_body or parked:
        worker.page.begin_body(1, None)
    worker.page.park(on=parked)
    return worker


@pytest.mark.parametrize(
    ("workers", "missing"),
    [
        (of_the_fleet(free=3), 0),
        (of_the_fleet(parked=2, free=1), 2),
        ([*of_the_fleet(parked=2), extra()], 1),
        ([*of_the_fleet(parked=1), extra(parked=True)], 1),
        ([*of_the_fleet(parked=1), extra("e1", parked=True), extra("e2", in_body=True)], 0),
        ([*of_the_fleet(free=1), extra()], 0),
    ],
    ids=["nobody waits", "two wait", "one of two is served", "an extra waits", "both are served", "one too many"],
)
def test_there_are_as_many_extras_as_bodies_that_wait(workers: list[Worker], missing: int) -> None:
    some = Extras(4)
    some.look(workers)
    assert some.missing == missing


def test_an_extra_that_leaves_is_none_but_counts_against_the_bound() -> None:
    leaving = [extra(f"e{number}", parked=True) for number in range(DEPTH - 2)]
    for worker in leaving:
        worker.tell_to_stop()
    some = Extras(1)
    some.look([*of_the_fleet(parked=1), *leaving])
    assert some.missing == 1


def test_the_bound_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    workers = [*of_the_fleet(parked=1), *(extra(f"e{number}", parked=True) for number in range(DEPTH - 1))]
    some = Extras(1)
    for _ in range(3):
        some.look(workers)
    assert (some.missing, [record.levelname for record in caplog.records]) == (0, ["WARNING"])


def test_an_extra_that_is_not_needed_is_quiet_and_begins_again_when_it_is() -> None:
    (parent,) = of_the_fleet(parked=1)
    idle, busy = extra("idle"), extra("busy", in_body=True)
    some, seen = Extras(1), []
    for on in (True, False, True):
        parent.page.park(on=on)
        some.look([parent, idle, busy])
        seen.append((idle.page.is_quiet(), busy.page.is_quiet(), idle.told_to_stop))
    assert seen == [(True, False, False), (True, True, False), (True, False, False)]


def test_an_extra_without_work_lingers_and_one_with_work_stays() -> None:
    idle, busy, some = extra("idle"), extra("busy", in_body=True), Extras(1, linger=0.05)
    began = monotonic()

    def looked() -> bool:
        some.look([*of_the_fleet(free=1), idle, busy])
        return idle.told_to_stop

    before = looked()
    due = some.due_in()
    eventually(looked)
    assert (before, 0 < due <= 0.05, monotonic() - began >= 0.05, busy.told_to_stop) == (False, True, True, False)


def test_where_nobody_may_linger_what_is_not_needed_ends_at_once() -> None:
    (parent,) = of_the_fleet(parked=1)
    needed, other = extra("e1", in_body=True), extra("e2", in_body=True)
    Extras(1).look([parent, needed, other], at_once=True)
    assert (needed.told_to_stop, other.told_to_stop) == (False, True)


def test_without_extras_there_is_nothing_to_come_back_for() -> None:
    some = Extras(2)
    some.look(of_the_fleet(parked=1, free=1))
    assert some.due_in() == float("inf")


def test_extras_hold_no_slot() -> None:
    workers = of_the_fleet(free=2)
    assert without_extras([*workers, extra()]) == workers
