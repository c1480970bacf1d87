"""One future: states, patience, results, bad input, and what several threads and loops do with it at once."""

import asyncio
import copy
import gc
import math
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator import Orchestrator, RunFuture, get_run_context, quote, task
from orchestrator.client import current_orchestrator
from shared import keys
from shared.errors import (
    BadEnvelope,
    CancelledRun,
    Closed,
    CrashedRun,
    InvalidCall,
    InvalidValue,
    MissingResult,
    RunGone,
    WaitTimeout,
    WouldDeadlock,
)
from shared.ids import new_id
from shared.results import record_of
from shared.runs import TaskRun
from shared.states import Cancelled, Completed, Crashed, Failed, State
from tests.support.desk import Desk, desk_on
from tests.support.fleets import in_thread
from tests.support.waiting import eventually
from worker.context import RunContext, run_context

ALL_AT_ONCE = 1000


@pytest.fixture
def desk() -> Iterator[Desk]:
    """Without sweeps: what resolves here does so because it was heard, or looked at once it was subscribed."""
    with desk_on(future_sweep=30) as desk:
        yield desk


@task(key="futures.own_end")
def wait_for_own_end() -> str:
    try:
        current_orchestrator().future(get_run_context().run_id).wait()
    except WouldDeadlock as error:
        return str(error)
    return "it ended"


def waits(future: RunFuture[Any]) -> list[Callable[[], object]]:
    """Both ways to wait for a state."""
    return [future.wait, lambda: asyncio.run(future.wait_async())]


def asks(future: RunFuture[Any]) -> list[Callable[[], object]]:
    """Every way to ask for a state or a result."""
    return [
        *waits(future),
        future.get_state,
        lambda: asyncio.run(future.aget_state()),
        future.result,
        lambda: asyncio.run(future.aresult()),
        lambda: asyncio.run(awaited(future)),
    ]


async def awaited(future: RunFuture[Any]) -> object:
    return await future


# --- states -----------------------------------------------------------------------------------------------------------


def test_a_wait_gives_the_final_state(desk: Desk) -> None:
    future = desk.one()
    answers = [in_thread(wait) for wait in waits(future)]
    desk.wait_until_heard(future)
    desk.end(future, Completed(message="well", data=3))
    states = [answer() for answer in answers]
    assert [(state.type, state.message, state.state_details.task_run_id) for state in states] == [
        ("COMPLETED", "well", future.run_id)
    ] * 2


def test_before_the_end_the_state_is_read_anew_each_time(desk: Desk) -> None:
    future = desk.one()
    seen = [future.get_state().name]
    desk.begin(future.run_id)
    seen.append(asyncio.run(future.aget_state()).name)
    assert (seen, future.task_run.attempt, future.is_known()) == (["Pending", "Running"], 1, False)


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        (Completed(name="Cached", data=3), 3),
        (Completed(name="Skipped", data=record_of(None)), None),
        (Failed(name="TimedOut", data=TimeoutError("late")), TimeoutError),
        (Failed(name="a name of one's own", data=ValueError("x")), ValueError),
        (Crashed(message="lost"), CrashedRun),
        (Cancelled(name="Expired"), CancelledRun),
    ],
    ids=lambda given: given.name if isinstance(given, State) else "",
)
def test_an_end_of_any_name_is_heard(desk: Desk, state: State[Any], outcome: object) -> None:
    future = desk.one()
    answer = in_thread(lambda: future.result(raise_on_failure=False))
    desk.wait_until_heard(future)
    desk.end(future, state)
    result = answer()
    assert (type(result) if isinstance(result, BaseException) else result, future.get_state().name) == (
        outcome,
        state.name,
    )


def test_an_end_before_the_wait_is_found_by_the_look_that_follows_the_subscription(desk: Desk) -> None:
    future = desk.one()
    desk.end(future, Completed(data=3))
    assert [wait().type for wait in waits(future)] == ["COMPLETED"] * 2


def test_an_end_at_the_same_time_as_the_wait_is_never_missed(desk: Desk) -> None:
    for future in desk.submit(200):
        answer = in_thread(future.result)
        desk.end(future, Completed(data=future.run_id))
        assert answer() == future.run_id


def test_messages_that_are_forged_resolve_nothing(desk: Desk) -> None:
    future = desk.one()
    answer = in_thread(future.wait)
    desk.wait_until_heard(future)
    channel = keys.state_channel(future.run_id)
    forged = '{"run":"x","seq":9,"type":"COMPLETED","name":"Completed","time":"2026-01-01T00:00:00.000000Z"}'
    for message in ("", "{", b"\xff\xfe", forged, f"{forged}{forged}", '{"seq":1000000000}', "x" * 10_000_000):
        desk.ask(("PUBLISH", channel, message))
    assert (future.wait(0), desk.listeners(future)) == (None, [1])
    desk.end(future, Cancelled())
    assert answer().is_cancelled()


def test_a_record_read_before_the_end_and_learned_after_it_changes_nothing(desk: Desk) -> None:
    future = desk.one()
    running = desk.ledger.get(future.run_id)
    desk.end(future, Completed(data=3))
    future.wait()
    future.learn(running)
    future.learn(RunGone())
    assert (future.is_known(), future.get_state().name, future.result()) == (True, "Completed", 3)


def test_a_resolved_future_stays_so_whatever_becomes_of_the_run(desk: Desk) -> None:
    future = desk.one()
    desk.end(future, Completed(data=3))
    assert future.result() == 3
    desk.lose(future)
    assert (future.result(), future.done(), future.task_run.seq) == (3, True, 3)
    with pytest.raises(RunGone):
        desk.baton.future(future.run_id).result()


# --- patience ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_when_the_time_is_over_there_is_no_state_and_the_future_goes_on(desk: Desk, timeout: float) -> None:
    future = desk.one()
    assert (future.wait(timeout), asyncio.run(future.wait_async(timeout))) == (None, None)
    desk.wait_until_unheard(future)
    desk.end(future, Completed(data=3))
    assert future.result(10) == 3


def test_a_result_that_does_not_come_in_time_is_an_error_that_says_so(desk: Desk) -> None:
    future = desk.one()
    for ask in (lambda: future.result(0.01), lambda: asyncio.run(future.aresult(0.01))):
        with pytest.raises(WaitTimeout) as caught:
            ask()
        assert str(caught.value) == f"Task run {future.run_id} did not complete within 0.01 seconds"


@pytest.mark.parametrize("timeout", [True, "1"])
def test_a_time_that_is_no_number_is_refused(desk: Desk, timeout: Any) -> None:
    with pytest.raises(InvalidCall, match=f"'timeout' must be a number of seconds, got {type(timeout).__name__}"):
        desk.baton.future(new_id()).wait(timeout)


@pytest.mark.parametrize("timeout", [-1, -0.001, math.nan, -math.inf])
def test_a_time_that_is_none_is_refused(desk: Desk, timeout: float) -> None:
    future = desk.baton.future(new_id())
    for ask in (
        future.wait,
        future.result,
        lambda timeout: asyncio.run(future.wait_async(timeout)),
        lambda timeout: asyncio.run(future.aresult(timeout)),
    ):
        with pytest.raises(InvalidValue) as caught:
            ask(timeout)
        assert str(caught.value) == f"'timeout' must be a non-negative number, got {timeout}"


@pytest.mark.parametrize("timeout", [None, math.inf, 1e300, 10**400])
def test_a_time_beyond_all_clocks_is_no_limit(desk: Desk, timeout: float | None) -> None:
    future = desk.one()
    answer = in_thread(lambda: future.wait(timeout))
    desk.wait_until_heard(future)
    desk.end(future, Completed())
    assert answer().is_completed()


def test_no_time_is_one_look(desk: Desk) -> None:
    future = desk.one()
    desk.end(future, Completed(data=3))
    later = desk.baton.future(future.run_id)
    assert (future.wait(0).type, later.result(0), desk.listeners(future)) == ("COMPLETED", 3, [0])


# --- results ----------------------------------------------------------------------------------------------------------


def test_a_result_comes_to_whoever_asks_in_whatever_way(desk: Desk) -> None:
    future = desk.one()
    desk.end(future, Completed(data={"rows": [1, 2]}))
    later = desk.baton.future(future.run_id)
    assert [future.result(), asyncio.run(future.aresult()), asyncio.run(awaited(later))] == [{"rows": [1, 2]}] * 3


def test_a_failure_is_raised_or_given_back(desk: Desk) -> None:
    future = desk.one()
    desk.end(future, Failed(data=ValueError("x")))
    for ask in (future.result, lambda: asyncio.run(future.aresult()), lambda: asyncio.run(awaited(future))):
        with pytest.raises(ValueError, match=r"^x$"):
            ask()
    given = [future.result(raise_on_failure=False), asyncio.run(future.aresult(raise_on_failure=False))]
    assert [(type(error), error.args) for error in given] == [(ValueError, ("x",))] * 2


def test_a_time_out_of_the_body_is_told_apart_from_ones_own(desk: Desk) -> None:
    future = desk.one()
    desk.end(future, Failed(data=TimeoutError("the body's")))
    with pytest.raises(TimeoutError, match="the body's") as caught:
        future.result(10)
    assert type(caught.value) is TimeoutError


def test_a_run_that_is_not_there_is_gone_and_counts_as_ended(desk: Desk) -> None:
    never, lost = desk.baton.future(new_id()), desk.one()
    desk.lose(lost)
    for future in (never, lost):
        for ask in asks(desk.baton.future(future.run_id)) + asks(future):
            with pytest.raises(RunGone, match=future.run_id):
                ask()
        assert (future.done(), desk.listeners(future)) == (True, [0])


def test_a_run_that_vanishes_while_it_is_waited_for_is_gone_at_the_next_sweep() -> None:
    with desk_on(future_sweep=0.2) as desk:
        future = desk.one()
        answers = [in_thread(ask) for ask in (*waits(future), future.result)]
        desk.wait_until_heard(future)
        desk.lose(future)
        for answer in answers:
            with pytest.raises(RunGone, match=future.run_id):
                answer()


def test_an_error_that_is_raised_again_and_again_does_not_grow(desk: Desk) -> None:
    future = desk.baton.future(new_id())
    depths = []
    for _ in range(5):
        with pytest.raises(RunGone) as caught:
            future.result()
        depths.append(len(caught.traceback))
    assert len(set(depths[1:])) == 1


def test_a_record_that_cannot_be_read_is_an_error_of_its_own(desk: Desk) -> None:
    damaged, sound = desk.submit(2)
    answer = in_thread(damaged.wait)
    desk.wait_until_heard(damaged)
    desk.begin(damaged.run_id)
    desk.ask(
        ("DEL", keys.run_part(damaged.run_id, "history")), ("RPUSH", keys.run_part(damaged.run_id, "history"), "{")
    )
    desk.end(sound, Completed(data=3))
    desk.ask(("PUBLISH", keys.state_channel(damaged.run_id), '"type":"FAILED"'))
    for ask in (answer, *asks(damaged), damaged.done):
        with pytest.raises(BadEnvelope, match=damaged.run_id):
            ask()
    assert sound.result() == 3


def test_a_result_that_was_not_kept_or_is_kept_no_more_is_missing() -> None:
    with desk_on(inline_limit=64) as desk:
        unkept, expired = desk.submit(2)
        desk.end(unkept, Completed())
        desk.end(expired, Completed(data="x" * 1000))
        assert len(expired.result()) == 1000
        desk.ask(("DEL", keys.run_part(expired.run_id, "result")))
        for future in (unkept, expired):
            for ask in (future.result, lambda future=future: asyncio.run(future.aresult())):
                with pytest.raises(MissingResult):
                    ask()
        assert unkept.wait().is_completed()


# --- many at once -----------------------------------------------------------------------------------------------------


def test_a_thousand_waiters_of_as_many_runs_are_told(desk: Desk) -> None:
    futures = desk.submit(ALL_AT_ONCE)

    async def all_of_them() -> list[object]:
        gathered = asyncio.gather(*futures)
        await asyncio.to_thread(desk.wait_until_heard, *futures)
        await asyncio.to_thread(desk.end_all, futures, lambda number: Completed(data=number))
        return await gathered

    assert asyncio.run(all_of_them()) == list(range(ALL_AT_ONCE))
    desk.wait_until_unheard(*futures)


def test_any_number_of_waiters_of_one_run_are_told_over_one_subscription(desk: Desk) -> None:
    future = desk.one()
    answers = [in_thread(desk.baton.future(future.run_id).result) for _ in range(50)]
    desk.wait_until_heard(future)
    assert desk.listeners(future) == [1]
    desk.end(future, Completed(data=3))
    assert [answer() for answer in answers] == [3] * 50
    desk.wait_until_unheard(future)


def test_whoever_gives_up_takes_nothing_from_those_who_wait(desk: Desk) -> None:
    future = desk.one()
    answer = in_thread(future.result)
    desk.wait_until_heard(future)
    for _ in range(20):
        assert desk.baton.future(future.run_id).wait(0.001) is None
    assert desk.listeners(future) == [1]
    desk.end(future, Completed(data=3))
    assert answer() == 3


def test_a_future_may_be_awaited_on_one_loop_after_the_other_and_on_two_at_once(desk: Desk) -> None:
    future = desk.one()
    assert [asyncio.run(future.wait_async(0.01)) for _ in range(2)] == [None, None]
    answers = [in_thread(lambda: asyncio.run(future.aresult())) for _ in range(2)]
    desk.wait_until_heard(future)
    desk.end(future, Completed(data=3))
    assert [answer() for answer in answers] == [3, 3]


def test_whoever_is_cancelled_while_waiting_leaves_no_subscription(desk: Desk) -> None:
    future = desk.one()

    async def begin_and_cancel() -> None:
        waiting = asyncio.create_task(future.aresult())
        await asyncio.to_thread(desk.wait_until_heard, future)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(begin_and_cancel())
    desk.wait_until_unheard(future)


def test_a_waiting_task_that_nobody_holds_is_told_all_the_same(desk: Desk) -> None:
    future, told = desk.one(), list[object]()

    async def wait_for_it() -> None:
        told.append(await future)

    async def begin_and_forget() -> None:
        asyncio.create_task(wait_for_it())  # noqa: RUF006 - nobody holds it
        await asyncio.to_thread(desk.wait_until_heard, future)
        gc.collect()
        await asyncio.to_thread(desk.end, future, Completed(data=3))
        await asyncio.to_thread(eventually, lambda: told)

    asyncio.run(begin_and_forget())
    assert told == [3]


def test_a_future_that_nobody_holds_is_not_kept(desk: Desk) -> None:
    desk.end(desk.one(), Completed())  # an error on the first use of a script keeps the frames of its callers
    ended, given_up = desk.submit(2)
    assert given_up.wait(0.01) is None
    answer = in_thread(ended.wait)
    desk.wait_until_heard(ended)
    desk.end(ended, Completed(data=3))
    answer()
    gone = [weakref.ref(ended), weakref.ref(given_up)]
    del ended, given_up, answer
    eventually(lambda: gc.collect() is not None and [ref() for ref in gone] == [None, None])


# --- close ------------------------------------------------------------------------------------------------------------


def test_whoever_waits_when_it_is_closed_hears_so(desk: Desk) -> None:
    future, resolved = desk.submit(2)
    desk.end(resolved, Completed(data=3))
    resolved.wait()
    answers = [in_thread(wait) for wait in waits(future)]
    desk.wait_until_heard(future)
    desk.baton.close()
    for ask in (*answers, *asks(future), future.done):
        with pytest.raises(Closed):
            ask()
    assert (resolved.result(), resolved.get_state().type) == (3, "COMPLETED")
    assert [thread.name for thread in threading.enumerate() if thread.name == "baton-subscriber"] == []


# --- bad input --------------------------------------------------------------------------------------------------------


def test_a_run_that_waits_for_its_own_end_is_told_so() -> None:
    with Orchestrator("memory:") as baton:
        future = baton.submit(wait_for_own_end)
        assert future.result(10) == f"run {future.run_id} would wait for its own end"


def test_code_of_a_run_waits_for_other_runs_only(desk: Desk) -> None:
    own, other = desk.submit(2)
    desk.end(other, Completed(data=3))
    with run_context(RunContext(own.run_id, "shop.add", 1, 1)):
        assert (other.result(), own.get_state().name, own.done()) == (3, "Running", False)
        for wait in waits(own):
            with pytest.raises(WouldDeadlock):
                wait()


def test_futures_of_one_run_are_equal(desk: Desk) -> None:
    one, other = desk.submit(2)
    same = desk.baton.future(one.run_id)
    assert (one == same, one == other, one == one.run_id, len({one, same, other})) == (True, False, False, 2)


def test_a_future_tells_the_name_of_its_run_once_it_is_known(desk: Desk) -> None:
    future = desk.one()
    later = desk.baton.future(future.run_id)
    before = repr(later)
    assert (repr(future), before, later.task_run.id, repr(later)) == (
        "RunFuture('task')",
        f"RunFuture('{future.run_id}')",
        future.run_id,
        "RunFuture('task')",
    )


def test_a_future_taken_for_a_truth_is_true_with_a_warning(desk: Desk) -> None:
    with pytest.warns(UserWarning, match="cast to a boolean") as caught:
        assert desk.one()
    assert str(caught[0].message) == (
        "A 'RunFuture' from a task call was cast to a boolean; did you mean to check the result of the task instead? "
        "e.g. `if my_task.submit().result(): ...`"
    )


@pytest.mark.parametrize("send", [pickle.dumps, copy.copy])
def test_a_future_cannot_be_pickled(desk: Desk, send: Callable[[Any], object]) -> None:
    with pytest.raises(InvalidCall, match="send its run_id"):
        send(desk.one())


@pytest.mark.parametrize("around", [lambda future: future, lambda future: [{"deep": (future,)}]])
def test_a_future_among_the_arguments_is_a_run_to_wait_for(desk: Desk, around: Callable[[Any], object]) -> None:
    upstream = desk.one()
    future = desk.baton.submit("shop.add", {"x": around(upstream)})
    assert future.get_state().message == "Waiting for 1 upstream runs."


def test_a_future_of_another_redis_is_refused(desk: Desk) -> None:
    with Orchestrator("memory:") as other:
        foreign = other.submit("shop.add", {})
        with pytest.raises(InvalidValue, match="a run of another Redis"):
            desk.baton.submit("shop.add", {"x": foreign})


def test_a_quoted_future_cannot_be_sent_either(desk: Desk) -> None:
    with pytest.raises(InvalidCall, match=r"^parameters\.x: "):
        desk.baton.submit("shop.add", {"x": quote(desk.one())})


def test_an_id_that_cannot_be_sent_is_the_error_of_its_caller_alone(desk: Desk) -> None:
    future = desk.one()
    answer = in_thread(future.result)
    desk.wait_until_heard(future)
    for ask in asks(desk.baton.future("\ud800")):
        with pytest.raises(ValueError, match="surrogates"):
            ask()
    desk.end(future, Completed(data=3))
    assert answer() == 3


@pytest.mark.filterwarnings("ignore:waiting for a future in the thread of a running event loop")
def test_waiting_in_the_thread_of_a_loop_works(desk: Desk) -> None:
    first, second = futures = desk.submit(2)

    async def block() -> list[Any]:
        ending = in_thread(lambda: desk.end_all(futures, lambda number: Completed(data=number)))
        results = [first.result(10), second.result(10)]
        ending()
        return results

    assert asyncio.run(block()) == [0, 1]


def test_a_run_read_whole_is_kept_with_its_state(desk: Desk) -> None:
    future = desk.one()
    desk.end(future, Completed(data=3))
    run = future.task_run
    assert isinstance(run, TaskRun)
    assert (run.id, run.queue, run.state.is_final(), future.is_known()) == (future.run_id, "default", True, True)
