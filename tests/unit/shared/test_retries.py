"""How long to wait before trying again."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidCall, InvalidValue
from shared.retries import backoff, exponential_backoff, from_text, retry_delay, to_text


@pytest.mark.parametrize(("retries", "delays"), [(0, []), (1, [3.0]), (4, [3.0, 6.0, 12.0, 24.0])])
def test_exponential_delays_double_with_each_retry(retries: int, delays: list[float]) -> None:
    assert exponential_backoff(3)(retries) == delays


def test_there_are_no_more_exponential_delays_than_a_task_may_have() -> None:
    assert len(exponential_backoff(1)(1000)) == 50


@pytest.mark.parametrize(
    ("factor", "kind"), [("2", InvalidCall), (True, InvalidCall), (-1, InvalidValue), (math.inf, InvalidValue)]
)
def test_a_factor_that_no_delay_can_be_made_of_is_refused(factor: object, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="backoff_factor"):
        exponential_backoff(factor)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("delays", "number", "expected"),
    [((), 0, 0.0), ((), 7, 0.0), ((5.0,), 0, 5.0), ((5.0,), 3, 5.0), ((1.0, 2.0, 4.0), 1, 2.0), ((1.0, 2.0), 9, 2.0)],
)
def test_the_last_delay_repeats_and_none_means_at_once(delays: tuple[float, ...], number: int, expected: float) -> None:
    assert retry_delay(delays, number) == expected


@given(st.floats(0.01, 1000), st.floats(0.01, 10), st.floats(0.0001, 10_000))
def test_jitter_stays_within_its_bounds(delay: float, factor: float, drawn: float) -> None:
    jittered = retry_delay((delay,), 0, factor, draw=lambda _rate: drawn)
    power = 2 ** (1 + factor)
    assert delay * math.log2(power / (power - 1)) <= jittered <= delay * (1 + factor)


def test_jitter_draws_around_the_delay() -> None:
    generator = random.Random(7)
    draws = [retry_delay((10.0,), 0, 1.0, draw=generator.expovariate) for _ in range(20_000)]
    assert sum(draws) / len(draws) == pytest.approx(10, rel=0.15)


def test_no_delay_has_no_jitter() -> None:
    assert retry_delay((0.0,), 0, 5.0, draw=lambda _rate: 3.0) == 0


@given(st.lists(st.integers(0, 100_000).map(lambda number: number / 4), max_size=50).map(tuple))
def test_delays_come_back_from_their_text(delays: tuple[float, ...]) -> None:
    assert from_text(to_text(delays)) == delays


@given(st.integers(0, 50))
def test_connections_are_tried_again_under_a_bound(tries: int) -> None:
    assert 0 <= backoff(tries) <= min(5.0, 0.1 * 2**tries)
