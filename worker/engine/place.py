"""Where a run is executed: what an engine's steps come to there. On the fleet or in the process that called."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from shared.ledger import RunLedger
from shared.rules import RunLike
from shared.runs import TaskRun
from shared.states import State
from worker.caching import Caching
from worker.context import NO_PARAMETERS, RunContext
from worker.inputs import Inputs


class Place(RunLike, Protocol):
    """One run in one process. Its methods may wait for a server, but for those that say that they do not."""

    @property
    def blocks(self) -> bool:
        """True if its methods may wait for a server indeed."""
        ...

    @property
    def watched(self) -> bool:
        """True if `is_cancelled` has to be asked while the body runs, since nobody interrupts it."""
        ...

    @property
    def ledger(self) -> RunLedger | None:
        """Where the run is recorded; None where nobody else can ask."""
        ...

    def force(self, state: State[Any]) -> State[Any]:
        """Write a state without asking the rules, if nobody has moved the run since; the state that now holds.

        Raises:
            Fenced: somebody has.
            InvalidValue: only a process can be in that state.
        """
        ...

    def note_end(self, state: State[Any]) -> None:
        """Write the times of the run's end into the record in memory, if it has none yet. No I/O."""
        ...

    def propose(self, state: State[Any], retriable: bool | None = None) -> State[Any]:
        """Ask for a state; the one that now holds.

        Raises:
            Fenced: the run is another's now.
            TransitionRefused: the rules refuse it for good.
        """
        ...

    cached: bytes
    """What is to be said of the cache with the next state that is proposed; see `Outcome`."""

    @property
    def caching(self) -> Caching:
        """Where results are cached. No I/O."""
        ...

    def known_run(self) -> TaskRun:
        """What is known here of the run, without asking anybody. No I/O."""
        ...

    def note_rollback(self) -> None:
        """Have the run's record say that it was rolled back; also after its end. No I/O."""
        ...

    def settled(self) -> State[Any]:
        """The state that holds, once it is recorded; on the fleet an end may otherwise be reported later.

        Raises:
            Fenced: it was not recorded, the run is another's now.
        """
        ...

    def task_run(self) -> TaskRun:
        """The run's record, in the state that holds."""
        ...

    def rename(self, name: str) -> None:
        """Call the run by this name."""
        ...

    def taken(self, inputs: Inputs, found: Mapping[str, State[Any] | None]) -> dict[str, Any] | State[Any]:
        """The parameters with the results of these upstreams; or the state that the run ends in."""
        ...

    def wakes_at(self, state: State[Any]) -> datetime | None:
        """When to ask again for RUNNING, of a run that waits here in this state; None if it does not. No I/O."""
        ...

    def context(self, parameters: Mapping[str, Any] = NO_PARAMETERS) -> RunContext:
        """What the body of the present attempt, called with these parameters, may ask. No I/O."""
        ...

    def guard(self, token: int, seconds: float | None) -> AbstractContextManager[None]:
        """Put around the body of the attempt with this token, with this time limit; may end it by TerminationSignal.

        No I/O.
        """
        ...

    def around_hook(self) -> AbstractContextManager[None]:
        """Put around a hook, a condition or a function that makes a name, in the thread that it blocks. No I/O.

        It may be ended by a TimeoutError.
        """
        ...

    def struck_by(self, strike: Callable[[], object]) -> AbstractContextManager[None]:
        """Let an event loop's thread call this when somebody wants the end of the attempt, while the block lasts.

        Not where it is `watched`. No I/O.
        """
        ...

    def is_cancelled(self) -> bool:
        """True if somebody wants the end of this attempt. No I/O."""
        ...
