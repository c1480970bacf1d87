"""Celery as the producer's workloads and its own worker see it. Has no call that submits many."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import bodies
from celery import Celery, Task
from celery.result import AsyncResult

app = Celery("bench", broker=bodies.URL, backend=bodies.URL)
app.conf.broker_connection_retry_on_startup = True
noop = app.task(bodies.noop, name="noop")
echo = app.task(bodies.echo, name="echo")
keep = app.task(bodies.keep, name="keep")
mark = app.task(bodies.mark, name="mark")
SECONDS = 60


@contextmanager
def session() -> Iterator[None]:
    yield


def submit(task: Task, *args: str) -> AsyncResult:
    return task.delay(*args)


def submit_many(task: Task, rows: Iterable[Sequence[str]]) -> list[AsyncResult]:
    return [task.delay(*args) for args in rows]


def results(handles: Iterable[AsyncResult]) -> list[Any]:
    return [handle.get(timeout=SECONDS) for handle in handles]
