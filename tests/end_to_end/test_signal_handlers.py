"""Submits that strike in the middle of others, as a signal handler's do."""

import os
import signal
import threading

from orchestrator import Orchestrator
from tests.end_to_end.bodies import add
from tests.support.waiting import eventually


def test_a_signal_handler_may_submit_in_the_middle_of_a_submit(baton: Orchestrator) -> None:
    handled: list[str] = []
    before = signal.signal(signal.SIGUSR2, lambda *_: handled.append(baton.submit(add, {"x": 1, "y": 1}).run_id))
    stop = threading.Event()

    def disturb() -> None:
        for number in range(50):
            os.kill(os.getpid(), signal.SIGUSR2)
            eventually(lambda number=number: len(handled) > number)  # type: ignore[misc]
        stop.set()

    helper = threading.Thread(target=disturb)
    helper.start()
    own = []
    while not stop.is_set():
        own.append(baton.submit(add, {"x": 2, "y": 2}).run_id)
    helper.join()
    signal.signal(signal.SIGUSR2, before)
    given = [{baton.get_run(run_id).parameters["x"] for run_id in ids} for ids in (handled, own)]
    assert (given, len({*handled, *own})) == ([{1}, {2}], len(handled) + len(own))
