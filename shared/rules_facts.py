"""What the rules are asked with and what they answer: a run, facts, a verdict. Judges nothing."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from shared.clock import as_utc
from shared.state_types import StateType
from shared.states import State, StateDetails

Kind: TypeAlias = Literal["task", "flow"]
Proposer: TypeAlias = Literal["attempt", "client", "housekeeping", "supervisor"]
OnCrash: TypeAlias = Literal["retry", "fail"]
LastEnd: TypeAlias = Literal["", "failed", "lost", "given_back", "paused", "retried"]

KINDS: Final[tuple[Kind, ...]] = ("task", "flow")
REAPERS: Final = frozenset[Proposer]({"housekeeping", "supervisor"})
"""Who proposes in the place of an attempt that can propose no more."""


class RunLike(Protocol):
    """What the rules need to know of a run."""

    @property
    def kind(self) -> Kind:
        """A task's run or a flow's."""
        ...

    @property
    def state(self) -> State[Any] | None:
        """None before its first."""
        ...

    @property
    def attempt(self) -> int:
        """The number of the attempt that was begun last, 0 if none was."""
        ...

    @property
    def run_count(self) -> int:
        """Attempts that count as tries, the present one among them."""
        ...

    @property
    def crashes(self) -> int:
        """Attempts that were lost."""
        ...

    @property
    def crash_budget(self) -> int:
        """So many lost attempts end the run."""
        ...

    @property
    def retries(self) -> int:
        """Tries that it may have after the first."""
        ...

    @property
    def on_crash(self) -> OnCrash:
        """Whether a lost attempt may be followed by another one."""
        ...

    @property
    def last_end(self) -> LastEnd:
        """Why the attempt before the next one ended, empty if none has."""
        ...

    @property
    def flow(self) -> str | None:
        """The id of the flow run that it belongs to."""
        ...

    @property
    def outlives_flow(self) -> bool:
        """True if it was left on purpose to go on after the end of its flow."""
        ...

    @property
    def pause_keys(self) -> Collection[str]:
        """Of a flow: the keys of the pauses that it has had."""
        ...


class Upstream(NamedTuple):
    """A run that another one waits for; `state` is None if its record is gone."""

    id: str
    state: State[Any] | None
    allow_failure: bool = False


class Limit(NamedTuple):
    """A limit that a run falls under: how many slots there are and are taken; `holds`: the run has one of them."""

    name: str
    slots: int
    used: int
    holds: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found out before asking.

    `token`: that of the attempt that proposes; scripts compare it, rules do not. `inline`: the run is executed by the
    process that called it, not on the fleet. `held`: a process holds the run. `flow_state`: that of the run's flow,
    None if it has none. `upstreams`: in the order of the arguments. `trigger_met`: what the task's own trigger said,
    None where the default one holds. `limits`: those that the run falls under. `cache`: the state that is recorded
    under the cache key. `retriable`: what the task's condition said, None if it was not asked. `delay`: seconds before
    a retry, its jitter already drawn. `give_back`: the attempt is ended without an outcome. `why`: how an attempt was
    lost, or the text of a trigger that was not met.
    """

    proposer: Proposer
    token: str | None = None
    inline: bool = False
    held: bool = False
    flow_state: State[Any] | None = None
    upstreams: Sequence[Upstream] = ()
    trigger_met: bool | None = None
    limits: Sequence[Limit] = ()
    cache: State[Any] | None = None
    retriable: bool | None = None
    delay: float = 0.0
    give_back: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """ACCEPT: `state` is stored. REJECT: `state` is stored instead, or nothing if it is None.

    WAIT: nothing is stored; worth asking again in `seconds`, or if those are None, when something has changed. ABORT:
    nothing is stored, and nothing will be.
    """

    kind: Literal["ACCEPT", "REJECT", "WAIT", "ABORT"]
    state: State[Any] | None = None
    reason: str = ""
    seconds: int | None = None


Move: TypeAlias = tuple[StateType | None, StateType]
Ask: TypeAlias = Callable[[RunLike, State[Any], Facts, datetime], Verdict | None]


class Rule(NamedTuple):
    """A pure function from run, proposed state, facts and time to a verdict or None, and the moves it is about."""

    ask: Ask
    moves: frozenset[Move]
    kinds: tuple[Kind, ...] = KINDS


def moves(sources: Iterable[StateType | None], *targets: StateType) -> frozenset[Move]:
    """Every move from one of the sources to one of the targets."""
    return frozenset((source, target) for source in sources for target in targets)


# --- what rules are made with -----------------------------------------------------------------------------------------


def present(run: RunLike) -> State[Any]:
    """The state of a run that has one: for rules that match no move from nothing."""
    if run.state is None:
        raise AssertionError("this rule was asked about a run that has no state yet")
    return run.state


def changed(state: State[Any], **fields: Any) -> State[Any]:
    """The same state, id and time included, with other values known to be right."""
    return type(state).filled({**state.__dict__, **fields})


def substitute(
    proposed: State[Any],
    at: datetime,
    kind: StateType,
    name: str,
    message: str | None = None,
    *,
    data: Any = None,
    **details: Any,
) -> State[Any]:
    """The state that is stored instead of the proposed one.

    It has its id and its transition, so that the same proposal has the same answer.
    """
    transition = proposed.state_details.transition_id
    own = StateDetails.trusted(transition_id=transition, **details)
    return State.trusted(kind, name, as_utc(at), message, data=data, state_details=own, id=proposed.id)


def later(at: datetime, seconds: float) -> datetime:
    """The time after so many seconds, or where no date says that any more, the last time there is."""
    start = as_utc(at)
    try:
        return datetime.__add__(start, timedelta(seconds=seconds))  # pendulum's own sum takes ten times as long
    except OverflowError:
        return as_utc(datetime.max.replace(tzinfo=start.tzinfo))
