"""Waiting for many futures: as_completed and wait, in loops and outside, over one Redis and over several."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from orchestrator import RunFuture, as_completed, wait
from orchestrator.gathering import Gathering, wait_async
from shared import keys
from shared.errors import BadEnvelope, Closed, InvalidCall, InvalidValue, RunGone, WaitTimeout, WouldDeadlock
from shared.ids import new_id
from shared.states import Cancelled, Completed, Failed
from tests.support.desk import Desk, desk_on
from tests.support.fleets import in_thread
from worker.context import RunContext, run_context


@pytest.fixture
def desk() -> Iterator[Desk]:
    with desk_on(future_sweep=30) as desk:
        yield desk


@pytest.fixture
def other_desk() -> Iterator[Desk]:
    with desk_on(future_sweep=30) as desk:
        yield desk


def end(desk: Desk, *futures: RunFuture[Any]) -> None:
    desk.end_all(futures, lambda number: Completed(data=number))


async def collected(futures: Sequence[RunFuture[Any]], timeout: float | None = None) -> list[RunFuture[Any]]:
    return [future async for future in as_completed(futures, timeout)]


def both_ways(futures: Sequence[RunFuture[Any]], timeout: float | None = None) -> list[Any]:
    """Calls that collect all of these, with `for` and with `async for`."""
    return [lambda: list(as_completed(futures, timeout)), lambda: asyncio.run(collected(futures, timeout))]


def waits(futures: Sequence[RunFuture[Any]], timeout: float | None = None) -> list[Any]:
    return [lambda: wait(futures, timeout), lambda: asyncio.run(wait_async(futures, timeout))]


# --- as_completed -----------------------------------------------------------------------------------------------------


def test_futures_come_as_they_end_whatever_their_order(desk: Desk) -> None:
    futures = desk.submit(3)
    first, second, third = futures
    streams = [iter(as_completed(futures)), iter(as_completed(futures))]
    desk.begin(third.run_id)
    for future in (third, first, second):
        answers = [in_thread(lambda stream=stream: next(stream)) for stream in streams]
        desk.wait_until_heard(future)
        end(desk, future)
        assert [answer() for answer in answers] == [future] * 2
    assert [next(stream, None) for stream in streams] == [None, None]


def test_in_a_loop_they_come_as_they_end_too(desk: Desk) -> None:
    first, second, third = futures = desk.submit(3)
    desk.begin(third.run_id)
    order = [third, first, second]

    async def end_the_next_after_each() -> list[RunFuture[Any]]:
        found: list[RunFuture[Any]] = []
        await asyncio.to_thread(end, desk, order[0])
        async for future in as_completed(futures):
            found.append(future)
            await asyncio.to_thread(end, desk, *order[len(found) : len(found) + 1])
        return found

    assert asyncio.run(end_the_next_after_each()) == order


def test_those_that_are_known_to_have_ended_come_first(desk: Desk) -> None:
    *others, known = desk.submit(4)
    end(desk, known, *others)
    known.wait()
    for number in range(2):
        futures = [*(desk.baton.future(other.run_id) for other in others), known]
        found = both_ways(futures)[number]()
        assert (found[0], set(found)) == (known, set(futures))


def test_any_end_counts_also_of_what_is_gone_or_unreadable(desk: Desk) -> None:
    failed, cancelled, lost, damaged = futures = desk.submit(4)
    desk.end(failed, Failed(data=ValueError("x")))
    desk.end(cancelled, Cancelled())
    desk.lose(lost)
    desk.ask(("LPOP", keys.run_part(damaged.run_id, "history"), 9))
    for timeout in (None, 0):
        for collect in both_ways([desk.baton.future(future.run_id) for future in futures], timeout):
            assert set(collect()) == set(futures)
    for future, error in ((lost, RunGone), (damaged, BadEnvelope)):
        with pytest.raises(error):
            future.result()


def test_duplicates_come_once(desk: Desk) -> None:
    future = desk.one()
    end(desk, future)
    for collect in both_ways([future, desk.baton.future(future.run_id), future]):
        assert collect() == [future]


def test_of_nothing_nothing_comes() -> None:
    assert [collect() for collect in both_ways([], 0)] == [[], []]
    assert [answer() for answer in waits([])] == [(set(), set())] * 2


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_when_the_time_is_over_what_has_ended_was_given_and_the_rest_is_counted(desk: Desk, timeout: float) -> None:
    futures = desk.submit(5)
    end(desk, *futures[:2])
    for given in ([*futures, futures[0]], futures):
        found = set()
        with pytest.raises(WaitTimeout) as caught:  # noqa: PT012 - what came before the error counts
            for future in as_completed(given, timeout):
                found.add(future)
        assert (found, str(caught.value)) == (set(futures[:2]), "3 (of 5) futures unfinished")
    desk.wait_until_unheard(*futures)


def test_in_a_loop_the_time_ends_in_the_same_way(desk: Desk) -> None:
    futures = desk.submit(3)
    end(desk, futures[1])
    for timeout in (0, 0.05):
        with pytest.raises(WaitTimeout, match=r"^2 \(of 3\) futures unfinished$"):
            asyncio.run(collected(futures, timeout))
    desk.wait_until_unheard(*futures)


def test_the_time_counts_from_the_call(desk: Desk) -> None:
    future = desk.one()
    stream = as_completed([future], 0.001)
    assert future.wait(0.05) is None
    with pytest.raises(WaitTimeout):
        next(iter(stream))


def test_leaving_early_leaves_no_subscription(desk: Desk) -> None:
    ended, *others = futures = desk.submit(3)
    end(desk, ended)
    for future in as_completed(futures):
        assert future == ended
        assert desk.listeners(*others) == [1, 1]
        break
    desk.wait_until_unheard(*futures)


def test_leaving_a_loop_early_leaves_no_subscription(desk: Desk) -> None:
    ended, *others = futures = desk.submit(3)
    end(desk, ended)

    async def leave() -> None:
        async with aclosing(aiter(as_completed(futures))) as stream:
            async for _ in stream:
                break
        await asyncio.to_thread(desk.wait_until_unheard, *others)

    asyncio.run(leave())


def test_breaking_out_of_a_loop_leaves_no_subscription_either(desk: Desk) -> None:
    ended, *others = futures = desk.submit(3)
    end(desk, ended)

    async def leave() -> None:
        async for _ in as_completed(futures):
            break
        await asyncio.to_thread(desk.wait_until_unheard, *others)

    asyncio.run(leave())


def test_only_futures_can_be_waited_for(desk: Desk) -> None:
    for ask in (lambda: as_completed([desk.one(), 3]), *waits(["x"])):
        with pytest.raises(InvalidCall, match="futures only, got"):
            ask()


def test_all_are_watched_from_the_first_moment_on(desk: Desk) -> None:
    futures = desk.submit(50)
    collecting = in_thread(lambda: list(as_completed(futures)))
    desk.wait_until_heard(*futures)
    end(desk, *reversed(futures))
    assert collecting() == list(reversed(futures))


def test_a_future_that_becomes_known_while_the_collecting_begins_is_not_lost(desk: Desk) -> None:
    futures = desk.submit(500)
    waiting = in_thread(futures.wait)
    desk.wait_until_heard(*futures)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        ending = in_thread(lambda: [end(desk, *futures[start : start + 10]) for start in range(0, len(futures), 10)])
        while not futures[-1].is_known():
            gathering = Gathering(futures, list)
            assert len(gathering._ended) + len(gathering._open) == len(futures)
        ending()
        assert waiting() == (set(futures), set())
    finally:
        sys.setswitchinterval(before)


def test_futures_of_several_redis_are_collected_together(desk: Desk, other_desk: Desk) -> None:
    here, there = desk.submit(2), other_desk.submit(2)
    end(desk, here[0])
    end(other_desk, there[1])
    for timeout in (0, 0.05):
        done, not_done = wait([*here, *there], timeout)
        assert (done, not_done) == ({here[0], there[1]}, {here[1], there[0]})
    end(desk, here[1])
    end(other_desk, there[0])
    assert set(as_completed([*here, *there])) == {*here, *there}


def test_a_close_of_one_of_them_ends_the_waiting(desk: Desk, other_desk: Desk) -> None:
    futures = [desk.one(), other_desk.one()]
    answers = [in_thread(answer) for answer in (*both_ways(futures), *waits(futures))]
    desk.wait_until_heard(futures[0])
    other_desk.wait_until_heard(futures[1])
    other_desk.baton.close()
    for answer in (*answers, *both_ways(futures, 0), *waits(futures, 1)):
        with pytest.raises(Closed):
            answer()
    desk.wait_until_unheard(futures[0])


def test_code_of_a_run_waits_for_others_only(desk: Desk) -> None:
    own, other = desk.submit(2)
    end(desk, other)
    with run_context(RunContext(own.run_id, "shop.add", 1, 1)):
        for ask in (*both_ways([own, other]), *waits([own, other])):
            with pytest.raises(WouldDeadlock):
                ask()
        assert wait([own, other], 0) == ({other}, {own})


# --- wait -------------------------------------------------------------------------------------------------------------


def test_a_wait_parts_those_that_have_ended_from_the_others(desk: Desk) -> None:
    gone = desk.baton.future(new_id())
    futures = [*desk.submit(4), gone]
    end(desk, *futures[1:3])
    for timeout in (0, 0.05):
        for answer in waits([*futures, futures[1], desk.baton.future(futures[1].run_id)], timeout):
            given = answer()
            assert (given.done, given.not_done) == ({*futures[1:3], gone}, {futures[0], futures[3]})
    desk.wait_until_unheard(*futures)


def test_a_wait_without_a_limit_ends_with_the_last(desk: Desk) -> None:
    futures = desk.submit(20)
    answers = [in_thread(answer) for answer in waits(futures)]
    desk.wait_until_heard(*futures)
    for future in reversed(futures):
        end(desk, future)
    assert [answer() for answer in answers] == [(set(futures), set())] * 2


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_time_that_is_none_is_refused(desk: Desk, timeout: float) -> None:
    for answer in (lambda: as_completed([desk.one()], timeout), *waits([desk.one()], timeout)):
        with pytest.raises(InvalidValue, match="'timeout' must be a non-negative number, got "):
            answer()


def test_each_iteration_begins_anew(desk: Desk) -> None:
    futures = desk.submit(3)
    end(desk, *futures)
    stream = as_completed(futures, 10)
    assert [set(stream), set(stream)] == [set(futures)] * 2
