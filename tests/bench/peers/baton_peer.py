"""Baton as the producer's workloads and its own worker see it, with default settings."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import bodies

from orchestrator import Orchestrator, RunFuture, Task, task
from orchestrator.client import current_orchestrator

QUEUE = "bench"
noop = task(queue=QUEUE)(bodies.noop)
echo = task(queue=QUEUE)(bodies.echo)
keep = task(queue=QUEUE)(bodies.keep)
mark = task(queue=QUEUE)(bodies.mark)
SECONDS = 60


@contextmanager
def session() -> Iterator[None]:
    with Orchestrator(bodies.URL):
        yield


def submit(called: Task[..., Any], *args: str) -> RunFuture[Any]:
    return called.submit(*args)


def submit_many(called: Task[..., Any], rows: Iterable[Sequence[str]]) -> list[RunFuture[Any]]:
    return current_orchestrator().submit_many((called, {"text": args[0]} if args else {}) for args in rows)


def results(futures: Iterable[RunFuture[Any]]) -> list[Any]:
    return [future.result(SECONDS) for future in futures]
