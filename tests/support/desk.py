"""A producer whose runs are begun and ended by the test itself, in the order and at the moment that it wants."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from orchestrator import Orchestrator, RunFuture, RunFutureList
from shared import keys
from shared.commands import AT_ONCE, Claim, Seat
from shared.connect import connect
from shared.ids import new_id
from shared.ledger import RunLedger
from shared.reporting import outcome_of
from shared.settings import Settings
from shared.states import State
from shared.transport import Command
from tests.support.ledgers import report, seated
from tests.support.waiting import eventually

TASK = "desk.task"


class Desk:
    """An Orchestrator, and one worker without a body: a run ends when, and as, the test says."""

    def __init__(self, url: str | None = None, **settings: Any) -> None:
        self.settings = Settings.load({}, redis_url=url or f"memory:{new_id()}", **settings)
        self.baton = Orchestrator(settings=self.settings)
        self._exchange = connect(self.settings)
        self.ledger = RunLedger(self._exchange, self.settings)
        self._seat: Seat | None = None
        self._claims: dict[str, Claim] = {}

    def submit(self, number: int) -> RunFutureList[Any]:
        """So many accepted runs."""
        return self.baton.submit_many((TASK, {}) for _ in range(number))

    def one(self) -> RunFuture[Any]:
        """One accepted run."""
        return self.submit(1)[0]

    def begin(self, run_id: str) -> Claim:
        """Have the worker hold this run, and all that were submitted before it."""
        if self._seat is None:
            self._seat = seated(self.ledger, "desk", "default")
        while run_id not in self._claims:
            claims = self.ledger.cycle(self._seat, [], AT_ONCE).claims
            assert claims, f"{run_id} does not wait"
            self._claims.update((claim.run_id, claim) for claim in claims)
        return self._claims[run_id]

    def end(self, future: RunFuture[Any], state: State[Any]) -> None:
        """End a run in this state."""
        self.end_all([future], lambda _number: state)

    def end_all(self, futures: Sequence[RunFuture[Any]], state_of: Callable[[int], State[Any]]) -> None:
        """End these runs, in this order and in one call, in the states that `state_of` gives for their numbers."""
        claims = [self.begin(future.run_id) for future in futures]
        outcomes = [outcome_of(state_of(number), self.settings) for number in range(len(futures))]
        reports = [report(claim, outcome) for claim, outcome in zip(claims, outcomes, strict=True)]
        assert self._seat is not None
        verdicts = self.ledger.cycle(self._seat, reports, 0).verdicts
        assert verdicts == ["OK"] * len(futures)

    def lose(self, *futures: RunFuture[Any]) -> None:
        """Have Redis forget these runs."""
        self.ask(*(("DEL", *keys.run_keys(future.run_id)) for future in futures))

    def ask(self, *commands: Command) -> list[Any]:
        """What Redis answers."""
        answers: list[Any] = self._exchange.read(commands)
        return answers

    def listeners(self, *futures: RunFuture[Any]) -> list[int]:
        """How many connections hear each of these runs."""
        (answer,) = self.ask(("PUBSUB", "NUMSUB", *(keys.state_channel(future.run_id) for future in futures)))
        return [int(number) for number in answer[1::2]]

    def wait_until_heard(self, *futures: RunFuture[Any]) -> None:
        """Until all of these runs are heard."""
        eventually(lambda: all(self.listeners(*futures)))

    def wait_until_unheard(self, *futures: RunFuture[Any]) -> None:
        """Until none of these runs is heard any more."""
        eventually(lambda: not any(self.listeners(*futures)))

    def close(self) -> None:
        self.baton.close()
        self._exchange.close()


@contextmanager
def desk_on(url: str | None = None, **settings: Any) -> Iterator[Desk]:
    """A desk, on a Redis of its own in this process unless another one is named."""
    desk = Desk(url, **settings)
    try:
        yield desk
    finally:
        desk.close()
