"""Commands on a server that is empty, damaged, or holds what somebody made up: none fails, and none shows it raw."""

from typing import Any

import pytest

from shared.ledger import RunLedger
from tests.support.command_line import COLOUR, answered, called, in_terminal
from tests.support.fleets import environment
from tests.support.plants import PLANTS, Plant, Story, told
from tests.support.server import RedisServer

EMPTY = [
    *("runs list", "queues list", "workers list", "tasks list", "limits list", "quarantine list"),
    *("doctor", "check", "reconcile"),
]
HOSTILE = "\x1b]0;owned\x07\r\n[bold red]x[/]\u202e:smile:"


def test_a_server_without_anything_is_no_error(server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    codes = [called("--url", server.url, *words.split()) for words in EMPTY]
    assert (codes, "internal" in capsys.readouterr().err) == ([0] * len(EMPTY), False)


@pytest.fixture
def damaged(server: RedisServer, client: Any, ledger: RunLedger) -> tuple[str, Any, Story]:
    """An emptied server with the story, and a client to damage it with."""
    ledger.set_limit("tag:db", 1)
    client.zadd("baton:limit:tag:db:holders", {"some-process": 1, f"{HOSTILE}:reserved": 2})
    client.zadd("baton:limit:tag:db:waiters", {HOSTILE: 1})
    return server.url, client, told(ledger)


LOOKS = [
    *("runs list", "queues list", "queues show q", "workers list", "workers show w1", "tasks list", "check"),
    *("tasks show shop.add", "limits list", "limits show tag:db", "quarantine list"),
]


@pytest.mark.parametrize("plant", [plant for _, plant in PLANTS], ids=lambda plant: plant.__name__)
def test_no_damage_of_a_run_makes_a_command_fail(
    damaged: tuple[str, Any, Story], plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    url, client, story = damaged
    plant(client, story)
    codes = [answered(url, words.split(), capsys)[0] for words in LOOKS]
    assert codes == [0] * len(LOOKS)


def test_hostile_texts_stay_text(damaged: tuple[str, Any, Story], capsys: pytest.CaptureFixture[str]) -> None:
    url, client, story = damaged
    for run_id in (story.pending, story.running.run_id, story.failed):
        names = ("task", "name", "origin", "state_name", "state_type", "state_message", "worker_name", "error")
        client.hset(f"rq:job:{run_id}", mapping=dict.fromkeys(names, HOSTILE))
    client.hset("rq:worker:w1", mapping=dict.fromkeys(("hostname", "tasks", "version", "fleet", "queues"), HOSTILE))
    client.hset("baton:queue:q", mapping=dict.fromkeys(("paused", "paused_by"), HOSTILE))
    client.sadd("rq:queues", f"rq:queue:{HOSTILE}")
    client.sadd("baton:tasks", HOSTILE)
    client.sadd("baton:limits", HOSTILE)
    client.set(f"baton:limit:{HOSTILE}", HOSTILE)
    client.xadd("baton:quarantine", {"reason": HOSTILE, "run": HOSTILE})
    for words in LOOKS:
        code, out = answered(url, words.split(), capsys)
        assert (code, out.replace("\n", "").isprintable()) == (0, True)
    _, drawn = in_terminal(environment(url), "queues", "list", columns=400)
    assert ("[bold red]x[/]" in drawn, COLOUR.sub("", drawn).replace("\n", "").isprintable()) == (True, True)
