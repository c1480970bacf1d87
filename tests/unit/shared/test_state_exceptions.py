import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from shared.annotations import allow_failure, quote
from shared.errors import (
    BadEnvelope,
    CancelledRun,
    CrashedRun,
    FailedRun,
    InvalidCall,
    InvalidValue,
    MissingResult,
    RedisUnavailable,
)
from shared.exceptions_as_data import ExceptionData
from shared.outcomes import (
    aget_state_exception,
    aget_state_result,
    araise_state_exception,
    get_state_exception,
    get_state_result,
    raise_state_exception,
)
from shared.results import ResultRecord, ResultRecordMetadata, ResultSource, record_of
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
)

ID = "01a1ee56-5e00-7800-bfff-ffffffffffff"
Call = Callable[..., Any]


def on_a_loop(function: Call) -> Call:
    return lambda *arguments, **options: asyncio.run(function(*arguments, **options))


to_exception = pytest.mark.parametrize(
    "get", [get_state_exception, on_a_loop(aget_state_exception)], ids=["sync", "async"]
)
to_raise = pytest.mark.parametrize(
    "raise_it", [raise_state_exception, on_a_loop(araise_state_exception)], ids=["sync", "async"]
)


WRAPPERS = [
    (Failed, FailedRun, "Run failed."),
    (Crashed, CrashedRun, "Run crashed."),
    (Cancelled, CancelledRun, "Run cancelled."),
]
each_failure = pytest.mark.parametrize(
    ("maker", "wrapper", "default"), WRAPPERS, ids=["failed", "crashed", "cancelled"]
)
each_maker = pytest.mark.parametrize("maker", [Failed, Crashed, Cancelled], ids=["failed", "crashed", "cancelled"])


@to_exception
@pytest.mark.parametrize(
    "maker", [Scheduled, Pending, Running, Completed, Paused, Cancelling], ids=lambda maker: maker.__name__
)
def test_what_did_not_fail_has_no_exception(get: Call, maker: Call) -> None:
    state = maker(data=ValueError("x"))
    with pytest.raises(InvalidValue) as caught:
        get(state)
    assert str(caught.value) == f"Expected failed or crashed state got {state!r}."


@to_exception
@each_failure
@pytest.mark.parametrize("data", [None, record_of(None)], ids=["nothing", "record of None"])
def test_without_data_it_is_the_wrapper_with_the_states_message(
    get: Call, maker: Call, wrapper: type[Exception], default: str, data: Any
) -> None:
    told = get(maker(message="told", data=data, state_details={"task_run_id": ID}))
    assert (type(told), str(told), told.run_id, told.type_name, told.traceback) == (wrapper, "told", ID, None, None)
    assert [str(get(maker(message=message, data=data))) for message in (None, "")] == [default, default]


@to_exception
@each_maker
@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), StopIteration()], ids=repr)
def test_an_exception_is_returned_itself(get: Call, maker: Call, error: BaseException) -> None:
    assert get(maker(data=error)) is error
    assert get(maker(data=record_of(error))) is error


@to_exception
@each_failure
def test_an_exception_from_afar_is_rebuilt(get: Call, maker: Call, wrapper: type[Exception], default: str) -> None:
    rebuilt = get(maker(data=record_of(ExceptionData("KeyError", "'x'", ("x",), "Traceback ...")), message=default))
    assert (type(rebuilt), rebuilt.args, str(rebuilt.__cause__).strip()) == (KeyError, ("x",), "Traceback ...")
    unknown: Any = get(maker(data=ExceptionData("shop.Broken", "m"), state_details={"flow_run_id": ID}))
    told = (issubclass(type(unknown), wrapper), str(unknown), unknown.type_name, unknown.run_id)
    assert told == (True, "Broken: m", "shop.Broken", ID)


@to_exception
@each_failure
@pytest.mark.parametrize("text", ["why", ""])
def test_a_text_is_the_text_of_the_wrapper(
    get: Call, maker: Call, wrapper: type[Exception], default: str, text: str
) -> None:
    for data in (text, record_of(text)):
        made = get(maker(data=data, message=default))
        assert (type(made), str(made)) == (wrapper, text)


@to_exception
@each_maker
def test_of_a_state_it_is_that_states_exception(get: Call, maker: Call) -> None:
    error = ValueError("x")
    assert get(maker(data=Failed(data=record_of(error)))) is error
    inner = get(maker(data=record_of(Crashed(message="inner"))))
    assert (type(inner), str(inner)) == (CrashedRun, "inner")
    completed = Completed(data=5)
    with pytest.raises(InvalidValue) as caught:
        get(maker(data=completed))
    assert str(caught.value) == f"Expected failed or crashed state got {completed!r}."


@to_exception
@each_maker
@pytest.mark.parametrize("container", [list, tuple])
def test_of_states_it_is_that_of_the_first_failure(get: Call, maker: Call, container: Call) -> None:
    first = ValueError("first")
    states = container([Completed(), Running(), Crashed(data=first), Failed(data=KeyError("second"))])
    assert get(maker(data=states)) is first
    cancelled = get(maker(data=record_of([Completed(), Cancelled(message="c")])))
    assert (type(cancelled), str(cancelled)) == (CancelledRun, "c")


@to_exception
@each_maker
def test_of_states_without_a_failure_there_is_none(get: Call, maker: Call) -> None:
    with pytest.raises(InvalidValue) as caught:
        get(maker(data={Completed(), Running()}))
    assert str(caught.value) == "Failed state result was an iterable of states but none were failed."


@to_exception
@each_maker
@pytest.mark.parametrize(
    "data",
    [
        5,
        [],
        {},
        b"bytes",
        [Failed(), 5],
        {"a": Failed()},
        quote(Failed()),
        quote(ValueError("x")),
        allow_failure([Failed()]),
    ],
    ids=repr,
)
def test_of_anything_else_no_exception_can_be_made(get: Call, maker: Call, data: Any) -> None:
    for given in (data, record_of(data)):
        with pytest.raises(InvalidCall) as caught:
            get(maker(data=given))
        kind = type(data).__name__
        told = f"Unexpected result for failed state: {data!r} —— {kind} cannot be resolved into an exception"
        assert str(caught.value) == told


@to_exception
def test_states_that_contain_each_other_end_in_the_wrapper(get: Call) -> None:
    inside: list[Any] = []
    state = Failed(message="told", data=inside)
    inside.append(state)
    assert (type(get(state)), str(get(state))) == (FailedRun, "told")


def stored(answer: Any) -> ResultRecordMetadata:
    """A reference to a store that answers so, each time or in turn."""

    answers = list(answer) if isinstance(answer, tuple) else [answer]

    def load() -> ResultRecord[Any]:
        now = answers[0] if len(answers) == 1 else answers.pop(0)
        if isinstance(now, Exception):
            raise now
        return record_of(now)

    async def aload() -> ResultRecord[Any]:
        return load()

    async def asleep(_seconds: float) -> None:
        return

    return ResultRecordMetadata(storage_key="k").bound_to(ResultSource(load, aload, lambda _seconds: None, asleep))


@to_exception
@each_failure
def test_a_stored_exception_is_read(get: Call, maker: Call, wrapper: type[Exception], default: str) -> None:
    error = ExceptionData("KeyError", "'x'", ("x",))
    assert repr(get(maker(data=stored(error), message=default))) == "KeyError('x')"
    assert str(get(maker(data=stored("why")))) == "why"
    assert (type(get(maker(data=stored(None)))), str(get(maker(data=stored(None))))) == (wrapper, default)


@to_exception
@each_failure
@pytest.mark.parametrize("error", [MissingResult(), BadEnvelope()], ids=lambda error: type(error).__name__)
def test_a_lost_exception_gives_the_wrapper(
    get: Call, maker: Call, wrapper: type[Exception], default: str, error: Exception
) -> None:
    for data in (stored(error), ResultRecordMetadata(storage_key="by hand")):
        made = get(maker(data=data, message="told"))
        assert (type(made), str(made)) == (wrapper, "told")
    assert str(get(maker(data=stored(error)))) == default


@to_exception
def test_a_broken_connection_is_no_lost_exception(get: Call) -> None:
    with pytest.raises(RedisUnavailable, match="no answer"):
        get(Failed(data=stored(RedisUnavailable("no answer"))))


@to_raise
@pytest.mark.parametrize(
    "maker", [Completed, Running, Pending, Scheduled, Paused, Cancelling], ids=lambda maker: maker.__name__
)
def test_nothing_is_raised_for_what_did_not_fail(raise_it: Call, maker: Call) -> None:
    assert raise_it(maker(data=ValueError("x"))) is None


@to_raise
@each_failure
def test_a_failure_is_raised(raise_it: Call, maker: Call, wrapper: type[Exception], default: str) -> None:
    error = KeyError("x")
    with pytest.raises(KeyError) as caught:
        raise_it(maker(data=error))
    assert caught.value is error
    with pytest.raises(wrapper) as wrapped:
        raise_it(maker())
    assert str(wrapped.value) == default


def test_on_an_event_loop_a_stop_iteration_is_raised_in_the_wrapper() -> None:
    with pytest.raises(CrashedRun, match=r"^StopIteration: end$"):
        on_a_loop(araise_state_exception)(Crashed(data=StopIteration("end")))


@pytest.mark.parametrize("get", [get_state_result, on_a_loop(aget_state_result)], ids=["sync", "async"])
def test_the_functions_for_results_are_the_methods(get: Call) -> None:
    reference = stored(5)
    assert get(Completed(data=reference)) == 5
    assert get(Completed(data=reference), fetch=False) is reference
    assert isinstance(get(Failed(data=ValueError("x")), raise_on_failure=False), ValueError)
    with pytest.raises(ValueError, match="x"):
        get(Failed(data=ValueError("x")))
    assert get(Completed(data=stored((RedisUnavailable(), 5)))) == 5
    with pytest.raises(RedisUnavailable):
        get(Completed(data=stored((RedisUnavailable(), 5))), retry_result_failure=False)
