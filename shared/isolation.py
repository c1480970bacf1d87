"""How far transactions with one key are kept apart."""

from shared.state_types import AutoEnum


class IsolationLevel(AutoEnum):
    """READ_COMMITTED lets two with one key run their bodies at the same time, SERIALIZABLE one after the other."""

    READ_COMMITTED = AutoEnum.auto()
    SERIALIZABLE = AutoEnum.auto()
