import asyncio
import gc
import logging
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

import pytest

from shared import clock
from shared.annotations import allow_failure, quote
from shared.errors import (
    InvalidCall,
    InvalidValue,
    LimitExceeded,
    MissingResult,
    RedisUnavailable,
    StorageFull,
    TerminationSignal,
)
from shared.ids import is_id
from shared.outcomes import (
    aexception_to_failed_state,
    areturn_value_to_state,
    exception_to_crashed_state,
    exception_to_failed_state,
    return_value_to_state,
)
from shared.results import ResultRecord, ResultRecordMetadata, record_of
from shared.runs import BaseRunFuture
from shared.states import (
    Cancelled,
    Cancelling,
    Completed,
    Crashed,
    Failed,
    Paused,
    Pending,
    Running,
    Scheduled,
    State,
    StateType,
)

MOMENT = clock.parse_iso("2026-11-20T09:15:00.000250Z")
ID = "01a1ee56-5e00-7800-bfff-ffffffffffff"
Call = Callable[..., Any]


class MemoryStore:
    """A store in a dict."""

    def __init__(self) -> None:
        self.kept: dict[str, ResultRecord[Any]] = {}
        self.made = 0

    def create_record(
        self, value: Any, key: str | None = None, expiration: datetime | None = None
    ) -> ResultRecord[Any]:
        self.made += 1
        return record_of(value, key or f"own-{self.made}", expiration)

    def write(self, record: ResultRecord[Any]) -> None:
        self.kept[str(record.metadata.storage_key)] = record

    async def awrite(self, record: ResultRecord[Any]) -> None:
        self.write(record)

    def read(self, key: str) -> ResultRecord[Any]:
        if key not in self.kept:
            raise MissingResult
        return self.kept[key]

    async def aread(self, key: str) -> ResultRecord[Any]:
        return self.read(key)


class FullStore(MemoryStore):
    """A store that takes no writes."""

    def write(self, record: ResultRecord[Any]) -> None:
        raise StorageFull(f"no room for {record}")


class FinishedFuture(BaseRunFuture[int]):
    """A future of a run that has ended."""

    state: ClassVar[State[int]] = Completed(data=5)

    @property
    def run_id(self) -> str:
        return ID

    def get_state(self) -> State[int]:
        return self.state

    def done(self) -> bool:
        return True

    def wait(self, timeout: float | None = None) -> State[int]:
        assert timeout is None
        return self.state

    async def wait_async(self, timeout: float | None = None) -> State[int]:
        return self.wait(timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> int | BaseException:
        return self.wait(timeout).result(raise_on_failure)

    async def aresult(
        self,
        timeout: float | None = None,
        raise_on_failure: bool = True,
    ) -> int | BaseException:
        return self.result(timeout, raise_on_failure)


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def on_a_loop(function: Call) -> Call:
    return lambda *arguments, **options: asyncio.run(function(*arguments, **options))


to_failed = pytest.mark.parametrize(
    "to_state", [exception_to_failed_state, on_a_loop(aexception_to_failed_state)], ids=["sync", "async"]
)
to_ended = pytest.mark.parametrize(
    "to_state", [return_value_to_state, on_a_loop(areturn_value_to_state)], ids=["sync", "async"]
)
# --- crashes ----------------------------------------------------------------------------------------------------------

CRASHES = [
    (asyncio.CancelledError(), "Execution was cancelled by the runtime environment."),
    (KeyboardInterrupt(), "Execution was aborted by an interrupt signal."),
    (TerminationSignal(15), "Execution was aborted by a termination signal."),
    (SystemExit(1), "Execution was aborted by Python system exit call."),
    (
        RedisUnavailable("no answer", "10.0.0.1:6379/0"),
        "Request to 10.0.0.1:6379/0 failed: RedisUnavailable: no answer.",
    ),
    (RedisUnavailable("no answer", "user:secret@h:1/0"), "Request to h:1/0 failed: RedisUnavailable: no answer."),
    (StorageFull("full", "h:1/0"), "Request to h:1/0 failed: StorageFull: full."),
    (RedisUnavailable("x"), "Request failed while attempting to contact the server: RedisUnavailable: x"),
    (ValueError("x"), "Execution was interrupted by an unexpected exception: ValueError: x"),
    (GeneratorExit(), "Execution was interrupted by an unexpected exception: GeneratorExit: "),
    (
        UnprintableError(),
        "Execution was interrupted by an unexpected exception: UnprintableError: <unprintable UnprintableError>",
    ),
]


@pytest.mark.parametrize(("error", "message"), CRASHES, ids=lambda value: type(value).__name__)
def test_a_crash_says_what_interrupted_it(error: BaseException, message: str) -> None:
    state = exception_to_crashed_state(error)
    assert (state.type, state.name, state.message) == (StateType.CRASHED, "Crashed", message)
    assert state.data is error


def test_a_cancelled_error_is_told_on_a_running_loop_too() -> None:
    async def cancelled() -> State[Any]:
        return exception_to_crashed_state(asyncio.CancelledError())

    assert asyncio.run(cancelled()).message == "Execution was cancelled by the runtime environment."


def test_a_crash_with_a_store_holds_a_record_that_is_not_written() -> None:
    store, error = MemoryStore(), ValueError("x")
    state = exception_to_crashed_state(error, store)
    assert (state.data.result, is_id(state.data.metadata.storage_key), store.kept) == (error, True, {})


@pytest.mark.parametrize("error", [ValueError("\x00\r" * 5000), ValueError("ä" * 10**6)], ids=["control", "long"])
def test_a_message_made_of_an_exception_is_never_refused(error: Exception) -> None:
    for state in (exception_to_crashed_state(error), exception_to_failed_state(error, message="Task failed")):
        assert state.message is not None
        assert len(state.message.encode()) <= 4096
        assert state.message.endswith("...")
        assert state.copy(update={"message": state.message}).message == state.message


# --- failures ---------------------------------------------------------------------------------------------------------


@to_failed
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "ValueError: x"),
        ({"message": None}, "ValueError: x"),
        (
            {"message": "Task run encountered an exception"},
            "Task run encountered an exception ValueError: x",
        ),
        (
            {"message": "Flow run encountered an exception:"},
            "Flow run encountered an exception: ValueError: x",
        ),
        ({"message": "It failed. "}, "It failed. ValueError: x"),
    ],
)
def test_a_failure_tells_its_exception_after_the_given_message(to_state: Call, given: Any, message: str) -> None:
    error = ValueError("x")
    state = to_state(error, **given)
    assert (state.type, state.name, state.message, state.data is error) == (StateType.FAILED, "Failed", message, True)


@to_failed
def test_without_an_exception_there_is_no_failure(to_state: Call) -> None:
    with pytest.raises(InvalidValue) as caught:
        to_state()
    assert str(caught.value) == "Exception was not passed and no active exception could be found."


def test_the_active_exception_is_taken_unless_one_is_given() -> None:
    error = ValueError("active")
    try:
        raise error
    except ValueError:
        assert exception_to_failed_state().data is error
        assert exception_to_failed_state(KeyError("given")).message == "KeyError: 'given'"


def test_the_active_exception_is_taken_in_a_coroutine_too() -> None:
    error = ValueError("active")

    async def handling() -> State[Any]:
        try:
            raise error
        except ValueError:
            return await aexception_to_failed_state()

    assert asyncio.run(handling()).data is error


@to_failed
def test_the_other_fields_are_the_states(to_state: Call) -> None:
    state = to_state(ValueError("x"), name="TimedOut", timestamp=MOMENT, state_details={"task_run_id": ID})
    assert (state.name, state.timestamp, state.state_details.task_run_id) == ("TimedOut", MOMENT, ID)


@to_failed
@pytest.mark.parametrize("retriable", [None, True, False])
def test_retriable_stays_as_given(to_state: Call, retriable: bool | None) -> None:
    assert to_state(ValueError("x"), state_details={"retriable": retriable}).state_details.retriable is retriable
    assert to_state(ValueError("x")).state_details.retriable is None


@to_failed
def test_the_data_of_a_failure_cannot_be_chosen(to_state: Call) -> None:
    with pytest.raises(InvalidCall, match="'data'"):
        to_state(ValueError("x"), data=5)


@to_failed
def test_a_failure_is_recorded_under_a_key_of_its_own(to_state: Call) -> None:
    store, error = MemoryStore(), ValueError("x")
    states = [to_state(error, store) for _ in range(2)]
    keys = {state.data.metadata.storage_key for state in states}
    assert ([state.data.result for state in states], len(keys), all(map(is_id, keys))) == ([error, error], 2, True)
    assert store.kept == {}


@to_failed
def test_a_failure_can_be_written_at_once(to_state: Call) -> None:
    store, error = MemoryStore(), ValueError("x")
    state = to_state(error, store, write_result=True)
    assert [record.result for record in store.kept.values()] == [error]
    assert state.to_state_create().data == state.data.metadata
    assert state.copy(update={"data": state.data.metadata}).result(raise_on_failure=False) is error


@to_failed
def test_an_error_while_writing_a_failure_is_logged(to_state: Call, caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("x")
    with caplog.at_level(logging.ERROR):
        state = to_state(error, FullStore(), write_result=True)
    assert (state.type, state.data.result, state.to_state_create().data) == (StateType.FAILED, error, None)
    assert [record.message for record in caplog.records] == ["The result of a FAILED state could not be written"]


# --- values -----------------------------------------------------------------------------------------------------------


def recorded(maker: Call, **fields: Any) -> State[Any]:
    made: State[Any] = maker(state_details={"task_run_id": ID}, **fields)
    return made


@to_ended
@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        "text",
        b"bytes",
        [],
        (),
        set(),
        {},
        [1, 2],
        {"state": Completed()},
        [Completed(), 5],
        frozenset({Completed(timestamp=MOMENT)}),
        allow_failure([Completed()]),
        quote(Failed()),
        ValueError("x"),
        range(3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_plain_value_completes_the_run(to_state: Call, value: Any) -> None:
    state = to_state(value)
    assert (state.type, state.name, state.message) == (StateType.COMPLETED, "Completed", None)
    assert type(state.data) is ResultRecord
    assert state.data.result is value
    assert state.result() is value


@to_ended
@pytest.mark.parametrize(
    "maker",
    [Completed, Failed, Crashed, Cancelled, Paused, Scheduled, Pending, Running, Cancelling],
    ids=lambda maker: maker.__name__,
)
def test_a_state_made_by_hand_is_the_state_of_the_run(to_state: Call, maker: Call) -> None:
    given = maker(message="manual", timestamp=MOMENT, data=5, state_details={"retriable": False})
    state = to_state(given)
    assert state == given.copy(update={"timestamp": MOMENT, "data": record_of(5)})
    assert state.id == given.id


@to_ended
def test_a_state_made_by_hand_without_data_has_the_result_none(to_state: Call) -> None:
    state = to_state(Completed(message="manual"))
    assert (state.data, state.result()) == (record_of(None), None)


@to_ended
@pytest.mark.parametrize(
    "data", [record_of(5, "k"), ResultRecordMetadata(storage_key="k")], ids=["record", "reference"]
)
@pytest.mark.parametrize("maker", [Completed, Failed], ids=["completed", "failed"])
@pytest.mark.parametrize("write_result", [True, False])
def test_a_state_that_holds_a_record_or_reference_is_returned_itself(
    to_state: Call, maker: Call, data: Any, write_result: bool, caplog: pytest.LogCaptureFixture
) -> None:
    given, store = maker(data=data), MemoryStore()
    assert to_state(given, store, "other", write_result=write_result) is given
    assert list(store.kept.values()) == ([data] if write_result and isinstance(data, ResultRecord) else [])
    assert caplog.records == []


@to_ended
def test_a_record_completes_the_run_with_itself(to_state: Call) -> None:
    record = record_of(5, "k")
    state = to_state(record)
    assert (state.type, state.data is record, state.result()) == (StateType.COMPLETED, True, 5)


GROUPS: list[tuple[list[Call], str, str]] = [
    ([Completed, Completed], "COMPLETED", "All states completed."),
    ([Completed, Failed, Crashed], "FAILED", "2/3 states failed."),
    ([Cancelled, Failed, Failed], "CANCELLED", "1/3 states cancelled."),
    ([Cancelled, Paused, Cancelled], "CANCELLED", "2/3 states cancelled."),
    ([Completed, Running, Pending], "FAILED", "2/3 states are not final."),
    ([Paused, Failed, Running], "PAUSED", "1/3 states paused."),
    ([Failed, Running], "FAILED", "1/2 states failed."),
    ([Crashed], "FAILED", "1/1 states failed."),
    ([Scheduled, Cancelling], "FAILED", "2/2 states are not final."),
]


@to_ended
@pytest.mark.parametrize("container", [list, tuple, set])
@pytest.mark.parametrize(("makers", "kind", "message"), GROUPS, ids=[row[2] for row in GROUPS])
def test_states_are_judged_as_a_group(
    to_state: Call, container: Call, makers: list[Call], kind: str, message: str
) -> None:
    value = container(maker(timestamp=MOMENT + timedelta(seconds=place)) for place, maker in enumerate(makers))
    state = to_state(value)
    assert (state.type, state.name, state.message) == (StateType(kind), kind.capitalize(), message)
    assert state.data == record_of(value)
    assert state.data.result is value


@to_ended
@pytest.mark.parametrize("details", [{"task_run_id": ID}, {"flow_run_id": ID}], ids=["task run", "flow run"])
@pytest.mark.parametrize(
    ("maker", "kind", "message"),
    [
        (Completed, "COMPLETED", "All states completed."),
        (Failed, "FAILED", "1/1 states failed."),
        (Crashed, "FAILED", "1/1 states failed."),
        (Cancelled, "CANCELLED", "1/1 states cancelled."),
        (Paused, "PAUSED", "1/1 states paused."),
        (Running, "FAILED", "1/1 states are not final."),
    ],
)
def test_a_recorded_state_is_judged_as_a_group_of_one(
    to_state: Call, details: dict[str, str], maker: Call, kind: str, message: str
) -> None:
    given = maker(message="of another run", state_details=details, data=record_of(5))
    state = to_state(given)
    assert (state.type, state.message, state.state_details.task_run_id) == (StateType(kind), message, None)
    assert state.data.result is given
    assert state.id != given.id


@to_ended
def test_a_generator_is_read_into_a_list_first(to_state: Call) -> None:
    assert to_state(number for number in range(3)).result() == [0, 1, 2]
    assert to_state(maker() for maker in (Completed, Failed)).message == "1/2 states failed."
    assert to_state(() for _ in ()).result() == []


@to_ended
def test_an_endless_generator_is_refused_and_closed(to_state: Call) -> None:
    ended: list[str] = []

    def endless() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
        finally:
            ended.append("closed")

    with pytest.raises(LimitExceeded, match="more than 100000 items"):
        to_state(endless())
    assert ended == ["closed"]


@to_ended
def test_a_generator_may_give_100000_items(to_state: Call) -> None:
    assert len(to_state(number for number in range(100_000)).result()) == 100_000


@to_ended
def test_an_error_in_a_generator_passes(to_state: Call) -> None:
    def failing() -> Generator[int, None, None]:
        yield 1
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        to_state(failing())


async def a_coroutine() -> int:
    return 5


async def an_async_generator() -> AsyncGenerator[int, None]:
    yield 5


@to_ended
@pytest.mark.parametrize("make", [a_coroutine, an_async_generator])
def test_a_coroutine_is_refused_and_no_warning_follows(to_state: Call, make: Call) -> None:
    with pytest.raises(InvalidCall, match="async def"):
        to_state(make())
    gc.collect()  # where a warning would become an error


@pytest.mark.parametrize("ending", ["quietly", "with an error", "waiting"])
def test_an_async_generator_that_was_begun_is_ended_as_far_as_possible(
    ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[str] = []

    async def begun() -> AsyncGenerator[int, None]:
        try:
            yield 5
        finally:
            ended.append(ending)
            if ending == "with an error":
                raise KeyError("x")
            if ending == "waiting":
                await asyncio.sleep(0)

    generator = begun()
    with pytest.raises(StopIteration):
        generator.__anext__().send(None)
    with pytest.raises(InvalidCall, match="async generator"):
        return_value_to_state(generator)
    assert ended == [ending]
    assert [record.message for record in caplog.records] == (
        ["An async generator that was returned raised while it was closed"] if ending == "with an error" else []
    )


@dataclass
class Order:
    owner: Any


@to_ended
@pytest.mark.parametrize(
    "wrap",
    [
        lambda future: future,
        lambda future: [future],
        lambda future: {"a": [(1, future)]},
        lambda future: {future: 1},
        lambda future: Order({future}),
        allow_failure,
        lambda future: Completed(data=[future]),
        record_of,
        lambda future: (one for one in [future]),
    ],
    ids=["bare", "list", "dict", "key", "dataclass", "annotation", "state", "record", "generator"],
)
def test_a_future_that_is_left_is_refused_at_any_depth(to_state: Call, wrap: Call) -> None:
    with pytest.raises(InvalidCall, match=f"a future, of run {ID}"):
        to_state(wrap(FinishedFuture()))


def test_a_deep_value_is_no_obstacle() -> None:
    value: list[Any] = []
    for _ in range(5000):
        value = [value]
    assert return_value_to_state(value).result() is value


@to_ended
@pytest.mark.parametrize("store", [None, MemoryStore()], ids=["no store", "store"])
def test_key_and_expiration_go_into_the_record(to_state: Call, store: MemoryStore | None) -> None:
    for value in (5, Completed(data=5), [Completed()]):
        metadata = to_state(value, store, "k", MOMENT).data.metadata
        assert (metadata.storage_key, metadata.expiration) == ("k", MOMENT)


@to_ended
@pytest.mark.parametrize("value", [Failed(data=5), [Failed()], Paused(), [Cancelled()]], ids=repr)
def test_what_did_not_complete_is_not_kept_under_the_key(to_state: Call, value: Any) -> None:
    assert to_state(value, None, "k", MOMENT).data.metadata == ResultRecordMetadata()
    assert to_state(value, MemoryStore(), "k", MOMENT).data.metadata.storage_key == "own-1"


@to_ended
def test_a_result_is_written_only_if_asked_for(to_state: Call) -> None:
    store = MemoryStore()
    assert (to_state(5, store, "k").to_state_create().data, store.kept) == (None, {})
    state = to_state(5, store, "k", write_result=True)
    assert store.kept == {"k": record_of(5, "k")}
    assert state.data == record_of(5, "k")


@to_ended
def test_a_written_result_can_be_read_by_its_reference(to_state: Call) -> None:
    store = MemoryStore()
    reference = to_state(5, store, "k", write_result=True).to_state_create().data
    assert reference == ResultRecordMetadata(storage_key="k")
    assert Completed(data=reference).result() == asyncio.run(Completed(data=reference).aresult()) == 5
    store.kept.clear()
    with pytest.raises(MissingResult, match="is no longer stored"):
        Completed(data=reference).result()


@to_ended
def test_a_record_without_a_key_is_written_but_gives_no_reference(to_state: Call) -> None:
    store = MemoryStore()
    state = to_state(record_of(5), store, write_result=True)
    assert (list(store.kept.values()), state.to_state_create().data) == ([record_of(5)], None)


@to_ended
def test_an_error_while_writing_a_result_is_logged(to_state: Call, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        state = to_state(5, FullStore(), write_result=True)
    assert (state.result(), state.to_state_create().data) == (5, None)
    assert [record.message for record in caplog.records] == ["The result of a COMPLETED state could not be written"]


@to_ended
def test_without_a_store_there_is_nothing_to_write(to_state: Call) -> None:
    assert to_state(5, write_result=True).result() == 5
