"""The producing side and the public API: tasks, futures, the Orchestrator."""

from orchestrator.client import Orchestrator
from orchestrator.futures import RunFuture
from orchestrator.tasks import Task, task
from worker.context import get_run_context

__all__ = ["Orchestrator", "RunFuture", "Task", "get_run_context", "task"]
