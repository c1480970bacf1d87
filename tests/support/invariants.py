"""What must hold of everything that is stored after every step, found by reading it all: the oracle of random tests."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import redis

from tests.support.ledgers import Store

STATUS = {
    "SCHEDULED": "scheduled",
    "PENDING": "queued",
    "RUNNING": "started",
    "CANCELLING": "started",
    "PAUSED": "deferred",
    "COMPLETED": "finished",
    "FAILED": "failed",
    "CRASHED": "failed",
    "CANCELLED": "canceled",
}
HELD = ("RUNNING", "CANCELLING")
REGISTRIES = {"COMPLETED": "finished", "FAILED": "failed", "CRASHED": "failed", "CANCELLED": "canceled"}
# A place that a run's field names, the states in which it may lie there, and RQ's word for it.
PLACED = {
    "held": (("PENDING", "PAUSED", "SCHEDULED"), "started"),
    "deferred": (("PENDING",), "deferred"),
    "passed": (("PENDING",), "scheduled"),
    "limit": (("SCHEDULED",), "deferred"),
}
TIES = ("place", "consumers", "kids", "limits", "idem", "start_within", "upstreams", "flow", "kind", "unique")
PARTS = ("upstream", "waits", "feeds")


@dataclass(frozen=True)
class Scan:
    """Everything that is stored: per run its fields and rows, per key its value, and the keys that have a lifetime."""

    runs: dict[str, dict[str, str]]
    rows: dict[str, list[dict[str, Any]]]
    values: dict[str, Any]
    mortal: frozenset[str]

    def under(self, prefix: str) -> dict[str, Any]:
        """The values of keys that begin so, by the rest of their names."""
        return {key.removeprefix(prefix): value for key, value in self.values.items() if key.startswith(prefix)}

    def part(self, run_id: str, name: str) -> set[str]:
        """One of the sets of a run."""
        members: set[str] = self.values.get(f"baton:run:{run_id}:{name}", set())
        return members

    def is_final(self, run_id: str) -> bool:
        return self.runs[run_id]["state_type"] in REGISTRIES

    def has_ended_before(self, run_id: str) -> bool:
        """True if it ended once, perhaps to wait again."""
        return any(row["type"] in REGISTRIES for row in self.rows[run_id])

    def limits(self) -> dict[str, tuple[int, set[str], set[str]]]:
        """Per limit: its slots, who holds one, who waits for one."""
        rest = self.under("baton:limit:")
        names = [name for name, value in rest.items() if "slots" in value]
        return {
            name: (int(rest[name]["slots"]), set(rest.get(f"{name}:holders", ())), set(rest.get(f"{name}:waiters", ())))
            for name in names
        }


# How each family of keys that matters here is read; what is not listed is not looked at.
_HASHES = ("rq:job:", "baton:worker:", "baton:slots:", "baton:counts")
_LISTS = ("rq:queue:", "baton:wake:", "baton:continue")
_ZSETS = (
    *("rq:wip:", "rq:scheduled:", "rq:deferred:", "rq:finished:", "rq:failed:", "rq:canceled:"),
    *("baton:running", "baton:paused", "baton:deadlines", "baton:leases"),
)


def scanned(store: Store) -> Scan:
    """Everything that is stored, at a moment in which nobody writes."""
    names = sorted(store.client.keys("*"))
    pipe = store.client.pipeline(transaction=False)
    asked = [key for key in names if _ask_for(pipe, key)]
    lasting = [key for key in names if key.startswith(("rq:job:", "baton:run:", "baton:idem:"))]
    for key in lasting:
        pipe.ttl(key)
    answers = pipe.execute()
    values = dict(zip(asked, answers, strict=False))
    mortal = frozenset(key for key, ttl in zip(lasting, answers[len(asked) :], strict=True) if ttl >= 0)
    runs = {key.removeprefix("rq:job:"): value for key, value in values.items() if key.startswith("rq:job:")}
    rows = {run_id: [json.loads(row) for row in values[f"baton:run:{run_id}:history"]] for run_id in runs}
    return Scan(runs, rows, values, mortal)


def _ask_for(pipe: redis.client.Pipeline, key: str) -> bool:
    if key.startswith("baton:limit:"):
        if key.endswith((":holders", ":waiters")):
            pipe.zrange(key, 0, -1)
        else:
            pipe.hgetall(key)
    elif key.startswith("baton:run:"):
        if key.endswith(":history"):
            pipe.lrange(key, 0, -1)
        elif key.endswith(PARTS):
            pipe.smembers(key)
        else:
            pipe.exists(key)
    elif key.startswith("baton:idem:"):
        pipe.get(key)
    elif key.startswith(_HASHES):
        pipe.hgetall(key)
    elif key.startswith(_LISTS):
        pipe.lrange(key, 0, -1)
    elif key.startswith(_ZSETS):
        pipe.zrange(key, 0, -1)
    else:
        return False
    return True


def faults(store: Store) -> list[str]:
    """What does not hold of everything that is stored now."""
    return violations(scanned(store))


def violations(scan: Scan) -> list[str]:
    """What does not hold, in words; nothing, if all is well."""
    laws = (
        _of_counts,
        _of_places,
        _of_marks,
        _of_leases,
        _of_histories,
        _of_tokens_lying,
        _of_upstreams,
        _of_consumers,
        _of_lifetimes,
        _of_limits,
        _of_deadlines,
        _of_idempotency_keys,
    )
    return [text for law in laws for text in law(scan)]


# --- where runs lie ---------------------------------------------------------------------------------------------------


def _of_counts(scan: Scan) -> Iterator[str]:
    counted = {state: int(number) for state, number in scan.values.get("baton:counts", {}).items() if number != "0"}
    there = Counter(run["state_type"] for run in scan.runs.values() if run["state_type"] not in REGISTRIES)
    if counted != there:
        yield f"counted {counted}, there are {dict(there)}"


def _of_places(scan: Scan) -> Iterator[str]:
    places = _places(scan)
    for run_id, run in scan.runs.items():
        expected = _expected_places(run)
        if places[run_id] != expected:
            yield f"{run_id} is {run['state_type']} and in {sorted(places[run_id])}, not in {sorted(expected)}"
    for run_id in places.keys() - scan.runs.keys():
        yield f"{run_id} is in {sorted(places[run_id])} and has no record"


def _places(scan: Scan) -> defaultdict[str, set[str]]:
    """Where each run is; an id in a queue counts if its run waits there, and is a tombstone otherwise."""
    places: defaultdict[str, set[str]] = defaultdict(set)
    for place, run_id in (*_waiting(scan), *_indexed(scan), *_held(scan)):
        places[run_id].add(place)
    return places


def _waiting(scan: Scan) -> Iterator[tuple[str, str]]:
    for queue, ids in scan.under("rq:queue:").items():
        for run_id in ids:
            run = scan.runs.get(run_id, {})
            if run.get("state_type") == "PENDING" and "place" not in run:
                yield f"queue {queue}", run_id
    for name, (_, _, waiters) in scan.limits().items():
        for run_id in waiters:
            if "/" not in run_id:
                yield f"waiters {name}", run_id


def _indexed(scan: Scan) -> Iterator[tuple[str, str]]:
    for name in ("scheduled", "deferred", "finished", "failed", "canceled"):
        for queue, ids in scan.under(f"rq:{name}:").items():
            for run_id in ids:
                yield f"{name} {queue}", run_id
    for run_id in scan.values.get("baton:paused", []):
        yield "paused", run_id


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


def is_held(run: dict[str, str]) -> bool:
    return run["state_type"] in HELD or run.get("place") == "held"


def _expected_places(run: dict[str, str]) -> set[str]:
    state, queue, place = run["state_type"], run["origin"], run.get("place", "")
    if is_held(run):
        return {f"wip {queue} {run['token']}", "running", f"hand of {run['worker_name']} {run['token']}"}
    if place.startswith("limit:"):
        return {f"waiters {place.removeprefix('limit:')}"}
    named = {"deferred": f"deferred {queue}", "passed": f"scheduled {queue}"}
    by_state = {"PENDING": f"queue {queue}", "SCHEDULED": f"scheduled {queue}", "PAUSED": "paused"}
    return {named.get(place) or by_state.get(state) or f"{REGISTRIES[state]} {queue}"}


def _of_marks(scan: Scan) -> Iterator[str]:
    """What a run's own fields say of its place and its ties."""
    for run_id, run in scan.runs.items():
        states, status = (run["state_type"],), STATUS[run["state_type"]]
        if "place" in run:
            states, status = PLACED.get(run["place"].partition(":")[0], ((), "?"))
        if run["state_type"] not in states:
            yield f"{run_id} is {run['state_type']} and has the place {run['place']}"
        if run["status"] != status:
            yield f"{run_id} is {run['state_type']}, place {run.get('place')}, and has RQ's status {run['status']}"
        if not run.keys().isdisjoint(TIES) and "ties" not in run:
            yield f"{run_id} has ties and does not say so: {run}"


def _of_leases(scan: Scan) -> Iterator[str]:
    leased = set(scan.values.get("baton:leases", ()))
    for run_id, run in scan.runs.items():
        if is_held(run) and run["worker_name"] not in leased:
            yield f"{run_id} is held by {run['worker_name']}, who has no lease"


# --- what became of them ----------------------------------------------------------------------------------------------


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
        for row, following in pairwise(rows):
            if row["type"] in REGISTRIES and not (following["type"] == "PENDING" and "actor" in following):
                yield f"{run_id}: something follows its end: {rows}"


def _of_tokens_lying(scan: Scan) -> Iterator[str]:
    for name, lying in scan.under("baton:wake:").items():
        if len(lying) > 8:
            yield f"{len(lying)} tokens lie for {name}"


# --- what ties them ---------------------------------------------------------------------------------------------------


def _of_upstreams(scan: Scan) -> Iterator[str]:
    """Who waits for whom: the two sides agree, and nobody waits for what has ended, but for a continuation to come."""
    told_soon = {text.split()[1] for text in scan.values.get("baton:continue", ()) if text.startswith("feed ")}
    for run_id, run in scan.runs.items():
        if scan.is_final(run_id):
            continue
        waits, upstreams = scan.part(run_id, "waits"), scan.part(run_id, "upstream")
        if not waits <= upstreams:
            yield f"{run_id} waits for {waits - upstreams}, which it does not need"
        if run.get("place") == "deferred" and not waits:
            yield f"{run_id} is deferred and waits for nobody"
        for upstream in upstreams & scan.runs.keys():
            is_awaited, is_told = upstream in waits, run_id in scan.part(upstream, "feeds")
            if is_awaited != is_told:
                yield f"{run_id} waits for {upstream}: {is_awaited}, which would tell it: {is_told}"
            if is_awaited and scan.is_final(upstream) and upstream not in told_soon:
                yield f"{run_id} waits for {upstream}, which has ended"
            if not is_awaited and not scan.has_ended_before(upstream):
                yield f"{run_id} does not wait for {upstream}, which has not ended"


def _of_consumers(scan: Scan) -> Iterator[str]:
    needed = Counter(
        upstream for run_id in scan.runs if not scan.is_final(run_id) for upstream in scan.part(run_id, "upstream")
    )
    for run_id, run in scan.runs.items():
        if run.get("consumers") != (str(needed[run_id]) if needed[run_id] else None):
            yield f"{run_id} is needed by {needed[run_id]} runs and counts {run.get('consumers')}"


def _of_lifetimes(scan: Scan) -> Iterator[str]:
    """What a run that has ended leaves is deleted in time, unless somebody still needs it; nothing else is."""
    for run_id, run in scan.runs.items():
        own = {f"rq:job:{run_id}", *(f"baton:run:{run_id}:{name}" for name in scan.under(f"baton:run:{run_id}:"))}
        expected = own if scan.is_final(run_id) and "consumers" not in run else set()
        if own & scan.mortal != expected:
            yield f"{run_id} is {run['state_type']}; lifetimes differ for {sorted((own & scan.mortal) ^ expected)}"


def _of_limits(scan: Scan) -> Iterator[str]:
    leased = set(scan.values.get("baton:leases", ()))
    for name, (_, holders, _) in scan.limits().items():
        for member in holders:
            process, *rest = member.split("/")
            if rest:
                noted = scan.values.get(f"baton:slots:{process}", {}).get(rest[0], "").split()
                if process not in leased or name not in noted:
                    yield f"{member} holds a slot of {name}, but is noted to have {noted}"
                continue
            run_id, _, mark = member.rpartition(":")
            run = scan.runs.get(run_id, {"state_type": "gone"})
            is_its_own = name in run.get("limits", "").split()
            is_reserved = mark == "reserved" and run["state_type"] == "PENDING" and run.get("place") != "deferred"
            is_used = run["state_type"] in HELD and run["token"] == mark
            if not is_its_own or not (is_reserved or is_used):
                yield f"{member} holds a slot of {name}: {run}"
        for run_id, run in scan.runs.items():
            is_holder = f"{run_id}:{run.get('token')}" in holders
            if run["state_type"] in HELD and name in run.get("limits", "").split() and not is_holder:
                yield f"{run_id} runs and holds no slot of {name}: {sorted(holders)}"


def _of_deadlines(scan: Scan) -> Iterator[str]:
    listed = set(scan.values.get("baton:deadlines", ()))
    for run_id, run in scan.runs.items():
        has_to_begin = "start_within" in run and "attempt" not in run and not scan.is_final(run_id)
        may_be = (
            has_to_begin or run["state_type"] == "CANCELLING" or (run["state_type"], is_held(run)) == ("PAUSED", True)
        )
        if run_id in listed and not may_be:
            yield f"{run_id} has a deadline and is {run['state_type']}: {run}"
        if has_to_begin and not scan.has_ended_before(run_id) and run_id not in listed:
            yield f"{run_id} has to begin in time and has no deadline: {run}"
    if listed - scan.runs.keys():
        yield f"{sorted(listed - scan.runs.keys())} have deadlines and no record"


def _of_idempotency_keys(scan: Scan) -> Iterator[str]:
    for name, text in scan.under("baton:idem:").items():
        owner = text.split()[0]
        if owner in scan.runs and scan.is_final(owner) != (f"baton:idem:{name}" in scan.mortal):
            yield f"{owner} is {scan.runs[owner]['state_type']}; its idempotency key {name} says otherwise"


def waiting_beside_free_slots(scan: Scan) -> list[str]:
    """Limits that keep somebody waiting although they have a slot: a promoter gives every free one away."""
    return [
        f"{sorted(waiters)} wait for {name}, which has {slots} slots and the holders {sorted(holders)}"
        for name, (slots, holders, waiters) in scan.limits().items()
        if waiters and len(holders) < slots
    ]


# --- from one moment to the next --------------------------------------------------------------------------------------

_GROWING = ("token", "attempt", "crashes", "seq")
_TOLD_LATER = {"consumers", "kids", "ties"}


def steps_back(before: Scan, after: Scan) -> list[str]:
    """What moved backwards or was lost between two scans."""
    found = [f"{run_id} is gone" for run_id in before.runs.keys() - after.runs.keys()]
    for run_id in before.runs.keys() & after.runs.keys():
        old, new = before.runs[run_id], after.runs[run_id]
        had_ended = before.is_final(run_id)
        found += [
            f"{run_id}: {name} went from {old[name]} to {new.get(name)}"
            for name in _GROWING
            if int(new.get(name, 0)) < int(old.get(name, 0)) and not (had_ended and name == "crashes")
        ]
        if after.rows[run_id][: len(before.rows[run_id])] != before.rows[run_id]:
            found.append(f"{run_id}: its history was rewritten")
        if had_ended and old["seq"] == new["seq"] and _without_ties(old) != _without_ties(new):
            found.append(f"{run_id}: it had ended, and changed")
    return [*found, *_slots_too_many(before, after)]


def _without_ties(run: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in run.items() if name not in _TOLD_LATER}


def _slots_too_many(before: Scan, after: Scan) -> Iterator[str]:
    """A limit that was lowered takes no slot away, and gives none either."""
    known = before.limits()
    for name, (slots, holders, _) in after.limits().items():
        had = {member.rpartition(":")[0] for member in known[name][1]} if name in known else set()
        came = {member.rpartition(":")[0] for member in holders} - had
        if len(holders) > slots and came:
            yield f"{sorted(came)} got slots of {name}, which has {slots} and the holders {sorted(holders)}"
