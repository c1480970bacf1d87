"""Whether a run begins, judged by the ends of the runs that it waits for: asked once, when all of them are final.

A trigger is called with `{Edge: State}` and says True, or False, or ends the run by a signal of `worker.signals`.
Skipped counts as success, every other end but COMPLETED as failure; without upstreams every trigger is met.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from shared.edges import Edge
from shared.errors import ENDRUN, UpstreamTaskError
from shared.references import WAIT_FOR, references_in
from shared.rules import Upstream
from shared.rules_common import WITHOUT_A_BODY
from shared.state_types import IN_BODY
from shared.states import Completed, Failed, State
from shared.texts import printable
from worker.signals import PAUSE, SKIP

States: TypeAlias = Mapping[Edge[Any], State[Any]]
SKIPPED: Final = (
    "Upstream task was skipped; if this was not the intended behavior, consider trigger=runs_after_skip(...)."
)


@dataclass(frozen=True)
class Trigger:
    """One of those below. `unmet` says in words why it is not met, or nothing."""

    name: str
    unmet: Callable[[States], str | None]
    runs_after_skip: bool = False

    def __call__(self, states: States) -> bool:
        """True if it is met.

        Raises:
            ENDRUN: it is not; with the state that the run ends in.
        """
        text = self.unmet(states) if states else None
        if text is not None:
            raise ENDRUN(_failed(f'Trigger was "{self.name}" but {text}'))
        return True


def _failed(message: str) -> State[Any]:
    told = printable(message)
    return Failed(name="TriggerFailed", message=told, data=UpstreamTaskError(told))


def _completed(states: States) -> int:
    return sum(state.is_completed() for state in states.values())


def _unless(is_met: Callable[[int, int], bool], text: str) -> Callable[[States], str | None]:
    """Asks how many of how many upstreams completed."""
    return lambda states: None if is_met(_completed(states), len(states)) else text


all_successful = Trigger(
    "all_successful", _unless(lambda good, every: good == every, "some of the upstream tasks failed.")
)
all_failed = Trigger("all_failed", _unless(lambda good, _every: good == 0, "some of the upstream tasks succeeded."))
any_successful = Trigger(
    "any_successful", _unless(lambda good, _every: good > 0, "none of the upstream tasks succeeded.")
)
any_failed = Trigger("any_failed", _unless(lambda good, every: good < every, "none of the upstream tasks failed."))
all_finished = always_run = Trigger(
    "all_finished",
    lambda states: (
        None if all(state.is_final() for state in states.values()) else "some of the upstream tasks were not finished."
    ),
)


def _some_not_skipped(states: States) -> str | None:
    if all(state.name == "Skipped" for state in states.values()):
        raise SKIP("All upstreams were skipped")
    return None if _completed(states) == len(states) else "some of the upstream tasks failed."


not_all_skipped = Trigger("not_all_skipped", _some_not_skipped, runs_after_skip=True)


def _not_by_hand(_states: States) -> None:
    if not _is_resumed.get()():
        raise PAUSE('Trigger function is "manual_only"')


_is_resumed: ContextVar[Callable[[], bool]] = ContextVar("baton_is_resumed", default=lambda: False)
manual_only = Trigger("manual_only", _not_by_hand)
"""Pauses the run; met when somebody has resumed it."""


def some_failed(at_least: float | None = None, at_most: float | None = None) -> Trigger:
    """Met if so many upstreams failed, both bounds inclusive; a number below 1 is a share of all of them."""
    return _some("some_failed", lambda states: len(states) - _completed(states), at_least, at_most)


def some_successful(at_least: float | None = None, at_most: float | None = None) -> Trigger:
    """Met if so many upstreams completed, both bounds inclusive; a number below 1 is a share of all of them."""
    return _some("some_successful", _completed, at_least, at_most)


def _some(name: str, count: Callable[[States], int], at_least: float | None, at_most: float | None) -> Trigger:
    def unmet(states: States) -> str | None:
        found, every = count(states), len(states)
        is_met = _bound(at_least, every, 0) <= found <= _bound(at_most, every, every)
        return None if is_met else "thresholds were not met."

    return Trigger(name, unmet)


def _bound(given: float | None, every: int, usual: int) -> float:
    if given is None:
        return usual
    return given * every if given < 1 else given


@dataclass(frozen=True)
class _AfterSkip:
    """Another trigger, under which a run begins although an upstream was skipped."""

    trigger: Callable[[States], Any]
    runs_after_skip: bool = True

    def __call__(self, states: States) -> bool:
        return bool(self.trigger(states))


def runs_after_skip(trigger: Callable[[States], Any]) -> Callable[[States], bool]:
    """The same trigger, under which a run begins although an upstream was skipped."""
    return _AfterSkip(trigger)


# --- asking -----------------------------------------------------------------------------------------------------------


def own_trigger(trigger: Callable[[States], Any] | None) -> Callable[[States], Any] | None:
    """The task's trigger, None if it is the default one, which the rules know."""
    return None if trigger is all_successful else trigger


def end_before_begin(
    trigger: Callable[[States], Any] | None,
    run_id: str,
    parameters: Mapping[str, Any],
    upstreams: Sequence[Upstream],
    is_resumed: Callable[[], bool] = lambda: False,
) -> State[Any] | None:
    """The state that a run goes into whose upstreams, all final, do not let it begin; None if they do.

    `is_resumed`: whether somebody has resumed the run, which is asked only if it matters.
    """
    states = dict(_edges(run_id, parameters, upstreams))
    return end_by_skip(trigger, states) or end_by_trigger(trigger, states, is_resumed)


def end_by_skip(trigger: Callable[[States], Any] | None, states: States) -> State[Any] | None:
    """COMPLETED named Skipped for a run that waited for a skipped one, unless its trigger says otherwise; else None."""
    was_skipped = any(state.name == "Skipped" and state.is_completed() for state in states.values())
    if not was_skipped or getattr(trigger, "runs_after_skip", False):
        return None
    return Completed(name="Skipped", message=SKIPPED)


def end_by_trigger(
    trigger: Callable[[States], Any] | None, states: States, is_resumed: Callable[[], bool] = lambda: False
) -> State[Any] | None:
    """The state that a run goes into since its trigger is not met; None if it is, or if there is none."""
    if trigger is None:
        return None
    token = _is_resumed.set(is_resumed)
    try:
        is_met = trigger(states)
    except ENDRUN as end:
        return _without_a_body(end.state)
    except Exception as error:  # noqa: BLE001 - a trigger is user code: it is this run that ends by it
        return _failed(f"Unexpected error while checking task trigger: {error!r}")
    finally:
        _is_resumed.reset(token)
    return None if is_met else _failed("Trigger failed")


def _without_a_body(state: State[Any]) -> State[Any]:
    """The state, or a failure where only an attempt can bring a run there: the rules would refuse it for good."""
    is_result = state.is_completed() and state.name not in WITHOUT_A_BODY
    if is_result or state.type in IN_BODY or state.is_pending():
        return _failed(f"A trigger cannot make a run {state.name}.")
    return state


def _edges(
    run_id: str, parameters: Mapping[str, Any], upstreams: Sequence[Upstream]
) -> Iterator[tuple[Edge[str], State[Any]]]:
    states = {upstream.id: upstream.state for upstream in upstreams}
    for name, value in parameters.items():
        for reference in references_in(value):
            state = states.get(reference.run_id)
            if state is not None:
                yield Edge(reference.run_id, run_id, None if name == WAIT_FOR else name), state
