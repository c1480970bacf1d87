"""Everything an engine may ask for. The engine yields one of these, whoever drives it does it and sends the answer."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from shared.errors import ParameterBindError, TaskRunTimeoutError
from shared.states import State
from shared.stepping import Do
from worker.inputs import Inputs


@dataclass(frozen=True, slots=True)
class Propose:
    """Ask for this state; the answer is the state that now holds.

    `retriable`: False where a failure is not to be tried again; None leaves it to the rules.
    """

    state: State[Any]
    retriable: bool | None = None


@dataclass(frozen=True, slots=True)
class Force:
    """Write this state without asking the rules; the answer is the state that now holds."""

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


@dataclass(frozen=True, slots=True)
class Ask:
    """Call other code of the user's, a hook or a retry condition; the answer is its value, awaited if need be."""

    fn: Callable[..., Any]
    args: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Settle:
    """See to it that the state is recorded before anything else happens; the answer is the state that now holds."""


@dataclass(frozen=True, slots=True)
class Look:
    """Ask for the run's record; the answer is a TaskRun, in the state that holds."""


@dataclass(frozen=True, slots=True)
class Rename:
    """Call the run by this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait in place until this time, or until somebody wants the run's end."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Take:
    """Wait for the runs among the parameters; the answer is the parameters with their results.

    Or it is the state that the run ends in, since it may not begin or a result cannot be read.
    """

    inputs: Inputs


@dataclass(frozen=True, slots=True)
class Gather:
    """The body of a flow has returned this: see to the runs that it submitted; the answer is `Gathered`."""

    value: Any
    unfinished: str


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a flow returned, with states for futures; how many runs it submitted, and how many did not complete."""

    value: Any
    total: int = 0
    incomplete: int = 0


@dataclass(frozen=True, slots=True)
class Open:
    """Call a generator function; the answer is the generator, of which nothing has run yet."""

    fn: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]


@dataclass(slots=True)
class Stream:
    """A generator of the user's, what it may take in seconds, and what it has taken.

    `context`: in which a plain one is executed wherever its steps are threads: blocks in it span its items.
    """

    items: Any
    seconds: float | None
    spent: float = 0.0
    context: Context | None = None


@dataclass(frozen=True, slots=True)
class Next:
    """Let the generator go on; the answer is an `Item`, or `Ended`. Raises as `Call` does."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Item:
    """What a generator gave."""

    value: Any


@dataclass(frozen=True, slots=True)
class Ended:
    """A generator is exhausted; this it returned."""

    value: Any = None


@dataclass(frozen=True, slots=True)
class Emit:
    """Hand this item to the consumer. Raises `Abandoned` if nobody wants any more."""

    value: Any


@dataclass(frozen=True, slots=True)
class Close:
    """Close the generator before its end."""

    stream: Stream


OfTheRun: TypeAlias = Propose | Force | Settle | Look | Rename | Sleep | Take
OfCode: TypeAlias = Call | Ask | Open | Next | Emit | Close
Step: TypeAlias = OfTheRun | OfCode | Gather | Do
Steps: TypeAlias = Generator[Step, Any, State[Any]]
"""Steps that end with the state that then holds."""
Stage: TypeAlias = Generator[Step, Any, None]


class Overran(Exception):
    """The call's own time limit ended it: told apart from a TimeoutError that the function raised."""

    def __init__(self, error: TaskRunTimeoutError) -> None:
        super().__init__(str(error))
        self.error = error


class Unbound(Exception):
    """The parameters do not fit the function: no other attempt would end otherwise."""

    def __init__(self, error: ParameterBindError) -> None:
        super().__init__(str(error))
        self.error = error


class Abandoned(Exception):
    """The consumer of a generator closed it early."""
