"""How the end of an attempt is put on the wire."""

from typing import Any

import pytest

from shared.commands import Outcome
from shared.exceptions_as_data import ExceptionData
from shared.outcomes import exception_to_failed_state, return_value_to_state
from shared.records import result_value
from shared.reporting import outcome_of
from shared.settings import Settings
from shared.states import AwaitingRetry, Cancelled, Completed, Crashed, Failed, State

SETTINGS = Settings.load({}, retention_finished=100, retention_failed=200, retention_cancelled=300, max_result=2048)


def outcome(state: State[Any], **options: Any) -> Outcome:
    return outcome_of(state, SETTINGS, **options)


@pytest.mark.parametrize(
    ("state", "retention"), [(Completed(), 100), (Failed(), 200), (Crashed(), 200), (Cancelled(), 300)]
)
def test_each_end_has_its_retention(state: State[Any], retention: int) -> None:
    told = outcome(state)
    assert (told.state_type, told.state_name, told.retention) == (state.type, state.name, retention)


@pytest.mark.parametrize("value", [None, 0, "text", {"a": [1, 2]}, (1, 2)])
def test_a_value_comes_back_from_its_envelope(value: Any) -> None:
    told = outcome(return_value_to_state(value))
    assert result_value(told.result, None, len(told.result)) == value


def test_a_state_without_data_keeps_nothing() -> None:
    assert outcome(Completed()).result == b""


def test_a_value_is_not_kept_if_the_task_says_so_but_an_exception_always_is() -> None:
    error = exception_to_failed_state(ValueError("x"))
    assert outcome(return_value_to_state(5), persist_result=False).result == b""
    assert outcome(error, persist_result=False).result != b""


def test_an_exception_is_told_in_three_forms() -> None:
    try:
        raise ValueError("no such thing")  # noqa: TRY301 - it needs a traceback
    except ValueError as error:
        told = outcome(exception_to_failed_state(error))
    data = result_value(told.result, None, len(told.result))
    assert isinstance(data, ExceptionData)
    assert (data.type_name, data.message, data.traceback) == ("ValueError", "no such thing", None)
    assert told.error == "ValueError: no such thing"
    assert told.traceback.splitlines()[-1] == "ValueError: no such thing"


def test_the_traceback_beside_a_result_is_joined_to_the_exception() -> None:
    told = outcome(exception_to_failed_state(ValueError("x")))
    data = result_value(told.result, b"Traceback: far away", len(told.result))
    assert data.traceback == "Traceback: far away"


def test_a_result_may_live_shorter_than_its_run_but_not_a_failure() -> None:
    assert outcome(return_value_to_state(5), result_ttl=70).result_retention == 70
    assert outcome(exception_to_failed_state(ValueError()), result_ttl=70).result_retention == 200


def test_a_retry_carries_its_delay_and_what_failed() -> None:
    told = outcome(AwaitingRetry(message="m", data=ValueError("x")), delay=2.5)
    assert (told.state_type, told.state_name, told.message, told.delay) == ("SCHEDULED", "AwaitingRetry", "m", 2.5)
    assert told.error == "ValueError: x"


def test_a_value_that_cannot_be_stored_fails_the_run_with_its_path() -> None:
    told = outcome(return_value_to_state({"a": [1, object()]}))
    assert (told.state_type, told.error.split(":")[0]) == ("FAILED", "ResultNotSerialisable")
    assert "result.a[1]" in told.message


def test_a_value_that_is_too_large_fails_the_run_with_its_size() -> None:
    told = outcome(return_value_to_state("x" * 5000))
    assert (told.state_type, told.error.split(":")[0]) == ("FAILED", "ResultTooLarge")
    assert "5,000 bytes, the limit is 2,048" in told.message
