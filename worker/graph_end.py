"""The run that ends a graph: it waits in Redis for what decides, and says how the graph ended. All workers know it.

Its trigger sees the ends of the graph's reference tasks under a name of their own; the others it only waits for.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from shared.errors import ENDRUN
from shared.references import DECIDING
from shared.specs import describe
from shared.states import Completed, Failed, Running, State
from worker.triggers import States, Trigger

GRAPH: Final = "baton.graph"
"""The key of its task."""


def final_state(terminal: Iterable[State[Any]], references: Iterable[State[Any]]) -> State[Any]:
    """How a graph ends whose terminal and reference tasks are in these states; RUNNING if it has not ended."""
    if not all(state.is_final() for state in terminal):
        return Running(message="Flow is still running.")
    deciding = list(references)
    if any(state.is_final() and not state.is_completed() for state in deciding):
        return Failed(message="Some reference tasks failed.")
    succeeded = all(state.is_completed() for state in deciding)
    return Completed(message="All reference tasks succeeded." if succeeded else "No reference tasks failed.", data={})


def _unless_some_failed(states: States) -> None:
    end = final_state(states.values(), [state for edge, state in states.items() if edge.key == DECIDING])
    if not end.is_completed():
        raise ENDRUN(end)


def _end(ids: Mapping[str, Any]) -> State[Any]:
    """The ids of the reference tasks' runs by name, as the result."""
    return Completed(message="All reference tasks succeeded.", data=dict(ids))


END: Final = describe(
    _end, key=GRAPH, name="graph", trigger=Trigger("graph", _unless_some_failed, runs_after_skip=True)
)
BUILT_IN: Final = {END.key: END}
"""Tasks that no module registers."""
