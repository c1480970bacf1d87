"""What ties runs to each other and to idempotency keys. Pure functions from a Snapshot to what breaks them."""

import re
from collections.abc import Iterator
from typing import Final

from orchestrator.invariants_common import CONSUMERS, Violation, cli, found_sound, is_gone, sound
from shared import keys
from shared.run_fields import DEFERRED
from shared.seen import IdempotencyKey, Needed, SeenRun, Snapshot

_VALUE: Final = re.compile(r"(\S+) \S*")
_UPSTREAM: Final = ":upstream"
_A_DAY: Final = "86400"


# --- upstream and downstream runs -------------------------------------------------------------------------------------


def ties_agree(snapshot: Snapshot) -> Iterator[Violation]:
    """Who waits for a run is told of its end: `waits` and `feeds` are each other's inverses. Nobody waits in vain."""
    for run in sound(snapshot):
        if not run.has_ended:
            yield from _waits(run, snapshot)
        for waiting_id in run.ties.feeds:
            waiting = found_sound(waiting_id, snapshot)
            if waiting is None or waiting.has_ended or run.has_ended or _waits_in_vain(waiting):
                continue
            if run.id not in waiting.ties.waits:
                what = "would tell a run of its end that does not wait for it"
                yield Violation("ties", (run.id,), what, witnesses=(waiting_id,))
        if "upstreams" in run.fields and not run.ties.upstream and _is_readable(run.id, "upstream", snapshot):
            repair = "nothing by hand; cancel it, or force it to the state that it shall have"
            yield Violation("ties", (run.id,), "nobody knows any more which runs it needs", repair)


def _is_readable(run_id: str, part: str, snapshot: Snapshot) -> bool:
    return keys.run_part(run_id, part) not in snapshot.unreadable


def _waits_in_vain(run: SeenRun) -> bool:
    return run.place == DEFERRED and not run.ties.waits


def _waits(run: SeenRun, snapshot: Snapshot) -> Iterator[Violation]:
    if _waits_in_vain(run) and _is_readable(run.id, "waits", snapshot):
        yield Violation("ties", (run.id,), "is deferred, but waits for no run")
    for needed_id in run.ties.waits:
        needed = found_sound(needed_id, snapshot)
        if is_gone(needed_id, snapshot):
            yield Violation("ties", (run.id,), "waits for a run that is not there", witnesses=(needed_id,))
        elif needed and needed.has_ended and needed_id not in snapshot.continued:
            yield Violation("ties", (run.id,), "waits for a run that has ended", witnesses=(needed_id,))
        elif needed and not (needed.has_ended or _tells(needed, run, snapshot)):
            yield Violation("ties", (run.id,), "waits for a run that would not tell it", witnesses=(needed_id,))


def _tells(needed: SeenRun, run: SeenRun, snapshot: Snapshot) -> bool:
    return run.id in needed.ties.feeds or not _is_readable(needed.id, "feeds", snapshot)


def consumers_are_counted(snapshot: Snapshot) -> Iterator[Violation]:
    """A run knows how many runs need its result that have not ended. Says nothing where those were not looked for."""
    if snapshot.needed_by is None or any(key.endswith(_UPSTREAM) for key in snapshot.unreadable):
        return
    for run in sound(snapshot):
        counted, needing = run.fields.get("consumers", ""), snapshot.needed_by.get(run.id, frozenset())
        if int(counted or 0) != len(needing):
            what = f"its record says that {counted or 0} runs need its result; these are {len(needing)}"
            needed = Needed(run.id, counted, len(needing))
            yield Violation(CONSUMERS, (run.id,), what, witnesses=tuple(sorted(needing)), needed=needed)


# --- idempotency keys -------------------------------------------------------------------------------------------------


def idempotency_keys_hold(snapshot: Snapshot) -> Iterator[Violation]:
    """An idempotency key names the run that was submitted under it, and has an end if, and only if, that has ended."""
    for found in snapshot.idempotency:
        match = _VALUE.fullmatch(found.value)
        if match is None:
            what = f"{found.key} holds no id of a run and digest"
            yield Violation("idem", (found.key,), what, cli("DEL {}", found.key))
            continue
        fault, command = _fault_of_key(found, match[1], snapshot)
        if fault:
            yield Violation("idem", (match[1],), f"{found.key} {fault}", command, (found.key,))


def _fault_of_key(found: IdempotencyKey, run_id: str, snapshot: Snapshot) -> tuple[str, str]:
    run = found_sound(run_id, snapshot)
    if is_gone(run_id, snapshot) and found.lifetime < 0:
        return "names a run that is not there, and nothing ends its lifetime", cli("DEL {}", found.key)
    if run is None:
        return "", ""
    if keys.IDEMPOTENCY + run.fields.get("idem", "") != found.key:
        return "names a run that was not submitted under it", cli("DEL {}", found.key)
    if run.has_ended and found.lifetime < 0:
        return "names a run that has ended, but nothing ends its lifetime", cli("EXPIRE {} {}", found.key, _A_DAY)
    if not run.has_ended and found.lifetime >= 0:
        return "will be deleted before its run has ended", cli("PERSIST {}", found.key)
    return "", ""
