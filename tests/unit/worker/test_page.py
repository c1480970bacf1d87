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
    page.enter(RUN)
    body = page.body()
    page.leave()
    assert body is not None
    assert (body.run_id, before <= body.since <= monotonic(), page.body()) == (RUN, True, None)


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
        page.enter(RUN)
        os._exit(9)
    os.waitpid(pid, 0)
    body = page.body()
    assert (body and body.run_id, page.rounds()[0]) == (RUN, 1)
    page.close()
