import os
import signal
import threading
from collections.abc import Iterator
from itertools import count
from types import FrameType
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidValue
from shared.ids import IdSource, as_id, is_id, new_id

MILLISECOND = 1_000_000
START = 1_795_000_000_000 * MILLISECOND


def source_at(*nanoseconds: int) -> IdSource:
    """A source whose clock shows these times, and then the last one for ever."""
    times: Iterator[int] = iter(nanoseconds)
    last = nanoseconds[-1]
    return IdSource(unix_nanoseconds=lambda: next(times, last))


def test_an_id_is_a_uuid_of_version_7_as_canonical_text() -> None:
    made = new_id()
    parsed = UUID(made)
    assert (str(parsed), parsed.version, parsed.variant) == (made, 7, "specified in RFC 4122")


def test_an_id_begins_with_the_milliseconds_of_its_time() -> None:
    made = source_at(START + 999_999).new_id()
    assert int(made[:8] + made[9:13], 16) == 1_795_000_000_000


def test_the_next_millisecond_is_told_by_the_next_id() -> None:
    source = source_at(START, START + MILLISECOND - 1, START + MILLISECOND, START + 2 * MILLISECOND)
    made = [int(one[:8] + one[9:13], 16) - START // MILLISECOND for one in (source.new_id() for _ in range(4))]
    assert made == [0, 0, 1, 2]


def test_ids_of_one_millisecond_grow() -> None:
    source = source_at(START)
    made = [source.new_id() for _ in range(2000)]
    assert made == sorted(set(made))
    assert {one[:13] for one in made} == {made[0][:13]}


def test_a_full_counter_takes_the_next_millisecond_early() -> None:
    source = source_at(START)
    made = [source.new_id() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert made[-1][:13] > made[0][:13]


def test_ids_grow_although_the_clock_steps_back() -> None:
    source = source_at(START + 5 * MILLISECOND, START, START - 1000 * MILLISECOND)
    made = [source.new_id() for _ in range(10_000)]
    assert made == sorted(set(made))


def test_the_counter_starts_in_its_lower_half_and_the_variant_is_kept_for_any_random_bytes() -> None:
    source = IdSource(unix_nanoseconds=lambda: START, random_bytes=lambda length: b"\xff" * length)
    assert source.new_id() == "01a1ee56-5e00-7800-bfff-ffffffffffff"


def test_threads_never_get_the_same_id() -> None:
    made: list[list[str]] = [[] for _ in range(8)]

    def make(into: list[str]) -> None:
        into.extend(new_id() for _ in range(3000))

    threads = [threading.Thread(target=make, args=(one,)) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one == sorted(one) for one in made)
    assert len({one for some in made for one in some}) == 8 * 3000


def test_a_forked_child_makes_other_ids_than_its_parent() -> None:
    new_id()  # so that random text lies prepared that both could use
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write_end, "".join(new_id()[-17:] for _ in range(100)).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    random_parts = {text[start : start + 17] for start in range(0, len(text), 17)}
    assert len(random_parts) == 100
    assert random_parts.isdisjoint(new_id()[-17:] for _ in range(100))


def test_a_signal_handler_that_interrupts_the_making_of_an_id_gets_another_one() -> None:
    ticks = count()
    in_handler: list[str] = []

    def interrupting_clock() -> int:
        if next(ticks) == 0:
            signal.raise_signal(signal.SIGUSR2)
        return START

    def make_one(_number: int, _frame: FrameType | None) -> None:
        in_handler.append(source.new_id())

    source = IdSource(unix_nanoseconds=interrupting_clock)
    before = signal.signal(signal.SIGUSR2, make_one)
    try:
        outside = source.new_id()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert len({outside, *in_handler}) == 2


@given(st.uuids())
def test_every_uuid_and_its_text_are_the_same_id(value: UUID) -> None:
    assert as_id(value) == as_id(str(value)) == str(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "run-1",
        "01A1EE5D-2600-7800-BFFF-FFFFFFFFFFFF",
        "01a1ee5d26007800bfffffffffffffff",
        "{01a1ee56-5e00-7800-bfff-ffffffffffff}",
        "01a1ee56-5e00-7800-bfff-ffffffffffff\n",
        "01a1ee56-5e00-7800-bfff-fffffffffff\N{ARABIC-INDIC DIGIT ONE}",
    ],
)
def test_other_texts_are_no_ids(text: str) -> None:
    assert not is_id(text)
    with pytest.raises(InvalidValue, match="not an id"):
        as_id(text)


@pytest.mark.parametrize("value", [None, 5, b"01a1ee56-5e00-7800-bfff-ffffffffffff"])
def test_what_is_no_text_is_no_id(value: object) -> None:
    assert not is_id(value)
