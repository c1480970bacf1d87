"""What must hold of everything that is stored after every step, found by reading it all: the oracle of random tests."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from tests.support.ledgers import Store

STATUS = {
    "SCHEDULED": "scheduled",
    "PENDING": "queued",
    "RUNNING": "started",
    "CANCELLING": "started",
    "COMPLETED": "finished",
    "FAILED": "failed",
    "CRASHED": "failed",
    "CANCELLED": "canceled",
}
HELD = ("RUNNING", "CANCELLING")
REGISTRIES = {"COMPLETED": "finished", "FAILED": "failed", "CRASHED": "failed", "CANCELLED": "canceled"}


@dataclass(frozen=True)
class Scan:
    """Everything that is stored: per run its fields and rows, per key its value."""

    runs: dict[str, dict[str, str]]
    rows: dict[str, list[dict[str, Any]]]
    values: dict[str, Any]

    def under(self, prefix: str) -> dict[str, Any]:
        """The values of keys that begin so, by the rest of their names."""
        return {key.removeprefix(prefix): value for key, value in self.values.items() if key.startswith(prefix)}


# How each family of keys that matters here is read; what is not listed is not looked at.
_HASHES = ("rq:job:", "baton:worker:", "baton:counts")
_LISTS = ("rq:queue:", "baton:wake:", "baton:run:")
_SETS = ("rq:wip:", "rq:scheduled:", "rq:finished:", "rq:failed:", "rq:canceled:", "baton:running")


def scanned(store: Store) -> Scan:
    """Everything that is stored, at a moment in which nobody writes."""
    names = [key for key in store.client.keys("*") if not key.startswith("baton:run:") or key.endswith(":history")]
    pipe = store.client.pipeline(transaction=False)
    asked = [key for key in sorted(names) if _ask_for(pipe, key)]
    values = dict(zip(asked, pipe.execute(), strict=True))
    runs = {key.removeprefix("rq:job:"): value for key, value in values.items() if key.startswith("rq:job:")}
    rows = {run_id: [json.loads(row) for row in values[f"baton:run:{run_id}:history"]] for run_id in runs}
    return Scan(runs, rows, values)


def _ask_for(pipe: redis.client.Pipeline, key: str) -> bool:
    if key.startswith(_HASHES):
        pipe.hgetall(key)
    elif key.startswith(_LISTS):
        pipe.lrange(key, 0, -1)
    elif key.startswith(_SETS):
        pipe.zrange(key, 0, -1)
    else:
        return False
    return True


def violations(scan: Scan) -> list[str]:
    """What does not hold, in words; nothing, if all is well."""
    return [*_of_counts(scan), *_of_places(scan), *_of_histories(scan), *_of_tokens_lying(scan)]


def _of_counts(scan: Scan) -> Iterator[str]:
    counted = {state: int(number) for state, number in scan.values.get("baton:counts", {}).items() if number != "0"}
    there = Counter(run["state_type"] for run in scan.runs.values() if run["state_type"] not in REGISTRIES)
    if counted != there:
        yield f"counted {counted}, there are {dict(there)}"


def _of_places(scan: Scan) -> Iterator[str]:
    places = _places(scan)
    for run_id, run in scan.runs.items():
        expected = _expected_places(run_id, run, places[run_id])
        if places[run_id] != expected:
            yield f"{run_id} is {run['state_type']} and in {sorted(places[run_id])}, not in {sorted(expected)}"
        if run["status"] != STATUS[run["state_type"]]:
            yield f"{run_id} is {run['state_type']} and has RQ's status {run['status']}"
    for run_id in places.keys() - scan.runs.keys():
        yield f"{run_id} is in {sorted(places[run_id])} and has no record"


def _places(scan: Scan) -> defaultdict[str, set[str]]:
    """Where each run is; an id in a queue counts if its run waits, and is a tombstone otherwise."""
    places: defaultdict[str, set[str]] = defaultdict(set)
    for place, run_id in (*_waiting(scan), *_indexed(scan), *_held(scan)):
        places[run_id].add(place)
    return places


def _waiting(scan: Scan) -> Iterator[tuple[str, str]]:
    for queue, ids in scan.under("rq:queue:").items():
        for run_id in ids:
            if scan.runs.get(run_id, {}).get("state_type") == "PENDING":
                yield f"queue {queue}", run_id


def _indexed(scan: Scan) -> Iterator[tuple[str, str]]:
    for name in ("scheduled", "finished", "failed", "canceled"):
        for queue, ids in scan.under(f"rq:{name}:").items():
            for run_id in ids:
                yield f"{name} {queue}", run_id


def _held(scan: Scan) -> Iterator[tuple[str, str]]:
    for run_id in scan.values.get("baton:running", []):
        yield "running", run_id
    for queue, members in scan.under("rq:wip:").items():
        for member in members:
            run_id, _, token = member.partition(":")
            yield f"wip {queue} {token}", run_id
    for name, hand in scan.under("baton:worker:").items():
        for run_id, text in hand.items():
            yield f"hand of {name.removesuffix(':runs')} {text.partition(' ')[0]}", run_id


def _expected_places(run_id: str, run: dict[str, str], found: set[str]) -> set[str]:
    state, queue = run["state_type"], run["origin"]
    if state == "PENDING":
        return {f"queue {queue}"}
    if state == "SCHEDULED":
        return {f"scheduled {queue}"}
    if state in HELD:
        token = run["token"]
        return {f"wip {queue} {token}", "running", f"hand of {run['worker_name']} {token}"}
    return {f"{REGISTRIES[state]} {queue}"} if state in REGISTRIES else found | {f"no place for {run_id}"}


def _of_histories(scan: Scan) -> Iterator[str]:
    for run_id, rows in scan.rows.items():
        run, last = scan.runs[run_id], rows[-1]
        if [row["seq"] for row in rows] != list(range(1, len(rows) + 1)):
            yield f"{run_id}: its rows are numbered {[row['seq'] for row in rows]}"
        if (run["seq"], run["state_type"], run["state_time"]) != (str(last["seq"]), last["type"], last["time"]):
            yield f"{run_id}: its record and its last row differ: {run}, {last}"
        times = [row["time"] for row in rows]
        if times != sorted(set(times)):
            yield f"{run_id}: its times do not grow: {times}"
        if [row["type"] for row in rows[:-1] if row["type"] in REGISTRIES]:
            yield f"{run_id}: something follows its end: {rows}"


def _of_tokens_lying(scan: Scan) -> Iterator[str]:
    for name, lying in scan.under("baton:wake:").items():
        if len(lying) > 8:
            yield f"{len(lying)} tokens lie for {name}"


def steps_back(before: Scan, after: Scan) -> list[str]:
    """What moved backwards or was lost between two scans."""
    found = [f"{run_id} is gone" for run_id in before.runs.keys() - after.runs.keys()]
    for run_id in before.runs.keys() & after.runs.keys():
        old, new = before.runs[run_id], after.runs[run_id]
        found += [
            f"{run_id}: {name} went from {old[name]} to {new.get(name)}"
            for name in ("token", "attempt", "crashes", "seq")
            if int(new.get(name, 0)) < int(old.get(name, 0))
        ]
        if after.rows[run_id][: len(before.rows[run_id])] != before.rows[run_id]:
            found.append(f"{run_id}: its history was rewritten")
        if old["state_type"] in REGISTRIES and new != old:
            found.append(f"{run_id}: it had ended, and changed")
    return found
