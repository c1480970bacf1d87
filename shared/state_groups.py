"""Several states judged as one: how many are of which type, and what that comes to."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from shared.errors import InvalidValue
from shared.states import TERMINAL_STATES, Cancelled, Completed, Failed, Paused, State, StateType


class StateGroup:
    """How many of some states are of which type.

    Raises:
        InvalidValue: there are none.
    """

    def __init__(self, states: Sequence[State[Any]]) -> None:
        if not states:
            raise InvalidValue("a group of states holds at least one")
        counts = Counter(state.type for state in states)
        self.states = states
        self.total_count = len(states)
        self.type_counts = {kind: counts[kind] for kind in StateType if kind in counts}
        self.cancelled_count = counts[StateType.CANCELLED]
        self.paused_count = counts[StateType.PAUSED]
        self.fail_count = counts[StateType.FAILED] + counts[StateType.CRASHED]
        self.final_count = sum(counts[kind] for kind in TERMINAL_STATES)
        self.not_final_count = self.total_count - self.final_count

    def all_completed(self) -> bool:
        """True if every state is COMPLETED."""
        return self.type_counts.get(StateType.COMPLETED) == self.total_count

    def all_final(self) -> bool:
        """True if every state is final."""
        return self.not_final_count == 0

    def any_cancelled(self) -> bool:
        """True if a state is CANCELLED."""
        return self.cancelled_count > 0

    def any_failed(self) -> bool:
        """True if a state is FAILED or CRASHED."""
        return self.fail_count > 0

    def any_paused(self) -> bool:
        """True if a state is PAUSED."""
        return self.paused_count > 0

    def counts_message(self) -> str:
        """`total=3, not_final=1, 'COMPLETED'=1, 'FAILED'=1`."""
        counts = [f"total={self.total_count}"]
        if self.not_final_count:
            counts.append(f"not_final={self.not_final_count}")
        return ", ".join([*counts, *(f"'{kind.value}'={count}" for kind, count in self.type_counts.items())])

    def verdict(self) -> State[Any]:
        """The one state that these come to: what hinders completion most decides."""
        total = self.total_count
        if self.all_completed():
            return Completed(message="All states completed.")
        if self.any_cancelled():
            return Cancelled(message=f"{self.cancelled_count}/{total} states cancelled.")
        if self.any_paused():
            return Paused(message=f"{self.paused_count}/{total} states paused.")
        if self.any_failed():
            return Failed(message=f"{self.fail_count}/{total} states failed.")
        return Failed(message=f"{self.not_final_count}/{total} states are not final.")

    def __repr__(self) -> str:
        return f"StateGroup<{self.counts_message()}>"
