import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from shared import clock
from shared.errors import (
    BadEnvelope,
    CancelledRun,
    CrashedRun,
    FailedRun,
    InvalidCall,
    MissingResult,
    PausedRun,
    RedisUnavailable,
    RunGone,
    TaskRunFailed,
    UnfinishedRun,
)
from shared.exceptions_as_data import ExceptionData
from shared.results import UNKEPT, ResultRecord, ResultRecordMetadata, ResultSource, record_of
from shared.states import Cancelled, Completed, Crashed, Failed, Paused, State, StateType, Suspended
from shared.version import __version__

MOMENT = clock.parse_iso("2026-11-20T09:15:00.000250Z")
ID = "01a1ee56-5e00-7800-bfff-ffffffffffff"
Ask = Callable[..., Any]

FAILURES = [(Failed, FailedRun), (Crashed, CrashedRun), (Cancelled, CancelledRun)]
each_failure = pytest.mark.parametrize(("maker", "wrapper"), FAILURES, ids=["failed", "crashed", "cancelled"])
each_maker = pytest.mark.parametrize("maker", [Failed, Crashed, Cancelled], ids=["failed", "crashed", "cancelled"])


def ask(state: State[Any], **options: Any) -> Any:
    return state.result(**options)


def aask(state: State[Any], **options: Any) -> Any:
    return asyncio.run(state.aresult(**options))


both = pytest.mark.parametrize("result", [ask, aask], ids=["result", "aresult"])


class Shelf:
    """A source of one record. It answers with what it was given, in order, and notes how long it was told to wait."""

    def __init__(self, *answers: ResultRecord[Any] | Exception) -> None:
        self.answers = list(answers)
        self.waits: list[float] = []
        self.reads = 0

    def load(self) -> ResultRecord[Any]:
        self.reads += 1
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def aload(self) -> ResultRecord[Any]:
        return self.load()

    async def asleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def reference(self, run_id: str | None = ID) -> ResultRecordMetadata:
        source = ResultSource(self.load, self.aload, self.waits.append, self.asleep)
        return ResultRecordMetadata(storage_key="k", run_id=run_id).bound_to(source)


def broken() -> RedisUnavailable:
    return RedisUnavailable("no answer", "127.0.0.1:6379/0")


# --- records and references -------------------------------------------------------------------------------------------


def test_a_record_of_a_value_says_how_it_is_kept() -> None:
    record = record_of(5, "k", MOMENT)
    metadata = ResultRecordMetadata("k", MOMENT, "msgpack", __version__, None)
    assert record == ResultRecord(metadata, 5)
    assert record_of(None) == ResultRecord(UNKEPT, None)


def test_records_and_references_cannot_be_changed() -> None:
    record = record_of(5, "k")
    with pytest.raises(FrozenInstanceError):
        record.result = 6  # type: ignore[misc] # what is refused here
    with pytest.raises(FrozenInstanceError):
        record.metadata.storage_key = "other"  # type: ignore[misc] # what is refused here


def test_where_a_reference_is_bound_to_is_neither_compared_nor_shown() -> None:
    bound, free = Shelf(record_of(1)).reference(), ResultRecordMetadata(storage_key="k", run_id=ID)
    assert (bound, hash(bound), repr(bound), bound.to_json()) == (free, hash(free), repr(free), free.to_json())
    assert (bound.source is None, free.source is None) == (False, True)


# --- the order of checks ----------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("state", [Paused(data=5), Suspended(data=ValueError())])
@pytest.mark.parametrize("raise_on_failure", [True, False])
def test_a_paused_run_has_no_result(result: Ask, state: State[Any], raise_on_failure: bool) -> None:
    with pytest.raises(PausedRun) as caught:
        result(state, raise_on_failure=raise_on_failure)
    assert str(caught.value) == "Run is paused, its result is not available."
    assert caught.value.state is state


@both
@pytest.mark.parametrize("kind", ["SCHEDULED", "PENDING", "RUNNING", "CANCELLING"])
@pytest.mark.parametrize("raise_on_failure", [True, False])
def test_an_unfinished_run_has_no_result(result: Ask, kind: str, raise_on_failure: bool) -> None:
    with pytest.raises(UnfinishedRun) as caught:
        result(State(type=StateType(kind), data=5), raise_on_failure=raise_on_failure)
    assert str(caught.value) == f"Run is in {kind} state, its result is not available."


@both
@each_failure
def test_a_failure_raises_its_exception(result: Ask, maker: Ask, wrapper: type[Exception]) -> None:
    error = KeyError("x")
    with pytest.raises(KeyError) as caught:
        result(maker(data=error))
    assert caught.value is error
    with pytest.raises(wrapper, match=r"^told$"):
        result(maker(message="told"))


@both
@each_maker
@pytest.mark.parametrize("data", [5, [], KeyError("x"), "text", Completed(), {"storage_key": "k"}], ids=repr)
def test_without_raising_a_failure_gives_its_data(result: Ask, maker: Ask, data: Any) -> None:
    assert result(maker(data=data), raise_on_failure=False) is data
    assert result(maker(data=record_of(data)), raise_on_failure=False) is data


@both
@each_failure
def test_without_raising_a_failure_without_data_gives_the_wrapper(
    result: Ask, maker: Ask, wrapper: type[Exception]
) -> None:
    given = result(maker(message="told", state_details={"task_run_id": ID}), raise_on_failure=False)
    assert (type(given), str(given), given.run_id) == (wrapper, "told", ID)


@both
def test_a_failed_state_whose_data_is_no_exception_cannot_be_raised(result: Ask) -> None:
    with pytest.raises(InvalidCall, match="Unexpected result for failed state: 5"):
        result(Failed(data=5))


@both
@pytest.mark.parametrize(
    "value", [5, 0, "", [], {}, False, {"storage_key": "k"}, [Completed()], ValueError("x")], ids=repr
)
def test_a_completed_run_gives_its_value(result: Ask, value: Any) -> None:
    assert result(Completed(data=value)) is value
    assert result(Completed(data=record_of(value))) is value


@both
def test_a_completed_run_that_returned_none_gives_none(result: Ask) -> None:
    assert result(Completed(data=record_of(None))) is None


@both
@pytest.mark.parametrize("raise_on_failure", [True, False])
def test_a_completed_run_whose_result_was_not_kept_has_none(result: Ask, raise_on_failure: bool) -> None:
    with pytest.raises(MissingResult) as caught:
        result(Completed(), raise_on_failure=raise_on_failure)
    told = "State data is missing. Typically, this occurs when result persistence is disabled."
    assert str(caught.value) == told


def test_result_is_never_a_coroutine_not_even_on_an_event_loop() -> None:
    async def on_a_loop() -> Any:
        return Completed(data=5).result()

    assert asyncio.run(on_a_loop()) == 5
    assert inspect.iscoroutinefunction(State.aresult)


# --- stored results ---------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("value", [5, None, [Completed()]], ids=repr)
@pytest.mark.parametrize("fetch", [None, True])
def test_a_reference_is_read_from_the_store_that_it_came_from(result: Ask, value: Any, fetch: bool | None) -> None:
    shelf = Shelf(record_of(value))
    assert result(Completed(data=shelf.reference()), fetch=fetch) is value
    assert (shelf.reads, shelf.waits) == (1, [])


@both
def test_without_fetching_nothing_is_read(result: Ask) -> None:
    shelf = Shelf(AssertionError())
    reference = shelf.reference()
    assert result(Completed(data=reference), fetch=False) is reference
    assert result(Failed(data=reference), fetch=False, raise_on_failure=False) is reference
    assert result(Completed(data=record_of(5)), fetch=False) == 5
    assert shelf.reads == 0


@both
@each_failure
def test_without_fetching_a_stored_exception_is_raised_as_the_wrapper(
    result: Ask, maker: Ask, wrapper: type[Exception]
) -> None:
    shelf = Shelf(AssertionError())
    with pytest.raises(wrapper, match=r"^told$"):
        result(maker(message="told", data=shelf.reference()), fetch=False)
    assert shelf.reads == 0


@both
@each_maker
def test_a_stored_exception_is_raised(result: Ask, maker: Ask) -> None:
    stored = record_of(ExceptionData("KeyError", "'x'", ("x",)))
    with pytest.raises(KeyError, match="x"):
        result(maker(data=Shelf(stored).reference()))
    given = result(maker(data=Shelf(stored).reference()), raise_on_failure=False)
    assert (type(given), given.args) == (KeyError, ("x",))


@both
def test_exceptions_as_data_never_come_back_as_data(result: Ask) -> None:
    given = result(Failed(data=ExceptionData("shop.Broken", "m")), raise_on_failure=False)
    assert (type(given), str(given), given.type_name) == (TaskRunFailed, "Broken: m", "shop.Broken")


@both
@pytest.mark.parametrize("error", [broken(), ConnectionResetError("reset")], ids=lambda error: type(error).__name__)
def test_a_broken_connection_is_tried_again_a_quarter_of_a_second_later(result: Ask, error: Exception) -> None:
    shelf = Shelf(error, error, record_of(5))
    assert result(Completed(data=shelf.reference())) == 5
    assert (shelf.reads, shelf.waits) == (3, [0.25, 0.25])


@both
def test_after_ten_tries_the_last_error_is_raised(result: Ask) -> None:
    errors = [broken() for _ in range(12)]
    shelf = Shelf(*errors)
    with pytest.raises(RedisUnavailable) as caught:
        result(Completed(data=shelf.reference()))
    assert caught.value is errors[9]
    assert (shelf.reads, shelf.waits) == (10, [0.25] * 9)


@both
@pytest.mark.parametrize("maker", [Completed, Failed])
def test_asked_not_to_retry_it_tries_once(result: Ask, maker: Ask) -> None:
    shelf = Shelf(broken(), record_of(ValueError("x")))
    with pytest.raises(RedisUnavailable):
        result(maker(data=shelf.reference()), retry_result_failure=False)
    assert (shelf.reads, shelf.waits) == (1, [])


@both
@pytest.mark.parametrize("raise_on_failure", [True, False])
def test_a_stored_exception_is_tried_for_again_too(result: Ask, raise_on_failure: bool) -> None:
    shelf = Shelf(broken(), record_of(ValueError("x")))
    state = Failed(data=shelf.reference())
    if raise_on_failure:
        with pytest.raises(ValueError, match="x"):
            result(state)
    else:
        assert isinstance(result(state, raise_on_failure=False), ValueError)
    assert shelf.waits == [0.25]


@both
@pytest.mark.parametrize("run_id", [ID, None], ids=["of the reference", "of the state"])
def test_a_result_that_is_no_longer_stored_is_missing_at_once(result: Ask, run_id: str | None) -> None:
    shelf = Shelf(MissingResult("gone"))
    state = Completed(data=shelf.reference(run_id), state_details={"flow_run_id": ID})
    with pytest.raises(MissingResult) as caught:
        result(state)
    assert str(caught.value) == f"The result of run '{ID}' is no longer stored: it expired or was deleted."
    assert (shelf.reads, shelf.waits) == (1, [])


@both
def test_a_missing_result_of_no_known_run_is_told_by_its_key(result: Ask) -> None:
    with pytest.raises(MissingResult, match="The result with the key 'k' is no longer stored"):
        result(Completed(data=Shelf(MissingResult("gone")).reference(None)))


@both
def test_an_unreadable_result_raises_what_its_store_says(result: Ask) -> None:
    with pytest.raises(BadEnvelope, match="damaged"):
        result(Completed(data=Shelf(BadEnvelope("damaged")).reference()))


@both
@each_failure
@pytest.mark.parametrize(
    "error", [MissingResult(), BadEnvelope(), RunGone(), KeyError("serializer")], ids=lambda error: type(error).__name__
)
@pytest.mark.parametrize("raise_on_failure", [True, False])
def test_a_failure_is_never_hidden_behind_a_result_that_is_gone_or_unreadable(
    result: Ask, maker: Ask, wrapper: type[Exception], error: Exception, raise_on_failure: bool
) -> None:
    state = maker(message="told", data=Shelf(error).reference())
    if raise_on_failure:
        with pytest.raises(wrapper, match=r"^told$"):
            result(state)
    else:
        given = result(state, raise_on_failure=False)
        assert (type(given), str(given)) == (wrapper, "told")


@both
def test_a_stored_none_of_a_failure_is_its_value_if_not_raised(result: Ask) -> None:
    assert result(Failed(data=Shelf(record_of(None)).reference()), raise_on_failure=False) is None
    with pytest.raises(FailedRun, match=r"^Run failed\.$"):
        result(Failed(data=Shelf(record_of(None)).reference()))


@both
def test_a_reference_made_by_hand_has_no_result(result: Ask) -> None:
    with pytest.raises(MissingResult, match="'k' is bound to no store"):
        result(Completed(data=ResultRecordMetadata(storage_key="k")))


def test_on_an_event_loop_nothing_blocks() -> None:
    """The blocking halves of the source are never used."""

    def blocks(*_ignored: object) -> Any:
        raise AssertionError

    answers: list[Any] = [broken(), record_of(5)]
    waits: list[float] = []

    async def aload() -> ResultRecord[Any]:
        answer: ResultRecord[Any] | Exception = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def asleep(seconds: float) -> Awaitable[None]:
        waits.append(seconds)
        return asyncio.sleep(0)

    reference = UNKEPT.bound_to(ResultSource(blocks, aload, blocks, asleep))
    assert aask(Completed(data=reference)) == 5
    assert waits == [0.25]


def test_a_stop_iteration_is_raised_as_itself_where_that_is_possible() -> None:
    error = StopIteration("end")
    with pytest.raises(StopIteration) as caught:
        ask(Failed(data=error))
    assert caught.value is error
    with pytest.raises(FailedRun, match=r"^StopIteration: end$") as wrapped:
        aask(Failed(data=error))
    assert wrapped.value.__cause__ is error


def test_an_interrupt_of_this_process_is_raised_as_itself() -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(Crashed(data=KeyboardInterrupt()))
