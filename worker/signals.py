"""Signals that say by their name how a run ends, or what it does next: raised in a task, a trigger or a state handler.

Each is an ENDRUN with the state that it stands for. Its first argument is the state's message.
"""

from datetime import datetime
from typing import Any

from shared.clock import now
from shared.errors import ENDRUN
from shared.states import Completed, Failed, Paused, Scheduled, State

__all__ = ["FAIL", "LOOP", "PAUSE", "RETRY", "SKIP", "SUCCESS", "TRIGGERFAIL", "VALIDATIONFAIL", "Signal"]


class Signal(ENDRUN):
    """One of those below."""

    def __init__(self, message: str | None = None, data: Any = None) -> None:
        super().__init__(self._state_of(message, data))

    def _state_of(self, message: str | None, data: Any) -> State[Any]:
        return Failed(message=message, data=data)


class FAIL(Signal):
    """FAILED; `data` is an exception, if any. Tried again as any failure is."""


class TRIGGERFAIL(Signal):
    """FAILED named TriggerFailed: never tried again."""

    def _state_of(self, message: str | None, data: Any) -> State[Any]:
        return Failed(name="TriggerFailed", message=message, data=data)


class VALIDATIONFAIL(Signal):
    """FAILED named ValidationFailed: what came out is not what was wanted."""

    def _state_of(self, message: str | None, data: Any) -> State[Any]:
        return Failed(name="ValidationFailed", message=message, data=data)


class SUCCESS(Signal):
    """COMPLETED; `data` is the result."""

    def _state_of(self, message: str | None, data: Any) -> State[Any]:
        return Completed(message=message, data=data)


class SKIP(Signal):
    """COMPLETED named Skipped: what waits for it is skipped as well, unless its trigger says otherwise."""

    def _state_of(self, message: str | None, data: Any) -> State[Any]:
        return Completed(name="Skipped", message=message, data=data)


class RETRY(Signal):
    """SCHEDULED named AwaitingRetry, for `start_time` (default: now), however many retries the task has."""

    def __init__(self, message: str | None = None, start_time: datetime | None = None) -> None:
        ENDRUN.__init__(self, Scheduled(name="AwaitingRetry", message=message, scheduled_time=start_time or now()))


class PAUSE(Signal):
    """PAUSED, without end, until somebody resumes the run."""

    def __init__(self, message: str | None = None) -> None:
        ENDRUN.__init__(self, Paused(message=message, timeout_seconds=None))


class LOOP(Signal):
    """Have the task's function called again in the same attempt; it reads `result` from its run context.

    The run goes on; raised anywhere else than in a task's function it is a failure.
    """

    def __init__(self, message: str | None = None, result: Any = None) -> None:
        super().__init__(message or "LOOP is a signal for the function of a task alone")
        self.result = result
