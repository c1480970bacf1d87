"""The nine types of states, and which of them are final. What moves between them is decided elsewhere."""

import enum
from typing import Any


class AutoEnum(enum.StrEnum):
    """A text enumeration whose members are worth their own names."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[str]) -> str:  # noqa: ARG004 - enum calls it by position
        return name

    @staticmethod
    def auto() -> Any:
        """The value of a member: its name."""
        return enum.auto()

    def __repr__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


class StateType(AutoEnum):
    """What a state means. Everything that decides reads the type; a state's name is a label for people."""

    SCHEDULED = AutoEnum.auto()
    PENDING = AutoEnum.auto()
    RUNNING = AutoEnum.auto()
    COMPLETED = AutoEnum.auto()
    FAILED = AutoEnum.auto()
    CANCELLED = AutoEnum.auto()
    CRASHED = AutoEnum.auto()
    PAUSED = AutoEnum.auto()
    CANCELLING = AutoEnum.auto()


TERMINAL_STATES = frozenset({StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED})
"""The ends of a run. A recorded one is never replaced."""
IN_BODY = frozenset({StateType.RUNNING, StateType.CANCELLING})
"""While a process has the run in its body, or is about to."""
