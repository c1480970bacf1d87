"""Huey as the producer's workloads and its own worker see it. Has no call that submits many."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import bodies
from huey import RedisHuey
from huey.api import Result, TaskWrapper

huey = RedisHuey("bench", url=bodies.URL, notify_result=True)
noop = huey.task()(bodies.noop)
echo = huey.task()(bodies.echo)
keep = huey.task()(bodies.keep)
mark = huey.task()(bodies.mark)
SECONDS = 60


@contextmanager
def session() -> Iterator[None]:
    yield


def submit(task: TaskWrapper, *args: str) -> Result:
    return task(*args)


def submit_many(task: TaskWrapper, rows: Iterable[Sequence[str]]) -> list[Result]:
    return [task(*args) for args in rows]


def results(handles: Iterable[Result]) -> list[Any]:
    return [handle.get(blocking=True, timeout=SECONDS) for handle in handles]
