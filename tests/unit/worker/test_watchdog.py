"""Which children stand still."""

import time
from collections.abc import Callable

import pytest

from shared.clock import monotonic
from shared.settings import Settings
from tests.support.waiting import eventually
from worker.child import Child
from worker.endings import Endings
from worker.page import Page
from worker.watchdog import Watchdog

LONG = 0.2


@pytest.fixture
def child() -> Child:
    """A child that is a page only."""
    page = Page()
    return Child("w1", page, 1, Endings(page, 1, Settings()), monotonic())


def test_a_child_that_makes_no_round_is_found_also_before_its_first(child: Child) -> None:
    watchdog, began = Watchdog(LONG, LONG), monotonic()
    assert watchdog.stuck([child]) == []
    assert eventually(lambda: watchdog.stuck([child])) == [child]
    assert monotonic() - began > LONG
    child.page.round()
    assert watchdog.stuck([child]) == []


@pytest.mark.parametrize(
    "does",
    [
        lambda page: page.round(),
        lambda page: page.begin_body(1, None),
        lambda page: page.in_start_hooks(on=True),
        lambda page: page.begin_hook(),
    ],
    ids=["a round", "a body", "a start hook", "a hook"],
)
def test_a_child_that_does_something_is_not_stuck(child: Child, does: Callable[[Page], None]) -> None:
    watchdog, until = Watchdog(LONG, LONG), monotonic() + 3 * LONG
    while monotonic() < until:
        does(child.page)
        assert watchdog.stuck([child]) == []


def test_a_child_in_a_hook_is_stuck_once_it_has_outlived_its_limit_for_so_long(child: Child) -> None:
    watchdog, began = Watchdog(LONG, 2 * LONG), monotonic()
    watchdog.stuck([child])
    child.page.begin_hook()
    assert eventually(lambda: watchdog.stuck([child])) == [child]
    assert monotonic() - began > 2.5 * LONG
    child.page.end_hook()
    child.page.round()
    assert watchdog.stuck([child]) == []


def test_time_in_which_the_supervisor_stood_still_itself_does_not_count(child: Child) -> None:
    watchdog = Watchdog(LONG, LONG)
    watchdog.stuck([child])
    time.sleep(2 * LONG)
    assert watchdog.stuck([child]) == []
    assert eventually(lambda: watchdog.stuck([child])) == [child]
