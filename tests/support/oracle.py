"""What became of many runs, told from what was acknowledged, what the bodies wrote down and a scan of Redis.

Never from Baton's own counters: whoever is judged is not asked.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

import redis

from orchestrator.doctor import examine
from shared import keys
from shared.connect import connect
from shared.ledger import RunLedger
from shared.results import ResultRecord
from shared.runs import TaskRun
from shared.settings import Settings
from tests.support.fleets import BodyLog, Stage
from tests.support.waiting import eventually

TERMINAL = {"COMPLETED": "finished", "FAILED": "failed", "CRASHED": "failed", "CANCELLED": "canceled"}
_AT_ONCE = 500


@dataclass
class Findings:
    """The runs that went wrong in each way; all empty is what is wanted, but for `overlap` and `again`."""

    lost: list[str] = field(default_factory=list)
    """Acknowledged, and not there."""
    stuck: list[str] = field(default_factory=list)
    """There, and not at an end."""
    ghosts: list[str] = field(default_factory=list)
    """Stored or executed, and never acknowledged."""
    ended_twice: list[str] = field(default_factory=list)
    """More than one end, or something after it."""
    zombies: list[str] = field(default_factory=list)
    """Ended by an attempt that was not the run's last."""
    gaps: list[str] = field(default_factory=list)
    """Holes in the sequence of its history."""
    extra: list[str] = field(default_factory=list)
    """Bodies that started without an attempt being recorded."""
    overlaps: int = 0
    """Pairs of bodies of one run that ran at the same time: only as many as processes were paused or cut off."""
    again: int = 0
    """Runs whose body started more than once."""

    def wrong(self) -> dict[str, list[str]]:
        """What may never be, by name."""
        lists = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: found for name, found in lists.items() if isinstance(found, list) and found}


def judged(client: "redis.Redis", ledger: RunLedger, acknowledged: Iterable[str], bodies: BodyLog) -> Findings:
    """Judge every run that was acknowledged, stored or executed. Its bodies return their own token."""
    known = list(dict.fromkeys(acknowledged))
    stored = {key.removeprefix("rq:job:") for key in client.scan_iter("rq:job:*", count=1000)}
    found = Findings(lost=[run_id for run_id in known if run_id not in stored])
    found.ghosts = sorted((stored | bodies.keys()) - set(known))
    for start in range(0, len(known), _AT_ONCE):
        page = [run_id for run_id in known[start : start + _AT_ONCE] if run_id in stored]
        pipe = client.pipeline(transaction=False)
        for run_id in page:
            pipe.hgetall(f"rq:job:{run_id}")
            pipe.lrange(f"baton:run:{run_id}:history", 0, -1)
        answers = pipe.execute()
        runs = ledger.get_many(page)
        for i, run_id in enumerate(page):
            record, rows = answers[2 * i], [json.loads(row) for row in answers[2 * i + 1]]
            _judge_history(found, run_id, record, rows)
            _judge_bodies(found, run_id, rows, bodies)
            told = _token_told_by(runs[run_id])
            if told is not None and told != int(record["token"]):
                found.zombies.append(run_id)
    return found


def _token_told_by(run: object) -> int | None:
    """The token that the body whose outcome was recorded returned."""
    data = run.state.data if isinstance(run, TaskRun) and run.state.is_completed() else None
    return int(data.result) if isinstance(data, ResultRecord) else None


def _judge_history(found: Findings, run_id: str, record: Mapping[str, str], rows: list[dict[str, Any]]) -> None:
    ends = [i for i, row in enumerate(rows) if row["type"] in TERMINAL]
    if record.get("state_type") not in TERMINAL:
        found.stuck.append(run_id)
    if len(ends) > 1 or (ends and ends[0] != len(rows) - 1):
        found.ended_twice.append(run_id)
    if [row["seq"] for row in rows] != list(range(1, len(rows) + 1)) or record.get("seq") != str(len(rows)):
        found.gaps.append(run_id)


def _judge_bodies(found: Findings, run_id: str, rows: list[dict[str, Any]], bodies: BodyLog) -> None:
    began = sum(entry.what == "start" for entry in bodies.get(run_id, ()))
    if began > sum(row["type"] == "RUNNING" for row in rows):
        found.extra.append(run_id)
    found.again += began > 1
    found.overlaps += sum(after[0] < before[1] for before, after in pairwise(_spans(run_id, bodies)))


def _spans(run_id: str, bodies: BodyLog) -> list[tuple[int, int]]:
    """Start and end of each body that came to its end."""
    starts = {entry.token: entry.at for entry in bodies.get(run_id, ()) if entry.what == "start"}
    ends = {entry.token: entry.at for entry in bodies.get(run_id, ()) if entry.what == "end"}
    return sorted((starts[token], ends[token]) for token in starts.keys() & ends.keys())


def trial(on: Stage, acknowledged: Iterable[str]) -> dict[str, object]:
    """What may never be, by name, once all runs have ended, with what the doctor finds; {} is what is wanted."""
    eventually(lambda: not any(int(number) for number in on.client.hgetall(keys.COUNTS).values()), 20)
    settings = Settings.load({}, redis_url=on.server.url)
    exchange = connect(settings)
    try:
        found = judged(on.client, RunLedger(exchange, settings), acknowledged, on.fleet.body_log())
        broken = [(one.invariant, one.what) for one in examine(exchange, lambda: None).violations]
    finally:
        exchange.close()
    return {**found.wrong(), **({"doctor": broken} if broken else {})}
