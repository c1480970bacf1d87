"""Dramatiq as the producer's workloads and its own worker see it. Has no call that submits many."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import bodies
import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

broker = RedisBroker(url=bodies.URL)
broker.add_middleware(Results(backend=RedisBackend(url=bodies.URL), store_results=True))
dramatiq.set_broker(broker)
noop = dramatiq.actor(bodies.noop)
echo = dramatiq.actor(bodies.echo)
keep = dramatiq.actor(bodies.keep)
mark = dramatiq.actor(bodies.mark)
MILLISECONDS = 60_000


@contextmanager
def session() -> Iterator[None]:
    yield


def submit(actor: dramatiq.Actor, *args: str) -> dramatiq.Message:
    return actor.send(*args)


def submit_many(actor: dramatiq.Actor, rows: Iterable[Sequence[str]]) -> list[dramatiq.Message]:
    return [actor.send(*args) for args in rows]


def results(messages: Iterable[dramatiq.Message]) -> list[Any]:
    return [message.get_result(block=True, timeout=MILLISECONDS) for message in messages]
