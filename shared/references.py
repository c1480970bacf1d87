"""Runs among the parameters of another run: how they are sent, found and replaced by what they returned. No I/O.

Where a future or a run's state stood in the parameters, a RunReference is sent. `wait_for` lists runs that only have
to end before; it travels under a name that no parameter can have.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from shared.annotations import Annotation, allow_failure, opaque, quote
from shared.codec_types import register_type
from shared.collections import StopVisiting, visit_collection
from shared.errors import InvalidCall
from shared.runs import BaseRunFuture, BaseRunFutureList, TaskRun
from shared.states import State

WAIT_FOR: Final = "wait_for "
"""Ends with a space: no function has such a parameter."""
DEPENDENCIES: Final = "dependencies "
"""Under this name the ids of runs by parameter travel that are told as inputs, and are neither waited for nor read."""
DECIDING: Final = "references "
"""Under this name a graph's own run lists the runs that decide how it ends. They are waited for, and not read."""

_NO_PARAMETERS: Final = frozenset({WAIT_FOR, DEPENDENCIES, DECIDING})


@dataclass(frozen=True, slots=True)
class RunReference:
    """Stands for what a run returns. `may_fail`: its exception will do as well."""

    run_id: str
    may_fail: bool = False


register_type(RunReference, name="baton.run")


def refer(value: Any, check: Callable[[Any], None] = lambda _element: None) -> Any:
    """The value with references for futures and for states that name their run, and without annotations.

    What `quote` holds stays as it is: a future in it cannot be sent, and the codec says so. `check` is called with
    each future and state, and may raise.

    Raises:
        InvalidCall: a reference cannot go where its future was, such as among the keys of a model; or a run's record is
            among the arguments, which is not what the run returns.
        LimitExceeded: the nesting is too deep.
    """
    return _replaced(value, check, may_fail=False)


def _replaced(value: Any, check: Callable[[Any], None], *, may_fail: bool) -> Any:
    def visit(element: Any) -> Any:
        if isinstance(element, quote):
            raise StopVisiting(element.unwrap())
        if isinstance(element, opaque) and _referred(element.unwrap(), check, may_fail=may_fail) is None:
            raise StopVisiting(element.unwrap())
        if isinstance(element, TaskRun):
            raise InvalidCall(
                f"the record of run {element.id} is among the arguments: pass its future for what it returns, "
                "or opaque(...) around the record for the record itself"
            )
        if isinstance(element, allow_failure) and not may_fail:
            raise StopVisiting(_replaced(element.unwrap(), check, may_fail=True))
        reference = _referred(element, check, may_fail=may_fail)
        if reference is not None:
            raise StopVisiting(reference)
        return list(element) if isinstance(element, BaseRunFutureList) else element

    found = visit_collection(value, visit, remove_annotations=True)
    return found.unwrap() if isinstance(found, Annotation) else found


def _referred(element: Any, check: Callable[[Any], None], *, may_fail: bool) -> RunReference | None:
    run_id = None
    if isinstance(element, RunReference):
        return replace(element, may_fail=True) if may_fail else element
    if isinstance(element, BaseRunFuture):
        run_id = element.run_id
    elif isinstance(element, State):
        run_id = element.state_details.task_run_id or element.state_details.flow_run_id
    if run_id is None:
        return None
    check(element)
    return RunReference(str(run_id), may_fail)


def references_in(value: Any) -> list[RunReference]:
    """Every reference in it, each once, in the order of the arguments."""
    found: dict[RunReference, None] = {}

    def visit(element: Any) -> Any:
        if isinstance(element, RunReference):
            found[element] = None
        return element

    visit_collection(value, visit, return_data=False)
    return list(found)


def filled(parameters: Mapping[str, Any], values: Callable[[RunReference], Any]) -> dict[str, Any]:
    """The parameters with what their runs returned, and without what is no parameter.

    Raises:
        InvalidCall: a value cannot go where its reference was, such as an unhashable one into a set.
        Whatever `values` raises.
    """

    def visit(element: Any) -> Any:
        if isinstance(element, RunReference):
            raise StopVisiting(values(element))
        return element

    return {name: visit_collection(value, visit) for name, value in parameters.items() if name not in _NO_PARAMETERS}


def bare(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters without what travels beside them."""
    return {name: value for name, value in parameters.items() if name not in _NO_PARAMETERS}


def named_in(parameters: Mapping[str, Any], parent: str | None = None) -> dict[str, tuple[str, ...]]:
    """The ids of runs that a run takes input from, by parameter.

    Those that only had to end before stand under `wait_for`, the one that submitted it under `__parents__`.
    """
    named: dict[str, dict[str, None]] = {}
    for name, value in parameters.items():
        if name == DEPENDENCIES:
            continue
        for reference in references_in(value):
            named.setdefault(name.strip(), {})[reference.run_id] = None
    for name, ids in parameters.get(DEPENDENCIES, {}).items():
        named.setdefault(name, {}).update(dict.fromkeys(ids))
    if parent is not None:
        named["__parents__"] = {parent: None}
    return {name: tuple(ids) for name, ids in named.items()}
