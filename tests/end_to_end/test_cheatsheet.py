"""Every command of the cheat sheet through a real redis-cli, on a server with a story whose answers are known."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from orchestrator.cheatsheet import EXAMPLE, QUESTIONS, page, redis_cli
from shared.ledger import RunLedger
from shared.settings import Settings
from shared.upkeep import Death, Pulse
from tests.support.command_line import ledger_at
from tests.support.fleets import ROOT, command
from tests.support.ledgers import (
    CANCELLED,
    COMPLETED,
    FAILED,
    begun,
    one_begun,
    one_submitted,
    report,
    reported,
    retry_in,
    seated,
    submitted,
)
from tests.support.roles import add_role, password_of
from tests.support.server import RedisServer
from tests.support.waiting import eventually

BASH = shutil.which("bash") or "bash"
TASK = "shop.add"
TRACEBACK = "Traceback (most recent call last):\nValueError: no"
LOST = "Attempt 1 was lost: killed by signal 9."
LIVE = "Watch it live."


@dataclass(frozen=True)
class Story:
    """What happened on queue `mail`: ids by what became of them. `w1` and `w2` live, the lease of `gone` is over."""

    url: str
    first: str
    waiting: list[str]
    running: str
    deferred: str
    limited: str
    retrying: str
    scheduled: str
    completed: str
    failed: str
    cancelled: str
    crashed: str
    began: datetime

    def ask(self, question: str, url: str | None = None, **names: str) -> list[str]:
        """The lines that redis-cli answers, with times made comparable."""
        (asked,) = [one for one in QUESTIONS if one.question == question]
        about = {**EXAMPLE, "worker": "w1", "task": TASK, "day": self.began.date().isoformat(), **names}
        words = asked.about(about).command
        if url is not None:
            words = re.sub("^SORT ", "SORT_RO ", words)
        ended = subprocess.run(
            [BASH, "-c", f"{redis_cli(url or self.url)} {words}"],
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=10,
            check=True,
        )
        return [self._comparable(line) for line in ended.stdout.splitlines()]

    def _comparable(self, line: str) -> str:
        """A time as TIME if it lies within the story; seconds since 1970 as minutes from its beginning."""
        if re.fullmatch(r"\d{10}(\.\d*)?", line):
            return f"in {round((float(line) - self.began.timestamp()) / 60)} min"
        if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line):
            return "TIME" if self.began <= datetime.fromisoformat(line) <= datetime.now(UTC) else line
        return line


@pytest.fixture(scope="module")
def story(module_server: RedisServer) -> Iterator[Story]:
    if shutil.which("redis-cli") is None:
        pytest.skip("no redis-cli on PATH")
    with ledger_at(module_server.url) as ledger:
        yield told(ledger, module_server.url)


def told(ledger: RunLedger, url: str) -> Story:
    """The story, on an empty server. What begins runs passes over the cancelled one, so that no tombstone is left."""
    began = datetime.now(UTC)
    crashed = one_submitted(ledger, queue="mail", fields={"on_crash": "fail"})
    seat = seated(ledger, "w0", "mail")
    begun(ledger, seat)
    ledger.reap([Death("w0", "killed by signal 9")])
    cancelled = one_submitted(ledger, queue="mail")
    assert ledger.propose(cancelled, CANCELLED, "cancel", seq=1, actor="alice").tag == "OK"
    one, two = seated(ledger, "w1", "mail"), seated(ledger, "w2", "mail")
    ended = []
    failed_as_usual = FAILED._replace(traceback=TRACEBACK, retention=Settings().retention_failed)
    for outcome in (COMPLETED, failed_as_usual, retry_in(600)):
        ended.append(one_submitted(ledger, queue="mail"))
        early = one_begun(ledger, two)
        if outcome is COMPLETED:
            assert ledger.give_back("w2", [(early.run_id, early.token)], "Not started: the worker is busy.") == ["OK"]
            assert reported(ledger, two, report(early)) == ["FENCED"]
            early = one_begun(ledger, two)
        assert reported(ledger, two, report(early, outcome)) == ["OK"]
    completed, failed, retrying = ended
    scheduled = one_submitted(ledger, queue="mail", delay=3600)
    ledger.set_limit("tag:db", 1)
    running, limited = submitted(ledger, 2, queue="mail", fields={"limits": "tag:db", "ties": "1"})
    one_begun(ledger, one)
    assert ledger.cycle(one, [], 1).claims == []
    ledger.beat([Pulse("w1", ("mail",), {"current_job_working_time": "12.500"})])
    ledger.beat([Pulse("w2", ("mail",), {"current_job_working_time": "0"})])
    ties = [("up", running), ("tag", "daily"), ("idem", "K"), ("digest", "5f"), ("within", 600)]
    deferred = one_submitted(ledger, queue="mail", ties=ties)
    waiting = submitted(ledger, 2, queue="mail")
    first = one_submitted(ledger, queue="mail", at_front=True, fields={"parent": running})
    ledger.set_queue("mail", "cap", 100)
    ledger.set_queue("mail", "pause", "alice")
    with ledger_at(url, lease=0.25, beat=0.1, reap=0.1, future_sweep=0.1) as hasty:
        seated(hasty, "gone", "mail")  # its lease is over in a moment, and nobody reaps it
    suspended = command("rq", "suspend", "-u", url, url=url)
    assert suspended.returncode == 0, suspended.stderr
    ids = {"completed": completed, "failed": failed, "cancelled": cancelled, "crashed": crashed}
    held_up = {"deferred": deferred, "limited": limited, "retrying": retrying, "scheduled": scheduled}
    return Story(url, first, [first, *waiting], running, **held_up, **ids, began=began)


def fields(lines: list[str]) -> dict[str, str]:
    return dict(zip(lines[::2], lines[1::2], strict=True))


# Each question about the whole, with the lines of its answer; where those have no order, they are sorted.
ANSWERS = {
    "Which queues are there?": lambda _: ["rq:queue:mail"],
    "How many runs wait?": lambda _: ["3"],
    "Which are next, and what are they?": lambda story: [part for one in story.waiting for part in (one, TASK)],
    "Since when does the next one wait?": lambda story: [story.first, "TIME"],
    "What runs now, where, since when?": lambda story: [story.running, TASK, "w1", "TIME"],
    "How many run?": lambda _: ["1"],
    "How many are due later?": lambda _: ["2"],
    "How many wait for other runs?": lambda _: ["1"],
    "Is it paused, and by whom? How many may wait?": lambda _: ["1", "alice", "100"],
    "How many failed or crashed?": lambda _: ["2"],
    "How many completed?": lambda _: ["1"],
    "How many were cancelled?": lambda _: ["1"],
    "What is due next?": lambda story: [story.retrying, "in 10 min", story.scheduled, "in 60 min"],
    "What failed lately, and why?": lambda story: [story.failed, TASK, "ValueError: no", story.crashed, TASK, LOST],
    "Which tasks were ever submitted?": lambda _: [TASK],
    "Which limits are there?": lambda _: ["tag:db"],
    "How many slots has a limit?": lambda _: ["1"],
    "Who waits for a slot, in which order?": lambda story: [story.limited, TASK],
    "Which runs have a tag?": lambda story: [story.deferred],
    "Which run has an idempotency key?": lambda story: [f"{story.deferred} 5f"],
    "What has to begin, go on or end by when?": lambda story: [story.deferred, "in 10 min"],
    "Which worker is longest at its run?": lambda story: [
        *("12.500", story.running, "rq:worker:w1"),
        *("0", "", "rq:worker:w2"),
        *("", "", "rq:worker:gone"),
    ],
    "What does W hold?": lambda story: [story.running],
    "Is all work suspended?": lambda _: ["1"],
}


@pytest.mark.parametrize("question", ANSWERS)
def test_the_answer_is_what_the_story_implies(story: Story, question: str) -> None:
    assert story.ask(question) == ANSWERS[question](story)


def test_places_in_the_queue_are_counted_from_the_next_one(story: Story) -> None:
    places = [story.ask("At what place is R?", run=run_id) for run_id in (*story.waiting, story.running)]
    assert places == [["0"], ["1"], ["2"], [""]]


def test_a_run_is_shown_whole_and_one_that_is_gone_not_at_all(story: Story) -> None:
    told = fields(story.ask("Show R.", run=story.failed))
    expected = {
        "task": TASK,
        "origin": "mail",
        "status": "failed",
        "state_type": "FAILED",
        "state_name": "Failed",
        "attempt": "1",
        "worker_name": "w2",
        "error": "ValueError: no",
        "seq": "3",
    }
    assert {name: told.get(name) for name in expected} == expected
    assert story.ask("Show R.", run="01a1f879-5eda-7005-8876-23ab1bc095ff") == [""]


def test_why_a_run_failed(story: Story) -> None:
    told = [story.ask("Why did R fail?", run=run_id) for run_id in (story.failed, story.crashed)]
    assert told == [[TASK, "Failed", "1", "w2", "ValueError: no"], [TASK, "Crashed", "1", "w0", LOST]]
    assert story.ask("Where in the code did R fail?", run=story.failed) == TRACEBACK.splitlines()


def test_what_happened_to_a_run_step_by_step(story: Story) -> None:
    rows = [json.loads(line) for line in story.ask("What happened to R, step by step?", run=story.retrying)]
    assert [(row["seq"], row["type"], row["name"]) for row in rows] == [
        (1, "PENDING", "Pending"),
        (2, "RUNNING", "Running"),
        (3, "SCHEDULED", "AwaitingRetry"),
    ]


def test_what_ties_a_run_to_others_is_told(story: Story) -> None:
    told = {
        question: [story.ask(question, run=run_id) for run_id in (story.running, story.deferred)]
        for question in (
            *("What does R wait for?", "Who waits for R?", "What did R submit?"),
            "Which limits does R need a slot of?",
        )
    }
    assert told == {
        "What does R wait for?": [[""], [story.running]],
        "Who waits for R?": [[story.deferred], [""]],
        "What did R submit?": [[story.first], [""]],
        "Which limits does R need a slot of?": [["tag:db"], [""]],
    }


def test_who_holds_a_slot_is_told_with_its_token(story: Story) -> None:
    holder, since = story.ask("Who holds its slots, since when?")
    token = fields(story.ask("Show R.", run=story.running))["token"]
    assert (holder, since) == (f"{story.running}:{token}", "in 0 min")


def test_a_record_takes_a_few_hundred_bytes(story: Story) -> None:
    (told,) = story.ask("How much memory does the record of R take?", run=story.completed)
    assert 200 < int(told) < 5000


def test_runs_and_ends_are_counted(story: Story) -> None:
    states = fields(story.ask("How many runs are in each state?"))
    task = fields(story.ask("How did T go?"))
    day = fields(story.ask("How did a day go?"))
    assert {state: number for state, number in states.items() if number != "0"} == {
        "PENDING": "4",
        "RUNNING": "1",
        "SCHEDULED": "3",
    }
    ends = {"COMPLETED": "1", "FAILED": "1", "CRASHED": "1", "CANCELLED": "1"}
    assert {name: task.get(name) for name in ends} == ends
    assert {name: day.get(name) for name in (*ends, "submitted", "retried", "lost")} == {
        **ends,
        "submitted": "12",
        "retried": "1",
        "lost": "1",
    }


def test_the_living_and_the_dead(story: Story) -> None:
    lines = story.ask("Which workers are alive?")
    rows = sorted(zip(lines[::3], lines[1::3], lines[2::3], strict=True))
    told = fields(story.ask("Show W."))
    over = eventually(lambda: [line for line in story.ask("Whose lease is over?") if line])
    assert (rows, {name: told.get(name) for name in ("queues", "state", "current_job")}, over) == (
        [("rq:worker:gone", "TIME", "idle"), ("rq:worker:w1", "TIME", "busy"), ("rq:worker:w2", "TIME", "idle")],
        {"queues": "mail", "state": "busy", "current_job": story.running},
        ["gone", "in 0 min"],
    )


def test_what_came_too_late_lies_in_quarantine(story: Story) -> None:
    told = "\n".join(story.ask("What could not be read, or came too late?"))
    entries = [fields(f"reason\n{entry}".splitlines()[:6]) for entry in told.split("reason\n")[1:]]
    assert [(entry["reason"], entry["time"], entry["run"]) for entry in entries] == [
        ("fenced", "TIME", story.completed),
        ("crashed", "TIME", story.crashed),
    ]


def test_the_layout_is_told(story: Story) -> None:
    assert fields(story.ask("Which layout has the data?"))["layout"] == "1"


def test_transitions_are_seen_live(story: Story) -> None:
    (asked,) = [one for one in QUESTIONS if one.question == LIVE]
    with subprocess.Popen(
        [BASH, "-c", f"exec {redis_cli(story.url)} {asked.command}"], stdout=subprocess.PIPE, text=True
    ) as heard:
        try:
            assert heard.stdout is not None
            lines = iter(heard.stdout.readline, "")
            assert [next(lines).strip() for _ in range(3)] == ["psubscribe", "baton:run:*:state", "1"]
            with ledger_at(story.url) as ledger:
                run_id = one_submitted(ledger, queue="elsewhere")
            _, _, channel, row = (next(lines).strip() for _ in range(4))
        finally:
            heard.kill()
    with redis.Redis.from_url(story.url) as client:
        client.srem("rq:queues", "rq:queue:elsewhere")
    assert (channel, json.loads(row)["type"]) == (f"baton:run:{run_id}:state", "PENDING")


def test_who_may_only_read_gets_the_same_answers(story: Story) -> None:
    with redis.Redis.from_url(story.url, decode_responses=True) as client:
        if int(client.info("server")["redis_version"].split(".")[0]) < 7:
            pytest.skip("key permissions for reading only came with Redis 7")
        add_role(client, "observer")
    url = story.url.replace("//", f"//observer:{quote(password_of('observer'))}@")
    told = {question: story.ask(question, url) for question in ANSWERS}
    assert told == {question: answer(story) for question, answer in ANSWERS.items()}


def test_no_question_is_left_out_here() -> None:
    here = Path(__file__).read_text()
    assert [one.question for one in QUESTIONS if f'"{one.question}"' not in here] == []


# --- the page and the command -----------------------------------------------------------------------------------------


def test_the_page_is_that_of_the_code() -> None:
    written = (ROOT / "docs/redis-cli.md").read_text()
    assert written == "".join(f"{line}\n" for line in page()), (
        "run: python -m orchestrator.cheatsheet > docs/redis-cli.md"
    )


def test_the_command_prints_every_question_with_ones_own_address() -> None:
    url = "unix:///run/redis/redis.sock?db=3"
    ended = command("baton", "cheatsheet", url=url)
    begin = "redis-cli -s /run/redis/redis.sock -n 3 "
    asked = [line.strip().removeprefix(begin) for line in ended.stdout.splitlines() if line.startswith(f"    {begin}")]
    assert (ended.returncode, ended.stderr, asked) == (0, "", [one.about(EXAMPLE).command for one in QUESTIONS])


def test_a_password_is_shown_only_to_who_asks_for_it() -> None:
    url = "redis://somebody:s%24cret@example.org/0"
    hidden, shown = (
        command("baton", "cheatsheet", "--json", *more, url=url, allow_plain_password=1).stdout
        for more in ([], ["--reveal"])
    )
    first = [json.loads(text)["questions"][0]["command"] for text in (hidden, shown)]
    assert first == [
        "redis-cli -u 'redis://somebody:***@example.org/0' SMEMBERS rq:queues",
        "redis-cli -u redis://somebody:s%24cret@example.org/0 SMEMBERS rq:queues",
    ]
    assert "s%24cret" not in hidden


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="no redis-cli on PATH")
@pytest.mark.usefixtures("module_server")
def test_a_password_without_a_user_is_one_that_redis_cli_understands(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    try:
        with server.client() as client:
            client.config_set("requirepass", "se$cret")
        url = server.url.replace("//", "//:se%24cret@")
        told = command("baton", "cheatsheet", "--reveal", "--json", url=url).stdout
        waiting = json.loads(told)["questions"][1]["command"]
        asked = subprocess.run([BASH, "-c", waiting], capture_output=True, text=True, timeout=10, check=True)
    finally:
        server.stop()
    assert asked.stdout == "0\n"


@pytest.mark.parametrize("url", ["memory:", "http://example.org", "redis://["])
def test_an_address_that_redis_cli_does_not_know_is_refused(url: str) -> None:
    ended = command("baton", "cheatsheet", url=url)
    assert (ended.returncode, ended.stdout) == (78, "")
