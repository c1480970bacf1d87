"""Lists of futures: results in order, the first failure in time, one limit for all, states in one batch."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import RunFutureList
from shared import keys
from shared.errors import BadEnvelope, Closed, InvalidValue, RunGone, WaitTimeout
from shared.states import Completed, Failed
from tests.support.desk import Desk, desk_on
from tests.support.fleets import in_thread


@pytest.fixture
def desk() -> Iterator[Desk]:
    with desk_on(future_sweep=30) as desk:
        yield desk


async def awaited(futures: RunFutureList[Any]) -> list[Any]:
    return await futures


def results(futures: RunFutureList[Any], *how: Any) -> list[Any]:
    """Both ways to ask for all results."""
    return [lambda: futures.result(*how), lambda: asyncio.run(futures.aresult(*how))]


def test_results_stand_in_the_order_of_the_list_with_duplicates_filled_in(desk: Desk) -> None:
    futures = desk.submit(3)
    desk.end_all(list(reversed(futures)), lambda number: Completed(data=number))
    some = RunFutureList([*futures, futures[0], desk.baton.future(futures[1].run_id)])
    answers = [answer() for answer in (*results(some), lambda: asyncio.run(awaited(some)))]
    assert answers == [[2, 1, 0, 2, 1]] * 3


def test_an_empty_list_has_no_results(desk: Desk) -> None:
    empty = desk.submit(0)
    assert [answer() for answer in results(empty)] == [[], []]
    assert (type(empty), empty.get_states(), empty.wait(0)) == (RunFutureList, [], (set(), set()))


def test_the_first_failure_in_time_is_raised_while_earlier_ones_still_run(desk: Desk) -> None:
    futures = desk.submit(3)
    answers = [in_thread(answer) for answer in (*results(futures), lambda: asyncio.run(awaited(futures)))]
    desk.wait_until_heard(*futures)
    desk.end(futures[2], Failed(data=ValueError("the last of the list")))
    for answer in answers:
        with pytest.raises(ValueError, match="the last of the list"):
            answer()
    desk.wait_until_unheard(*futures)


def test_failures_may_stand_in_their_places(desk: Desk) -> None:
    futures = desk.submit(2)
    desk.end(futures[0], Failed(data=ValueError("x")))
    desk.end(futures[1], Completed(data=1))
    for answer in results(futures, None, False):
        error, value = answer()
        assert (type(error), error.args, value) == (ValueError, ("x",), 1)


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_one_limit_holds_for_all(desk: Desk, timeout: float) -> None:
    futures = desk.submit(3)
    desk.end(futures[0], Completed(data=1))
    for answer in results(futures, timeout):
        with pytest.raises(WaitTimeout) as caught:
            answer()
        assert str(caught.value) == f"Timed out waiting for all futures to complete within {timeout} seconds"
    desk.wait_until_unheard(*futures)


@pytest.mark.parametrize("error", [TimeoutError("the body's"), WaitTimeout("the body's own patience")])
def test_a_time_out_of_a_body_is_not_taken_for_ones_own(desk: Desk, error: Exception) -> None:
    futures = desk.submit(2)
    desk.end(futures[0], Failed(data=error))
    for answer in results(futures, 20):
        with pytest.raises(type(error), match=f"^{error}$"):
            answer()


def test_a_gone_run_is_raised(desk: Desk) -> None:
    futures = desk.submit(2)
    desk.lose(futures[1])
    for answer in (*results(futures), futures.get_states, lambda: asyncio.run(futures.aget_states())):
        with pytest.raises(RunGone, match=futures[1].run_id):
            answer()


def test_a_time_that_is_none_is_refused(desk: Desk) -> None:
    for answer in results(desk.submit(1), -1):
        with pytest.raises(InvalidValue):
            answer()


def test_states_are_those_of_now_in_the_order_of_the_list(desk: Desk) -> None:
    ended, running = desk.submit(2)
    desk.end(ended, Completed())
    waiting = desk.one()
    futures = RunFutureList([waiting, running, ended, desk.baton.future(running.run_id)])
    expected = ["Pending", "Running", "Completed", "Running"]
    assert [state.name for state in futures.get_states()] == expected
    assert [state.name for state in asyncio.run(futures.aget_states())] == expected
    assert [future.is_known() for future in futures] == [False, False, True, False]


def test_a_record_that_cannot_be_read_is_raised_with_the_states(desk: Desk) -> None:
    futures = desk.submit(2)
    desk.ask(("LPOP", keys.run_part(futures[1].run_id, "history"), 9))
    with pytest.raises(BadEnvelope, match=futures[1].run_id):
        futures.get_states()


def test_after_a_close_only_what_is_known_is_told(desk: Desk) -> None:
    futures = desk.submit(2)
    desk.end(futures[0], Completed(data=1))
    futures[0].wait()
    desk.baton.close()
    assert RunFutureList(futures[:1]).result() == [1]
    for answer in (futures.get_states, *results(futures)):
        with pytest.raises(Closed):
            answer()


def test_waiting_for_a_list_parts_it(desk: Desk) -> None:
    futures = desk.submit(3)
    desk.end(futures[1], Completed())
    for answer in (lambda: futures.wait(0.05), lambda: asyncio.run(futures.wait_async(0.05))):
        assert answer() == ({futures[1]}, {futures[0], futures[2]})
