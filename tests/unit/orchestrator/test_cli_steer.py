"""Commands that change runs, queues, limits and the quarantine: what they show first, what they do, exit codes."""

import json
import os
import pty
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from shared.commands import Claim
from shared.ids import new_id
from shared.ledger import RunLedger
from shared.upkeep import Death
from tests.support.command_line import answered, called, in_terminal
from tests.support.fleets import environment
from tests.support.ledgers import (
    COMPLETED,
    FAILED,
    Report,
    Seat,
    begun,
    one_begun,
    one_submitted,
    report,
    reported,
    seated,
    submitted,
)
from tests.support.server import RedisServer

REASON = ("--reason", "It was stuck.")


@pytest.fixture
def url(server: RedisServer) -> str:
    return server.url


def done(url: str, capsys: pytest.CaptureFixture[str], words: str, *more: str) -> tuple[int, Any]:
    """Exit code and document of a command that acts."""
    code, out = answered(url, [*words.split(), *more, "--yes", "--json"], capsys)
    return code, json.loads(out)


def states(ledger: RunLedger, ids: list[str]) -> list[str]:
    return [ledger.get(run_id).state.type.value for run_id in ids]


def ended(ledger: RunLedger, outcome: Any, **given: Any) -> str:
    """A run that ended so; nothing else waits in `q`."""
    run_id = one_submitted(ledger, **given)
    seat = seated(ledger, f"for-{run_id}")
    assert reported(ledger, seat, report(one_begun(ledger, seat), outcome)) == ["OK"]
    return run_id


@contextmanager
def answering(answer: str) -> Iterator[None]:
    """A terminal in which somebody answers so, as the standard input."""
    ours, theirs = pty.openpty()
    before = sys.stdin
    with os.fdopen(ours, "wb", 0) as keyboard, os.fdopen(theirs) as terminal:
        keyboard.write(f"{answer}\n".encode())
        sys.stdin = terminal
        try:
            yield
        finally:
            sys.stdin = before


# --- asking -----------------------------------------------------------------------------------------------------------


def test_where_nobody_can_answer_it_is_shown_and_nothing_is_done(
    url: str, ledger: RunLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = submitted(ledger, 22)
    code = called("--url", url, "runs", "cancel", "--queue", "q")
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert (code, lines[-2:], "with --yes it is done" in err) == (
        2,
        ["and 2 more", "would cancel 22 runs: 22 PENDING"],
        True,
    )
    assert [line.split()[0] for line in lines[1:-2]] == sorted(ids, reverse=True)[:20]
    assert set(states(ledger, ids)) == {"PENDING"}


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_in_a_terminal_it_asks(
    url: str, ledger: RunLedger, capsys: pytest.CaptureFixture[str], answer: str, code: int
) -> None:
    run_id = one_submitted(ledger)
    with answering(answer):
        ended_with = called("--url", url, "runs", "cancel", run_id[:-1])
    said = capsys.readouterr()
    assert (ended_with, "Cancel 1 run: 1 PENDING?" in said.err) == (code, True)
    assert states(ledger, [run_id]) == ["CANCELLED" if code == 0 else "PENDING"]


def test_json_tells_what_would_be_done_and_what_was(
    url: str, ledger: RunLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = one_submitted(ledger)
    code, out = answered(url, ["runs", "cancel", run_id, "--json"], capsys)
    assert (code, json.loads(out)) == (2, {"done": False, "runs": {run_id: {"state": "PENDING"}}})
    assert done(url, capsys, f"runs cancel {run_id}") == (
        0,
        {"done": True, "runs": {run_id: {"state": "CANCELLED", "error": None}}},
    )


ASKING = [
    "runs cancel ID",
    "runs retry ID",
    "runs force ID --to failed --reason why",
    "queues purge q",
    "queues move q z",
    "limits delete tag:db",
    "quarantine drop --all",
    "quarantine requeue ENTRY",
]


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("words", ASKING)
def test_every_command_that_asks_changes_nothing_without_an_answer(
    url: str, ledger: RunLedger, client: Any, capsys: pytest.CaptureFixture[str], words: str, as_json: bool
) -> None:
    run_id = one_submitted(ledger)
    ledger.set_limit("tag:db", 1)
    entry = client.xadd("baton:quarantine", {"reason": "crashed", "run": run_id})
    before = ledger.get(run_id)
    named = [{"ID": run_id, "ENTRY": entry}.get(word, word) for word in words.split()]
    code, out = answered(url, [*named, *(["--json"] if as_json else [])], capsys)
    assert (code, json.loads(out)["done"] if as_json else out.splitlines()[-1].startswith("would ")) == (
        2,
        not as_json,
    )
    assert (ledger.get(run_id), client.exists("baton:limit:tag:db"), client.xlen("baton:quarantine")) == (before, 1, 1)


# --- runs -------------------------------------------------------------------------------------------------------------


def test_what_runs_is_asked_to_end_and_what_has_ended_is_told(
    url: str, ledger: RunLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    completed, seat = ended(ledger, COMPLETED), seated(ledger, "w2")
    running = one_submitted(ledger)
    one_begun(ledger, seat)
    gone = new_id()
    code = called("--url", url, "runs", "cancel", "--yes", "--message", "Too late.", running, completed, gone)
    out, err = capsys.readouterr()
    assert (code, out, err.splitlines()) == (
        1,
        "cancelled 1 run: 1 CANCELLING\n",
        [f"{completed}: it has ended: COMPLETED", f"{gone}: there is no such run"],
    )
    assert ledger.get(running).state.message == "Too late."


@pytest.mark.parametrize(
    ("filters", "hit"),
    [
        ("--queue q", {"pending", "scheduled", "deferred", "limited", "running"}),
        ("--state pending --queue q", {"pending", "deferred"}),
        ("--state scheduled", {"scheduled", "limited"}),
        ("--task shop.other", {"elsewhere"}),
        ("--tag red", {"scheduled"}),
        ("--all", {"pending", "scheduled", "deferred", "limited", "running", "elsewhere"}),
        ("--since 1h --queue elsewhere", {"elsewhere"}),
        ("--all --limit 1", {"elsewhere"}),
    ],
)
def test_filters_mean_every_run_that_matches_and_has_not_ended(
    url: str, ledger: RunLedger, capsys: pytest.CaptureFixture[str], filters: str, hit: set[str]
) -> None:
    runs = {"completed": ended(ledger, COMPLETED), "running": one_submitted(ledger)}
    seat = seated(ledger, "w2")
    one_begun(ledger, seat)
    ledger.set_limit("tag:db", 0)
    runs["limited"] = one_submitted(ledger, fields={"limits": "tag:db", "ties": "1"})
    assert ledger.cycle(seat, [], 1).claims == []
    runs["scheduled"] = one_submitted(ledger, delay=60, ties=[("tag", "red")])
    runs["deferred"] = one_submitted(ledger, ties=[("up", runs["running"])])
    runs["pending"] = one_submitted(ledger)
    runs["elsewhere"] = one_submitted(ledger, queue="elsewhere", task="shop.other")
    code, told = done(url, capsys, f"runs cancel {filters}")
    names = {run_id: name for name, run_id in runs.items()}
    assert (code, {names[run_id] for run_id in told["runs"]}) == (0, hit)


def test_deep_in_a_place_nothing_is_missed(url: str, ledger: RunLedger, capsys: pytest.CaptureFixture[str]) -> None:
    submitted(ledger, 2500)
    code, told = done(url, capsys, "runs cancel --queue q")
    assert (code, len(told["runs"])) == (0, 2500)
    assert done(url, capsys, "runs cancel --queue q") == (1, {"done": False, "runs": {}})


def test_who_looks_on_sees_how_far_it_is(url: str, ledger: RunLedger) -> None:
    submitted(ledger, 1001)
    code, said = in_terminal(environment(url), "runs", "cancel", "--all", "--yes", columns=80)
    assert (code, "100%" in said, said.splitlines()[-1]) == (0, True, "cancelled 1001 runs: 1001 CANCELLED")


def test_bulk_retries_take_what_failed_and_other_ends_only_where_named(
    url: str, ledger: RunLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    failed, completed = ended(ledger, FAILED), ended(ledger, COMPLETED)
    cancelled = one_submitted(ledger)
    ledger.cancel([cancelled])
    retried = [
        list(done(url, capsys, f"runs retry --delay 60 {more}")[1]["runs"])
        for more in ("--all", "--state cancelled", "--all --rerun")
    ]
    assert (retried, states(ledger, [failed, cancelled, completed])) == (
        [[failed], [cancelled], [completed]],
        ["SCHEDULED"] * 3,
    )
    assert ledger.history(failed)[-1].state_details.scheduled_time is not None


def test_a_retry_that_is_refused_is_told_and_the_others_go_on(
    url: str, ledger: RunLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    completed, failed, gone = ended(ledger, COMPLETED), ended(ledger, FAILED), new_id()
    code, told = done(url, capsys, f"runs retry {completed} {gone} {failed} --message Fixed.")
    errors = [told["runs"][run_id]["error"] for run_id in (completed, gone, failed)]
    assert (code, errors[0], "is not in Redis" in errors[1], errors[2]) == (
        1,
        f"Run {completed} cannot be retried: it is COMPLETED.",
        True,
        None,
    )
    assert (ledger.get(failed).state.type, ledger.get(failed).state.message) == ("PENDING", "Fixed.")


@pytest.mark.parametrize("target", ["PENDING", "COMPLETED", "FAILED", "CRASHED", "cancelled"])
def test_a_run_is_forced_and_its_history_says_why(
    url: str, ledger: RunLedger, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    run_id = one_submitted(ledger)
    seat = seated(ledger)
    claim = one_begun(ledger, seat)
    code, told = done(url, capsys, f"runs force {run_id} --to {target}", *REASON)
    assert (code, told["runs"][run_id]["state"], ledger.get(run_id).state.message) == (0, target.upper(), REASON[1])
    assert reported(ledger, seat, report(claim)) == ["FENCED"]


# --- queues -----------------------------------------------------------------------------------------------------------


def test_queues_are_paused_resumed_and_capped(url: str, ledger: RunLedger, capsys: pytest.CaptureFixture[str]) -> None:
    one_submitted(ledger)
    told = [
        answered(url, words.split(), capsys)
        for words in (
            *("queues pause q", "queues pause q", "queues resume q", "queues cap q 5"),
            *("queues show q", "queues cap q none", "queues cap q none"),
        )
    ]
    shown = told.pop(4)[1]
    assert told == [
        (0, "q is paused; 1 waiting\n"),
        (0, "q is paused, as it was; 1 waiting\n"),
        (0, "q is not paused; 1 waiting\n"),
        (0, "q is capped at 5; 1 waiting\n"),
        (0, "q is without a cap; 1 waiting\n"),
        (0, "q is without a cap, as it was; 1 waiting\n"),
    ]
    assert "at most 5" in shown
    code, out = answered(url, ["queues", "pause", "new", "--json"], capsys)
    assert (code, json.loads(out)) == (
        0,
        {"name": "new", "changed": True, "paused": True, "cap": None, "waiting": 0},
    )


def test_a_queue_is_purged(url: str, ledger: RunLedger, capsys: pytest.CaptureFixture[str]) -> None:
    ids, scheduled = submitted(ledger, 3), one_submitted(ledger, delay=60)
    shown = answered(url, ["queues", "purge", "q"], capsys)
    stays = "what is due later (1) or waits for others (0) stays"
    assert shown == (2, f"would cancel what waits in q: 3 in its list; {stays}\n")
    assert done(url, capsys, "queues purge q") == (0, {"done": True, "name": "q", "cancelled": 3})
    assert states(ledger, [*ids, scheduled]) == ["CANCELLED"] * 3 + ["SCHEDULED"]
    assert answered(url, ["queues", "purge", "q", "--yes"], capsys) == (1, "cancelled 0 runs\n")
    assert answered(url, ["doctor"], capsys)[0] == 0


def test_a_queue_is_moved(url: str, ledger: RunLedger, client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ids, scheduled = submitted(ledger, 2), one_submitted(ledger, delay=60)
    shown = answered(url, ["queues", "move", "q", "z"], capsys)
    assert shown == (2, "would move what lies in q to z: 2 waiting, 1 scheduled, 0 deferred\n")
    assert done(url, capsys, "queues move q z") == (0, {"done": True, "name": "q", "moved": 3})
    assert (client.lrange("rq:queue:z", 0, -1), ledger.get(scheduled).queue) == (ids, "z")
    assert answered(url, ["doctor"], capsys)[0] == 0


@pytest.mark.parametrize("words", ["queues purge nosuch", "queues move nosuch z"])
def test_a_queue_that_nobody_knows_is_exit_code_1(url: str, capsys: pytest.CaptureFixture[str], words: str) -> None:
    assert answered(url, [*words.split(), "--yes"], capsys) == (1, "")


# --- limits -----------------------------------------------------------------------------------------------------------


def holding(ledger: RunLedger) -> tuple[Seat, Claim, str]:
    """A limit of one slot: who holds it, and a run that waits for it."""
    ledger.set_limit("tag:db", 1)
    seat = seated(ledger)
    _, waiting = submitted(ledger, 2, fields={"limits": "tag:db", "ties": "1"})
    claim = one_begun(ledger, seat)
    assert ledger.cycle(seat, [], 1).claims == []
    return seat, claim, waiting


def test_a_limit_is_told_with_its_holders_and_waiters(
    url: str, ledger: RunLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    seat, claim, waiting = holding(ledger)
    _, out = answered(url, ["limits", "show", "tag:db", "--json"], capsys)
    told = json.loads(out)
    (holder,) = told["holders"]
    assert [told[name] for name in ("slots", "used", "waiting", "waiters")] == [1, 1, 1, [waiting]]
    assert (holder["run"], holder["reserved"], holder["worker"]) == (claim.run_id, False, "w1")
    assert 0 < holder["lease_left"] <= 30
    reported(ledger, seat, report(claim))
    code, shown = answered(url, ["limits", "show", "tag:db"], capsys)
    assert (code, f"kept for {waiting}" in shown) == (0, True)


def test_limits_are_set_and_deleted(url: str, ledger: RunLedger, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, waiting = holding(ledger)
    assert answered(url, ["limits", "set", "tag:db", "0"], capsys) == (0, "tag:db has 0 slots; 1 waiting\n")
    assert answered(url, ["limits", "delete", "tag:db"], capsys) == (
        2,
        "would delete tag:db and let 1 waiting runs go on\n",
    )
    assert done(url, capsys, "limits delete tag:db") == (0, {"done": True, "name": "tag:db", "waiting": 0})
    assert (states(ledger, [waiting]), answered(url, ["limits", "list", "--json"], capsys)) == (
        ["PENDING"],
        (0, '{"limits": []}\n'),
    )
    for words in ("limits show tag:db", "limits delete tag:db --yes"):
        assert answered(url, words.split(), capsys) == (1, "")


# --- quarantine -------------------------------------------------------------------------------------------------------


def entries(client: Any) -> dict[str, str]:
    """Entries by their reasons."""
    return {fields["reason"]: entry for entry, fields in client.xrange("baton:quarantine")}


def test_a_late_outcome_is_shown_as_it_is_stored_and_never_requeued(
    url: str, ledger: RunLedger, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    one_submitted(ledger)
    seat = seated(ledger)
    (claim,) = begun(ledger, seat)
    ledger.give_back("w1", [(claim.run_id, claim.token)], "Stop.")
    hostile = COMPLETED._replace(result=b"\x81\xff\x1b[2J")
    assert ledger.cycle(seat, [Report(claim.run_id, claim.token, hostile)], 0).verdicts == ["FENCED"]
    (listed,) = json.loads(answered(url, ["quarantine", "list", "--json"], capsys)[1])["entries"]
    entry = listed["id"]
    _, out = answered(url, ["quarantine", "show", entry, "--json"], capsys)
    code, shown = answered(url, ["quarantine", "show", entry], capsys)
    assert (json.loads(out)["fields"]["result"], code, "6 bytes, hex 81ff1b5b324a" in shown) == (
        {"text": None, "hex": "81ff1b5b324a"},
        0,
        True,
    )
    code, told = done(url, capsys, f"quarantine requeue {entry}")
    assert (code, told["entries"][entry]["done"], client.xlen("baton:quarantine")) == (1, False, 1)


def test_a_run_that_was_given_up_is_requeued(
    url: str, ledger: RunLedger, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = one_submitted(ledger, fields={"on_crash": "fail"})
    one_begun(ledger, seated(ledger))
    ledger.reap([Death("w1", "killed by signal 9")])
    code, told = done(url, capsys, f"quarantine requeue {entries(client)['crashed']}")
    assert (code, [row["told"] for row in told["entries"].values()], states(ledger, [run_id]), entries(client)) == (
        0,
        ["retried, it is PENDING"],
        ["PENDING"],
        {},
    )


def test_a_run_that_could_not_be_read_is_requeued_once_it_was_mended(
    url: str, ledger: RunLedger, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = one_submitted(ledger)
    client.hset(f"rq:job:{run_id}", "crashes", "x")
    assert ledger.cycle(seated(ledger), [], 1).claims == []
    entry = entries(client)["unreadable"]
    broken, _ = done(url, capsys, f"quarantine requeue {entry}")
    client.hdel(f"rq:job:{run_id}", "crashes")
    mended, told = done(url, capsys, f"quarantine requeue {entry}")
    assert (broken, mended, told["entries"][entry]["told"]) == (1, 0, "put back where it waits")
    assert (client.lrange("rq:queue:q", 0, -1), entries(client)) == ([run_id], {})


def test_entries_are_dropped_by_id_reason_or_all(url: str, client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    reasons = [*["fenced"] * 600, "gone", "crashed"]
    ids = [client.xadd("baton:quarantine", {"reason": reason, "run": new_id()}) for reason in reasons]
    told = [done(url, capsys, f"quarantine drop {words}") for words in (ids[-1], "--reason fenced", "--all")]
    assert told == [(0, {"done": True, "dropped": number}) for number in (1, 600, 1)]
    assert called("--url", url, "quarantine", "drop", "--all", "--yes") == 1


def test_hostile_entries_are_shown_as_text(url: str, client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b[2J\r\u202e"
    entry = client.xadd("baton:quarantine", {"reason": hostile, "run": hostile, hostile: hostile, "time": b"\xff"})
    for words in (["list"], ["show", entry], ["list", "--json"], ["show", entry, "--json"]):
        code, out = answered(url, ["quarantine", *words], capsys)
        assert (code, out.replace("\n", "").isprintable()) == (0, True)
    assert done(url, capsys, f"quarantine requeue {entry}")[0] == 1


def test_an_entry_that_is_not_there_is_exit_code_1(url: str) -> None:
    codes = [called("--url", url, "quarantine", *words, "1-1") for words in (["show"], ["requeue"], ["drop"])]
    assert codes == [1, 1, 1]


# --- tasks and tags ---------------------------------------------------------------------------------------------------


def test_a_task_is_shown_with_its_newest_runs(url: str, ledger: RunLedger, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = ended(ledger, COMPLETED)
    _, out = answered(url, ["tasks", "show", "shop.add", "--json"], capsys)
    told = json.loads(out)
    assert (told["counts"], [run["id"] for run in told["runs"]]) == ({"COMPLETED": 1}, [run_id])
    code, shown = answered(url, ["tasks", "show", "shop.add"], capsys)
    assert (code, run_id in shown, called("--url", url, "tasks", "show", "nosuch")) == (0, True, 1)


def test_runs_are_listed_by_tag(url: str, ledger: RunLedger, capsys: pytest.CaptureFixture[str]) -> None:
    red = submitted(ledger, 3, ties=[("tag", "red")])
    one_submitted(ledger)
    _, out = answered(url, ["runs", "list", "--tag", "red", "--limit", "2", "--json"], capsys)
    assert [run["id"] for run in json.loads(out)["runs"]] == red[:0:-1]
    assert answered(url, ["runs", "list", "--tag", "blue", "--json"], capsys)[0] == 1
