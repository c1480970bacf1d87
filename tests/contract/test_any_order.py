"""Any commands in any order: after each step all that is stored must fit together, and nothing may go backwards."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from shared.ledger import RunLedger
from shared.scripts import SCRIPTS, Script
from shared.transport import Argument, Command, Transport
from tests.contract.conftest import fake_store, real_store
from tests.support.any_order import AnyOrder
from tests.support.ledgers import Store
from tests.support.server import RedisServer

STATEFUL = settings(
    deadline=None,
    database=None,
    derandomize=os.environ.get("CI") == "true",
    stateful_step_count=25,
    suppress_health_check=list(HealthCheck),
)
HUNT = settings(STATEFUL, derandomize=True, phases=[Phase.generate], stateful_step_count=40, max_examples=400)


def emptied(server: RedisServer) -> Store:
    store = real_store(server)
    store.client.flushall()
    return store


def run_on(make: Callable[[], Store], rules: settings) -> None:
    run_state_machine_as_test(lambda: AnyOrder(make()), settings=rules)


def test_any_order_of_commands_keeps_everything_together() -> None:
    run_on(fake_store, settings(STATEFUL, max_examples=40))


def test_any_order_of_commands_keeps_everything_together_on_a_real_server(server: RedisServer) -> None:
    run_on(lambda: emptied(server), settings(STATEFUL, max_examples=100))


# --- that it would find what is broken --------------------------------------------------------------------------------


class Tampered:
    """A transport whose scripts have a line changed."""

    def __init__(self, inner: Transport, line: str, instead: str) -> None:
        self._inner = inner
        self._line = line
        self._instead = instead

    @property
    def address(self) -> str:
        return self._inner.address

    def evaluate(self, script: Script, key_names: Sequence[str], arguments: Sequence[Argument]) -> Any:
        text = script.text.replace(self._line, self._instead)
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        return self._inner.evaluate(Script(script.name, text, sha), key_names, arguments)

    def read(self, commands: Sequence[Command]) -> list[Any]:
        return self._inner.read(commands)

    def close(self) -> None:
        self._inner.close()


PLANTS = {
    "a report of an old attempt is taken": ("(digits(run.token) == token or not is_fenced)", "true"),
    "a slot is not given back": ("if run.limits and not keeps_slots then release(run) end", ""),
    "who waits is not told of the end": ("if run.consumers then feed(run.id) end", ""),
    "what others need gets a lifetime": ("if run.consumers then return nil end", ""),
    "an operation is not known again": (
        "if call('HGET', run.key, 'ask') == operation then return answer('OK') end",
        "",
    ),
}


@pytest.mark.parametrize(("line", "instead"), PLANTS.values(), ids=PLANTS.keys())
def test_a_bug_in_a_script_is_found(server: RedisServer, line: str, instead: str) -> None:
    def tampered() -> Store:
        store = emptied(server)
        return replace(store, ledger=RunLedger(Tampered(store.exchange, line, instead), store.settings))

    assert any(line in script.text for script in SCRIPTS.values())
    with pytest.raises(AssertionError):
        run_on(tampered, HUNT)
