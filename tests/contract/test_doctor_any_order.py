"""The doctor beside any commands in any order: it finds nothing, and mends whatever rows are lost or put in then."""

import random
from collections.abc import Callable
from typing import Any

from hypothesis import Phase, settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from orchestrator.invariants import violations
from orchestrator.reconcile import reconcile
from shared.snapshot import take
from tests.contract.test_any_order import STATEFUL, emptied
from tests.support.any_order import AnyOrder
from tests.support.server import RedisServer

ROLE = "operator"
INDEXES = (
    "rq:queue:",
    "rq:wip:",
    "rq:scheduled:",
    "rq:deferred:",
    "rq:finished:",
    "rq:failed:",
    "rq:canceled:",
    "baton:paused",
    "baton:running",
    "baton:deadlines",
    "baton:limit:",
    "baton:worker:",
)
TYING = (":waits", ":feeds")
FAULTS = 4
HALF = 0.5


class Examined(AnyOrder):
    """Examined after each step; in the end rows of indexes are taken out and put in, and all is mended."""

    @invariant()
    def the_doctor_finds_nothing(self) -> None:
        found = list(violations(take(self.store.exchange)))
        assert found == [], found

    def teardown(self) -> None:
        chance = random.Random(self.born + self.asked + len(self.before.runs))
        done = [self.damage(chance) for _ in range(FAULTS)]
        told = reconcile(self.store.exchange, self.store.ledger, lambda: None)
        assert told.left.violations == (), (done, told)
        super().teardown()

    def damage(self, chance: random.Random) -> str:
        """Take a row out of an index, or put the id of some run into it; what was done, in words."""
        client: Any = self.store.client
        indexes = [key for key in sorted(client.keys("*")) if is_index(key)]
        key, run_id = chance.choice(indexes or ["rq:queue:a"]), chance.choice(sorted(self.before.runs))
        rows = listed(client, key)
        if rows and chance.random() < HALF:
            row = chance.choice(rows)
            REMOVE[client.type(key)](client, key, row)
            return f"{row} taken out of {key}"
        ADD[client.type(key)](client, key, run_id)
        return f"{run_id} put into {key}"


def is_index(key: str) -> bool:
    """True for a key that lists runs."""
    is_setting = key.startswith("baton:limit:") and not key.endswith((":holders", ":waiters"))
    return (key.startswith(INDEXES) and not is_setting) or key.endswith(TYING)


def listed(client: Any, key: str) -> list[str]:
    rows: dict[str, Callable[[], list[str]]] = {
        "none": list,
        "list": lambda: client.lrange(key, 0, -1),
        "zset": lambda: client.zrange(key, 0, -1),
        "set": lambda: sorted(client.smembers(key)),
        "hash": lambda: client.hkeys(key),
    }
    return rows[client.type(key)]()


REMOVE: dict[str, Callable[[Any, str, str], object]] = {
    "list": lambda client, key, row: client.lrem(key, 0, row),
    "zset": lambda client, key, row: client.zrem(key, row),
    "set": lambda client, key, row: client.srem(key, row),
    "hash": lambda client, key, row: client.hdel(key, row),
}
ADD: dict[str, Callable[[Any, str, str], object]] = {
    "none": lambda client, key, row: client.rpush(key, row),
    "list": lambda client, key, row: client.rpush(key, row),
    "zset": lambda client, key, row: client.zadd(key, {row: 9e9}),
    "set": lambda client, key, row: client.sadd(key, row),
    "hash": lambda client, key, row: client.hset(key, row, "1 1 1"),
}


def test_in_any_order_of_commands_nothing_is_found_and_whatever_is_lost_then_is_mended(server: RedisServer) -> None:
    run_state_machine_as_test(
        lambda: Examined(emptied(server)), settings=settings(STATEFUL, max_examples=40, phases=[Phase.generate])
    )
