"""Time limits in the main thread, by a timer's signal."""

import contextlib
import signal
import time

import pytest

from shared.errors import InvalidValue, TaskRunTimeoutError
from worker.timeouts import timeout


def test_a_blocking_call_is_interrupted_with_the_error_that_was_announced() -> None:
    with pytest.raises(TaskRunTimeoutError) as caught, timeout(0.03) as announced:
        time.sleep(30)
    assert caught.value is announced
    assert str(caught.value) == "Scope timed out after 0.03 second(s)."


def test_no_limit_arms_no_timer() -> None:
    with timeout(None) as announced:
        assert (announced, signal.getitimer(signal.ITIMER_REAL)) == (None, (0.0, 0.0))


def test_timer_and_handler_are_as_before_after_the_block() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with timeout(10):
        assert signal.getsignal(signal.SIGALRM) is not before
    assert (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)) == (before, (0.0, 0.0))


def test_they_are_as_before_after_an_error_too() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(ValueError, match="x"), timeout(10):
        raise ValueError("x")
    assert (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)) == (before, (0.0, 0.0))


def test_they_are_as_before_after_a_limit_that_is_over_at_once() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TaskRunTimeoutError), timeout(0.000_001):
        time.sleep(30)
    assert (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)) == (before, (0.0, 0.0))


def test_an_outer_limit_goes_on_while_an_inner_one_is_in_force() -> None:
    def inner() -> None:
        with timeout(0.5):
            time.sleep(30)

    def outer() -> None:
        with timeout(0.6):
            with contextlib.suppress(TaskRunTimeoutError):
                inner()
            time.sleep(30)

    before = time.monotonic()
    with pytest.raises(TaskRunTimeoutError, match=r"after 0\.6"):
        outer()
    assert 0.6 <= time.monotonic() - before < 1.1


def test_a_caller_may_choose_the_error() -> None:
    class OutOfPatience(TimeoutError): ...

    with pytest.raises(OutOfPatience), timeout(0.01, OutOfPatience):
        time.sleep(30)


@pytest.mark.parametrize("kind", [ValueError, Exception, 5])
def test_what_is_raised_must_be_a_timeout_error(kind: type[TimeoutError]) -> None:
    with pytest.raises(InvalidValue, match="TimeoutError"), timeout(1, kind):
        raise AssertionError
