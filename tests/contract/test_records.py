"""How runs are read back: the record with its state, results and exceptions, what is gone, damaged or just changing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from shared import codec
from shared.clock import parse_iso
from shared.codec import SERIALIZERS
from shared.commands import Outcome
from shared.errors import (
    BadEnvelope,
    ConfigError,
    LayoutTooNew,
    MissingResult,
    RemoteTraceback,
    RunGone,
    TaskRunFailed,
    UnfinishedRun,
)
from shared.ledger import RunLedger
from shared.outcomes import exception_to_failed_state
from shared.reporting import outcome_of
from shared.results import ResultRecord, ResultRecordMetadata
from shared.runs import FlowRun, TaskRun
from shared.state_types import StateType
from shared.states import Completed, State, StateDetails
from shared.transport import Command, Transport
from tests.support.ledgers import (
    CANCELLED,
    COMPLETED,
    Store,
    fields_of,
    held_by,
    new_run,
    one_begun,
    one_submitted,
    report,
    reported,
    retry_in,
    rows_of,
    seated,
    server_time,
    submitted,
)


def ended(store: Store, outcome: Outcome) -> str:
    """The id of a run that ended so."""
    seat, claim = held_by(store.ledger)
    assert reported(store.ledger, seat, report(claim, outcome)) == ["OK"]
    return claim.run_id


def returned(store: Store, value: object) -> Outcome:
    """How an attempt is reported whose function returned this."""
    return outcome_of(Completed(data=value), store.settings)


def raised(store: Store, error: Exception) -> Outcome:
    """How an attempt is reported whose function raised this."""
    try:
        raise error
    except type(error) as caught:
        return outcome_of(exception_to_failed_state(caught), store.settings)


def with_inline_limit(store: Store, limit: int) -> RunLedger:
    return RunLedger(store.exchange, store.settings.model_copy(update={"inline_limit": limit}))


# --- the record -------------------------------------------------------------------------------------------------------


def test_a_waiting_run_is_read_whole(store: Store) -> None:
    run = new_run(fields={"name": "add two", "max_retries": 2, "parent": "p", "flow": "f"})
    store.ledger.submit([run])
    made = parse_iso(fields_of(store, run.id)["created_at"])
    found = store.ledger.get(run.id)
    state: State[Any] = State.trusted(
        StateType.PENDING, "Pending", made, state_details=StateDetails(task_run_id=run.id, seq=1), id=found.state.id
    )
    assert found == TaskRun(
        id=run.id,
        task="shop.add",
        name="add two",
        queue="q",
        state=state,
        seq=1,
        max_retries=2,
        parent="p",
        flow="f",
        created=made,
        expected_start=made,
    )


def test_an_ended_run_tells_when_where_and_for_how_long_it_ran(store: Store) -> None:
    run_id = ended(store, returned(store, 3))
    found, fields = store.ledger.get(run_id), fields_of(store, run_id)
    details = found.state.state_details
    assert (found.name, found.seq, found.attempt, found.run_count, found.worker, found.error) == (
        "add",
        3,
        1,
        1,
        "w1",
        None,
    )
    assert (found.start_time, found.end_time, found.total_run_time) == (
        parse_iso(fields["start_time"]),
        parse_iso(fields["ended_at"]),
        float(fields["total_run_time"]),
    )
    assert (details.task_run_id, details.seq, details.attempt, details.worker) == (run_id, 3, 1, "w1")


def test_a_run_of_a_flow_is_a_flow_run(store: Store) -> None:
    found = store.ledger.get(one_submitted(store.ledger, fields={"kind": "flow"}))
    assert (type(found), found.kind, found.state.state_details.flow_run_id) == (FlowRun, "flow", found.id)


def test_a_scheduled_run_tells_its_due_time(store: Store) -> None:
    run_id = one_submitted(store.ledger, delay=50)
    found = store.ledger.get(run_id)
    assert (
        found.state.state_details.scheduled_time == found.expected_start == parse_iso(rows_of(store, run_id)[0]["due"])
    )


def test_many_runs_are_read_at_once_in_their_order_with_those_that_are_gone(store: Store) -> None:
    ids = submitted(store.ledger, 600)
    asked = ["gone", *reversed(ids), ids[0]]
    found = store.ledger.get_many(asked)
    assert {run_id: run and run.seq for run_id, run in found.items()} == {"gone": None, **dict.fromkeys(ids, 1)}
    assert list(found) == asked[:-1]


def test_a_run_that_is_not_there_is_gone(store: Store) -> None:
    with pytest.raises(RunGone, match="nowhere is not in Redis"):
        store.ledger.get("nowhere")


# --- results ----------------------------------------------------------------------------------------------------------


def test_a_result_within_the_limit_comes_with_the_run(store: Store) -> None:
    run_id = ended(store, returned(store, {"sum": 3}))
    state = store.ledger.get(run_id).state
    metadata = ResultRecordMetadata(storage_key=f"baton:run:{run_id}:result", run_id=run_id)
    assert (state.data, state.result(fetch=False)) == (ResultRecord(metadata, {"sum": 3}), {"sum": 3})


@pytest.mark.parametrize("limit", [0, 10])
def test_a_result_above_the_limit_comes_as_a_reference_that_loads_it(store: Store, limit: int) -> None:
    run_id = ended(store, returned(store, "x" * 50))
    state = with_inline_limit(store, limit).get(run_id).state
    assert (state.data, state.result()) == (
        ResultRecordMetadata(storage_key=f"baton:run:{run_id}:result", run_id=run_id),
        "x" * 50,
    )


def test_a_result_of_exactly_the_limit_comes_with_the_run(store: Store) -> None:
    outcome = returned(store, "x" * 50)
    run_id = ended(store, outcome)
    data = [with_inline_limit(store, len(outcome.result) + more).get(run_id).state.data for more in (0, -1)]
    assert [type(each) for each in data] == [ResultRecord, ResultRecordMetadata]


def test_a_result_that_was_none_is_a_result(store: Store) -> None:
    nothing: ResultRecord[None] = ResultRecord(ResultRecordMetadata(), None)
    state = store.ledger.get(ended(store, returned(store, nothing))).state
    assert (type(state.data), state.result()) == (ResultRecord, None)


def test_a_success_that_kept_no_result_says_so(store: Store) -> None:
    state = store.ledger.get(ended(store, COMPLETED._replace(result=b""))).state
    assert state.data is None
    with pytest.raises(MissingResult):
        state.result()


def test_a_result_that_is_gone_before_its_run_says_so(store: Store) -> None:
    run_id = ended(store, returned(store, "x" * 50))
    store.client.delete(f"baton:run:{run_id}:result")
    with pytest.raises(MissingResult, match=f"result of run '{run_id}' is no longer stored"):
        store.ledger.get(run_id).state.result()


def test_a_run_that_waits_for_its_retry_has_no_result_yet(store: Store) -> None:
    run_id = ended(store, retry_in(50)._replace(result=codec.encode("the error")))
    state = store.ledger.get(run_id).state
    assert state.data is None
    with pytest.raises(UnfinishedRun):
        state.result()


@pytest.mark.parametrize("limit", [64 * 1024, 10])
def test_an_exception_is_raised_again_with_the_workers_traceback(store: Store, limit: int) -> None:
    run_id = ended(store, raised(store, ValueError("no such basket")))
    with pytest.raises(ValueError, match="no such basket") as caught:
        with_inline_limit(store, limit).get(run_id).state.result()
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "in raised" in str(caught.value.__cause__)
    assert store.ledger.get(run_id).error == "ValueError: no such basket"


def test_an_exception_of_a_class_unknown_here_is_told_by_its_name(store: Store) -> None:
    class BasketError(Exception):
        pass

    with pytest.raises(TaskRunFailed, match="BasketError: empty"):
        store.ledger.get(ended(store, raised(store, BasketError("empty")))).state.result()


# --- damage -----------------------------------------------------------------------------------------------------------


def _set(name: str, value: str) -> Callable[[Store, str], object]:
    return lambda store, run_id: store.client.hset(f"rq:job:{run_id}", name, value)


def _drop(name: str) -> Callable[[Store, str], object]:
    return lambda store, run_id: store.client.hdel(f"rq:job:{run_id}", name)


def _overwrite(part: str) -> Callable[[Store, str], object]:
    def overwrite(store: Store, run_id: str) -> None:
        key = f"rq:job:{run_id}" if part == "job" else f"baton:run:{run_id}:{part}"
        store.client.delete(key)
        store.client.sadd(key, "not ours")

    return overwrite


def _lose(part: str) -> Callable[[Store, str], object]:
    return lambda store, run_id: store.client.delete(f"baton:run:{run_id}:{part}")


def _cut_result(store: Store, run_id: str) -> None:
    store.raw.set(f"baton:run:{run_id}:result", store.raw.get(f"baton:run:{run_id}:result")[:-1] + b"?")


DAMAGES = {
    "no task": _drop("task"),
    "no queue": _drop("origin"),
    "no seq": _drop("seq"),
    "an attempt that is no number": _set("attempt", "x"),
    "a result's size that is no number": _set("result", "x"),
    "a time that is none": _set("created_at", "yesterday"),
    "a duration that is none": _set("total_run_time", "long"),
    "a hash that is none": _overwrite("job"),
    "a history that is none": _overwrite("history"),
    "a result that is none": _overwrite("result"),
    "a traceback that is none": _overwrite("traceback"),
    "no history": _lose("history"),
    "a damaged result": _cut_result,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_run_is_said_to_be_damaged_and_the_others_are_read(
    store: Store, damage: Callable[[Store, str], object]
) -> None:
    broken, fine = ended(store, returned(store, 3)), one_submitted(store.ledger)
    damage(store, broken)
    found = store.ledger.get_many([broken, fine])
    assert (type(found[broken]), type(found[fine])) == (BadEnvelope, TaskRun)
    with pytest.raises(BadEnvelope):
        store.ledger.get(broken)


@pytest.mark.parametrize("part", ["result", "traceback"])
def test_a_reference_to_what_is_damaged_meanwhile_says_so_when_it_is_loaded(store: Store, part: str) -> None:
    state = with_inline_limit(store, 0).get(run_id := ended(store, returned(store, 3))).state
    _overwrite(part)(store, run_id)
    with pytest.raises(BadEnvelope):
        state.result()


def test_bytes_that_are_no_text_do_not_keep_a_run_from_being_read(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.raw.hset(f"rq:job:{run_id}", "name", b"\xff\xfe")
    assert store.ledger.get(run_id).name == "��"


# --- changes while it is read -----------------------------------------------------------------------------------------


@dataclass
class ChangingWhileRead:
    """A transport on which something happens between the first answer of a read and the others, a few times."""

    inner: Transport
    happens: Callable[[], object]
    times: int = 1

    @property
    def address(self) -> str:
        return self.inner.address

    def evaluate(self, *call: Any) -> Any:
        return self.inner.evaluate(*call)

    def read(self, commands: Sequence[Command]) -> list[Any]:
        answers = self.inner.read(commands[:1])
        if self.times:
            self.times -= 1
            self.happens()
        return answers + self.inner.read(commands[1:])

    def close(self) -> None:
        self.inner.close()


def test_a_run_that_changes_while_it_is_read_is_read_again(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    seat = seated(store.ledger)
    changing = ChangingWhileRead(store.exchange, lambda: one_begun(store.ledger, seat))
    found = RunLedger(changing, store.settings).get(run_id)
    assert (found.state.type, found.seq, found.attempt) == (StateType.RUNNING, 2, 1)


def test_a_run_that_is_accepted_while_it_is_read_is_read_again(store: Store) -> None:
    run = new_run()
    changing = ChangingWhileRead(store.exchange, lambda: store.ledger.submit([run]))
    assert RunLedger(changing, store.settings).get(run.id).state.type is StateType.PENDING


def test_a_run_whose_history_and_record_never_agree_is_damaged(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    store.client.hset(f"rq:job:{run_id}", "seq", "7")
    with pytest.raises(BadEnvelope, match="its history and its record disagree"):
        store.ledger.get(run_id)


def test_a_run_that_ends_while_it_is_read_is_never_shown_as_two_states(store: Store) -> None:
    run_id = one_submitted(store.ledger)
    changing = ChangingWhileRead(store.exchange, lambda: store.ledger.propose(run_id, CANCELLED, "cancel", seq=1))
    found = RunLedger(changing, store.settings).get(run_id)
    assert (found.state.type, found.seq, found.end_time) == (StateType.CANCELLED, 2, found.state.timestamp)


# --- the server -------------------------------------------------------------------------------------------------------


def test_a_server_that_can_be_used_passes_the_check(store: Store) -> None:
    store.ledger.check()


def test_data_of_a_newer_layout_is_not_touched(store: Store) -> None:
    store.client.hset("baton:meta", "layout", "99")
    with pytest.raises(LayoutTooNew, match="holds data of layout 99"):
        store.ledger.check()


def test_a_layout_that_is_no_number_is_refused_in_words(store: Store) -> None:
    store.client.hset("baton:meta", "layout", "x")
    with pytest.raises(ConfigError, match="layout 'x'"):
        store.ledger.check()


def test_the_real_server_tells_its_version_age_and_data_set(real: Store) -> None:
    life = real.ledger.server_life()
    assert (real.ledger.server_version()[0].isdigit(), len(life.run_id), len(life.replication)) == (True, 40, 40)
    assert 0 <= life.age < 3600


def test_every_server_tells_its_time(store: Store) -> None:
    before = server_time(store)
    assert before <= store.ledger.server_life().at <= server_time(store)


def test_a_redis_that_is_new_to_baton_is_marked_and_the_mark_stays(store: Store) -> None:
    store.ledger.check()
    mark = store.client.hgetall("baton:meta")
    store.ledger.check()
    assert (mark["layout"], mark["created_by"].split()[0]) == ("1", "baton")
    assert store.client.hgetall("baton:meta") == mark


# --- serializers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_a_result_is_read_whatever_serializer_its_writer_was_set_to(store: Store, serializer: str) -> None:
    value = {"rows": [(1, "x" * 50)] * 2000}
    settings = store.settings.model_copy(update={"result_serializer": serializer})
    run_id = ended(store, outcome_of(Completed(data=value), settings))
    read_later = with_inline_limit(store, 100).get(run_id).state
    assert (store.ledger.get(run_id).state.result(), read_later.result()) == (value, value)
