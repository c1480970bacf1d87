"""Schedules with real servers and a fleet, and their commands."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from orchestrator import Orchestrator
from shared.clock import from_epoch
from shared.errors import InvalidValue
from shared.settings import Settings
from tests.end_to_end.bodies import add
from tests.support.command_line import answered, called
from tests.support.fleets import BIN, ROOT, Fleets, environment
from tests.support.server import RedisServer
from tests.support.waiting import eventually

OCCURRENCES = 60


@contextmanager
def servers(url: str, folder: Path, many: int) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """So many `baton server`, each with a log of its own; ended in the end."""
    running = []
    try:
        for i in range(many):
            with (folder / f"server{i}.log").open("wb") as log:
                running.append(
                    subprocess.Popen([BIN / "baton", "server"], cwd=ROOT, env=environment(url), stdout=log, stderr=log)
                )
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait(10)


def test_each_occurrence_becomes_one_run_of_three_servers_of_which_one_dies(
    server: RedisServer, client: "redis.Redis", tmp_path: Path, fleet: Fleets
) -> None:
    fleet(concurrency=1)
    with (
        Orchestrator(settings=Settings.load({}, redis_url=server.url)) as baton,
        servers(server.url, tmp_path, 3) as three,
    ):
        eventually(lambda: all("schedules of Redis" in (tmp_path / f"server{i}.log").read_text() for i in range(3)))
        seconds, micros = client.time()
        begins = from_epoch(seconds + micros / 1e6 + 0.5)
        made = baton.create_schedule(
            add,
            {"x": 1, "y": 2},
            interval=0.1,
            anchor=begins,
            ends=begins + timedelta(seconds=0.1 * (OCCURRENCES - 0.5)),
            catch_up="all",
            id="often",
        )
        eventually(lambda: baton.get_schedule("often").count("fired") > OCCURRENCES / 3)
        three[0].kill()
        eventually(lambda: baton.get_schedule("often").next_due is None, 20)
        runs = eventually(lambda: (found := baton.find_runs(limit=100).runs) and _ended(found) and found, 20)
    due = Counter(run.expected_start for run in runs)
    times = [(begins + i * timedelta(seconds=0.1)).isoformat() for i in range(OCCURRENCES)]
    assert sorted(time.isoformat() for time in due if time) == sorted(times)
    assert (made.id, len(runs), {run.state.type.value for run in runs}, set(due.values())) == (
        "often",
        OCCURRENCES,
        {"COMPLETED"},
        {1},
    )


def _ended(runs: Any) -> bool:
    return len(runs) == OCCURRENCES and all(run.state.is_final() for run in runs)


def test_a_server_stops_when_it_is_told_to(server: RedisServer, tmp_path: Path) -> None:
    with servers(server.url, tmp_path, 1) as (process,):
        eventually(lambda: "schedules of Redis" in (tmp_path / "server0.log").read_text())
        process.terminate()
        assert process.wait(5) == 0


def test_a_run_can_be_had_besides_the_occurrences(baton: Orchestrator, client: "redis.Redis") -> None:
    client.flushall()
    baton.create_schedule(add, {"x": 1, "y": 2}, cron="0 0 1 1 *", id="yearly")
    run_id = baton.run_schedule("yearly")
    told = (client.hget(f"rq:job:{run_id}", "schedule"), client.lrange("rq:queue:default", 0, -1))
    assert (told, baton.get_schedule("yearly").count("fired")) == (("yearly", [run_id]), 0)
    with pytest.raises(InvalidValue, match="no schedule 'daily'"):
        baton.run_schedule("daily")


def test_the_commands_of_schedules(server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> tuple[int, Any]:
        code, out = answered(server.url, ["schedules", *words, "--json"], capsys)
        return code, json.loads(out)

    create = ("create", "shop.add", "-p", "a=1", "--cron", "0 0 1 1 *", "--timezone", "Europe/Zurich", "--id", "yearly")
    assert said(*create)[1]["cron"] == "0 0 1 1 *"
    assert [one["id"] for one in said("list")[1]["schedules"]] == ["yearly"]
    assert [said(word, "yearly")[1]["changed"] for word in ("pause", "pause", "resume")] == [True, False, True]
    assert said("run", "yearly")[1]["schedule"] == "yearly"
    year = datetime.now(UTC).year + 1
    assert said("preview", "yearly", "-n", "2")[1] == {
        "timezone": "Europe/Zurich",
        "times": [f"{year + i}-01-01T00:00:00+01:00" for i in range(2)],
    }
    deleted = said("delete", "yearly", "--yes")[1]
    assert (deleted["done"], deleted["id"], said("list")[1]) == (True, "yearly", {"schedules": []})


def test_a_preview_tells_where_the_clock_changes(server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["schedules", "preview", "--cron", "30 2 * * *", "--timezone", "Europe/Zurich", "-n", "400"]
    code, out = answered(server.url, words, capsys)
    changes = [line.partition("  ")[2] for line in out.splitlines() if "  the" in line]
    assert (code, sorted(changes)[:2]) == (0, ["the clock was put back 1 h", "the clock was put forward 1 h"])


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["create", "shop.add"], 2, "one of cron, interval and rrule"),
        (["create", "shop.add", "--cron", "61 * * * *"], 2, "Bad minute"),
        (["create", "shop.add", "--interval", "0"], 2, "too short"),
        (["create", "shop.add", "--cron", "* * * * *", "--timezone", "Mars"], 2, "no time zone"),
        (["pause", "nightly"], 1, "no schedule nightly"),
        (["delete", "nightly", "--yes"], 1, "no schedule nightly"),
        (["preview", "nightly"], 1, "no schedule nightly"),
    ],
    ids=["no rule", "no minute", "no interval", "no zone", "nothing to pause", "nothing to delete", "nothing to show"],
)
def test_what_is_wrong_is_said(
    server: RedisServer, words: list[str], code: int, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert (called("--url", server.url, "schedules", *words), text in capfd.readouterr().err) == (code, True)
