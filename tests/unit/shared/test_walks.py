"""Reading keys of any length in pages and batches: what stays is never missed, a refusal touches one reading alone."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import fakeredis
import pytest

from shared.connections import Connections
from shared.errors import RedisUnavailable
from shared.pages import PAGE, key_names, some_of_zset, whole_hash, whole_list, whole_set, whole_zset
from shared.transport import Command, Transport
from shared.walks import BATCH, Refused, Steps, bytes_of, read_all, text_of


class Watched:
    """A way to a server within this process that notes how much is asked at once, and lets a test act in between."""

    address = "here"

    def __init__(self) -> None:
        self.client = fakeredis.FakeRedis(server=fakeredis.FakeServer(), protocol=2)
        self.sizes: list[int] = []
        self.between: Callable[[], object] = lambda: None
        self._connections = Connections(self.client, budget=1.0)

    def read(self, commands: Sequence[Command]) -> list[Any]:
        """Passed on."""
        self.sizes.append(len(commands))
        answers = self._connections.read(commands)
        self.between()
        return answers

    @property
    def transport(self) -> Transport:
        """The same, as what readings take."""
        return cast("Transport", self)

    def close(self) -> None:
        self._connections.close()
        self.client.close()


@pytest.fixture
def watched() -> Iterator[Watched]:
    found = Watched()
    yield found
    found.close()


def kept(steps: Steps[Any], into: list[Any]) -> Steps[None]:
    """A reading that keeps what it found, or why it was refused."""
    try:
        into.append((yield from steps))
    except Refused as error:
        into.append(error)


def found_by(watched: Watched, *readings: Steps[Any]) -> list[Any]:
    into: list[Any] = []
    read_all(watched.transport, [kept(reading, into) for reading in readings])
    return into


@pytest.mark.parametrize("length", [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE])
def test_a_list_is_read_whole_whatever_its_length(watched: Watched, length: int) -> None:
    members = [str(number) for number in range(length)]
    if members:
        watched.client.rpush("l", *members)
    assert found_by(watched, whole_list(b"l")) == [Counter(members)]


def test_ids_that_stay_in_a_list_are_seen_while_others_leave_at_its_head_and_arrive_at_its_tail(
    watched: Watched,
) -> None:
    watched.client.rpush("l", *range(5 * PAGE))

    def traffic() -> None:
        watched.client.lpop("l", 100)
        watched.client.rpush("l", *range(10_000, 10_050))

    watched.between = traffic
    (found,) = found_by(watched, whole_list(b"l"))
    stayed = {text_of(member) for member in watched.client.lrange("l", 0, -1)} & {
        str(number) for number in range(5 * PAGE)
    }
    assert stayed <= set(found)


def test_a_sorted_set_is_read_whole_with_its_scores(watched: Watched) -> None:
    scores = {f"m{number}": float(number) for number in range(3 * PAGE)} | {"for ever": float("inf")}
    watched.client.zadd("z", scores)
    assert found_by(
        watched, whole_zset(b"z"), some_of_zset(b"z", ["m7", "absent", "for ever"]), some_of_zset(b"z", [])
    ) == [
        {},
        {"m7": 7.0, "for ever": float("inf")},
        scores,
    ]


@pytest.mark.parametrize("size", [0, 1, 2 * PAGE + 1])
def test_a_set_is_read_whole_whatever_its_size(watched: Watched, size: int) -> None:
    members = {f"m{number}" for number in range(size)}
    if members:
        watched.client.sadd("s", *members)
    (found,) = found_by(watched, whole_set(b"s"))
    assert set(found) == members


def test_bytes_that_are_no_text_come_back_as_they_are(watched: Watched) -> None:
    watched.client.hset("h", b"\xff", b"\x00\xfe")
    ((pair,),) = (found.items() for found in found_by(watched, whole_hash(b"h")))
    assert tuple(map(bytes_of, pair)) == (b"\xff", b"\x00\xfe")


def test_a_key_of_another_type_refuses_its_own_reading_alone(watched: Watched) -> None:
    watched.client.set("s", "x")
    watched.client.hset("h", "a", "b")
    found = found_by(
        watched,
        whole_list(b"s"),
        whole_zset(b"s"),
        some_of_zset(b"s", ["a"]),
        whole_hash(b"s"),
        whole_set(b"s"),
        whole_hash(b"h"),
    )
    assert ([type(one) for one in found], str(found[0])[:9]) == ([Refused] * 5 + [dict], "WRONGTYPE")


def test_no_round_trip_carries_more_than_a_batch(watched: Watched) -> None:
    def reading(number: int) -> Steps[None]:
        yield [("EXISTS", f"k{number}")]
        yield [("EXISTS", f"k{number}")] * 11

    read_all(watched.transport, map(reading, range(1200)))
    assert (sum(watched.sizes), max(watched.sizes)) == (1200 * 12, BATCH)


def test_keys_are_found_by_pattern_and_no_others(watched: Watched) -> None:
    names = {f"rq:job:{number}" for number in range(2 * PAGE)}
    for name in names:
        watched.client.set(name, "x")
    watched.client.set("shop:cart", "x")
    assert set(key_names(watched.transport, "rq:*")) == names


def test_whoever_may_not_scan_is_told_so() -> None:
    class Denying:
        address = "there"

        @staticmethod
        def read(_commands: Sequence[Command]) -> list[Any]:
            return [ValueError("NOPERM no scan for you")]

    with pytest.raises(RedisUnavailable, match="Redis at there refuses SCAN: NOPERM"):
        list(key_names(cast("Transport", Denying()), "*"))
