"""Tasks, submitted to an Orchestrator in memory, whose worker threads are those of a fleet."""

import asyncio
import functools
import queue
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any

import pytest

from orchestrator import Orchestrator, RunFuture, Task, get_run_context, tags, task
from orchestrator.calls import SubmitOptions, new_run
from orchestrator.client import current_orchestrator
from shared.errors import ConfigError, InvalidCall, InvalidValue, ParameterBindError, SubmitError
from shared.runs import TaskRun
from shared.settings import Settings
from shared.specs import TaskSpec, registry
from shared.states import State
from worker.context import current_tags

NOWHERE = Settings.load({}, redis_url="redis://127.0.0.1:1", producer_budget=0.01)


@task(key="tasks.add")
def add(a: int, b: int = 2) -> int:
    """Adds."""
    return a + b


@task(key="tasks.afetch", retries=2, retry_delay_seconds=[1, 5])
async def afetch(a: int) -> int:
    await asyncio.sleep(0)
    return a + 1


@task(key="tasks.afail")
async def afail() -> None:
    await asyncio.sleep(0)
    raise LookupError("not there")


@task(key="tasks.numbers")
def numbers(end: int) -> Iterator[int]:
    yield from range(end)


@task(key="tasks.anumbers")
async def anumbers(end: int) -> AsyncIterator[int]:
    for number in range(end):
        await asyncio.sleep(0)
        yield number


@task(key="tasks.who")
async def who() -> str:
    await asyncio.sleep(0)
    return get_run_context().run_id


TOLD: queue.Queue[tuple[str, str, str]] = queue.Queue()


@task(key="tasks.told_of")
def told_of() -> str:
    return get_run_context().run_id


@told_of.on_completion
def tell(_spec: TaskSpec[..., Any], run: TaskRun, state: State[Any]) -> None:
    TOLD.put((run.id, state.name, current_orchestrator().get_run(run.id).state.name))


class Fetcher:
    async def __call__(self, a: int) -> int:
        await asyncio.sleep(0)
        return a * 10


by_object = task(key="tasks.by_object")(Fetcher())
by_part = task(key="tasks.by_part")(functools.partial(afetch.spec.fn, 41))


@pytest.fixture(scope="module")
def baton() -> Iterator[Orchestrator]:
    with Orchestrator("memory:") as baton:
        yield baton


@pytest.fixture
def nowhere() -> Iterator[Orchestrator]:
    """The present Orchestrator is one whose Redis does not answer: whatever is sent is a SubmitError."""
    with Orchestrator(settings=NOWHERE) as baton:
        yield baton


# --- what a task is ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nowhere")
def test_calling_a_task_is_calling_its_function() -> None:
    assert (add(1), add(1, b=5), list(numbers(2)), asyncio.run(afetch(1))) == (3, 6, [0, 1], 2)


def test_a_task_tells_what_it_is() -> None:
    assert (repr(add), add.__name__, add.__doc__, add.__wrapped__) == ("Task('tasks.add')", "add", "Adds.", add.spec.fn)


def test_the_decorator_stands_with_or_without_options_and_makes_the_task_known() -> None:
    @task
    def bare() -> None: ...

    @task()
    def called() -> None: ...

    @task(key="tasks.keyed", queue="mail", retries=3)
    def keyed() -> None: ...

    place = f"{__name__}.test_the_decorator_stands_with_or_without_options_and_makes_the_task_known.<locals>"
    assert [(made.spec.key, made.spec.queue, made.spec.retries) for made in (bare, called, keyed)] == [
        (f"{place}.bare", "default", 0),
        (f"{place}.called", "default", 0),
        ("tasks.keyed", "mail", 3),
    ]
    assert [registry.find(made.spec.key) for made in (bare, called, keyed)] == [bare.spec, called.spec, keyed.spec]


def test_what_is_no_function_is_no_task() -> None:
    wrong: Any = 5
    with pytest.raises(InvalidCall, match="'fn' must be callable"):
        task(wrong)


def test_two_functions_cannot_have_one_key() -> None:
    with pytest.raises(ConfigError, match=r"Two tasks have the key 'tasks\.add'"):
        task(key="tasks.add")(lambda: None)


# --- submitted --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("submitted", "arguments", "result"),
    [
        (add, (1,), 3),
        (afetch, (1,), 2),
        (numbers, (3,), [0, 1, 2]),
        (anumbers, (3,), [0, 1, 2]),
        (by_object, (4,), 40),
        (by_part, (), 42),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
@pytest.mark.usefixtures("baton")
def test_a_run_gives_the_value_the_awaited_value_or_the_items(
    submitted: Task[..., Any], arguments: tuple[Any, ...], result: object
) -> None:
    assert submitted.submit(*arguments).result(10) == result


def test_what_an_async_function_raises_is_raised_to_whoever_waits(baton: Orchestrator) -> None:
    with pytest.raises(LookupError, match="not there"):
        baton.submit(afail).result(10)


def test_an_async_function_knows_its_run(baton: Orchestrator) -> None:
    future = baton.submit(who)
    assert future.result(10) == future.run_id


def test_on_an_event_loop_it_is_submitted_and_awaited(baton: Orchestrator) -> None:
    async def together() -> list[int]:
        futures = await asyncio.gather(add.asubmit(1), afetch.asubmit(1), baton.asubmit("tasks.add", {"a": 5}))
        assert all(type(future) is RunFuture for future in futures)
        return [*await asyncio.gather(*futures), *await (await baton.asubmit_many((add, {"a": n}) for n in range(3)))]

    assert asyncio.run(together()) == [3, 2, 7, 2, 3, 4]


def test_while_redis_is_asked_the_event_loop_goes_on() -> None:
    """Redis, as far as this goes, is served by the very loop on which the run is submitted."""
    met: list[str] = []

    async def asked(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append("by the loop")
        writer.close()
        await writer.wait_closed()

    async def submitted() -> None:
        server = await asyncio.start_server(asked, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        settings = Settings.load({}, redis_url=f"redis://127.0.0.1:{port}", producer_budget=0.01)
        with Orchestrator(settings=settings):
            for asking in (add.asubmit(1), add.asubmit(2)):
                with pytest.raises(SubmitError, match="not submitted: Redis at 127"):
                    await asking
        server.close()
        await server.wait_closed()

    asyncio.run(submitted())
    assert set(met) == {"by the loop"}


def test_a_wrong_call_is_refused_before_anything_is_sent(nowhere: Orchestrator) -> None:
    wrong: Any = add
    with pytest.raises(ParameterBindError, match="missing a required argument: 'a'"):
        wrong.submit()
    with pytest.raises(ParameterBindError, match="unexpected keyword argument 'c'"):
        asyncio.run(wrong.asubmit(1, c=3))
    with pytest.raises(ParameterBindError):
        asyncio.run(nowhere.asubmit(add, {"c": 3}))
    with pytest.raises(ParameterBindError):
        asyncio.run(nowhere.asubmit_many([(add, {"a": 1}), (add, {})]))
    with pytest.raises(InvalidCall, match="parameters"):
        asyncio.run(wrong.asubmit(object()))
    for sent in (add.submit, lambda a: asyncio.run(add.asubmit(a))):
        with pytest.raises(SubmitError):
            sent(1)


# --- with other options -----------------------------------------------------------------------------------------------


def told(changed: Task[..., Any]) -> tuple[Any, ...]:
    spec = changed.spec
    return (spec.name, spec.queue, spec.retries, spec.retry_delays, spec.timeout_seconds, changed.options)


def test_options_that_are_given_change_and_all_others_stay() -> None:
    changed = afetch.with_options(queue="gpu", delay=5)
    assert told(changed) == ("afetch", "gpu", 2, (1.0, 5.0), None, SubmitOptions(delay=5.0))
    assert told(changed.with_options(name="Mine", retries=0, at_front=True)) == (
        *("Mine", "gpu", 0, (1.0, 5.0), None),
        SubmitOptions(delay=5.0, at_front=True),
    )
    assert told(afetch) == ("afetch", "default", 2, (1.0, 5.0), None, SubmitOptions())


def test_an_option_that_is_none_gets_its_default() -> None:
    changed = afetch.with_options(
        name="Mine", description="Other.", queue="gpu", timeout_seconds=5, delay=5, at_front=True
    )
    again = changed.with_options(
        name=None,
        description=None,
        queue=None,
        retries=None,
        retry_delay_seconds=None,
        timeout_seconds=None,
        delay=None,
        at_front=None,
    )
    assert told(again) == ("afetch", "default", 0, (), None, SubmitOptions())
    assert again.spec.description is None
    assert add.with_options(description="Other.").with_options(description=None).spec.description == "Adds."


def test_delays_may_be_made_of_the_number_of_retries() -> None:
    changed = afetch.with_options(retry_delay_seconds=lambda retries: [10.0] * retries)
    assert changed.spec.retry_delays == (10.0, 10.0)


@pytest.mark.parametrize(
    ("options", "kind", "told"),
    [
        ({"colour": "red"}, InvalidCall, "unknown option 'colour'"),
        ({"retries": "3"}, InvalidCall, "'retries' must be a whole number, got str"),
        ({"retries": -1}, InvalidValue, "'retries' must be >= 0"),
        ({"delay": -1}, InvalidValue, "'delay' must be a finite number >= 0"),
        ({"delay": float("nan")}, InvalidValue, "'delay' must be a finite number >= 0"),
        ({"delay": True}, InvalidCall, "'delay' must be a number of seconds, got bool"),
        ({"delay": 1e300}, InvalidValue, "'delay' is 1e[+]300 seconds: times end with the year 9999"),
        ({"delay": datetime(2026, 1, 1)}, InvalidValue, "naive datetime 2026-01-01T00:00:00"),  # noqa: DTZ001 - on purpose
        (
            {"delay": datetime.fromisoformat("9999-12-31T23:59-05:00")},
            InvalidValue,
            "outside the years 1 to 9999 in UTC",
        ),
        ({"at_front": 1}, InvalidCall, "'at_front' must be True or False"),
        ({"queue": "No Such!"}, InvalidValue, "'queue' is 'No Such!'"),
    ],
    ids=str,
)
def test_a_wrong_option_is_refused(options: dict[str, Any], kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told):
        add.with_options(**options)


def test_options_of_a_submit_count_whoever_submits(baton: Orchestrator) -> None:
    later = add.with_options(delay=3600)
    futures = [
        later.submit(1),
        baton.submit(later, {"a": 1}),
        *baton.submit_many([(later, {"a": 1})]),
        baton.submit(later, {"a": 1}, delay=0),
    ]
    assert futures[-1].result(10) == 3
    assert [future.get_state().name for future in futures] == [*["Scheduled"] * 3, "Completed"]


# --- hooks ------------------------------------------------------------------------------------------------------------


def test_a_decorator_adds_a_hook_and_gives_the_function_back() -> None:
    def given(*_: object) -> None: ...

    @task(key="tasks.hooked", on_failure=[given])
    def hooked() -> None: ...

    @hooked.on_running
    @hooked.on_completion
    @hooked.on_failure
    @hooked.on_crashed
    @hooked.on_cancellation
    async def hook(*_: object) -> None: ...

    spec = hooked.spec
    assert [spec.on_running, spec.on_completion, spec.on_crashed, spec.on_cancellation] == [(hook,)] * 4
    assert (spec.on_failure, registry.find("tasks.hooked") is spec) == ((given, hook), True)
    with pytest.raises(InvalidCall, match=r"Expected callables in 'on_running'; got int\."):
        hooked.on_running(5)  # type: ignore[type-var]


def test_other_hooks_belong_to_the_new_task_alone() -> None:
    def hook(*_: object) -> None: ...

    before = add.spec
    other = add.with_options(on_failure=[hook])
    other.on_crashed(hook)
    assert (add.spec, registry.find("tasks.add")) == (before, before)
    assert (other.spec.on_failure, other.spec.on_crashed) == ((hook,), (hook,))
    assert other.with_options(on_failure=None).spec.on_failure == ()


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    "options",
    [{"on_failure": [print]}, {"retry_condition_fn": print}, {"task_run_name": "{a}"}, {"log_prints": True}],
    ids=lambda given: next(iter(given)),
)
def test_a_task_with_functions_that_no_worker_has_cannot_be_submitted(options: dict[str, Any]) -> None:
    with pytest.raises(
        InvalidCall, match=f"'{next(iter(options))}' is not that of the task 'tasks.add' as workers know it"
    ):
        add.with_options(**options).submit(1)


@pytest.mark.usefixtures("nowhere")
def test_a_task_that_misses_hooks_of_its_origin_cannot_be_submitted_either() -> None:
    @task(key="tasks.hooked_later")
    def hooked_later() -> None: ...

    before = hooked_later.with_options(queue="mail")
    hooked_later.on_failure(print)
    with pytest.raises(InvalidCall, match="add hooks before with_options"):
        before.submit()
    with pytest.raises(SubmitError):
        hooked_later.with_options(queue="mail").submit()


def test_hooks_are_called_by_worker_threads_too(baton: Orchestrator) -> None:
    run_id = baton.submit(told_of).result(10)
    assert TOLD.get(timeout=10) == (run_id, "Completed", "Completed")


# --- tags -------------------------------------------------------------------------------------------------------------


def tags_of(spec: TaskSpec[..., Any] | None) -> list[object]:
    """The tags of a call of this task."""
    settings = Settings.load({})
    run = new_run("tasks.add", "default", {"a": 1}, settings, options=SubmitOptions(), spec=spec, check=lambda _: None)
    tagged = [value for kind, value in run.ties if kind == "tag"]
    assert str(run.fields.get("limits", "")).split() == [f"tag:{tag}" for tag in tagged]
    return tagged


def test_blocks_give_tags_to_the_runs_that_are_made_inside() -> None:
    own = add.with_options(tags=["own", "b"]).spec
    with tags("a", "b"), tags("c", "a") as all_of_them:
        inside = (all_of_them, tags_of(own), tags_of(None))
    assert inside == (("a", "b", "c"), ["own", "b", "a", "c"], ["a", "b", "c"])
    assert (tags_of(own), tags_of(None)) == (["own", "b"], [])


def test_what_is_no_tag_is_refused_and_leaves_the_others() -> None:
    with pytest.raises(InvalidValue, match="no white space"), tags("a b"):
        raise AssertionError
    assert current_tags() == ()
