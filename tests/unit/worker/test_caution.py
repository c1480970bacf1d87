"""When reaping waits, by clocks that the test sets."""

import pytest

from shared.on_server import Life
from worker.caution import Caution

LEASE = 30.0
OLD = Life("a" * 40, 86_400, "r" * 40, 1000.0)
MOMENT = 0.01
"""How long each question takes."""


def heard(caution: Caution, life: Life, at: float, took: float = MOMENT) -> list[str]:
    """What comes of asking so that the answer is there at this time."""
    return caution.hear(life, at - took, at)


def later(life: Life, seconds: float, **changes: object) -> Life:
    """The same server so many seconds later, by its own clock."""
    return life._replace(at=life.at + seconds, age=life.age + seconds)._replace(**changes)


def restarted(life: Life, **changes: object) -> Life:
    return life._replace(run_id="b" * 40, replication="s" * 40, age=0.0)._replace(**changes)


def test_an_old_server_that_goes_on_as_before_needs_no_waiting() -> None:
    caution = Caution(LEASE)
    assert [heard(caution, later(OLD, step), 50.0 + step) for step in range(0, 100, 5)] == [[]] * 20
    assert caution.until <= 50.0


def test_after_the_start_that_is_heard_of_first_the_rest_of_a_lease_is_waited_for() -> None:
    caution = Caution(LEASE)
    heard(caution, OLD._replace(age=10.0), 50.0)
    assert caution.until == 70.0


def test_after_a_start_that_is_noticed_a_whole_lease_is_waited_for_whatever_its_age() -> None:
    caution = Caution(LEASE)
    heard(caution, OLD, 50.0)
    told = heard(caution, restarted(OLD, age=500.0, at=1500.0), 60.0)
    assert (caution.until, [text.split(":")[0] for text in told]) == (90.0, ["DataLossSuspected"])


def test_the_loss_of_data_is_suspected_once() -> None:
    caution = Caution(LEASE)
    heard(caution, OLD, 50.0)
    heard(caution, restarted(OLD), 55.0)
    assert heard(caution, later(restarted(OLD), 5), 60.0) == []


def test_a_start_with_the_same_data_set_loses_nothing() -> None:
    caution = Caution(LEASE)
    heard(caution, OLD, 50.0)
    assert heard(caution, restarted(OLD, replication=OLD.replication), 55.0) == []
    assert caution.until == 85.0


def test_another_data_set_under_a_server_that_goes_on_is_told_and_reaping_goes_on() -> None:
    caution = Caution(LEASE)
    heard(caution, OLD, 50.0)
    assert len(heard(caution, later(OLD, 5, replication="t" * 40), 55.0)) == 1
    assert caution.until <= 55.0


@pytest.mark.parametrize(("ahead", "waits"), [(3600.0, True), (10.1, True), (9.9, False), (0.0, False)])
def test_a_clock_that_ran_ahead_by_a_third_of_a_lease_is_waited_out(ahead: float, waits: bool) -> None:
    caution = Caution(LEASE)
    heard(caution, OLD, 50.0)
    told = heard(caution, later(OLD, 5 + ahead), 55.0 + 2 * MOMENT)
    assert (caution.until > 55.0, len(told)) == (waits, int(waits))
    assert not waits or caution.until == 55.0 + 2 * MOMENT + LEASE


def test_a_clock_that_was_set_back_is_not_waited_for() -> None:
    caution = Caution(LEASE)
    heard(caution, OLD, 50.0)
    assert (heard(caution, later(OLD, 5 - 3600), 55.0), caution.until <= 55.0) == ([], True)


def test_a_process_that_stood_still_between_its_questions_does_not_take_the_clock_for_wrong() -> None:
    caution = Caution(LEASE)
    heard(caution, OLD, 50.0)
    assert (heard(caution, later(OLD, 600), 650.0), caution.until <= 650.0) == ([], True)


def test_an_answer_that_was_long_on_its_way_does_not_make_the_clock_wrong() -> None:
    caution = Caution(LEASE)
    # The answer to the first question was given at its begin, and heard long after.
    heard(caution, OLD, 80.0, took=30.0)
    assert (heard(caution, later(OLD, 35), 85.0), caution.until <= 85.0) == ([], True)
    heard(caution, later(OLD, 40), 120.0, took=30.0)
    assert (heard(caution, later(OLD, 75), 125.0), caution.until <= 125.0) == ([], True)


def test_a_server_that_does_not_tell_who_it_is_is_taken_for_the_same() -> None:
    caution = Caution(LEASE)
    heard(caution, OLD, 50.0)
    silent = Life("", float("inf"), "", OLD.at + 5)
    assert (heard(caution, silent, 55.0), caution.is_new(silent), caution.until <= 55.0) == ([], False, True)
    assert heard(caution, later(OLD, 10), 60.0) == []
