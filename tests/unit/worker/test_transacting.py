"""Attempts with a transaction: cached results, commits and rollbacks of runs in this process. No server, no waiting."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator import Task, get_run_context, task, transaction
from shared.cache import INPUTS, KEY_ERROR, CacheContext
from shared.errors import MissingResult, ResultTooLarge
from shared.isolation import IsolationLevel
from shared.result_storage import MemoryStorage
from shared.results import ResultStore
from shared.runs import TaskRun
from shared.settings import Settings
from shared.states import Completed, Failed, State
from shared.transactions import CommitMode, Transaction, get_transaction
from worker.caching import Caching, ThreadLocks
from worker.engine import AsyncTaskRunEngine, SyncTaskRunEngine, run_generator_task_sync, run_task
from worker.engine.recording import PrivateRecorder, record_with
from worker.signals import LOOP, SKIP, SUCCESS

pytestmark = pytest.mark.usefixtures("recorder")


def caching_of(**given: Any) -> Caching:
    """A cache of a test's own, with these settings."""
    return Caching(MemoryStorage(), Settings.load({}, **given), ThreadLocks, in_script=False)


@pytest.fixture
def recorder() -> Iterator[PrivateRecorder]:
    """Keeps the runs of the test, and what they cache."""
    found = PrivateRecorder(caching_of())
    before = record_with(lambda: found)
    yield found
    record_with(before)


@pytest.fixture
def called() -> list[Any]:
    """What was called, in its order."""
    return []


def ran(what: Task[..., Any], **parameters: Any) -> State[Any]:
    """The last state of a run."""
    if what.spec.isasync:
        state: State[Any] = asyncio.run(run_task(what, parameters=parameters, return_type="state"))
    else:
        state = run_task(what, parameters=parameters, return_type="state")
    return state


def adding(called: list[Any], *, asynchronous: bool = False, **options: Any) -> Task[..., Any]:
    """A task that notes its calls, and adds."""

    def add(a: int, b: int = 2) -> int:
        called.append((a, b))
        return a + b

    async def aadd(a: int, b: int = 2) -> int:
        called.append((a, b))
        return a + b

    return task(key=f"transacting.{id(called)}", **options)(aadd if asynchronous else add)


def told(states: list[State[Any]]) -> list[tuple[str, Any]]:
    return [(state.name, state.result(raise_on_failure=False)) for state in states]


def hook(called: list[Any], name: str) -> Callable[[Transaction], None]:
    return lambda _txn: called.append(name)


def run_of(recorder: PrivateRecorder, state: State[Any]) -> TaskRun:
    return next(run for run in recorder._runs.values() if run.state.id == state.id)


# --- the cache --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("level", [None, *IsolationLevel])
def test_equal_inputs_are_computed_once_and_each_run_has_a_result_of_its_own(
    recorder: PrivateRecorder, called: list[Any], level: IsolationLevel | None, asynchronous: bool
) -> None:
    policy = INPUTS.configure(isolation_level=level)
    add = adding(called, asynchronous=asynchronous, cache_policy=policy)
    first, again, other = ran(add, a=1), ran(add, a=1, b=2), ran(add, a=1, b=3)
    assert (told([first, again, other]), called) == (
        [("Completed", 3), ("Cached", 3), ("Completed", 4)],
        [(1, 2), (1, 3)],
    )
    maker = run_of(recorder, first)
    assert (again.state_details.cached_from, again.state_details.cache_key) == (
        maker.id,
        add.spec.caching.compute_key(CacheContext(add.spec, maker), {"a": 1, "b": 2}),
    )
    history = [state.name for state in recorder.history(run_of(recorder, again).id)]
    assert history == ["Pending", "Running", "Cached"]


def test_success_that_is_signalled_is_committed_and_no_skip_is(called: list[Any]) -> None:
    @task(key="transacting.signals", cache_policy=INPUTS, on_commit=[hook(called, "commit")])
    def ends(how: str) -> State[None]:
        called.append(how)
        if how == "return":
            return Completed(name="Skipped", data=None)
        raise SUCCESS("done", data=5) if how == "success" else SKIP("nothing to do")

    states = [ran(ends, how=how) for how in ("success", "success", "skip", "skip", "return", "return")]
    assert [state.name for state in states] == ["Completed", "Cached", *["Skipped"] * 4]
    assert (states[1].result(), called) == (5, ["success", "commit", "skip", "skip", "return", "return"])


def test_a_loop_of_a_cached_task_is_cached_with_its_end(called: list[Any]) -> None:
    @task(key="transacting.loops", cache_policy=INPUTS)
    def loops(times: int) -> int:
        count = get_run_context().task_loop_count
        called.append(count)
        if count < times:
            raise LOOP(result=count)
        return count

    assert (told([ran(loops, times=3), ran(loops, times=3)]), called) == ([("Completed", 3), ("Cached", 3)], [1, 2, 3])


def test_none_is_cached_and_a_hit_has_its_hooks(called: list[Any]) -> None:
    @task(key="transacting.none", cache_policy=INPUTS)
    def nothing(a: int) -> None:
        called.append(a)

    nothing.on_completion(lambda _spec, _run, state: called.append(state.name))
    assert (told([ran(nothing, a=1), ran(nothing, a=1)]), called) == (
        [("Completed", None), ("Cached", None)],
        [1, "Completed", "Cached"],
    )


@pytest.mark.parametrize("options", [{}, {"cache_policy": INPUTS, "persist_result": False}], ids=["none", "not kept"])
def test_nothing_is_cached_unless_it_is_asked_for_and_kept(called: list[Any], options: dict[str, Any]) -> None:
    add = adding(called, **options)
    names = [ran(add, a=1).name, ran(add, a=1).name]
    assert (names, called) == (["Completed", "Completed"], [(1, 2), (1, 2)])


def test_a_storage_key_and_a_key_function_are_shared_by_tasks(recorder: PrivateRecorder, called: list[Any]) -> None:
    one = adding(called, result_storage_key="sum-{parameters[a]}")
    other = adding([], cache_key_fn=lambda _context, parameters: f"sum-{parameters['a']}")
    assert told([ran(one, a=1, b=7), ran(other, a=1), ran(one, a=2)]) == [
        ("Completed", 8),
        ("Cached", 8),
        ("Completed", 4),
    ]
    assert recorder.caching.store_of(one.spec.caching).read("sum-1").result == 8


def test_a_cache_that_is_to_be_refreshed_is_not_read_and_written_anew(called: list[Any]) -> None:
    @task(key="transacting.count", cache_policy=INPUTS)
    def count(_a: int) -> int:
        called.append(1)
        return len(called)

    fresh = count.with_options(refresh_cache=True)
    assert told([ran(one, _a=1) for one in (count, count, fresh, count)]) == [
        ("Completed", 1),
        ("Cached", 1),
        ("Completed", 2),
        ("Cached", 2),
    ]


@pytest.mark.parametrize(
    ("given", "options", "calls"),
    [
        ({"disable_caching": True}, {}, 2),
        ({"refresh_cache": True}, {}, 2),
        ({"refresh_cache": True}, {"refresh_cache": False}, 1),
    ],
    ids=["disabled", "refreshed", "the option wins"],
)
def test_settings_turn_the_cache_off_or_refresh_it(
    recorder: PrivateRecorder, called: list[Any], given: dict[str, Any], options: dict[str, Any], calls: int
) -> None:
    recorder._caching = caching_of(**given)
    add = adding(called, cache_policy=INPUTS, **options)
    ran(add, a=1)
    ran(add, a=1)
    assert len(called) == calls


@pytest.mark.parametrize("key", ["x" * 2001, 5], ids=["too long", "no text"])
def test_a_run_whose_key_cannot_be_made_goes_on_uncached_and_says_so(
    called: list[Any], key: Any, caplog: pytest.LogCaptureFixture
) -> None:
    add = adding(called, cache_key_fn=lambda _context, _parameters: key)
    states = [ran(add, a=1), ran(add, a=1)]
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert (told(states), errors) == ([("Completed", 3)] * 2, [KEY_ERROR] * 2)
    assert all(
        (state.state_details.cache_error or "").split(":")[0] in ("LimitExceeded", "InvalidCall") for state in states
    )


def test_a_record_that_cannot_be_read_is_a_miss_and_replaced(recorder: PrivateRecorder, called: list[Any]) -> None:
    add = adding(called, result_storage_key="k")
    storage = recorder.caching.storage
    ran(add, a=1)
    assert isinstance(storage, MemoryStorage)
    storage._kept["k"] = (b"damaged", None)
    assert told([ran(add, a=2), ran(add, a=3)]) == [("Completed", 4), ("Cached", 4)]


def test_only_what_completed_is_cached(called: list[Any]) -> None:
    outcomes: list[Any] = [ValueError("x"), Failed(message="by hand"), Completed(data=5)]

    @task(key="transacting.fails", cache_policy=INPUTS, retries=2)
    def fails(a: int) -> Any:
        called.append(a)
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert told([ran(fails, a=1), ran(fails, a=1)]) == [("Completed", 5), ("Cached", 5)]
    assert called == [1, 1, 1]


def test_a_generator_never_reads_and_who_closes_it_early_caches_nothing(
    recorder: PrivateRecorder, called: list[Any]
) -> None:
    @task(key="transacting.numbers", result_storage_key="numbers", on_commit=[hook(called, "commit")])
    def numbers() -> Iterator[int]:
        yield from range(3)

    stream = run_generator_task_sync(numbers)
    assert next(stream) == 0
    assert get_transaction() is None
    stream.close()
    with pytest.raises(MissingResult):
        recorder.caching.store_of(numbers.spec.caching).read("numbers")
    assert ([list(run_generator_task_sync(numbers)) for _ in range(2)], called) == ([[0, 1, 2]] * 2, ["commit"] * 2)


# --- commit and rollback ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_alone_commit_hooks_come_before_the_final_state(
    recorder: PrivateRecorder, called: list[Any], asynchronous: bool
) -> None:
    add = adding(called, asynchronous=asynchronous)

    @add.on_commit
    def committed(txn: Transaction) -> None:
        (run,) = recorder._runs.values()
        called.append((run.state.name, txn.is_staged()))

    @add.on_rollback
    async def undone(_txn: Transaction) -> None:
        called.append("undone")

    state = ran(add, a=1)
    assert (state.name, called) == ("Completed", [(1, 2), ("Running", True)])
    assert run_of(recorder, state).rolled_back is False


def test_a_commit_that_fails_is_undone_and_the_outcome_stands(
    recorder: PrivateRecorder, called: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_txn: Transaction) -> None:
        raise OSError("no")

    add = adding(called, cache_policy=INPUTS, on_commit=[fails], on_rollback=[hook(called, "a"), hook(called, "b")])
    with caplog.at_level(logging.INFO):
        states = [ran(add, a=1), ran(add, a=1)]
    assert (told(states), called) == ([("Completed", 3)] * 2, [(1, 2), "b", "a"] * 2)
    assert [run_of(recorder, state).rolled_back for state in states] == [True, True]
    assert "Task rolled back as part of transaction" in [record.getMessage() for record in caplog.records]


def test_what_a_failed_attempt_has_done_is_undone_before_the_next_one_begins(called: list[Any]) -> None:
    @task(key="transacting.part", on_rollback=[hook(called, "part undone")], on_commit=[hook(called, "part kept")])
    def part() -> None:
        called.append("part")

    @task(key="transacting.whole", retries=1, on_commit=[hook(called, "whole kept")])
    def whole() -> None:
        run_task(part)
        if called.count("part") == 1:
            raise ValueError("x")

    state = ran(whole)
    assert (state.name, called) == ("Completed", ["part", "part undone", "part", "part kept", "whole kept"])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_inside_another_transaction_hooks_and_the_cache_wait_for_the_outermost_commit(
    recorder: PrivateRecorder, called: list[Any], asynchronous: bool
) -> None:
    add = adding(called, asynchronous=asynchronous, result_storage_key="k", on_commit=[hook(called, "commit")])
    store = recorder.caching.store_of(add.spec.caching)

    def seen() -> list[Any]:
        return [run.state.name for run in recorder._runs.values()] + [store.exists("k"), list(called)]

    async def story() -> list[Any]:
        async with transaction():
            await run_task(add, parameters={"a": 1})
            return seen()

    def plain_story() -> list[Any]:
        with transaction():
            run_task(add, parameters={"a": 1})
            return seen()

    inside = asyncio.run(story()) if asynchronous else plain_story()
    assert (inside, seen()) == (["Completed", False, [(1, 2)]], ["Completed", True, [(1, 2), "commit"]])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_later_rollback_leaves_the_state_and_marks_the_run(
    recorder: PrivateRecorder, called: list[Any], asynchronous: bool
) -> None:
    add = adding(called, asynchronous=asynchronous, result_storage_key="k", on_rollback=[hook(called, "undone")])

    async def story() -> None:
        async with transaction():
            await run_task(add, parameters={"a": 1})
            raise KeyError

    def plain_story() -> None:
        with transaction():
            run_task(add, parameters={"a": 1})
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(story()) if asynchronous else plain_story()
    (run,) = recorder._runs.values()
    assert (run.state.name, run.rolled_back, called) == ("Completed", True, [(1, 2), "undone"])
    assert recorder.caching.store_of(add.spec.caching).exists("k") is False


def test_a_run_that_fails_rolls_back_what_it_is_part_of(called: list[Any]) -> None:
    add = adding(called, on_rollback=[hook(called, "undone")])

    @task(key="transacting.no", cache_policy=INPUTS)
    def no(_a: int) -> None:
        raise ValueError("x")

    with transaction() as txn:
        run_task(add, parameters={"a": 1})
        ran(no, _a=1)
    assert (txn.is_rolled_back(), called) == (True, [(1, 2), "undone"])


def test_what_the_body_has_committed_itself_is_not_undone(called: list[Any]) -> None:
    @task(key="transacting.by_hand", on_rollback=[hook(called, "never staged")])
    def commits() -> None:
        mine = get_transaction()
        assert mine is not None
        mine.stage(1, [hook(called, "undone")])
        called.append(mine.commit())
        raise ValueError("x")

    assert (ran(commits).name, called) == ("Failed", [True])


def test_what_is_eager_is_committed_by_itself(called: list[Any]) -> None:
    add = adding(called, on_commit=[hook(called, "commit")], on_rollback=[hook(called, "undone")])

    def story() -> None:
        with transaction(), transaction(commit_mode=CommitMode.EAGER):
            run_task(add, parameters={"a": 1})
            called.append("inside")
            raise KeyError

    with pytest.raises(KeyError):
        story()
    assert called == [(1, 2), "commit", "inside"]


def test_a_value_that_cannot_be_stored_is_not_committed(recorder: PrivateRecorder, called: list[Any]) -> None:
    recorder._caching = caching_of(max_result=1024)

    @task(key="transacting.long", result_storage_key="k", on_rollback=[hook(called, "undone")])
    def long() -> str:
        return "x" * 5000

    state = ran(long)
    assert (state.name, called) == ("Completed", ["undone"])
    store = ResultStore(MemoryStorage(), limit=1024)
    with pytest.raises(ResultTooLarge):
        store.write(store.create_record("x" * 5000, "k"))


# --- the members ------------------------------------------------------------------------------------------------------


def test_the_members_make_a_transacted_attempt(called: list[Any]) -> None:
    add = adding(called, cache_policy=INPUTS, on_commit=[hook(called, "commit")])
    names = []
    for _ in range(2):
        engine: SyncTaskRunEngine[..., Any] = SyncTaskRunEngine(add, {"a": 1})
        with engine.start():
            while engine.is_running():
                with engine.setup_run_context(), engine.run_context(), engine.transaction_context() as txn:
                    value = engine.call_task_fn(txn)
        names.append((engine.state.name, value, txn.state.value, txn.key == engine.compute_transaction_key()))
    assert (names, called) == (
        [("Completed", 3, "COMMITTED", True), ("Cached", 3, "COMMITTED", True)],
        [(1, 2), "commit"],
    )


def test_the_members_make_a_transacted_attempt_on_a_loop(called: list[Any]) -> None:
    @task(key="transacting.members", retries=1, on_rollback=[hook(called, "undone")])
    async def fails_once() -> int:
        with transaction() as inner:
            inner.stage(1, [hook(called, "inner undone")])
        called.append("body")
        if called.count("body") == 1:
            raise ValueError("x")
        return 5

    async def story() -> AsyncTaskRunEngine[..., Any]:
        engine: AsyncTaskRunEngine[..., Any] = AsyncTaskRunEngine(fails_once, {})
        async with engine.start():
            while engine.is_running():
                async with engine.setup_run_context(), engine.run_context(), engine.transaction_context() as txn:
                    await engine.call_task_fn(txn)
        return engine

    engine = asyncio.run(story())
    assert (engine.state.name, called) == ("Completed", ["body", "inner undone", "body"])
    assert engine.compute_transaction_key() is None
