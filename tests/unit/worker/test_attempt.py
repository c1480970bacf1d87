"""One attempt on the fleet, as its engine sees it."""

from collections.abc import Iterator

import pytest

from shared.commands import Claim, Seat
from shared.connect import connect
from shared.ids import new_id
from shared.ledger import RunLedger
from shared.settings import Settings
from shared.specs import describe
from shared.states import Completed, Running
from worker.attempt import Attempt
from worker.hand import Hand
from worker.interrupts import Interrupts
from worker.page import Page

SETTINGS = Settings.load({}, redis_url="memory:")
CLAIM = Claim(new_id(), "17", 2, 2, 1, "2026-11-20T09:15:00.000250Z", "k", b"", max_retries=4, parent="p", flow="f")


def add(a: int) -> int:
    return a


@pytest.fixture
def attempt() -> Iterator[Attempt]:
    exchange = connect(SETTINGS)
    line, page = exchange.line(), Page()
    hand = Hand(RunLedger(line, SETTINGS), Seat("w", ["default"]), page, SETTINGS)
    page.beaten(float("inf"))
    yield Attempt(CLAIM, describe(add, key="k", queue="mail"), hand, Interrupts(page), SETTINGS)
    line.close()
    exchange.close()


def test_of_a_run_whose_record_is_gone_the_claim_tells_what_it_knows(attempt: Attempt) -> None:
    attempt.propose(Running())
    attempt.rename("called so")
    run = attempt.task_run()
    assert (run.id, run.task, run.name, run.queue) == (CLAIM.run_id, "k", "called so", "mail")
    assert (run.state.name, run.attempt, run.run_count, run.crashes) == ("Running", 2, 2, 1)
    assert (run.max_retries, run.parent, run.flow) == (4, "p", "f")


def test_what_an_attempt_ended_with_is_left_to_be_reported(attempt: Attempt) -> None:
    attempt.propose(Running())
    ended = attempt.propose(Completed(data=5))
    assert attempt.report is not None
    assert (ended.name, attempt.state, attempt.report.token, attempt.report.outcome.state_name) == (
        "Completed",
        ended,
        "17",
        "Completed",
    )


def test_a_run_that_waits_leaves_its_process(attempt: Attempt) -> None:
    assert attempt.wakes_at(Running()) is None
