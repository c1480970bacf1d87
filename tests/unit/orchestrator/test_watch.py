"""Callbacks, and the thread that hears of ends: who is called, when, where, and what cannot stop the others."""

import asyncio
import gc
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator import RunFuture, as_completed, wait
from shared import keys
from shared.errors import BadEnvelope, Closed, InvalidValue, RunGone, WouldDeadlock
from shared.ids import new_id
from shared.states import Completed, Failed
from tests.support.desk import Desk, desk_on
from tests.support.fleets import in_thread
from tests.support.waiting import eventually

HEARING = "baton-subscriber"


@pytest.fixture
def desk() -> Iterator[Desk]:
    with desk_on(future_sweep=30) as desk:
        yield desk


class Calls(list[tuple[str, RunFuture[Any], str]]):
    """What was called: the callback's name, the future, the thread."""

    def __getitem__(self, name: Any) -> Any:
        def called(future: RunFuture[Any]) -> None:
            self.append((name, future, threading.current_thread().name))

        called.__qualname__ = name
        return called


# --- when and where ---------------------------------------------------------------------------------------------------


def test_a_callback_is_called_once_in_the_thread_that_hears_of_the_end(desk: Desk) -> None:
    future, calls = desk.one(), Calls()
    future.add_done_callback(calls["first"])
    assert calls == []
    desk.end(future, Completed(data=3))
    eventually(lambda: calls)
    future.wait()
    desk.wait_until_unheard(future)
    assert calls == [("first", future, HEARING)]
    assert (future.is_known(), future.result()) == (True, 3)


def test_after_the_end_a_callback_is_called_at_once_in_the_callers_thread(desk: Desk) -> None:
    future, calls = desk.one(), Calls()
    desk.end(future, Completed())
    future.add_done_callback(calls["found by one read"])
    future.add_done_callback(calls["known"])
    here = threading.current_thread().name
    assert (calls, desk.listeners(future)) == ([("found by one read", future, here), ("known", future, here)], [0])


def test_many_callbacks_are_called_in_the_order_of_their_registration(desk: Desk) -> None:
    future, calls = desk.one(), Calls()
    names = [str(number) for number in range(100)]
    for name in names:
        future.add_done_callback(calls[name])
    desk.end(future, Completed())
    eventually(lambda: len(calls) == len(names))
    assert [name for name, _, _ in calls] == names


def test_two_futures_of_one_run_have_callbacks_of_their_own(desk: Desk) -> None:
    one, calls = desk.one(), Calls()
    other = desk.baton.future(one.run_id)
    one.add_done_callback(calls["one"])
    other.add_done_callback(calls["other"])
    desk.end(one, Completed())
    eventually(lambda: len(calls) == 2)
    assert [(name, future is one, future is other) for name, future, _ in calls] == [
        ("one", True, False),
        ("other", False, True),
    ]


def test_a_callback_that_is_registered_twice_is_called_twice(desk: Desk) -> None:
    future, calls = desk.one(), Calls()
    same = calls["same"]
    for _ in range(2):
        future.add_done_callback(same)
    desk.end(future, Failed(data=ValueError("x")))
    eventually(lambda: len(calls) == 2)
    assert [name for name, _, _ in calls] == ["same", "same"]


def test_on_a_loop_a_callback_is_called_by_the_loop(desk: Desk) -> None:
    future = desk.one()

    async def called_on() -> asyncio.AbstractEventLoop:
        called = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda _: called.set_result(asyncio.get_running_loop()))
        await asyncio.to_thread(desk.end, future, Completed())
        return (await called) is asyncio.get_running_loop()

    assert asyncio.run(called_on())


def test_on_a_loop_that_is_closed_by_then_it_is_called_all_the_same_and_so_are_those_behind_it(desk: Desk) -> None:
    future, calls = desk.one(), Calls()

    async def register() -> None:
        future.add_done_callback(calls["of a loop"])

    asyncio.run(register())
    future.add_done_callback(calls["of none"])
    desk.end(future, Completed())
    eventually(lambda: len(calls) == 2)
    assert calls == [("of a loop", future, HEARING), ("of none", future, HEARING)]


@pytest.mark.parametrize("is_heard_before", [True, False])
def test_a_run_that_is_gone_calls_back_too(is_heard_before: bool) -> None:
    with desk_on(future_sweep=0.1) as desk:
        calls = Calls()
        future = desk.one() if is_heard_before else desk.baton.future(new_id())
        future.add_done_callback(calls["gone"])
        desk.lose(future)
        eventually(lambda: calls)
        with pytest.raises(RunGone):
            future.result()
        assert [(name, thread == HEARING) for name, _, thread in calls] == [("gone", is_heard_before)]


def test_a_record_that_cannot_be_read_calls_back_too(desk: Desk) -> None:
    future, calls = desk.one(), Calls()
    future.add_done_callback(calls["damaged"])
    desk.ask(("LPOP", keys.run_part(future.run_id, "history")), ("PUBLISH", keys.state_channel(future.run_id), END))
    eventually(lambda: calls)
    assert [name for name, _, _ in calls] == ["damaged"]


END = '"type":"COMPLETED"'


def test_a_callback_may_register_others(desk: Desk) -> None:
    first, second = desk.submit(2)
    calls = Calls()
    first.add_done_callback(lambda _: second.add_done_callback(calls["of the second"]))
    first.add_done_callback(lambda future: future.add_done_callback(calls["of the first"]))
    desk.end(first, Completed())
    eventually(lambda: calls)
    desk.end(second, Completed())
    eventually(lambda: len(calls) == 2)
    assert [(name, future) for name, future, _ in calls] == [("of the first", first), ("of the second", second)]


def test_a_callback_at_the_moment_of_the_end_is_called_once(desk: Desk) -> None:
    calls = Calls()
    futures = desk.submit(200)
    for future in futures:
        desk.begin(future.run_id)
        registering = in_thread(lambda future=future: future.add_done_callback(calls["once"]))
        desk.end(future, Completed())
        registering()
    eventually(lambda: len(calls) == len(futures))
    assert [future for _, future, _ in sorted(calls, key=lambda call: futures.index(call[1]))] == futures


# --- what cannot stop the others --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt()])
def test_what_a_callback_raises_is_logged_and_the_others_are_called(
    desk: Desk, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    first, second = desk.submit(2)
    calls = Calls()

    def fails(_: object) -> None:
        raise error

    first.add_done_callback(fails)
    first.add_done_callback(calls["next"])
    answer = in_thread(second.result)
    desk.wait_until_heard(second)
    with caplog.at_level(logging.ERROR):
        desk.end_all([first, second], lambda number: Completed(data=number))
        eventually(lambda: calls)
        assert answer() == 1
    assert [name for name, _, _ in calls] == ["next"]
    (record,) = [record for record in caplog.records if record.exc_info and record.exc_info[1] is error]
    assert first.run_id in record.getMessage()


def test_what_a_callback_raises_after_the_end_is_logged_by_its_name(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    future = desk.one()
    desk.end(future, Completed())

    def divide(_: object) -> None:
        raise ZeroDivisionError

    future.add_done_callback(divide)
    assert [record.getMessage().rpartition(".")[2] for record in caplog.records] == ["divide'"]


def test_a_callback_that_would_wait_where_ends_are_heard_is_told_so(desk: Desk) -> None:
    first, second, third = desk.submit(3)
    told: list[object] = []

    def waits(_: object) -> None:
        for way in (
            second.result,
            lambda: asyncio.run(second.wait_async()),
            lambda: list(as_completed([second])),
            lambda: desk.baton.future(second.run_id).wait(10),
        ):
            try:
                told.append(way())
            except WouldDeadlock as error:
                told.append(type(error))
        told.append((second.wait(0), third.result()))

    desk.end(third, Completed(data=3))
    assert third.result() == 3
    first.add_done_callback(waits)
    desk.end(first, Completed())
    eventually(lambda: len(told) == 5)
    assert told == [WouldDeadlock] * 4 + [(None, 3)]


@pytest.mark.parametrize("number", [3, 300])
def test_what_is_no_run_any_more_is_told_to_those_who_wait_for_it_and_to_nobody_else(number: int) -> None:
    """Of a few runs the records are read at once, of many only those that are worth it."""
    with desk_on(future_sweep=0.1) as desk:
        *sound, gone, of_another_type, ended = futures = desk.submit(number)
        desk.begin(ended.run_id)
        answers = [in_thread(future.wait) for future in (gone, of_another_type)]
        collecting = in_thread(lambda: wait(futures, 20))
        desk.wait_until_heard(*futures)
        key = keys.job(of_another_type.run_id)
        desk.lose(gone)
        desk.ask(("DEL", key), ("SET", key, "x"))
        for answer, error in zip(answers, (RunGone, BadEnvelope), strict=True):
            with pytest.raises(error):
                answer()
        desk.end_all([*sound, ended], lambda number: Completed(data=number))
        assert collecting() == (set(futures), set())


def test_a_state_that_nobody_can_read_keeps_nobody_else_waiting(desk: Desk) -> None:
    unreadable, *others = futures = desk.submit(50)
    desk.begin(others[-1].run_id)
    desk.ask(("HSET", keys.job(unreadable.run_id), "state_type", b"\xff"))
    collecting = in_thread(lambda: wait(futures, 1))
    desk.wait_until_heard(*futures)
    desk.end_all(others, lambda number: Completed(data=number))
    assert collecting() == (set(others), {unreadable})


# --- lives ------------------------------------------------------------------------------------------------------------


def test_a_callback_keeps_its_future_until_the_end_and_no_longer(desk: Desk) -> None:
    future, calls = desk.one(), list[str]()
    run_id, held = future.run_id, weakref.ref(future)
    future.add_done_callback(lambda future: calls.append(future.run_id))
    del future
    gc.collect()
    assert held() is not None
    desk.end(desk.baton.future(run_id), Completed())
    eventually(lambda: calls == [run_id])
    eventually(lambda: gc.collect() is not None and held() is None)


def test_callbacks_are_not_called_because_of_a_close(desk: Desk) -> None:
    future, calls = desk.one(), Calls()
    future.add_done_callback(calls["never"])
    desk.baton.close()
    with pytest.raises(Closed):
        future.add_done_callback(calls["never either"])
    assert calls == []


def test_a_callback_may_close_the_orchestrator(desk: Desk) -> None:
    first, second = desk.submit(2)
    first.add_done_callback(lambda _: desk.baton.close())
    answer = in_thread(second.result)
    desk.wait_until_heard(second)
    desk.end(first, Completed())
    with pytest.raises(Closed):
        answer()
    eventually(lambda: all(thread.name != HEARING for thread in threading.enumerate()))


def test_there_is_no_thread_before_somebody_waits_and_one_for_all_who_do(desk: Desk) -> None:
    def hearing() -> int:
        return sum(thread.name == HEARING for thread in threading.enumerate())

    futures, calls = desk.submit(50), Calls()
    before = hearing()
    for future in futures:
        future.add_done_callback(calls["x"])
    assert (before, hearing()) == (0, 1)
    desk.end_all(futures, lambda _number: Completed())
    eventually(lambda: len(calls) == 50)


def test_a_waiter_that_is_collected_in_the_middle_of_a_call_leaves_quietly(desk: Desk) -> None:
    """An iterator in a circle ends when garbage is collected: with these thresholds, in one place after the other."""
    ended, left, *others = desk.submit(100)
    desk.end(ended, Completed())
    before = gc.get_threshold()
    try:
        for threshold in range(60, 400, 20):
            gc.collect()
            gc.set_threshold(threshold)
            circle: list[Any] = [iter(as_completed([ended, left]))]
            circle.append(circle)
            assert next(circle[0]) == ended
            del circle
            assert wait(others, 0.001).done == set()
    finally:
        gc.set_threshold(*before)
    gc.collect()
    desk.wait_until_unheard(left, *others)


def test_times_that_are_none_are_refused_for_many_as_for_one(desk: Desk) -> None:
    ask: Callable[..., Any] = as_completed
    for timeout in (-1, float("nan")):
        with pytest.raises(InvalidValue, match="'timeout' must be a non-negative number, got "):
            ask([desk.one()], timeout)


def test_a_switch_of_threads_at_every_step_loses_nobody(desk: Desk) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            future = desk.one()
            answers = [in_thread(future.result) for _ in range(4)]
            desk.baton.future(future.run_id).wait(0.0005)
            desk.end(future, Completed(data=3))
            assert [answer() for answer in answers] == [3] * 4
    finally:
        sys.setswitchinterval(before)
