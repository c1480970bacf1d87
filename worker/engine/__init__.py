"""The engine: the life of one run as a generator of steps, the drivers that perform them, and tasks run right here."""

from shared.errors import TaskRunTimeoutError
from worker.engine.adrivers import AsyncTaskRunEngine
from worker.engine.base import BaseTaskRunEngine
from worker.engine.drivers import SyncTaskRunEngine
from worker.engine.entry_points import (
    run_generator_task_async,
    run_generator_task_sync,
    run_task,
    run_task_async,
    run_task_sync,
)

__all__ = [
    "AsyncTaskRunEngine",
    "BaseTaskRunEngine",
    "SyncTaskRunEngine",
    "TaskRunTimeoutError",
    "run_generator_task_async",
    "run_generator_task_sync",
    "run_task",
    "run_task_async",
    "run_task_sync",
]
