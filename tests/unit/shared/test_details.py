"""A run as it is stored: read at one moment where that is possible, and found by the beginning of its id."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import fakeredis
import pytest

from shared.connections import Connections
from shared.details import details, ids_like
from shared.settings import Settings
from shared.transport import Command, Transport

ID = "01a1f879-5eda-7005-8876-23ab1bc095ff"
ROW = b'{"seq":%d,"type":"PENDING","name":"Pending","time":"2026-11-20T09:15:00.000250Z"}'
SETTINGS = Settings()


class Scripted:
    """A way to Redis that gives prepared answers, the last one again and again, and counts the questions."""

    address = "here"

    def __init__(self, *answers: list[Any]) -> None:
        self.questions = 0
        self._answers = answers

    def read(self, _commands: Sequence[Command]) -> list[Any]:
        """The next answer."""
        self.questions += 1
        return self._answers[min(self.questions, len(self._answers)) - 1]


def answer(seq_of_record: int, seq_of_history: int) -> list[Any]:
    return [[b"seq", b"%d" % seq_of_record, b"task", b"shop.add"], -1, [ROW % seq_of_history], b"", b"", b""]


@pytest.fixture
def client() -> Iterator[fakeredis.FakeRedis]:
    with fakeredis.FakeRedis(server=fakeredis.FakeServer(), protocol=2) as found:
        yield found


def test_a_run_that_changed_while_it_was_read_is_read_again() -> None:
    transport = Scripted(answer(1, 2), answer(2, 3), answer(3, 3))
    found = details(cast("Transport", transport), ID, SETTINGS)
    assert (transport.questions, found and found.fields["seq"]) == (3, "3")


def test_a_run_whose_record_and_history_never_agree_is_shown_as_it_is() -> None:
    transport = Scripted(answer(1, 7))
    found = details(cast("Transport", transport), ID, SETTINGS)
    assert (transport.questions, found and found.fields["seq"]) == (5, "1")


def test_where_nothing_is_stored_there_is_nothing() -> None:
    assert details(cast("Transport", Scripted([[], -2, [], b"", b"", b""])), ID, SETTINGS) is None


def test_what_rq_hangs_below_a_job_is_no_run(client: fakeredis.FakeRedis) -> None:
    connections = Connections(client, budget=1.0)
    for key in (f"rq:job:{ID}", f"rq:job:{ID}:dependents", "rq:job:01a1f879-of-another-kind"):
        client.set(key, "x")
    assert ids_like(connections, ID[:8], 5) == [ID]
    connections.close()
