"""What a wait for other runs tells the supervisor and the ledger, and when."""

import os
import threading
from collections.abc import Iterator

import pytest

from shared.commands import NewRun
from shared.connect import connect
from shared.ids import new_id
from shared.keys import awaited as hints_of
from shared.ledger import RunLedger
from shared.settings import Settings
from shared.transport import Exchange
from tests.support.waiting import eventually
from worker.lending import Lender, lend_through, lending
from worker.page import Page


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    exchange = connect(Settings(redis_url=f"memory:{new_id()}"))
    yield exchange
    exchange.close()


def nobody() -> list[tuple[RunLedger, str]]:
    return []


def rung(page: Page, by: Lender) -> bool:
    """Whether a wait through this lender is told."""
    with by.lent(nobody):
        eventually(page.is_parked)
    return not page.is_parked()


def test_a_wait_that_lasts_is_told_until_it_is_over() -> None:
    told: list[bool] = []
    page = Page(lambda: told.append(page.is_parked()))
    lender = Lender(page)
    lender.open()
    with lender.lent(nobody):
        eventually(page.is_parked)
    lender.end()
    assert (told, page.is_parked()) == ([True, False], False)


def test_a_short_wait_is_not_told() -> None:
    told: list[int] = []
    page = Page(lambda: told.append(1))
    lender = Lender(page)
    lender.open()
    for _ in range(100):
        with lender.lent(nobody):
            pass
    assert rung(page, lender)
    assert told == [1, 1]
    lender.end()


def test_of_several_waits_the_first_parks_and_the_last_goes_on() -> None:
    told: list[bool] = []
    page = Page(lambda: told.append(page.is_parked()))
    lender, gate = Lender(page), threading.Event()
    lender.open()

    def wait() -> None:
        with lender.lent(nobody):
            gate.wait(10)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    with lender.lent(nobody):
        eventually(page.is_parked)
    during = page.is_parked()
    gate.set()
    for thread in threads:
        thread.join()
    lender.end()
    assert (during, told) == (True, [True, False])


def test_what_is_waited_for_is_marked_and_marked_again(exchange: Exchange) -> None:
    ledger = RunLedger(exchange, Settings())
    run_id = new_id()
    ledger.submit([NewRun(run_id, "shop.add", "q", b"")])
    lender = Lender(Page(), repeat=0.05)
    lender.open()
    asked: list[str] = []

    def awaited() -> list[tuple[RunLedger, str]]:
        asked.append(threading.current_thread().name)
        return [(ledger, run_id)]

    with lender.lent(awaited):
        eventually(lambda: exchange.read([("DEL", hints_of("q"))]) == [1])
        eventually(lambda: exchange.read([("LLEN", hints_of("q"))]) == [1])
    lender.end()
    assert (set(asked), len(asked) >= 2) == ({"baton-lender"}, True)


def test_nothing_is_lent_while_no_run_is_executed() -> None:
    page = Page()
    lender = Lender(page)
    with lender.lent(nobody):
        lender.open()
        assert rung(page, lender)
    lender.end()


def test_who_was_left_behind_by_a_run_lends_nothing_any_more() -> None:
    page, gate = Page(), threading.Event()
    lender = Lender(page)
    lender.open()

    def wait() -> None:
        with lender.lent(nobody):
            gate.wait(10)

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(page.is_parked)
    lender.close()
    between = page.is_parked()
    lender.open()
    assert (between, rung(page, lender)) == (False, True)
    gate.set()
    thread.join()
    lender.end()


def test_the_child_of_a_fork_lends_nothing() -> None:
    lender = Lender(Page())
    lender.open()
    pid = os.fork()
    if pid == 0:
        with lender.lent(nobody):
            os._exit(len(threading.enumerate()))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_code_lends_through_the_worker_that_executes_it() -> None:
    page = Page()
    lender = Lender(page)
    lender.open()

    def work() -> None:
        lend_through(lender, whole_process=False)
        with lending(nobody):
            eventually(page.is_parked)

    with lending(nobody):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert not page.is_parked()
    lender.end()
