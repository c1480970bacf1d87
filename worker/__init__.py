"""The executing side: engine, worker processes, fleets. Imports only `shared`."""

from importlib import import_module
from typing import Any

from worker.process_hooks import on_worker_start, on_worker_stop

__all__ = ["on_worker_start", "on_worker_stop"]


def __getattr__(name: str) -> Any:
    """`worker.RunWorker`, for `rq worker -w worker.RunWorker`. Late: whoever needs the engine need not import RQ."""
    if name == "RunWorker":
        return import_module("worker.process").RunWorker
    raise AttributeError(f"module 'worker' has no attribute {name!r}")
