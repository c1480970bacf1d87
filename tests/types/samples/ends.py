"""What type checkers see of futures and states: read, never run."""

from datetime import timedelta
from typing import Any, assert_type

from orchestrator import Orchestrator, RunFuture, RunFutureList
from orchestrator.finding import RunPage
from shared.outcomes import get_state_exception, get_state_result, is_state_iterable
from shared.runs import BaseRunFuture, TaskRun
from shared.states import Completed, Failed, Scheduled, State, StateDetails, StateType
from shared.steering import Steered


def what_a_future_gives(future: RunFuture[int], quietly: bool) -> None:
    assert_type(future.result(), int)
    assert_type(future.result(5), int)
    assert_type(future.result(timeout=0.5, raise_on_failure=True), int)
    assert_type(future.result(raise_on_failure=False), int | BaseException)
    assert_type(future.result(5, quietly), int | BaseException)
    assert_type(future.wait(5), State[int] | None)
    assert_type(future.get_state(), State[int])
    assert_type(future.get_state().result(), int)
    assert_type(future.task_run, TaskRun)
    assert_type(future.run_id, str)
    what_an_engine_sees(future)


def what_an_engine_sees(future: BaseRunFuture[int]) -> None:
    assert_type(future.result(), int | BaseException)
    assert_type(future.wait(), State[int] | None)


async def what_it_gives_when_awaited(future: RunFuture[int]) -> None:
    assert_type(await future, int)
    assert_type(await future.aresult(), int)
    assert_type(await future.aresult(raise_on_failure=False), int | BaseException)
    assert_type(await future.wait_async(), State[int] | None)
    assert_type(await future.aget_state(), State[int])


def what_many_give(futures: RunFutureList[int]) -> None:
    assert_type(futures.result(), list[int])
    assert_type(futures.result(raise_on_failure=False), list[int | BaseException])
    assert_type(futures[0], RunFuture[int])
    assert_type([future.result() for future in futures], list[int])


async def what_many_give_when_awaited(futures: RunFutureList[int]) -> None:
    assert_type(await futures, list[int])


def by_key_nothing_is_known(baton: Orchestrator) -> None:
    assert_type(baton.submit("shop.send", {"to": "me"}), RunFuture[Any])
    assert_type(baton.submit_many([("shop.send", {"to": "me"})]), RunFutureList[Any])
    assert_type(baton.history("id"), list[State[Any]])


async def nor_on_an_event_loop(baton: Orchestrator) -> None:
    assert_type(await baton.asubmit("shop.send", {"to": "me"}), RunFuture[Any])
    assert_type(await baton.asubmit_many([("shop.send", {"to": "me"})]), RunFutureList[Any])


def what_operations_give(baton: Orchestrator) -> None:
    page = baton.find_runs(state=["FAILED", StateType.CRASHED], since=timedelta(hours=1), limit=10)
    assert_type(page, RunPage)
    assert_type(page.runs, tuple[TaskRun, ...])
    assert_type(page.cursor, str | None)
    baton.find_runs("FAILED", cursor=page.cursor)
    assert_type(baton.cancel("id"), State[Any])
    assert_type(baton.cancel_many(["id"]), list[Steered])
    assert_type(baton.retry("id", delay=5, rerun=True), State[Any])
    assert_type(baton.force("id", Completed(data=5), "why"), State[Any])
    assert_type(baton.pause_queue("mail"), bool)
    assert_type(baton.set_queue_cap("mail", None), bool)
    assert_type(baton.purge_queue("mail"), int)
    assert_type(baton.move_queue("mail", "bulk"), int)
    assert_type(baton.set_limit("tag:db", 5), int)
    baton.find_runs(since=5)  # type: ignore[arg-type]
    baton.retry("id", 5)  # type: ignore[call-arg]
    baton.force("id", Completed())  # type: ignore[call-arg]


async def what_they_give_on_an_event_loop(baton: Orchestrator) -> None:
    assert_type(await baton.afind_runs(tag="nightly"), RunPage)
    assert_type(await baton.acancel("id"), State[Any])
    assert_type(await baton.acancel_many(["id"]), list[Steered])
    assert_type(await baton.amove_queue("mail", "bulk"), int)
    assert_type(await baton.apurge_queue("mail"), int)


def what_a_state_gives(state: State[int], quietly: bool) -> None:
    assert_type(state.result(), int)
    assert_type(state.result(raise_on_failure=False), int | BaseException)
    assert_type(state.result(quietly), int | BaseException)
    assert_type(get_state_result(state), int | BaseException)
    assert_type(get_state_exception(state), BaseException)
    assert_type(state.copy(update={"name": "Mine"}), State[int])
    assert_type(state.type, StateType)
    assert_type(state.name, str)
    assert_type(state.state_details, StateDetails)


async def what_it_gives_on_an_event_loop(state: State[int]) -> None:
    assert_type(await state.aresult(), int)
    assert_type(await state.aresult(raise_on_failure=False), int | BaseException)


class Labelled(State[int]):
    """A state of the user's."""

    label: str = "none"


def what_makers_make() -> None:
    assert_type(Completed(data=5), State[Any])
    labelled: State[int] = Completed(Labelled, label="x")
    narrowed: object = [labelled]
    if is_state_iterable(narrowed):
        assert_type([one.is_final() for one in narrowed], list[bool])
    Failed(cls=int)  # type: ignore[arg-type]
    Scheduled(scheduled_time="tomorrow")  # type: ignore[arg-type]
