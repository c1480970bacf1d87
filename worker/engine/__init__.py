"""The engine: the life of one run as a generator of steps, and the drivers that perform them."""

from shared.errors import TaskRunTimeoutError

__all__ = ["TaskRunTimeoutError"]
