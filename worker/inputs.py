"""What a run takes from others: whether they let it begin, and their results in its parameters. No I/O of its own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.errors import BatonError, InvalidValue
from shared.references import DEPENDENCIES, WAIT_FOR, RunReference, filled, named_in, refer, references_in
from shared.rules import Upstream
from shared.runs import BaseRunFuture, RunInput
from shared.states import Failed, State

Found = Mapping[str, State[Any] | None]
"""The states of runs as they were read: None for one that is gone or cannot be read."""
Source = BaseRunFuture[Any] | State[Any]
Named = Mapping[str, Sequence[str]]
"""Ids of runs by the name of the parameter that they are for."""

UNREADABLE: Final = (
    "Failed to resolve inputs in parameter '{}'. If your parameter type is not supported, consider using the `quote` "
    "annotation."
)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Parameters with references to other runs, and by id the futures and states that these stood for."""

    parameters: Mapping[str, Any]
    sources: Mapping[str, Source]


def inputs_of(parameters: Mapping[str, Any], wait_for: Any = None) -> Inputs:
    """What a call that is executed here needs of other runs: `wait_for` is a future or a state, or many of these.

    Raises:
        InvalidValue: a state among them is not final, so that nobody could tell when the run ends.
    """
    sources: dict[str, Source] = {}

    def note(element: Source) -> None:
        run_id = element.run_id if isinstance(element, BaseRunFuture) else None
        if isinstance(element, State):
            run_id = element.state_details.task_run_id or element.state_details.flow_run_id
            if not element.is_final():
                raise InvalidValue(f"{element!r} of run {run_id} is not final: pass the run's future instead")
        sources[str(run_id)] = element

    sent = {name: refer(value, note) for name, value in parameters.items()}
    if wait_for is not None:
        sent[WAIT_FOR] = references_in(refer([wait_for], note))
    return Inputs(sent, sources)


def named_inputs(inputs: Inputs, dependencies: Mapping[str, Iterable[RunInput | str]], parent: str | None) -> Named:
    """The ids of runs that a run takes input from, by parameter; `wait_for` and `__parents__` are such names too."""
    told = {name: [run.id if isinstance(run, RunInput) else run for run in runs] for name, runs in dependencies.items()}
    return named_in({**inputs.parameters, DEPENDENCIES: told}, parent)


def upstreams_in(
    parameters: Mapping[str, Any], found: Callable[[Sequence[str]], Found], *, lenient: bool = False
) -> list[Upstream]:
    """The runs that these parameters name, in the order of the arguments, as the rules ask for them.

    `lenient`: each may have failed, since something else than the rules judges that.
    """
    references = references_in(dict(parameters))
    states = found(list(dict.fromkeys(reference.run_id for reference in references)))
    allowed: dict[str, bool] = {}
    for reference in references:
        allowed[reference.run_id] = lenient or (allowed.get(reference.run_id, True) and reference.may_fail)
    return [Upstream(run_id, states[run_id], may_fail) for run_id, may_fail in allowed.items()]


def resolved(parameters: Mapping[str, Any], upstreams: Sequence[Upstream]) -> dict[str, Any] | State[Any]:
    """The parameters with the results of their runs; or the state that the run ends in, since one cannot be had."""
    states = {upstream.id: upstream.state for upstream in upstreams}
    allowed = {upstream.id for upstream in upstreams if upstream.allow_failure}
    values: dict[RunReference, Any] = {}

    def value_of(reference: RunReference) -> Any:
        if reference not in values:
            state = states[reference.run_id]
            if state is None:
                raise BatonError(f"Upstream task run '{reference.run_id}' is gone.")
            values[reference] = state.result(raise_on_failure=not (reference.may_fail or reference.run_id in allowed))
        return values[reference]

    ready: dict[str, Any] = {}
    for name, value in parameters.items():
        try:
            ready |= filled({name: value}, value_of)
        except Exception as error:  # noqa: BLE001 - a result's decoding may raise anything; it is this run that ends by it
            return Failed(message=UNREADABLE.format(name), data=error)
    return ready
