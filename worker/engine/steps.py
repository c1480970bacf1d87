"""Everything an engine may ask for. The engine yields one of these, whoever drives it does it and sends the answer."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from shared.errors import TaskRunTimeoutError
from shared.states import State


@dataclass(frozen=True, slots=True)
class Propose:
    """Ask for this state; the answer is the state that now holds."""

    state: State[Any]


@dataclass(frozen=True, slots=True)
class Call:
    """Run the user's function; the answer is its value, or its exception raised at the yield.

    A time limit in seconds that the function overran raises `Overran`.
    """

    fn: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    seconds: float | None


Step: TypeAlias = Propose | Call
Steps: TypeAlias = Generator[Step, Any, State[Any]]


class Overran(Exception):
    """The call's own time limit ended it: told apart from a TimeoutError that the function raised."""

    def __init__(self, error: TaskRunTimeoutError) -> None:
        super().__init__(str(error))
        self.error = error
