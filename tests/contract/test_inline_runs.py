"""Runs that the calling process executes itself, recorded in Redis: held under its lease from their first state on."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from orchestrator import tags, task
from shared.connect import connect
from shared.errors import CancelledRun, FailedRun, Fenced, MissingResult, RedisUnavailable, TransitionRefused
from shared.ids import new_id
from shared.runs import TaskRun
from shared.scripts import Script
from shared.specs import TaskSpec
from shared.states import Paused, Pending, State
from shared.transport import Argument, Exchange
from shared.upkeep import Death
from tests.contract.conftest import fake_store, real_store
from tests.support.invariants import faults
from tests.support.ledgers import (
    COMPLETED,
    Store,
    closed,
    fields_of,
    one_begun,
    queued,
    report,
    reported,
    rows_of,
    seated,
    state_of,
    submitted,
    told_by,
)
from tests.support.waiting import eventually
from worker.context import get_run_context
from worker.engine import run_generator_task_sync, run_task, run_task_async, run_task_sync
from worker.engine.ledger_recorder import LedgerRecorder
from worker.engine.recording import record_with


@pytest.fixture(params=["redis", "fakeredis"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store on each of the two servers in turn, with leases that a busy machine can renew."""
    given = {"lease": 3, "beat": 0.2, "reap": 0.2}
    found = (
        fake_store(**given) if request.param == "fakeredis" else real_store(request.getfixturevalue("server"), **given)
    )
    yield found
    closed(found)


@pytest.fixture
def recorder(store: Store) -> Iterator[LedgerRecorder]:
    """Records the inline runs of the test."""
    found = LedgerRecorder(store.exchange, store.settings)
    before = record_with(lambda: found)
    yield found
    record_with(before)
    found.close()


pytestmark = pytest.mark.usefixtures("recorder")


@task(key="inline.add", tags=["sums"])
def add(a: int, b: int = 2) -> int:
    return a + b


@task(key="inline.fail")
def fail() -> None:
    raise ValueError("x")


@task(key="inline.nap")
def nap(begun: list[int]) -> None:
    begun.append(1)
    time.sleep(60)


@task(key="inline.anap")
async def anap(begun: list[int]) -> None:
    begun.append(1)
    await asyncio.sleep(60)


@task(key="inline.numbers")
def numbers() -> Iterator[int]:
    yield from range(3)


class LosesReplies:
    """Connections of which the replies to one script are lost after it was executed."""

    def __init__(self, exchange: Exchange) -> None:
        self.loses = ""
        self.address = exchange.address
        self._exchange = exchange
        self.read, self.line, self.close = exchange.read, exchange.line, exchange.close

    def evaluate(self, script: Script, key_names: Sequence[str], arguments: Sequence[Argument]) -> Any:
        answer = self._exchange.evaluate(script, key_names, arguments)
        if script.name == self.loses:
            raise RedisUnavailable("the reply was lost")
        return answer


def names_of(store: Store, run_id: str) -> list[str]:
    return [str(row["name"]) for row in rows_of(store, run_id)]


def run_under(run_id: str, called: Any, **given: Any) -> State[Any]:
    state: State[Any] = run_task(called, task_run_id=run_id, return_type="state", **given)
    return state


def test_a_run_is_recorded_in_place_and_leaves_nothing_behind(store: Store) -> None:
    run_id = new_id()
    with tags("mine"):
        value = run_task(add, task_run_id=run_id, parameters={"a": 1})
    run = store.ledger.get(run_id)
    assert (value, run.state.result(), run.tags, run.name) == (3, 3, ("sums", "mine"), "add")
    assert told_by(rows_of(store, run_id), "type", "name") == [
        ("PENDING", "Pending"),
        ("RUNNING", "Running"),
        ("COMPLETED", "Completed"),
    ]
    assert (queued(store, "default"), state_of(store, run_id)[2], faults(store)) == ([], None, [])


def test_what_the_call_answers_is_what_is_stored(store: Store) -> None:
    run_id = new_id()
    state = run_under(run_id, add, parameters={"a": 1})
    stored = store.ledger.get(run_id)
    assert (state.timestamp, state.name, state.state_details.seq) == (stored.state.timestamp, "Completed", stored.seq)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["Pending", "Running", "Failed"]),
        ({"retries": 2}, ["Pending", "Running", "Retrying", "Retrying", "Failed"]),
        (
            {"retries": 1, "retry_delay_seconds": 0.05},
            ["Pending", "Running", "AwaitingRetry", "Retrying", "Failed"],
        ),
    ],
    ids=["none", "at once", "later"],
)
def test_failures_are_tried_again_as_on_the_fleet(store: Store, options: dict[str, Any], names: list[str]) -> None:
    run_id = new_id()
    run_under(run_id, fail.with_options(**options))
    run = store.ledger.get(run_id)
    assert (names_of(store, run_id), run.run_count, faults(store)) == (names, names.count("Retrying") + 1, [])


def test_a_wait_is_spent_in_the_hands_of_the_process(store: Store) -> None:
    run_id = new_id()
    waiting = threading.Thread(target=run_under, args=(run_id, fail.with_options(retries=1, retry_delay_seconds=1)))
    waiting.start()
    eventually(lambda: state_of(store, run_id) == ("SCHEDULED", "AwaitingRetry", "held"))
    found = faults(store)
    store.ledger.promote()
    waiting.join(10)
    assert (found, queued(store, "default"), names_of(store, run_id)[-2:]) == ([], [], ["Retrying", "Failed"])


def test_a_wait_of_more_than_a_minute_is_left_to_the_fleet(store: Store) -> None:
    run_id = new_id()
    state = run_under(run_id, fail.with_options(retries=1, retry_delay_seconds=61))
    assert (state.name, state_of(store, run_id), faults(store)) == (
        "AwaitingRetry",
        ("SCHEDULED", "AwaitingRetry", None),
        [],
    )
    assert store.client.zscore("rq:scheduled:default", run_id) is not None


# --- continuing -------------------------------------------------------------------------------------------------------


def test_a_run_that_waits_for_the_fleet_is_continued_here(store: Store) -> None:
    (run_id,) = submitted(store.ledger, task="inline.add", queue="default")
    state = run_under(run_id, add, parameters={"a": 1})
    assert (state.result(), names_of(store, run_id), faults(store)) == (3, ["Pending", "Running", "Completed"], [])


def test_a_run_that_has_ended_is_answered(store: Store) -> None:
    run_id = new_id()
    run_under(run_id, add, parameters={"a": 1})
    again = run_task(add, task_run_id=run_id, parameters={"a": 5})
    given = run_task(add, task_run=store.ledger.get(run_id), parameters={"a": 5})
    assert (again, given, len(rows_of(store, run_id))) == (3, 3, 3)


def test_a_run_that_a_worker_holds_is_refused(store: Store) -> None:
    (run_id,) = submitted(store.ledger)
    seat = seated(store.ledger, "w1")
    claim = one_begun(store.ledger, seat)
    with pytest.raises(TransitionRefused, match="another process holds it"):
        run_task(add, task_run_id=run_id, parameters={"a": 1})
    assert claim.run_id == run_id
    assert reported(store.ledger, seat, report(claim, COMPLETED)) == ["OK"]


# --- cancel -----------------------------------------------------------------------------------------------------------


def cancelled_when(store: Store, run_id: str, ready: Callable[[], object]) -> threading.Thread:
    """Cancels the run, in another thread, as soon as it is ready."""

    def cancel() -> None:
        eventually(ready)
        store.ledger.cancel([run_id], actor="alice", message="No more.")

    thread = threading.Thread(target=cancel)
    thread.start()
    return thread


@pytest.mark.parametrize("body", [nap, anap], ids=["sync", "async"])
def test_a_running_one_is_interrupted(store: Store, body: Any) -> None:
    run_id, begun = new_id(), list[int]()
    thread = cancelled_when(store, run_id, lambda: begun)
    before = time.monotonic()
    with pytest.raises(CancelledRun):
        run_task_sync(body, task_run_id=run_id, parameters={"begun": begun})
    thread.join()
    assert time.monotonic() - before < 20
    assert (names_of(store, run_id), rows_of(store, run_id)[-1]["message"], faults(store)) == (
        ["Pending", "Running", "Cancelling", "Cancelled"],
        "Cancelled while running.",
        [],
    )


def test_an_asynchronous_one_is_interrupted_on_its_loop(store: Store) -> None:
    run_id, begun = new_id(), list[int]()
    thread = cancelled_when(store, run_id, lambda: begun)
    state = asyncio.run(run_task_async(anap, task_run_id=run_id, parameters={"begun": begun}, return_type="state"))
    thread.join()
    assert (isinstance(state, State) and state.name, names_of(store, run_id)[-1]) == ("Cancelled", "Cancelled")


def test_one_that_waits_for_its_next_attempt_ends_at_once(store: Store) -> None:
    run_id = new_id()
    waits = lambda: state_of(store, run_id)[1] == "AwaitingRetry"  # noqa: E731 - a question
    thread = cancelled_when(store, run_id, waits)
    state = run_under(run_id, fail.with_options(retries=1, retry_delay_seconds=50))
    thread.join()
    assert (state.name, names_of(store, run_id), faults(store)) == (
        "Cancelled",
        ["Pending", "Running", "AwaitingRetry", "Cancelled"],
        [],
    )


def test_a_body_that_catches_its_interruption_is_cancelled_nevertheless(store: Store) -> None:
    begun: list[int] = []

    @task(key="inline.deaf")
    def deaf() -> int:
        begun.append(1)
        try:
            time.sleep(60)
        except BaseException:  # noqa: BLE001 - deaf
            return 5
        return 6

    run_id = new_id()
    thread = cancelled_when(store, run_id, lambda: begun)
    state = run_under(run_id, deaf)
    thread.join()
    message = "Cancelled while running; its outcome Completed was not recorded."
    assert (state.name, state.message, rows_of(store, run_id)[-1]["message"]) == ("Cancelled", message, message)


def test_an_event_of_the_caller_cancels_as_well(store: Store) -> None:
    event, run_id = threading.Event(), new_id()

    @task(key="inline.sets")
    def sets() -> None:
        event.set()

    run_under(run_id, sets, context={"cancel_event": event})
    assert names_of(store, run_id) == ["Pending", "Running", "Cancelling", "Cancelled"]


# --- what is lost, and what is left -----------------------------------------------------------------------------------


def test_a_run_is_crashed_when_the_lease_of_its_process_is_over(store: Store) -> None:
    run_id, begun, done = new_id(), threading.Event(), threading.Event()

    @task(key="inline.waits")
    def waits() -> None:
        begun.set()
        done.wait(20)

    failed: list[BaseException] = []

    def call() -> None:
        try:
            run_under(run_id, waits)
        except Fenced as error:
            failed.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    begun.wait(10)
    holder = fields_of(store, run_id)["worker_name"]
    store.ledger.reap([Death(holder, "a test")])
    done.set()
    thread.join(10)
    run = store.ledger.get(run_id)
    assert (holder.startswith("inline-"), run.state.name, run.state.message, run.crashes, len(failed)) == (
        True,
        "Crashed",
        "Attempt 1 was lost: a test.",
        1,
        1,
    )
    assert faults(store) == []


def test_one_that_was_lost_before_its_first_attempt_is_crashed_too(store: Store, recorder: LedgerRecorder) -> None:
    run = TaskRun(id=new_id(), task="inline.add", name="add", queue="default", state=Pending())
    spec: TaskSpec[..., Any] = add.spec
    taken = recorder.take(run, spec, {})
    store.ledger.reap([Death(str(taken.worker), "a test")])
    found = store.ledger.get(run.id)
    assert (found.state.name, found.state.message, found.crashes, faults(store)) == (
        "Crashed",
        "Lost before its first attempt: a test.",
        0,
        [],
    )


def test_a_run_that_its_engine_leaves_without_an_end_is_crashed(store: Store, recorder: LedgerRecorder) -> None:
    run = TaskRun(id=new_id(), task="inline.add", name="add", queue="default", state=Pending())
    recorder.take(run, add.spec, {})
    recorder.release(run.id)
    assert (store.ledger.get(run.id).state.message, faults(store)) == ("Its process left it before its end.", [])


def test_a_value_that_cannot_be_stored_stays_with_the_caller(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    thing = object()

    @task(key="inline.thing")
    def give() -> object:
        return thing

    run_id = new_id()
    with caplog.at_level(logging.WARNING, "baton.engine"):
        assert run_task(give, task_run_id=run_id) is thing
    assert "its value stays in this process" in caplog.text
    with pytest.raises(MissingResult):
        store.ledger.get(run_id).state.result()


def test_a_closed_generator_ends_its_run(store: Store) -> None:
    run_id = new_id()
    items = run_generator_task_sync(numbers, task_run_id=run_id)
    first = next(items)
    items.close()
    assert (first, rows_of(store, run_id)[-1]["message"], faults(store)) == (0, "Closed by the consumer.", [])


# --- what it is tied to -----------------------------------------------------------------------------------------------


def test_a_run_in_a_body_is_a_child_of_that_run(store: Store) -> None:
    @task(key="inline.outer", tags=["outer"])
    def outer() -> list[str]:
        inner = run_task(add, parameters={"a": 1}, return_type="state")
        return [get_run_context().run_id, str(inner.state_details.task_run_id or "")]

    with tags("around"):
        parent, _ = run_task(outer)
    (child,) = store.client.smembers(f"baton:run:{parent}:children")
    run = store.ledger.get(child)
    assert (run.parent, run.correlation, run.tags) == (parent, parent, ("sums", "around"))


def test_upstreams_are_told_and_kept_until_the_end(store: Store) -> None:
    upstream, run_id = new_id(), new_id()
    first = run_under(upstream, add, parameters={"a": 1})
    source = first.model_copy(update={"state_details": first.state_details.replaced(task_run_id=upstream)})
    run_under(run_id, add, parameters={"a": source})
    assert (store.client.smembers(f"baton:run:{run_id}:upstream"), store.ledger.get(run_id).state.result()) == (
        {upstream},
        5,
    )
    assert faults(store) == []


def test_a_full_limit_is_waited_for_in_place(store: Store) -> None:
    store.ledger.set_limit("tag:sums", 0)
    run_id = new_id()
    thread = threading.Thread(target=run_under, args=(run_id, add), kwargs={"parameters": {"a": 1}})
    thread.start()
    eventually(lambda: state_of(store, run_id)[2] == "held")
    found = (queued(store, "default"), faults(store))
    store.ledger.set_limit("tag:sums", 1)
    thread.join(10)
    assert (found, names_of(store, run_id), faults(store)) == (([], []), ["Pending", "Running", "Completed"], [])


def test_a_server_that_does_not_answer_is_an_error_before_the_body_begins(store: Store) -> None:
    called: list[int] = []

    @task(key="inline.never")
    def never() -> None:
        called.append(1)

    settings = store.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0", "producer_budget": 0.1})
    away = LedgerRecorder(connect(settings), settings)
    record_with(lambda: away)
    with pytest.raises(RedisUnavailable):
        run_task(never)
    assert called == []


def test_what_a_failed_run_raised_is_raised_here_and_stored(store: Store) -> None:
    run_id = new_id()
    with pytest.raises(ValueError, match="x"):
        run_task(fail, task_run_id=run_id)
    with pytest.raises((ValueError, FailedRun), match="x"):
        store.ledger.get(run_id).state.result()


def test_a_returned_pause_is_recorded_and_resumed_elsewhere(store: Store) -> None:
    @task(key="inline.pauses")
    def pauses() -> State[Any]:
        return Paused()

    run_id = new_id()
    state = run_under(run_id, pauses)
    paused = (state.name, state_of(store, run_id), faults(store))
    store.ledger.resume(run_id, store.ledger.get(run_id).seq, "go on")
    assert (paused, state_of(store, run_id)[0]) == (("Paused", ("PAUSED", "Paused", None), []), "PENDING")


def test_a_run_that_is_continued_has_the_parameters_that_it_was_submitted_with(store: Store) -> None:
    (run_id,) = submitted(store.ledger, task="inline.add", queue="default")
    assert run_task(add, task_run_id=run_id) == 3


def test_a_process_executes_a_run_once_at_a_time(store: Store, recorder: LedgerRecorder) -> None:
    (run_id,) = submitted(store.ledger, task="inline.add", queue="default")
    recorder.take(store.ledger.get(run_id), add.spec, {})
    with pytest.raises(TransitionRefused, match="by this process already"):
        run_task(add, task_run_id=run_id, parameters={"a": 1})
    recorder.release(run_id)
    assert run_task(add, task_run_id=run_id, parameters={"a": 1}) == 3


@pytest.mark.usefixtures("recorder")
def test_one_whose_acceptance_nobody_heard_of_is_ended_with_a_later_beat(store: Store) -> None:
    """The reply is lost, and Redis is back with the next beat."""
    lost = LosesReplies(store.exchange)
    recorder = LedgerRecorder(lost, store.settings)
    run = TaskRun(id=new_id(), task="inline.add", name="add", queue="default", state=Pending())
    lost.loses = "entrust"
    with pytest.raises(RedisUnavailable):
        recorder.take(run, add.spec, {})
    lost.loses = ""
    eventually(lambda: store.ledger.get(run.id).state.name == "Crashed")
    recorder.close()
    assert faults(store) == []
