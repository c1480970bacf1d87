"""Where runs lie and who holds them: I1, I4, I6 and the deadlines. Pure functions from a Snapshot to what breaks them.

# An id in a queue is a place only for a PENDING run that says of no other: what else lies there is dropped in its turn.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Final

from orchestrator.invariants_common import Violation, described, found_sound, is_gone, missing, sound
from shared import keys
from shared.run_fields import LIMIT
from shared.seen import Place, SeenRun, Snapshot, Stray, own_place
from shared.state_types import IN_BODY, StateType

LONG_OVER: Final = 300.0
"""Seconds after the end of a lease within which somebody should have noticed."""
RESERVED_FOR: Final = 60.0
"""Seconds for which a slot may be kept for a run while others wait: twice what it gets, since upkeep may be late."""
RESERVED: Final = "reserved"

_ENDS: Final = (keys.FINISHED, keys.FAILED, keys.CANCELED)
_OF_PROCESSES: Final = (keys.WIP, keys.RUNNING)
_NO_PLACES: Final = (keys.QUEUE, keys.INTERMEDIATE, keys.DEADLINES, *_OF_PROCESSES)


# --- I1: places -------------------------------------------------------------------------------------------------------


def one_place(snapshot: Snapshot) -> Iterator[Violation]:
    """A waiting run lies in the one place that its record says, one that has ended in the registry of its end."""
    for run in sound(snapshot):
        own = own_place(run)
        there = {place.key for place in run.places if place.key == own or place.kind == keys.INTERMEDIATE}
        if own and not there and own not in snapshot.unreadable:
            yield Violation("I1", (run.id,), f"is {described(run)}, but {own} does not list it")
        for place in filter(_is_waiting_row, run.places):
            if place.key != own:
                yield _superfluous(run, place, f"that is {described(run)} in queue {run.queue}")
    for run in missing(snapshot):
        for place in filter(_is_waiting_row, run.places):
            # A row whose time is over only waits for the sweep; Redis has removed its run already.
            if place.kind not in _ENDS or place.score > snapshot.at:
                yield _superfluous(run, place, "that is not there")


def _is_waiting_row(place: Place) -> bool:
    """True for a row of a sorted set that says where a run lies; waiters of limits are for `limits_are_kept`."""
    return place.kind not in (*_NO_PLACES, keys.LIMIT)


def _superfluous(run: SeenRun, place: Place, why: str, invariant: str = "I1", kind: str = "place") -> Violation:
    stray = Stray(run.id, kind, place.key, _member(place, run.id))
    return Violation(invariant, (run.id,), f"{place.key} lists a run {why}", stray=stray)


def _member(place: Place, run_id: str) -> str:
    return f"{run_id}:{place.token}" if place.kind == keys.WIP else run_id


# --- I4: what processes hold ------------------------------------------------------------------------------------------


def held_by_one(snapshot: Snapshot) -> Iterator[Violation]:
    """What runs or was handed out is held by one worker, which has a lease or waits to be reaped; nothing else is."""
    for run in sound(snapshot):
        if run.is_held:
            yield from _holder(run, snapshot)
            yield from _rows_of_held(run, snapshot)
        else:
            yield from _strays(run, f"that is {described(run)}")
    for run in missing(snapshot):
        yield from _strays(run, "that is not there")


def _strays(run: SeenRun, why: str) -> Iterator[Violation]:
    for place in run.places:
        if place.kind in _OF_PROCESSES:
            yield _superfluous(run, place, why, "I4", "wip" if place.kind == keys.WIP else "running")
    for holding in run.holdings:
        stray = Stray(run.id, "held", keys.held(holding.worker), run.id)
        yield Violation("I4", (run.id,), f"worker {holding.worker} holds a run {why}", stray=stray)


def is_above(token: str, run: SeenRun) -> bool:
    """True for a token that the run's record would have to know: `tokens_grow` speaks of it."""
    return token.isdecimal() and int(token) > run.token


def _holder(run: SeenRun, snapshot: Snapshot) -> Iterator[Violation]:
    named = run.fields["worker_name"]
    if not run.holdings and keys.held(named) not in snapshot.unreadable:
        what = f"is {described(run)}, but no worker holds it; its record names {named}"
        yield Violation("I4", (run.id,), what)
    for holding in run.holdings:
        if holding.worker != named:
            what = f"is held by {holding.worker}, but its record names {named}"
            yield Violation("I4", (run.id,), what, stray=Stray(run.id, "held", keys.held(holding.worker), run.id))
        elif holding.token != run.fields["token"]:
            if not is_above(holding.token, run):
                yield Violation("I4", (run.id,), f"is held by {named} with a token that is not its record's")
        elif keys.LEASES not in snapshot.unreadable:
            yield from _lease(run, named, snapshot)


def _lease(run: SeenRun, worker: str, snapshot: Snapshot) -> Iterator[Violation]:
    end = snapshot.leases.get(worker)
    if end is None:
        what = f"is held by {worker}, which has no lease: nobody would take it back"
        yield Violation("I4", (run.id,), what)
    elif snapshot.at - end > LONG_OVER:
        repair = "start a fleet with `baton worker`: any fleet takes back what was held under a lease that is over"
        yield Violation("I4", (run.id,), f"is held by {worker}, whose lease ended long ago", repair)


def _rows_of_held(run: SeenRun, snapshot: Snapshot) -> Iterator[Violation]:
    wip = keys.WIP + run.queue
    rows = [place for place in run.places if place.kind == keys.WIP]
    right = [place for place in rows if (place.key, place.token) == (wip, run.fields["token"])]
    if not right and wip not in snapshot.unreadable:
        yield Violation("I4", (run.id,), f"is {described(run)}, but {wip} does not list it with its token")
    for place in rows:
        if place not in right and not is_above(place.token, run):
            what = f"{place.key} lists it with token {place.token}, which is not its own"
            yield Violation("I4", (run.id,), what, stray=Stray(run.id, "wip", place.key, _member(place, run.id)))
    if keys.RUNNING not in snapshot.unreadable and all(place.kind != keys.RUNNING for place in run.places):
        yield Violation("I4", (run.id,), f"is {described(run)}, but {keys.RUNNING} does not list it")


# --- I6: limits -------------------------------------------------------------------------------------------------------


def limits_are_kept(snapshot: Snapshot) -> Iterator[Violation]:
    """Slots are held by runs that run, by runs that are next, and by living processes; who waits for one waits there.

    More holders than slots are no fault: a limit may have been lowered.
    """
    for run in chain(sound(snapshot), missing(snapshot)):
        for place in run.places:
            if place.kind == keys.LIMIT and not (run.fields and own_place(run) == place.key):
                why = f"that is {described(run)}" if run.fields else "that is not there"
                yield _superfluous(run, place, why, "I6")
    for name, holders in snapshot.holders.items():
        for member, since in holders.items():
            yield from _slot(name, member, snapshot.at - since, snapshot)
    for run in sound(snapshot):
        name = run.place.removeprefix(LIMIT)
        if name != run.place and name not in snapshot.limits and keys.LIMITS not in snapshot.unreadable:
            what = f"waits for a slot of {name}, which {keys.LIMITS} does not list: nobody would give it one"
            yield Violation("I6", (run.id,), what)


def _slot(name: str, member: str, age: float, snapshot: Snapshot) -> Iterator[Violation]:
    key = keys.limit_part(name, "holders")
    if process := keys.process_of(member):
        if process not in snapshot.leases and keys.LEASES not in snapshot.unreadable:
            what = f"a slot of {name} is held by a process that has no lease"
            yield Violation("I6", (member,), what, stray=Stray("", "slot", key, member))
        return
    run_id, _, token = member.rpartition(":")
    run = found_sound(run_id, snapshot)
    if not (run or is_gone(run_id, snapshot)):
        return
    if run is None:
        why = "what is not there"
    elif name not in run.fields.get("limits", "").split():
        why = "a run that needs none"
    elif token == RESERVED and run.state is StateType.PENDING:
        why = "a run that does not begin, while others wait" if name in snapshot.waited_for else ""
    elif run.state in IN_BODY and token == run.fields["token"]:
        return
    else:
        why = f"a run that is {described(run)}" + ("" if token == RESERVED else " with another token")
    if why and not (token == RESERVED and age <= RESERVED_FOR):
        stray = Stray(run_id, "slot", key, member)
        yield Violation("I6", (run_id or member,), f"a slot of {name} is held by {why}", stray=stray)


# --- deadlines --------------------------------------------------------------------------------------------------------


def deadlines_are_kept(snapshot: Snapshot) -> Iterator[Violation]:
    """Deadlines are those of runs that have not begun, that a process has to end, or that are paused in one."""
    for run in sound(snapshot):
        listed = [place for place in run.places if place.kind == keys.DEADLINES]
        waits = "start_within" in run.fields and run.fields.get("attempt", "0") == "0" and not run.has_ended
        if listed and not (waits or run.state is StateType.CANCELLING or _is_paused_in_place(run)):
            yield _superfluous(run, listed[0], f"that is {described(run)}", "deadlines", "deadline")
        if waits and not (listed or run.is_held or _ended_before(run) or keys.DEADLINES in snapshot.unreadable):
            what = f"has to begin within {run.fields['start_within']} seconds, but {keys.DEADLINES} does not list it"
            yield Violation("deadlines", (run.id,), what)
    for run in missing(snapshot):
        for place in run.places:
            if place.kind == keys.DEADLINES:
                yield _superfluous(run, place, "that is not there", "deadlines", "deadline")


def _is_paused_in_place(run: SeenRun) -> bool:
    return run.state is StateType.PAUSED and run.is_held


def _ended_before(run: SeenRun) -> bool:
    """True for a run that was retried: no deadline is set anew."""
    return run.fields.get("last_end") == "retried"
