"""What operators do through an Orchestrator, in memory: finding runs, steering them, queues, limits; and the twins."""

import inspect
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from orchestrator import Orchestrator, task
from orchestrator.finding import RunPage
from orchestrator.operations import Operations
from shared.clock import now
from shared.errors import InvalidValue, RunGone, TransitionRefused
from shared.ids import new_id
from shared.state_types import StateType
from shared.states import Cancelled, Completed, Running
from shared.steering import Steered

UNSERVED = "unserved"
"""A queue that no worker here serves: its runs stay as they are."""


@task(key="operations.add")
def add(x: int, y: int) -> int:
    return x + y


@task(key="operations.fail", tags=["red"])
def fail() -> None:
    raise ValueError("no tea")


@task(key="operations.kept", queue="unserved-by-key", tags=["kept"])
def kept() -> None:
    pass


@pytest.fixture(scope="module")
def baton() -> Iterator[Orchestrator]:
    with Orchestrator("memory:") as baton:
        yield baton


def waiting(baton: Orchestrator, number: int = 1, queue: str = UNSERVED) -> list[str]:
    """Ids of runs that nobody begins."""
    return [future.run_id for future in baton.submit_many([("nobody.knows", {})] * number, queue=queue)]


def ids(page: RunPage) -> list[str]:
    return [run.id for run in page.runs]


@pytest.fixture(autouse=True)
def _nothing_waits(baton: Orchestrator) -> Iterator[None]:
    yield
    baton.purge_queue(UNSERVED)


# --- finding ----------------------------------------------------------------------------------------------------------


def test_runs_are_found_by_what_they_are(baton: Orchestrator) -> None:
    (run_id,) = waiting(baton)
    failed = baton.submit(fail)
    failed.wait(10)
    assert ids(baton.find_runs(queue=UNSERVED, state="pending")) == [run_id]
    assert ids(baton.find_runs(state=["FAILED", StateType.CRASHED], task="operations.fail")) == [failed.run_id]
    assert ids(baton.find_runs(tag="red", state=StateType.FAILED)) == [failed.run_id]
    assert ids(baton.find_runs(tag="blue")) == ids(baton.find_runs(queue="nosuch")) == []
    assert (baton.find_runs(flow=new_id()), baton.find_runs(task="operations.fail").runs[0].state.name) == (
        RunPage((), None, {}),
        "Failed",
    )


def test_runs_are_found_by_when_they_were_created(baton: Orchestrator) -> None:
    (run_id,) = waiting(baton)
    soon = now() + timedelta(hours=1)
    found = [ids(baton.find_runs("PENDING", queue=UNSERVED, since=at)) for at in (timedelta(minutes=1), soon)]
    assert found == [[run_id], []]


@pytest.mark.parametrize("by_tag", [True, False])
def test_pages_follow_each_other_newest_first(baton: Orchestrator, by_tag: bool) -> None:
    if by_tag:
        baton.pause_queue(UNSERVED)
        calls = [(kept.with_options(queue=UNSERVED), {})] * 5
        submitted = [future.run_id for future in baton.submit_many(calls)]
    else:
        submitted = waiting(baton, 5)
    found: list[list[str]] = []
    cursor: str | None = None
    while not found or cursor is not None:
        page = baton.find_runs(tag="kept" if by_tag else None, queue=UNSERVED, state="PENDING", limit=2, cursor=cursor)
        found.append(ids(page))
        cursor = page.cursor
        waiting(baton)  # what is new comes into no later page
    baton.resume_queue(UNSERVED)
    assert (found, baton.find_runs(queue=UNSERVED, state="PENDING", limit=2).gaps) == (
        [submitted[:-3:-1], submitted[-3:-5:-1], submitted[:1]],
        {},
    )


def test_a_record_that_cannot_be_read_is_a_gap(baton: Orchestrator) -> None:
    run_id, broken = waiting(baton, 2)
    baton._transport.read([("HSET", f"rq:job:{broken}", "attempt", "x")])
    page = baton.find_runs("PENDING", queue=UNSERVED)
    assert (ids(page), list(page.gaps)) == ([run_id], [broken])
    baton._transport.read([("HSET", f"rq:job:{broken}", "attempt", "0")])


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"state": "DONE"}, "the types of states are SCHEDULED"),
        ({"state": 5}, "the types of states are"),
        ({"queue": "two words"}, "queue"),
        ({"since": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001 - that is what is wrong with it
        ({"limit": 0}, "'limit'"),
        ({"limit": 1001}, "'limit'"),
        ({"limit": True}, "'limit'"),
        ({"cursor": "x"}, "no cursor"),
        ({"cursor": "nan x", "tag": "red"}, "no cursor"),
        ({"cursor": "01a1f879-5eda-7005-8876-23ab1bc095ff", "tag": "red"}, "no cursor"),
    ],
    ids=str,
)
def test_a_wrong_question_is_refused(baton: Orchestrator, wrong: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidValue, match=why):
        baton.find_runs(**wrong)  # type: ignore[arg-type]


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_that_waits_is_cancelled_at_once(baton: Orchestrator) -> None:
    (run_id,) = waiting(baton)
    state = baton.cancel(run_id, "Not needed.")
    assert (state.type, state.message, baton.cancel(run_id).type) == ("CANCELLED", "Not needed.", "CANCELLED")
    assert baton.history(run_id)[-1].message == "Not needed."


def test_many_are_cancelled_with_an_answer_for_each(baton: Orchestrator) -> None:
    (run_id,) = waiting(baton)
    done = baton.submit(add, {"x": 1, "y": 2})
    done.wait(10)
    assert baton.cancel_many([run_id, done.run_id, new_id()]) == [
        Steered("OK", 0, "CANCELLED", "Cancelled"),
        Steered("TERMINAL", 0, "COMPLETED", "Completed"),
        Steered("GONE"),
    ]


def test_a_run_that_failed_is_retried_and_one_that_completed_only_with_rerun(baton: Orchestrator) -> None:
    failed, done = baton.submit(fail), baton.submit(add, {"x": 1, "y": 2})
    failed.wait(10)
    done.wait(10)
    with pytest.raises(TransitionRefused, match="cannot be retried: it is COMPLETED"):
        baton.retry(done.run_id)
    states = [baton.retry(failed.run_id, delay=60), baton.retry(done.run_id, delay=60, rerun=True)]
    assert [state.type for state in states] == ["SCHEDULED"] * 2
    baton.cancel_many([failed.run_id, done.run_id])


def test_a_run_is_forced_with_a_reason(baton: Orchestrator) -> None:
    (run_id,) = waiting(baton)
    forced = baton.force(run_id, Completed(data=5), "Done by hand.")
    assert (forced.type, forced.message, baton.get_run(run_id).state.result()) == ("COMPLETED", "Done by hand.", 5)
    for state, reason in ((Running(), "why"), (Cancelled(), " ")):
        with pytest.raises(InvalidValue):
            baton.force(run_id, state, reason)


def test_what_is_not_there_cannot_be_steered(baton: Orchestrator) -> None:
    calls = [baton.cancel, baton.retry, baton.resume, lambda run_id: baton.force(run_id, Cancelled(), "why")]
    for call in calls:
        with pytest.raises(RunGone):
            call(new_id())


def test_a_run_that_is_not_paused_cannot_be_resumed(baton: Orchestrator) -> None:
    (run_id,) = waiting(baton)
    with pytest.raises(TransitionRefused, match="cannot be resumed: it is PENDING"):
        baton.resume(run_id)


# --- queues and limits ------------------------------------------------------------------------------------------------


def test_a_queue_is_paused_resumed_and_capped_once(baton: Orchestrator) -> None:
    told = [
        *(baton.pause_queue(UNSERVED), baton.pause_queue(UNSERVED), baton.resume_queue(UNSERVED)),
        *(baton.set_queue_cap(UNSERVED, 5), baton.set_queue_cap(UNSERVED, 5), baton.set_queue_cap(UNSERVED, None)),
    ]
    assert told == [True, False, True, True, False, True]


def test_a_queue_is_purged_and_its_runs_tell(baton: Orchestrator) -> None:
    run_ids = waiting(baton, 3)
    assert (baton.purge_queue(UNSERVED), baton.purge_queue(UNSERVED)) == (3, 0)
    states = [baton.get_run(run_id).state for run_id in run_ids]
    assert {(state.type, state.message) for state in states} == {("CANCELLED", f"Purged from queue {UNSERVED}.")}


def test_a_long_queue_is_moved_whole(baton: Orchestrator) -> None:
    run_ids = waiting(baton, 1001, "longer")
    assert (baton.move_queue("longer", UNSERVED), baton.get_run(run_ids[-1]).queue) == (1001, UNSERVED)
    assert baton.purge_queue(UNSERVED) == 1001


@pytest.mark.parametrize(("queue", "to"), [("a", "a"), ("a", "two words"), ("two words", "a")])
def test_queues_that_cannot_be_moved(baton: Orchestrator, queue: str, to: str) -> None:
    with pytest.raises(InvalidValue):
        baton.move_queue(queue, to)


def test_a_limit_is_set_and_deleted(baton: Orchestrator) -> None:
    assert [baton.set_limit("tag:nobody", slots) for slots in (0, 3, None)] == [0, 0, 0]
    for name, slots in (("two words", 1), ("", 1), ("x", -1), ("x", True)):
        with pytest.raises(InvalidValue):
            baton.set_limit(name, slots)


# --- twins ------------------------------------------------------------------------------------------------------------

PUBLIC = [name for name, value in vars(Operations).items() if inspect.isfunction(value) and not name.startswith("_")]
PAIRS = [name for name in PUBLIC if f"a{name}" in PUBLIC]


def test_every_operation_has_a_twin_for_event_loops_with_the_same_arguments() -> None:
    alone = [name for name in PUBLIC if name not in PAIRS and name[1:] not in PAIRS]
    shapes = [[inspect.signature(getattr(Operations, twin)) for twin in (name, f"a{name}")] for name in PAIRS]
    assert (alone, [pair for pair in shapes if pair[0] != pair[1]]) == ([], [])


@pytest.mark.asyncio
async def test_the_twins_do_the_same(baton: Orchestrator) -> None:
    (run_id,) = waiting(baton)
    found = ids(await baton.afind_runs("PENDING", queue=UNSERVED))
    cancelled = await baton.acancel(run_id)
    retried = await baton.aretry(run_id, delay=60)
    forced = await baton.aforce(run_id, Cancelled(), "Enough.")
    answers = [answer.tag for answer in await baton.acancel_many([run_id])]
    with pytest.raises(TransitionRefused):
        await baton.aresume(run_id)
    queue = [await baton.apause_queue("b"), await baton.aresume_queue("b"), await baton.aset_queue_cap("b", 1)]
    moved = [await baton.amove_queue("b", "c"), await baton.apurge_queue("b"), await baton.aset_limit("l", None)]
    assert (found, cancelled.type, retried.type, forced.type) == ([run_id], "CANCELLED", "SCHEDULED", "CANCELLED")
    assert (answers, queue, moved) == (["OK"], [True, True, True], [0, 0, 0])


def test_a_future_cancels_its_run_and_a_list_all_that_have_not_ended() -> None:
    with Orchestrator("memory:") as baton:
        baton.pause_queue("default")
        futures = baton.submit_many(("nobody.knows", {"number": number}) for number in range(3))
        assert futures[0].cancel("not needed").message == "not needed"
        assert [state.name for state in futures.cancel("nor these")] == ["Cancelled"] * 3
        assert [state.message for state in futures.get_states()] == ["not needed", "nor these", "nor these"]
        with pytest.raises(RunGone):
            baton.future(new_id()).cancel()
