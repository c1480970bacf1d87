"""What bodies say, until it is stored: gathered, sent together, kept while Redis is away."""

import logging
from collections.abc import Sequence

from shared.errors import RedisUnavailable
from shared.notes import Note, read
from worker.notes import MOST, Notes


def keeper() -> Notes:
    """One whose thread finds nothing to do: the test stores."""
    return Notes(lambda: None)


def stored(notes: Notes) -> list[Note]:
    sent: list[Note] = []

    def send(said: Sequence[Note]) -> list[str]:
        sent.extend(said)
        return ["OK"] * len(said)

    notes.store(send)
    return sent


def test_what_many_runs_say_is_sent_together_and_once() -> None:
    notes = keeper()
    notes.log("a", 1, 1, logging.INFO, "one")
    notes.progress("b", 2, "0.5")
    notes.progress("b", 2, "0.7")
    notes.name("a", 1, "called")
    notes.log("a", 1, 1, logging.WARNING, "two")
    first = stored(notes)
    told = [(note.run_id, note.token, note.name, note.progress, note.last, len(note.rows)) for note in first]
    assert (told, stored(notes), notes.waits) == (
        [("a", "1", "called", "", 2, 2), ("b", "2", "", "0.7", 0, 0)],
        [],
        False,
    )


def test_what_does_not_arrive_is_sent_again_with_what_was_said_since() -> None:
    def refuse(_said: Sequence[Note]) -> list[str]:
        raise RedisUnavailable("away")

    notes = keeper()
    notes.log("a", 1, 1, logging.INFO, "one")
    notes.store(refuse)
    waited = notes.waits
    notes.log("a", 1, 1, logging.INFO, "two")
    (note,) = stored(notes)
    assert (waited, [read(row.encode()).message for row in note.rows], note.last) == (True, ["one", "two"], 2)


def test_numbers_go_on_within_an_attempt_and_begin_anew_with_the_next() -> None:
    notes, numbers = keeper(), []
    for token in (1, 1, 2):
        notes.log("a", token, token, logging.INFO, "said")
        numbers += [note.last for note in stored(notes)]
    assert numbers == [1, 2, 1]


def test_of_what_waits_no_more_is_kept_than_a_log_holds() -> None:
    notes = keeper()
    for number in range(MOST + 50):
        notes.log("a", 1, 1, logging.INFO, str(number))
    (note,) = stored(notes)
    kept = [read(row.encode()).number for row in note.rows]
    assert (len(kept), kept[:200], kept[-1]) == (MOST, list(range(1, 201)), MOST + 50)


def test_of_a_run_that_has_ended_nothing_is_kept() -> None:
    notes = keeper()
    notes.log("a", 1, 1, logging.INFO, "one")
    notes.ended("a")
    stored(notes)
    notes.log("a", 1, 1, logging.INFO, "later")
    assert [note.last for note in stored(notes)] == [1]
