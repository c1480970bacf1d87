"""Bodies whose prints are logged, and that somebody ends: whichever line the signal comes in."""

import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from shared.commands import Claim, Seat
from shared.connect import connect
from shared.errors import TerminationSignal
from shared.ids import new_id
from shared.ledger import RunLedger
from shared.settings import Settings
from shared.specs import describe
from worker import prints
from worker.attempt import Attempt
from worker.engine.drivers import SyncTaskRunEngine
from worker.engine.steps import Call
from worker.hand import Hand
from worker.interrupts import SIGNAL, Interrupts
from worker.page import Page

SETTINGS = Settings.load({}, redis_url="memory:")
TOKEN = 17
FEW = 20
"""Lines are gone through for one print."""


class Worker:
    """What one run at a time is executed with, and a signal that comes in the line of this number of `prints.py`."""

    def __init__(self) -> None:
        self.page = Page()
        self.page.beaten(float("inf"))
        self.interrupts = Interrupts(self.page)
        self._exchange = connect(SETTINGS)
        self._line = self._exchange.line()
        self._hand = Hand(RunLedger(self._line, SETTINGS), Seat("w", ["default"]), self.page, SETTINGS)
        self._spec = describe(say, key="k", log_prints=True)
        self._left = 0
        self._run_id = ""

    def execute(self, nth: int) -> bool:
        """False if there are fewer lines."""
        self._left, self._run_id = nth, new_id()
        claim = Claim(self._run_id, str(TOKEN), 1, 1, 0, "2026-11-20T09:15:00.000250Z", "k", b"")
        attempt = Attempt(claim, self._spec, self._hand, self.interrupts, SETTINGS)
        engine: SyncTaskRunEngine[..., Any] = SyncTaskRunEngine(self._spec, {}, None, attempt)
        self.page.start(self._run_id)
        sys.settrace(self._trace)
        try:
            with suppress(TerminationSignal):
                engine.perform(Call(say, (), {}, None))
        finally:
            sys.settrace(None)
            self.page.rest()
        return self._left <= 0

    def close(self) -> None:
        self._hand.notes.close()
        self._line.close()
        self._exchange.close()

    def _trace(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename != prints.__file__:
            return None
        if event == "line":
            self._left -= 1
            if self._left == 0:
                self.page.cancel(self._run_id, TOKEN)
                signal.raise_signal(SIGNAL)
        return self._trace


def say() -> None:
    print("of the run")  # noqa: T201


@pytest.fixture
def worker() -> Iterator[Worker]:
    before = signal.getsignal(SIGNAL)
    made = Worker()
    made.interrupts.install()
    yield made
    signal.signal(SIGNAL, before)
    made.close()


def test_wherever_a_body_is_struck_other_prints_stay_where_they_were(
    worker: Worker, capsys: pytest.CaptureFixture[str]
) -> None:
    before, nth = sys.stdout, 1
    while worker.execute(nth):  # a number of a line that there is
        print(nth)  # noqa: T201
        assert (capsys.readouterr().out.endswith(f"{nth}\n"), sys.stdout is before) == (True, True)
        nth += 1
    assert nth > FEW
