"""What pipelines of checks are made of: the base of the classic runners, and what they ask of states. Runs nothing.

# Handlers shape what is proposed, the rules decide: what a check returns goes through the handlers of the task, then
# through those of the runner, and what they make of it is proposed to whoever records the run.
# A state that was given is never recorded. The run itself is recorded with the first proposal.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from inspect import signature
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, TypeAlias, TypeVar

from shared.clock import now
from shared.edges import Edge
from shared.errors import ENDRUN, InvalidCall, MissingResult
from shared.references import WAIT_FOR, RunReference
from shared.results import ResultRecord, ResultRecordMetadata, record_of
from shared.rules_facts import changed
from shared.states import Failed, State
from shared.texts import printable
from worker.inputs import Inputs
from worker.signals import PAUSE

StateHandler: TypeAlias = Callable[[Any, State[Any], State[Any]], State[Any] | None]
"""Called with runner (or task, or flow), old and new state; what it returns is the new one, None keeps it."""
P = ParamSpec("P")
S = TypeVar("S", bound="Runner")
Check: TypeAlias = Callable[Concatenate[S, State[Any], P], State[Any]]
AROUND: Final = frozenset({"Submitted", "AwaitingConcurrencySlot", "ClientFailed"})
"""Names of states that may hold another one, with which the run goes on."""
WAITS_HERE: Final = frozenset({"AwaitingRetry", "AwaitingConcurrencySlot"})
"""Names of states that a pipeline waits for if they are due soon."""


class TaskRunnerInitializeResult(NamedTuple):
    """What a task's pipeline begins with."""

    state: State[Any]
    context: dict[str, Any]


class Runner(ABC):
    """What the pipelines of tasks and of flows have in common."""

    unexpected = "Unexpected error"
    """How the message of a failure begins that no check expected."""

    def __init__(self, state_handlers: Iterable[StateHandler] | None = None) -> None:
        given: Any = state_handlers
        if given is not None and (not isinstance(given, Iterable) or isinstance(given, str)):
            raise InvalidCall("state_handlers should be iterable.")
        self.state_handlers: Sequence[StateHandler] = tuple(given or ())
        self.context: dict[str, Any] = {}

    # --- what a runner of one kind says -------------------------------------------------------------------------------

    @abstractmethod
    def target(self) -> Any:
        """What is run: what the target's own handlers are called with."""

    @abstractmethod
    def target_handlers(self) -> Sequence[Callable[..., Any]]:
        """The target's own handlers."""

    @abstractmethod
    def propose(self, new: State[Any]) -> State[Any]:
        """Have the state recorded; the one that then holds."""

    # --- handlers -----------------------------------------------------------------------------------------------------

    def handle_state_change(self, old_state: State[Any], new_state: State[Any]) -> State[Any]:
        """What becomes of a new state: shaped by the handlers, recorded by the rules.

        Raises:
            ENDRUN: a handler ends the pipeline, or raises; or another process has the run.
        """
        shaped, ends = self._shaped_or_ended(old_state, new_state)
        recorded = self.propose(shaped)
        if ends:
            raise ENDRUN(recorded)
        return recorded

    def _shaped_or_ended(self, old_state: State[Any], new_state: State[Any]) -> tuple[State[Any], bool]:
        """What the handlers make of a new state, and whether one of them ends the pipeline with it."""
        try:
            return self.shaped(old_state, new_state), False
        except ENDRUN as end:
            return end.state, True

    def shaped(self, old_state: State[Any], new_state: State[Any]) -> State[Any]:
        """What the handlers make of a new state: those of the target first, then the runner's.

        Raises:
            ENDRUN: one of them ends the pipeline, or raises.
        """
        shaped = self.call_runner_target_handlers(old_state, new_state)
        return self._called(self.state_handlers, self, old_state, shaped)

    def call_runner_target_handlers(self, old_state: State[Any], new_state: State[Any]) -> State[Any]:
        """What the target's own handlers make of a new state.

        Raises:
            ENDRUN: one of them ends the pipeline, or raises.
        """
        return self._called(self.target_handlers(), self.target(), old_state, new_state)

    def _called(
        self, handlers: Iterable[Callable[..., Any]], first: Any, old: State[Any], new: State[Any]
    ) -> State[Any]:
        for handler in handlers:
            try:
                answer = handler(first, old, new)
            except ENDRUN as end:
                if goes_through(end):
                    raise
                state: State[Any] = end.state
                return state
            except Exception as error:
                if self.context.get("raise_on_exception"):
                    raise
                message = printable(f"Unexpected error while calling state handlers: {error!r}")
                raise ENDRUN(Failed(message=message, data=error)) from error
            new = answer if isinstance(answer, State) else new
        return new


def goes_through(end: ENDRUN) -> bool:
    """True for what ends a pipeline wherever it is raised; other signals only stand for their state."""
    return type(end) in (ENDRUN, PAUSE)


def check(method: Check[S, P]) -> Check[S, P]:
    """Make a method a check of a pipeline: signals and errors in it become states, and a new state is handled.

    It then raises ENDRUN where the pipeline ends with a state.
    """

    @wraps(method)
    def checked(self: S, state: State[Any], *args: P.args, **kwargs: P.kwargs) -> State[Any]:
        new, ends = answer_of(self, method, state, *args, **kwargs)
        if new is not state:
            new = self.handle_state_change(state, new)
        if ends:
            raise ENDRUN(new)
        return new

    return checked  # type: ignore[return-value] # `wraps` adds nothing that a caller sees


def answer_of(
    runner: S, method: Check[S, P], state: State[Any], *args: P.args, **kwargs: P.kwargs
) -> tuple[State[Any], bool]:
    """The state that a check comes to, and whether it ends the pipeline."""
    try:
        return method(runner, state, *args, **kwargs), False
    except ENDRUN as end:
        if not goes_through(end) and runner.context.get("raise_on_exception"):
            raise
        return end.state, type(end) is ENDRUN
    except Exception as error:
        if runner.context.get("raise_on_exception"):
            raise
        return Failed(message=printable(f"{runner.unexpected}: {error!r}"), data=error), False


# --- states -----------------------------------------------------------------------------------------------------------


def unwrapped(state: State[Any] | None) -> State[Any] | None:
    """The state that others are around, to any depth."""
    while state is not None and state.name in AROUND and isinstance(state.data, State):
        state = state.data
    return state


def value_of(state: State[Any]) -> Any:
    """What an upstream gives: its result, its exception if it failed; None if it has neither.

    A mapped one gives the list of what its children gave.
    """
    children = children_of(state)
    if children is not None:
        return [value_of(child) for child in children]
    try:
        return state.result(raise_on_failure=False)
    except MissingResult:
        return None


def children_of(state: State[Any]) -> list[State[Any]] | None:
    """The states of the children of a mapped run, None where they are not known; of any other run None altogether."""
    if not (state.is_completed() and state.name == "Mapped" and isinstance(state.data, list)):
        return None
    return [each for each in state.data if isinstance(each, State)]


def loaded(state: State[Any], read: Callable[[str], ResultRecord[Any]] | None) -> State[Any]:
    """The state with its result, where it has a reference to it only: read from where it is bound to, else by `read`.

    Raises:
        MissingResult, BadEnvelope, RedisUnavailable: it cannot be read.
    """
    reference = state.data
    if not isinstance(reference, ResultRecordMetadata):
        return state
    if reference.source is not None or read is None or reference.storage_key is None:
        return changed(state, data=record_of(state.result(raise_on_failure=False)))
    return changed(state, data=read(reference.storage_key))


def is_due(state: State[Any]) -> bool:
    """True for a state without a time, or whose time has come."""
    due = state.state_details.scheduled_time
    return due is None or due <= now()


def waited(until: Any, is_wanted: Callable[[], bool]) -> None:
    """Wait until this time, or until somebody wants the end."""
    while (left := (until - now()).total_seconds()) > 0 and not is_wanted():
        time.sleep(min(left, 0.1))


def inputs_of(states: Mapping[Any, State[Any]]) -> dict[str, ResultRecord[Any]]:
    """What the edges with a key give, by parameter."""
    return {edge.key: record_of(value_of(state)) for edge, state in states.items() if edge.key is not None}


def values_of(inputs: Mapping[str, ResultRecord[Any]]) -> dict[str, Any]:
    """The arguments by name."""
    return {name: record.result for name, record in inputs.items()}


def flattened(states: Mapping[Edge[Any], State[Any]]) -> dict[Edge[Any], State[Any]]:
    """The states with the children of each mapped run in its place, as triggers see them."""
    flat: dict[Edge[Any], State[Any]] = {}
    for edge, state in states.items():
        children = None if edge.mapped else children_of(state)
        if not children:
            flat[edge] = state
        for index, child in enumerate(children or ()):
            flat[replace(edge, upstream=(edge.upstream, index))] = child
    return flat


def length_of(state: State[Any]) -> int | None:
    """Over how many elements a completed run can be mapped: its children, or what it gave; None if over none."""
    if state.name == "Mapped" and isinstance(state.data, list):
        return len(state.data)
    value = value_of(state)
    is_mappable = hasattr(value, "__getitem__") and hasattr(value, "__len__") and not isinstance(value, Mapping)
    return len(value) if is_mappable else None


def rendered(name: str | Callable[..., Any], about: Mapping[str, Any]) -> str:
    """The name of a run, made of what is known about it.

    Raises:
        InvalidCall: the function gave no text.
        Exception: whatever it raises, or a name in the text is unknown.
    """
    if isinstance(name, str):
        return name.format(**about)
    made = name(parameters=dict(about)) if "parameters" in signature(name).parameters else name()
    if not isinstance(made, str):
        kind = type(made).__name__
        raise InvalidCall(f"Callable {name} for 'task_run_name' returned type {kind} but a string is required.")
    return made


def references_of(states: Mapping[Edge[Any], State[Any]]) -> Inputs:
    """What a run needs of others, as it is recorded: by their ids where these are known."""
    sent: dict[str, Any] = {}
    others: list[RunReference] = []
    for edge, state in states.items():
        run_id = state.state_details.task_run_id
        if edge.key is None and run_id is not None:
            others.append(RunReference(str(run_id)))
        elif edge.key is not None:
            sent[edge.key] = value_of(state) if run_id is None else RunReference(str(run_id))
    if others:
        sent[WAIT_FOR] = others
    return Inputs(sent, {})
