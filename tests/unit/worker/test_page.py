"""The memory that a supervisor shares with a child."""

import os

from shared.clock import monotonic
from worker.page import Page

RUN = "01a1f879-5eda-7005-8876-23ab1bc095ff"


def test_a_new_page_tells_of_nothing() -> None:
    page = Page()
    assert (page.body(), page.rounds()) == (None, (0, 0.0))


def test_the_run_in_its_body_is_told_until_it_leaves() -> None:
    page, before = Page(), monotonic()
    page.start(RUN)
    page.begin_body(7, 1.5)
    body = page.body()
    page.end_body()
    assert body is not None
    assert (body.run_id, body.token, body.seconds, page.body()) == (RUN, 7, 1.5, None)
    assert (before <= body.since <= monotonic(), page.started()) == (True, RUN)


def test_what_is_to_end_is_known_by_its_token() -> None:
    page = Page()
    page.cancel(1795180725104304)
    assert (page.is_cancelled(1795180725104304), page.is_cancelled(1795180725104305)) == (True, False)


def test_runs_are_counted_up_to_what_the_process_may() -> None:
    page = Page()
    page.limit(2)
    told = []
    for _ in range(2):
        page.start(RUN)
        page.rest()
        told.append((page.runs(), page.is_spent()))
    assert (told, page.most_runs(), Page().is_spent()) == ([(1, False), (2, True)], 2, False)


def test_a_process_is_quieted_and_heard_of_its_start_hooks() -> None:
    page = Page()
    told = [(page.is_quiet(), page.is_in_start_hooks())]
    for on in True, False:
        page.quiet(on=on)
        page.in_start_hooks(on=on)
        told.append((page.is_quiet(), page.is_in_start_hooks()))
    assert told == [(False, False), (True, True), (False, False)]


def test_rounds_are_counted_with_their_time() -> None:
    page = Page()
    page.round()
    page.round()
    number, at = page.rounds()
    assert (number, at <= monotonic()) == (2, True)


def test_the_age_of_the_last_beat_is_seen() -> None:
    page = Page()
    page.beaten(monotonic() - 5)
    assert 5 <= page.since_beat() < 60


def test_what_a_child_writes_its_parent_reads_even_after_its_death() -> None:
    page = Page()
    pid = os.fork()
    if pid == 0:
        page.round()
        page.start(RUN)
        page.begin_body(1, None)
        os._exit(9)
    os.waitpid(pid, 0)
    body = page.body()
    assert (body and body.run_id, page.rounds()[0]) == (RUN, 1)
    page.close()


def test_a_process_tells_whether_it_holds_runs_that_have_not_started() -> None:
    page = Page()
    told = [page.holds_ahead()]
    for on in True, False:
        page.hold_ahead(on=on)
        told.append(page.holds_ahead())
    assert told == [False, True, False]


def test_a_hook_is_told_until_it_ends_and_hooks_that_are_due_are_counted() -> None:
    page = Page()
    told = [(page.in_hook_for(), page.hooks_told())]
    page.begin_hook()
    page.tell_of_hooks()
    within = page.in_hook_for()
    page.end_hook()
    told.append((page.in_hook_for(), page.hooks_told()))
    assert (told, within is not None and 0 <= within < 1) == ([(None, 0), (None, 1)], True)


def test_whoever_is_parked_rings_when_that_changes() -> None:
    rings: list[bool] = []
    page = Page(lambda: rings.append(page.is_parked()))
    for on in (True, True, False, False, True):
        page.park(on=on)
    assert rings == [True, False, True]


def test_an_extra_is_one_from_its_birth() -> None:
    page, other = Page(), Page()
    page.make_extra()
    assert (page.is_extra(), other.is_extra()) == (True, False)
