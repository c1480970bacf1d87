"""TaskRunner: what each check of its pipeline ends with, what handlers and signals make of it; no server."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from orchestrator import get_run_context, task
from shared.cache import all_inputs, duration_only
from shared.clock import now
from shared.edges import Edge
from shared.errors import ENDRUN, InvalidCall, RedisUnavailable
from shared.ids import new_id
from shared.result_storage import MemoryStorage
from shared.results import ResultRecordMetadata, ResultStore
from shared.settings import Settings
from shared.states import (
    AwaitingConcurrencySlot,
    AwaitingRetry,
    Cancelled,
    Completed,
    Failed,
    Paused,
    Pending,
    Running,
    Scheduled,
    State,
)
from worker import signals, triggers
from worker.caching import Caching
from worker.engine.recording import PrivateRecorder, record_with
from worker.runner import Runner, TaskRunner

Told = tuple[str, str | None]
SKIPPED = Completed(name="Skipped", data=None)
AHEAD = timedelta(hours=1)
GONE = "There is no result under the key 'gone': it expired, was deleted or never was."


def runner(
    fn: Callable[..., Any] = lambda: 1, *, handlers: Any = None, store: Any = None, **options: Any
) -> TaskRunner:
    return TaskRunner(task(key=f"runner.{new_id()}", **options)(fn), handlers, store)


def told(state: State[Any]) -> Told:
    return state.name, state.message


def ups(*states: State[Any], key: str | None = None, mapped: bool = False) -> dict[Edge[Any], State[Any]]:
    return {Edge(i, "run", key, mapped): state for i, state in enumerate(states)}


@pytest.fixture
def recorder() -> Any:
    """Where the runs of a test are recorded."""
    kept = PrivateRecorder()
    before = record_with(lambda: kept)
    yield kept
    record_with(before)


def history(recorder: PrivateRecorder, runner: TaskRunner) -> list[Told]:
    return [told(state) for state in recorder.history(runner.context["task_run_id"])]


# --- states that are given --------------------------------------------------------------------------------------------

DONE = ("Completed", "Task run succeeded.")
GIVEN = [
    (None, DONE),
    (Pending(), DONE),
    (Scheduled(), DONE),
    (AwaitingRetry(), DONE),
    (Pending(name="Submitted", data=Pending()), DONE),
    (Failed(name="ClientFailed", data=AwaitingConcurrencySlot(data=Scheduled())), DONE),
    (Failed(name="ClientFailed", data=Cancelled(message="x")), ("Cancelled", "x")),
    (Running(message="there"), ("Running", "there")),
    (Failed(message="before"), ("Failed", "before")),
    (Completed(message="before"), ("Completed", "before")),
    (Scheduled(scheduled_time=now() + AHEAD, message="later"), ("Scheduled", "later")),
    (Paused(message="held"), ("Paused", "held")),
    (Paused(timeout_seconds=0), ("Failed", "The task was paused and never resumed.")),
    (Completed(name="Cached", data=1, message="kept"), ("Cached", "kept")),
    (Completed(name="Mapped", data=[], message="ready"), ("Mapped", "ready")),
]


@pytest.mark.parametrize(("given", "end"), GIVEN, ids=[f"{i}-{end[0]}" for i, (_, end) in enumerate(GIVEN)])
def test_what_comes_of_a_state_that_is_given(given: State[Any] | None, end: Told) -> None:
    assert told(runner().run(given)) == end


def test_a_state_that_is_given_is_not_recorded(recorder: PrivateRecorder) -> None:
    one = runner()
    one.run(Scheduled(message="given"))
    assert history(recorder, one) == [("Pending", None), ("Running", "Starting task run."), DONE]


def test_a_pipeline_that_begins_nothing_records_nothing(recorder: PrivateRecorder) -> None:
    one = runner()
    one.run(Failed(message="before"))
    assert recorder.find(one.context["task_run_id"]) is None


def test_a_paused_run_goes_on_if_the_context_says_so() -> None:
    assert told(runner().run(Paused(), context={"resume": True})) == DONE


# --- what it needs ----------------------------------------------------------------------------------------------------

UPS: list[tuple[str, Mapping[Edge[Any], State[Any]], Told]] = [
    ("all good", ups(Completed(data=1), Completed(data=2)), DONE),
    ("not finished", ups(Completed(data=1), Running()), ("Pending", None)),
    ("mapped, a child not finished", ups(Completed(name="Mapped", data=[Pending()])), ("Pending", None)),
    ("skipped", ups(SKIPPED), ("Skipped", triggers.SKIPPED)),
    ("a child skipped", ups(Completed(name="Mapped", data=[SKIPPED])), ("Skipped", triggers.SKIPPED)),
    (
        "failed",
        ups(Failed()),
        ("TriggerFailed", 'Trigger was "all_successful" but some of the upstream tasks failed.'),
    ),
    (
        "a child failed",
        ups(Completed(name="Mapped", data=[Completed(data=1), Failed()])),
        ("TriggerFailed", 'Trigger was "all_successful" but some of the upstream tasks failed.'),
    ),
    (
        "a result cannot be read",
        ups(Completed(data=ResultRecordMetadata(storage_key="gone"))),
        ("Failed", f"Failed to retrieve task results: {GONE}"),
    ),
]


@pytest.mark.parametrize(("states", "end"), [each[1:] for each in UPS], ids=[each[0] for each in UPS])
def test_what_comes_of_what_it_needs(states: Mapping[Edge[Any], State[Any]], end: Told) -> None:
    assert told(runner(store=ResultStore(MemoryStorage())).run(upstream_states=states)) == end


def test_the_function_gets_what_the_edges_with_a_key_give() -> None:
    states = {
        Edge("a", "run", "x"): Completed(data=1),
        Edge("b", "run", "y"): Completed(name="Mapped", data=[Completed(data=2), Completed(data=3)]),
        Edge("c", "run"): Completed(data=4),
    }
    assert runner(lambda x, y: [x, y]).run(upstream_states=states).result() == [1, [2, 3]]


def test_a_failed_upstream_gives_its_exception_under_a_trigger_that_lets_it() -> None:
    error = ValueError("x")
    one = runner(lambda x: type(x).__name__, trigger=triggers.any_failed)
    assert one.run(upstream_states=ups(Failed(data=error), key="x")).result() == "ValueError"


@pytest.mark.parametrize(
    ("trigger", "end"),
    [
        (lambda _states: False, ("TriggerFailed", "Trigger failed")),
        (
            lambda _states: 1 / 0,
            ("TriggerFailed", "Unexpected error while checking task trigger: ZeroDivisionError('division by zero')"),
        ),
        (triggers.manual_only, ("Paused", 'Trigger function is "manual_only"')),
        (triggers.runs_after_skip(triggers.all_finished), DONE),
    ],
    ids=["false", "raises", "manual", "after skip"],
)
def test_the_trigger_says_whether_it_begins(trigger: Any, end: Told) -> None:
    skips = (SKIPPED,) if end == DONE else (Completed(data=1),)
    assert told(runner(trigger=trigger).run(upstream_states=ups(*skips))) == end


# --- the body ---------------------------------------------------------------------------------------------------------


def fails() -> None:
    raise ValueError("x")


def test_a_body_that_raises_fails_the_run() -> None:
    assert told(runner(fails).run()) == ("Failed", "Error during execution of task: ValueError('x')")


def test_retries_say_how_many_there_were(recorder: PrivateRecorder) -> None:
    one = runner(fails, retries=2)
    end = one.run()
    texts = [f"Retrying Task (after attempt {n} of 3)" for n in (1, 2)]
    wanted = [("Pending", None), ("Running", "Starting task run."), *(("Retrying", text) for text in texts), told(end)]
    assert (history(recorder, one), one.context["task_run_count"]) == (wanted, 3)


def test_a_retry_with_a_delay_is_waited_for_here(recorder: PrivateRecorder) -> None:
    one = runner(fails, retries=1, retry_delay_seconds=0.05)
    one.run()
    names = [name for name, _ in history(recorder, one)]
    assert names == ["Pending", "Running", "AwaitingRetry", "Retrying", "Failed"]


def test_retry_at_a_time_runs_again_whatever_the_task_says(recorder: PrivateRecorder) -> None:
    def again() -> int:
        if get_run_context().attempt == 1:
            raise signals.RETRY("soon", start_time=now() + timedelta(seconds=0.05))
        return 2

    one = runner(again)
    assert (one.run().result(), [name for name, _ in history(recorder, one)]) == (
        2,
        ["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"],
    )


def test_a_loop_stays_in_its_attempt_and_a_retry_goes_on_in_it() -> None:
    seen: list[tuple[int, int]] = []

    def loops() -> object:
        about = get_run_context()
        seen.append((about.attempt, about.task_loop_count))
        if about.task_loop_count < 3:
            raise signals.LOOP(result=about.task_loop_count)
        if about.attempt == 1:
            raise ValueError("x")
        return about.task_loop_result

    assert (runner(loops, retries=1).run().result(), seen) == (2, [(1, 1), (1, 2), (1, 3), (2, 3)])


def test_a_body_that_overruns_its_time_is_timed_out() -> None:
    def spins() -> None:
        while True:
            pass

    assert told(runner(spins, timeout_seconds=0.05).run()) == ("TimedOut", "Task timed out during execution.")


def test_arguments_that_do_not_fit_are_not_tried_again(recorder: PrivateRecorder) -> None:
    one = runner(lambda x: x, retries=3)
    one.run()
    assert [name for name, _ in history(recorder, one)] == ["Pending", "Running", "Failed"]


def test_an_interrupt_is_recorded_and_goes_on(recorder: PrivateRecorder) -> None:
    def stops() -> None:
        raise KeyboardInterrupt

    one = runner(stops, retries=1)
    with pytest.raises(KeyboardInterrupt):
        one.run()
    assert [name for name, _ in history(recorder, one)] == ["Pending", "Running", "Crashed"]


def test_errors_come_through_for_who_looks_for_them() -> None:
    with pytest.raises(ValueError, match="x"):
        runner(fails).run(context={"raise_on_exception": True})


def test_hooks_are_called_after_the_state_is_recorded() -> None:
    seen: list[str] = []

    def hook(_spec: object, _run: object, state: State[Any]) -> None:
        seen.append(state.name)

    runner(on_running=[hook], on_completion=[hook], on_failure=[hook]).run()
    runner(fails, on_running=[hook], on_completion=[hook], on_failure=[hook], retries=1).run()
    assert seen == ["Running", "Completed", "Running", "Retrying", "Failed"]


# --- handlers ---------------------------------------------------------------------------------------------------------


def test_handlers_that_are_no_sequence_are_refused() -> None:
    with pytest.raises(InvalidCall, match="state_handlers should be iterable"):
        runner(handlers=1)


def test_the_tasks_handlers_come_before_the_runners_and_each_gets_what_the_last_one_made() -> None:
    seen: list[tuple[str, str, str | None]] = []

    def of_task(target: Any, old: State[Any], new: State[Any]) -> State[Any]:
        seen.append((type(target).__name__, old.name, new.message))
        return type(new)(**{**new.__dict__, "message": "by the task"}) if new.is_running() else new

    def of_runner(target: Any, old: State[Any], new: State[Any]) -> None:
        seen.append((type(target).__name__, old.name, new.message))

    runner(state_handlers=[of_task], handlers=[of_runner]).run()
    assert seen == [
        ("TaskSpec", "Pending", "Starting task run."),
        ("TaskRunner", "Pending", "by the task"),
        ("TaskSpec", "Running", "Task run succeeded."),
        ("TaskRunner", "Running", "Task run succeeded."),
    ]


@pytest.mark.parametrize(
    ("end", "wanted"),
    [
        (lambda: ENDRUN(Cancelled(message="by hand")), ["Pending", "Cancelled"]),
        (lambda: signals.PAUSE("look"), ["Pending", "Paused"]),
        (lambda: signals.FAIL("no"), ["Pending", "Failed"]),
        (lambda: ValueError("x"), ["Pending", "Failed"]),
    ],
    ids=["ENDRUN", "PAUSE", "FAIL", "error"],
)
def test_a_handler_ends_the_pipeline(
    recorder: PrivateRecorder, end: Callable[[], BaseException], wanted: list[str]
) -> None:
    def handler(_target: object, _old: State[Any], new: State[Any]) -> None:
        if new.is_running():
            raise end()

    one = runner(handlers=[handler])
    one.run()
    assert [name for name, _ in history(recorder, one)] == wanted


@pytest.mark.parametrize("delay", [0, 10])
def test_what_a_handler_makes_of_a_retry_is_recorded_also_where_it_ends_the_pipeline(
    recorder: PrivateRecorder, delay: float
) -> None:
    def handler(_target: object, _old: State[Any], new: State[Any]) -> None:
        if new.name in ("Retrying", "AwaitingRetry"):
            raise ENDRUN(Failed(message="not again"))

    def fails() -> None:
        raise ValueError

    one = runner(fails, handlers=[handler], retries=2, retry_delay_seconds=delay)
    ended = one.run()
    assert (told(ended), [name for name, _ in history(recorder, one)]) == (
        ("Failed", "not again"),
        ["Pending", "Running", "AwaitingRetry" if delay else "Retrying", "Failed"],
    )


REFUSED = [
    (Running, Completed(data=1), "Completed was refused: Only a running attempt can complete a run."),
    (
        Completed,
        Pending(),
        "Pending was refused: A started run returns to its queue only when its attempt is lost or given back.",
    ),
]


@pytest.mark.parametrize(("instead_of", "wanted", "message"), REFUSED, ids=["too early", "back again"])
def test_the_rules_judge_what_handlers_made(
    recorder: PrivateRecorder, instead_of: Callable[..., State[Any]], wanted: State[Any], message: str
) -> None:
    def hasty(_target: object, _old: State[Any], new: State[Any]) -> State[Any]:
        return wanted if new.type is instead_of().type else new

    one = runner(handlers=[hasty], retries=1)
    ended = told(one.run())
    assert (ended, history(recorder, one)[-1]) == (("Failed", message),) * 2


# --- mapping ----------------------------------------------------------------------------------------------------------

MAPPED: list[tuple[str, Mapping[Edge[Any], State[Any]], tuple[str, str | None, int | None]]] = [
    (
        "shortest",
        ups(Completed(data=[1, 2]), Completed(data=(1, 2, 3)), mapped=True),
        ("Mapped", "Ready to proceed with mapping.", 2),
    ),
    (
        "of children",
        ups(Completed(name="Mapped", data=[None] * 4), mapped=True),
        ("Mapped", "Ready to proceed with mapping.", 4),
    ),
    (
        "unmappable",
        ups(Completed(data=1), mapped=True),
        ("Failed", "At least one upstream state has an unmappable result.", None),
    ),
    ("none good", ups(Failed(), mapped=True), ("Failed", "No upstream states can be mapped over.", None)),
]


@pytest.mark.parametrize(("states", "end"), [each[1:] for each in MAPPED], ids=[each[0] for each in MAPPED])
def test_a_mapped_parent_says_over_how_many(
    states: Mapping[Edge[Any], State[Any]], end: tuple[str, str | None, int | None]
) -> None:
    one = runner(lambda x: x, trigger=triggers.all_finished)
    found = one.run(upstream_states=states, is_mapped_parent=True)
    many = len(found.result()) if found.is_completed() else None
    assert (*told(found), many) == end


def test_what_is_mapped_already_stays_as_it_is() -> None:
    given = Completed(name="Mapped", data=[Completed(data=1), None])
    assert runner().run(given, is_mapped_parent=True) is given


# --- names and caching ------------------------------------------------------------------------------------------------


def test_a_name_is_made_of_parameters_context_and_inputs_and_later_ones_win(recorder: PrivateRecorder) -> None:
    one = runner(lambda x: x, task_run_name="{day} {x} {task_name}")
    context = {"parameters": {"day": "mon", "x": 1}, "day": "tue"}
    one.run(upstream_states=ups(Completed(data=9), key="x"), context=context)
    found = recorder.find(one.context["task_run_id"])
    assert found is not None
    assert found.name == "tue 9 <lambda>"


def test_a_name_that_cannot_be_made_fails_the_run() -> None:
    state = runner(task_run_name="{nothing}").run()
    assert told(state) == ("Failed", "The name of the task run could not be made: KeyError: 'nothing'")


def counting() -> tuple[Callable[[int], int], list[int]]:
    calls: list[int] = []

    def counts(x: int) -> int:
        calls.append(x)
        return x * 2

    return counts, calls


def test_a_result_for_the_same_inputs_is_cached(recorder: PrivateRecorder) -> None:
    counts, calls = counting()
    one = runner(counts, cache_policy=all_inputs, store=ResultStore(MemoryStorage()))
    ends = [one.run(upstream_states=ups(Completed(data=x), key="x")) for x in (1, 1, 2)]
    assert [(end.name, end.result()) for end in ends] == [("Completed", 2), ("Cached", 2), ("Completed", 4)]
    assert calls == [1, 2]
    one.run(upstream_states=ups(Completed(data=1), key="x"))
    assert [name for name, _ in history(recorder, one)] == ["Pending", "Cached"]


@pytest.mark.parametrize(
    ("given", "options", "calls"),
    [
        ({"disable_caching": True}, {}, 2),
        ({"refresh_cache": True}, {}, 2),
        ({"refresh_cache": True}, {"refresh_cache": False}, 1),
        ({}, {"refresh_cache": True}, 2),
    ],
    ids=["disabled", "refreshed", "the option wins", "refreshed by the option"],
)
def test_settings_of_caching_hold_for_classic_runs(
    recorder: PrivateRecorder, given: dict[str, Any], options: dict[str, Any], calls: int
) -> None:
    recorder._caching = Caching(MemoryStorage(), Settings.load({}, **given), None, in_script=False)
    counts, called = counting()
    one = runner(counts, cache_policy=all_inputs, store=ResultStore(MemoryStorage()), **options)
    ends = [one.run(upstream_states=ups(Completed(data=1), key="x")).result() for _ in range(2)]
    assert (ends, len(called)) == ([2, 2], calls)


def _unstorable() -> object:
    return object()


def _no_key(_context: object, _parameters: object) -> str:
    raise ValueError


class Away(MemoryStorage):
    """A place that does not answer."""

    def read(self, _key: str, _most: int) -> bytes | None:
        raise RedisUnavailable("away")

    def write(self, _records: object) -> None:
        raise RedisUnavailable("away")


@pytest.mark.parametrize(
    ("fn", "storage", "options"),
    [
        (_unstorable, MemoryStorage(), {"result_storage_key": "k"}),
        (lambda: 1, MemoryStorage(), {"cache_key_fn": _no_key}),
        (lambda: 1, Away(), {"result_storage_key": "k"}),
    ],
    ids=["unstorable", "no key", "away"],
)
def test_what_cannot_be_cached_is_no_failure(
    fn: Callable[[], Any], storage: MemoryStorage, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    one = runner(fn, store=ResultStore(storage), **options)
    assert ([one.run().name for _ in range(2)], "cache" in caplog.text) == (["Completed"] * 2, True)


def test_a_cached_state_that_has_expired_runs_again() -> None:
    expired: datetime = now() - timedelta(seconds=1)
    given = Completed(name="Cached", data=1, state_details={"cache_expiration": expired})
    assert told(runner(cache_policy=duration_only).run(given)) == DONE


def test_a_runner_of_no_kind_runs_nothing() -> None:
    with pytest.raises(TypeError, match="abstract methods propose, target, target_handlers"):
        Runner()  # type: ignore[abstract]
