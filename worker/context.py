"""What the code inside a run can ask about that run. Set around each attempt's body."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from shared.errors import MissingContextError


@dataclass(frozen=True, slots=True)
class RunContext:
    """The run around the calling code.

    `attempt` counts from 1. `fence` grows with every attempt: other systems can refuse by it what an earlier attempt of
    the run still sends.
    """

    run_id: str
    task: str
    attempt: int
    fence: int

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts of the run."""
        return self.run_id


_current: ContextVar[RunContext] = ContextVar("baton_run")


def get_run_context() -> RunContext:
    """The run that this code runs in.

    Raises:
        MissingContextError: it runs in none.
    """
    try:
        return _current.get()
    except LookupError:
        raise MissingContextError from None


def current_run_id() -> str | None:
    """The id of the run that this code runs in, or None."""
    context = _current.get(None)
    return context.run_id if context is not None else None


@contextmanager
def run_context(context: RunContext) -> Iterator[None]:
    """Make this the run of the code in the block."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)
