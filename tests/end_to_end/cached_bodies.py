"""Tasks whose results are cached, and that note in Redis, by a plain client of their own, what was called."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import redis

from orchestrator import get_run_context, task, transaction
from shared.cache import INPUTS
from shared.isolation import IsolationLevel
from shared.transactions import Transaction
from worker.engine import run_task

ALONE = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE)


def note(what: str) -> None:
    with redis.Redis.from_url(os.environ["BATON_REDIS_URL"], decode_responses=True) as client:
        client.rpush("test:called", what)


@task(cache_policy=INPUTS)
def cached(a: int) -> list[int]:
    note(f"cached {a}")
    return [a]


@task(cache_policy=INPUTS)
async def acached(a: int) -> list[int]:
    note(f"acached {a}")
    return [a]


@task(cache_policy=INPUTS)
def generated(a: int) -> Iterator[int]:
    note(f"generated {a}")
    yield from range(a)


@task(cache_policy=ALONE, on_crash="retry")
def alone(wait_for_file: str = "") -> int:
    """The number of the process that ran it; waits until there is this file."""
    note(f"alone {os.getpid()}")
    while wait_for_file and not Path(wait_for_file).exists():
        time.sleep(0.01)
    return os.getpid()


@task(on_commit=[lambda _txn: note("commit")], on_rollback=[lambda _txn: note("undone")], retries=1)
def steps(fails: bool) -> int:
    """Fails in its first attempt, if it is to, after a step in it has been made."""

    def undo(_txn: Transaction) -> None:
        note("step undone")

    with transaction() as txn:
        txn.stage(1, [undo])
    note("body")
    if fails and get_run_context().attempt == 1:
        raise ValueError("x")
    return 5


@task(on_rollback=[lambda _txn: note("undone")])
def refuses_to_commit() -> int:
    return 5


@refuses_to_commit.on_commit
async def refuse(_txn: Transaction) -> None:
    raise OSError("no")


@task(result_storage_key="shared", cache_policy=ALONE)
def shares() -> int:
    return 1


@task(result_storage_key="shared", cache_policy=ALONE)
def shares_within() -> int:
    """Executes, while it has the lock of their key, a run that has the same one."""
    return 1 + run_task(shares)  # type: ignore[no-any-return] # the number of `shares`


@task
def nests(a: int) -> list[int]:
    """A cached task, executed in this body."""
    return run_task(cached, parameters={"a": a})  # type: ignore[no-any-return] # the list of `cached`
