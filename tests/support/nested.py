"""Runs that wait for other runs: who submitted whom, who began what, and how many processes there are meanwhile."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from orchestrator import RunFuture
from shared import keys
from tests.support.fleets import Fleet, Fleets, starts
from tests.support.waiting import eventually

MODULE = {"module": "tests.end_to_end.nesting"}
"""For a fleet that knows the tasks that wait."""


@contextmanager
def most_children(fleet: Fleet) -> Iterator[list[int]]:
    """How many children of this fleet were alive at the same time, seen every few milliseconds: a list of one."""
    most, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(0.002):
            most[0] = max(most[0], len(fleet.children()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def children_of(client: "redis.Redis", run_id: str) -> list[str]:
    """The ids of the runs that a run has submitted."""
    return [key.split(":")[-1] for key in client.scan_iter("rq:job:*") if client.hget(key, "parent") == run_id]


def worker_of(client: "redis.Redis", run_id: str) -> str | None:
    """The worker that began a run last, as its history tells."""
    rows = [json.loads(row) for row in client.lrange(keys.run_part(run_id, "history"), 0, -1)]
    return next((row["worker"] for row in reversed(rows) if row["type"] == "RUNNING"), None)


def whole_tree(client: "redis.Redis", run_id: str) -> list[str]:
    """A run, the run that it submitted, and so on."""
    tree = [run_id]
    while found := children_of(client, tree[-1]):
        tree += found
    return tree


def in_its_body(fleet: Fleet | Fleets, client: "redis.Redis", future: RunFuture[Any]) -> str:
    """The run that this one has submitted and waits for, once it is in its body."""
    eventually(lambda: any(starts(fleet.body_log(), run_id) for run_id in children_of(client, future.run_id)))
    return children_of(client, future.run_id)[0]
