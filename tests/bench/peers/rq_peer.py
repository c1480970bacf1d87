"""RQ as the producer's workloads see it. Its workers import the bodies by name."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from bodies import URL, echo, keep, mark, noop
from rq import Queue
from rq.job import Job

__all__ = ["echo", "keep", "mark", "noop", "results", "session", "submit", "submit_many"]
QUEUE = Queue("bench", connection=redis.Redis.from_url(URL))
SECONDS = 60


@contextmanager
def session() -> Iterator[None]:
    yield


def submit(fn: Callable[..., Any], *args: str) -> Job:
    return QUEUE.enqueue(fn, *args)


def submit_many(fn: Callable[..., Any], rows: Iterable[Sequence[str]]) -> list[Job]:
    return QUEUE.enqueue_many([Queue.prepare_data(fn, args) for args in rows])


def results(jobs: Iterable[Job]) -> list[Any]:
    return [job.latest_result(timeout=SECONDS).return_value for job in jobs]
