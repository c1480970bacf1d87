"""The table of moves as a Mermaid diagram: `python -m shared.diagram`. Draws, decides nothing."""

from collections.abc import Iterator

from shared.rules import ALLOWED
from shared.state_types import TERMINAL_STATES


def lines() -> Iterator[str]:
    """The lines of the diagram, in the order of the table; what only one kind of runs can do says which."""
    tasks, flows = ALLOWED["task"], ALLOWED["flow"]
    yield "stateDiagram-v2"
    for source in tasks:
        for target in sorted(tasks[source] | flows[source]):
            kind = "" if target in tasks[source] & flows[source] else "tasks" if target in tasks[source] else "flows"
            yield f"    {source.value if source else '[*]'} --> {target.value}{kind and f': {kind}'}"
    for state in sorted(TERMINAL_STATES):
        yield f"    {state.value} --> [*]"


if __name__ == "__main__":
    print("\n".join(lines()))  # noqa: T201 - printing is what it is called for
