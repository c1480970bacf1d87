"""The producing side and the public API: tasks, futures, the Orchestrator."""

from orchestrator.client import Orchestrator
from orchestrator.flows import Flow, flow
from orchestrator.future_list import RunFutureList
from orchestrator.futures import RunFuture, call_repr
from orchestrator.gathering import as_completed, wait
from orchestrator.resolve import resolve_futures_to_data, resolve_futures_to_states
from orchestrator.slots import arate_limit, concurrency, rate_limit
from orchestrator.tasks import Task, task
from shared.annotations import allow_failure, opaque, quote, unmapped
from shared.transactions import transaction
from worker.context import get_run_context, get_run_logger, set_progress, tags
from worker.process_hooks import on_worker_start, on_worker_stop

__all__ = [
    "Flow",
    "Orchestrator",
    "RunFuture",
    "RunFutureList",
    "Task",
    "allow_failure",
    "arate_limit",
    "as_completed",
    "call_repr",
    "concurrency",
    "flow",
    "get_run_context",
    "get_run_logger",
    "on_worker_start",
    "on_worker_stop",
    "opaque",
    "quote",
    "rate_limit",
    "resolve_futures_to_data",
    "resolve_futures_to_states",
    "set_progress",
    "tags",
    "task",
    "transaction",
    "unmapped",
    "wait",
]
