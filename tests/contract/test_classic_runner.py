"""TaskRunner with its runs in Redis: what is recorded, and what becomes of a pipeline whose run another process has."""

from collections.abc import Iterator

import pytest

from orchestrator import task
from shared.connect import connect
from shared.edges import Edge
from shared.ids import new_id
from tests.contract.conftest import fake_store, real_store
from tests.support.invariants import faults
from tests.support.ledgers import Store, closed, held_by, rows_of, told_by
from worker.engine import run_task
from worker.engine.ledger_recorder import LedgerRecorder
from worker.engine.recording import record_with
from worker.runner import TaskRunner


@pytest.fixture(params=["redis", "fakeredis"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store on each of the two servers in turn."""
    given = {"lease": 3, "beat": 0.2, "reap": 0.2}
    is_fake = request.param == "fakeredis"
    found = fake_store(**given) if is_fake else real_store(request.getfixturevalue("server"), **given)
    yield found
    closed(found)


@pytest.fixture(autouse=True)
def recorder(store: Store) -> Iterator[LedgerRecorder]:
    """Records the runs of the test."""
    found = LedgerRecorder(store.exchange, store.settings)
    before = record_with(lambda: found)
    yield found
    record_with(before)
    found.close()


@task(key="classic.add", task_run_name="add {x}")
def add(x: int) -> int:
    return x + 1


@task(key="classic.fails", retries=1, retry_delay_seconds=0.05)
def fails() -> None:
    raise ValueError("x")


def test_a_pipeline_is_recorded_in_place(store: Store) -> None:
    up_id, run_id = new_id(), new_id()
    run_task(add, task_run_id=up_id, parameters={"x": 1})
    end = TaskRunner(add).run(None, {Edge(up_id, run_id, "x"): store.ledger.get(up_id).state}, {"task_run_id": run_id})
    run = store.ledger.get_with_inputs(run_id)
    assert (end.result(), run.state.result(), run.name) == (3, 3, "add 2")
    assert [(kind, [one.id for one in ids]) for kind, ids in run.task_inputs.items()] == [("x", [up_id])]
    assert told_by(rows_of(store, run_id), "name", "message") == [
        ("Pending", None),
        ("Running", "Starting task run."),
        ("Completed", "Task run succeeded."),
    ]
    assert faults(store) == []


def test_a_retry_is_waited_for_under_the_lease(store: Store) -> None:
    run_id = new_id()
    TaskRunner(fails).run(context={"task_run_id": run_id})
    names = [name for (name,) in told_by(rows_of(store, run_id), "name")]
    assert (names, faults(store)) == (["Pending", "Running", "AwaitingRetry", "Retrying", "Failed"], [])


def test_a_run_that_another_process_has_is_left_to_it(store: Store) -> None:
    _, claim = held_by(store.ledger)
    state = TaskRunner(fails).run(context={"task_run_id": claim.run_id})
    assert (state.name, store.ledger.get(claim.run_id).attempt) == ("Running", 1)


def test_a_run_that_has_ended_stays_as_it_is(store: Store) -> None:
    run_id = new_id()
    run_task(add, task_run_id=run_id, parameters={"x": 1})
    state = TaskRunner(add).run(context={"task_run_id": run_id})
    assert (state.name, state.result(), store.ledger.get(run_id).attempt) == ("Completed", 2, 1)


def test_what_a_pipeline_cannot_have_recorded_is_told_with_the_state_in_it(store: Store) -> None:
    settings = store.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0", "producer_budget": 0.1})
    nowhere = LedgerRecorder(connect(settings), settings)
    before = record_with(lambda: nowhere)
    try:
        state = TaskRunner(fails).run()
    finally:
        record_with(before)
    assert (state.name, state.data.name, state.data.message) == ("ClientFailed", "Running", "Starting task run.")
