"""The memory that a supervisor shares with a child."""

import os
from itertools import pairwise

from shared.clock import monotonic
from worker import page as page_module
from worker.page import Page, in_words

RUN = "01a1f879-5eda-7005-8876-23ab1bc095ff"
OTHER = "01a1f879-5edb-7c12-8876-23ab1bc095ff"


def test_a_new_page_tells_of_nothing() -> None:
    page = Page()
    assert (list(page.bodies()), page.started(), page.rounds()) == ([], [], (0, 0.0))


def test_no_two_fields_share_a_cache_line() -> None:
    fields = sorted(at for name, at in vars(page_module).items() if name.endswith("_AT"))
    assert [after - before >= 64 for before, after in pairwise(fields)] == [True] * (len(fields) - 1)


def test_the_run_in_its_body_is_told_until_it_leaves() -> None:
    page, before = Page(), monotonic()
    page.start(RUN)
    page.begin_body(7, 1.5)
    (body,) = page.bodies()
    page.end_body()
    assert (body.run_id, body.token, body.seconds, list(page.bodies())) == (RUN, 7, 1.5, [])
    assert (before <= body.since <= monotonic(), page.started()) == (True, [RUN])


def test_what_is_to_end_is_known_by_its_run_and_its_token() -> None:
    page = Page()
    page.cancel(RUN, 1795180725104304)
    told = []
    for run_id in RUN, OTHER:  # begun in one call, they have one token
        page.start(run_id)
        told.append((page.is_cancelled(1795180725104304), page.is_cancelled(1795180725104305)))
    assert told == [(True, False), (False, False)]


def test_of_many_runs_each_is_in_its_place() -> None:
    page = Page(places=1000)
    page.start(RUN, 3)
    page.start(OTHER, 999)
    page.begin_body(7, None, 999)
    page.begin_body(7, 2.0, 3)
    told = [[(body.run_id, body.seconds) for body in page.bodies()], page.started()]
    page.end_body(3)
    page.rest(3)
    told += [[(body.run_id, body.seconds) for body in page.bodies()], page.started(), page.runs()]
    assert told == [[(RUN, 2.0), (OTHER, 0.0)], [RUN, OTHER], [(OTHER, 0.0)], [OTHER], 2]


def test_many_runs_are_named_by_the_first_three() -> None:
    assert [in_words(["a"]), in_words(["a", "b", "c"]), in_words(list("abcde"))] == [
        "run a",
        "runs a, b, c",
        "runs a, b, c and 2 more",
    ]


def test_as_many_ends_are_kept_as_there_are_places() -> None:
    page = Page(places=1000)
    for token in range(1, 1001):
        page.cancel(RUN, token)
    assert page.cancelled() == {(RUN, token) for token in range(1, 1001)}


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
    (body,) = page.bodies()
    assert (body.run_id, page.rounds()[0]) == (RUN, 1)
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
