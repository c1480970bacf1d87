"""How long to wait before trying again: the one calculator for runs, and the one for connections."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Final

from shared.errors import InvalidCall, InvalidValue

MAX_DELAYS: Final = 50
"""The most delays that a task may have; the last one repeats."""


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """Delays for `retry_delay_seconds` that double with each retry, from `backoff_factor` seconds on.

    Raises:
        InvalidCall: no number.
        InvalidValue: a negative number, or none that a delay can be.
    """
    if isinstance(backoff_factor, bool) or not isinstance(backoff_factor, int | float):
        raise InvalidCall(f"'backoff_factor' must be a number of seconds, got {type(backoff_factor).__name__}")
    if not (backoff_factor >= 0 and math.isfinite(backoff_factor)):
        raise InvalidValue(f"'backoff_factor' must be a finite number >= 0, got {backoff_factor}")
    return lambda retries: [backoff_factor * 2.0**number for number in range(min(retries, MAX_DELAYS))]


def retry_delay(
    delays: Sequence[float],
    number: int,
    jitter: float | None = None,
    draw: Callable[[float], float] = random.expovariate,
) -> float:
    """Seconds before retry `number` (from 0); of `delays` the last one repeats, none means at once.

    With a jitter factor k and a delay d > 0 the answer is an exponential draw with mean d, kept between
    d * log2(2^(1+k) / (2^(1+k) - 1)) and d * (1 + k). `draw` takes a rate, like `random.expovariate`.
    """
    delay = delays[min(number, len(delays) - 1)] if delays else 0.0
    if not jitter or not delay:
        return delay
    power = 2 ** (1 + jitter)
    least, most = delay * math.log2(power / (power - 1)), delay * (1 + jitter)
    return min(max(draw(1 / delay), least), most)


def next_delay(delays: Sequence[float], run_count: int, crashes: int, jitter: float | None) -> float:
    """Seconds before the next try of a run that has begun so many attempts, of which so many were lost."""
    return retry_delay(delays, max(0, run_count - crashes - 1), jitter)


def to_text(delays: Sequence[float]) -> str:
    """Delays as a field of the run's hash: `1,2.5,4`."""
    return ",".join(repr(float(delay)).removesuffix(".0") for delay in delays)


def from_text(text: str) -> tuple[float, ...]:
    """The inverse of `to_text`."""
    return tuple(float(part) for part in text.split(",") if part)


def backoff(tries: int, least: float = 0.1, most: float = 5.0) -> float:
    """Seconds before a lost connection is tried again: full jitter under a doubling bound, so that many spread out."""
    return random.uniform(0, min(most, least * 2**tries))  # noqa: S311 - spreads load, guards nothing
