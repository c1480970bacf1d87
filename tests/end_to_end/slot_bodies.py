"""Bodies and programs that hold slots of limits. Who is inside is counted in Redis, by a plain client of their own."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from orchestrator import Orchestrator, arate_limit, concurrency, rate_limit, task


def plain() -> "redis.Redis":
    return redis.Redis.from_url(os.environ["BATON_REDIS_URL"], decode_responses=True)


@contextmanager
def counted() -> Iterator[None]:
    """Notes how many are inside at once, and who came in."""
    with plain() as client:
        client.rpush("test:inside", client.incr("test:now"))
        client.rpush("test:pids", os.getpid())
        try:
            yield
        finally:
            client.decr("test:now")


@task
def hold(names: list[str], seconds: float = 0.0, occupy: int = 1) -> int:
    with concurrency(names, occupy), counted():
        time.sleep(seconds)
    return os.getpid()


@task
async def ahold(names: list[str], occupy: int = 1) -> int:
    async with concurrency(names, occupy):
        with counted():
            return os.getpid()


@task
def rated(name: str) -> float:
    rate_limit(name)
    with plain() as client:
        seconds, microseconds = client.time()
        return float(seconds + microseconds / 1_000_000)


@task
async def arated(name: str) -> float:
    await arate_limit(name)
    with plain() as client:
        seconds, microseconds = client.time()
        return float(seconds + microseconds / 1_000_000)


def main(number: int, seconds: float) -> None:
    """Hold a slot of `db` so many times, for so many seconds each, after being told to begin."""
    with plain() as client:
        client.rpush("test:ready", os.getpid())
        client.blpop(["test:go"], 30)
    with Orchestrator():
        for _ in range(number):
            with concurrency("db"), counted():
                time.sleep(seconds)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
