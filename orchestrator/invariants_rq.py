"""What RQ's own tools read: I8. A pure function from a Snapshot to what breaks it."""

import math
from collections.abc import Iterator
from itertools import chain
from typing import Final

from orchestrator.invariants_common import RECONCILE, Violation, cli, described, missing, sound
from shared import keys
from shared.rq_words import CALLBACKS, call_of, word_of
from shared.seen import Place, SeenRun, Snapshot, Stray

_TIMED: Final = (keys.FINISHED, keys.FAILED, keys.CANCELED, keys.SCHEDULED)


def rq_agrees(snapshot: Snapshot) -> Iterator[Violation]:
    """RQ's word and call stand with each run, RQ calls nothing else, knows its queue, and finds the scores it needs."""
    for run in sound(snapshot):
        yield from _words_of(run)
        queue = keys.queue(run.queue)
        if queue not in snapshot.queues and keys.QUEUES not in snapshot.unreadable:
            what = f"lies in queue {run.queue}, which {keys.QUEUES} does not list: nothing there is promoted or swept"
            yield Violation("I8", (run.id,), what)
        for place in run.places:
            yield from _score_of(run, place)
    for run in chain(sound(snapshot), missing(snapshot)):
        for place in run.places:
            if place.kind == keys.INTERMEDIATE:
                what = f"{place.key} lists it: a worker of RQ's own took it and is gone"
                yield Violation("I8", (run.id,), what, stray=Stray(run.id, "parked", place.key, run.id))
    for key, member in snapshot.odd_members:
        owner = snapshot.runs.get(member.rpartition(":")[0])
        if owner is not None and owner.fields and not owner.is_ours:
            continue  # a job of RQ's own, taken by a worker of RQ's own
        stray = Stray(member.rpartition(":")[0], "wip", key, member)
        yield Violation("I8", (member,), f"{key} lists what is no run with its token", stray=stray)


def _words_of(run: SeenRun) -> Iterator[Violation]:
    word, status = word_of(run.state, run.place), run.fields.get("status")
    if status != word:
        yield Violation("I8", (run.id,), f"is {described(run)}, but its status is {status}, not {word}")
    if run.fields.get("data") != call_of(run.id):
        yield Violation("I8", (run.id,), "its data is not the call that refuses stock RQ workers")
    for name in CALLBACKS:
        if run.fields.get(name):
            yield Violation("I8", (run.id,), f"has a {name}, which a stock RQ worker would call")


def _score_of(run: SeenRun, place: Place) -> Iterator[Violation]:
    if place.kind == keys.WIP and place.score != math.inf:
        yield Violation("I8", (run.id,), f"{place.key} lists it with an end, at which RQ takes it for abandoned")
    elif place.kind in _TIMED and not 0 <= place.score < math.inf:
        repair = RECONCILE if run.has_ended else cli("ZADD {} TIME ID", place.key)
        yield Violation("I8", (run.id,), f"{place.key} lists it with a score that is no time", repair)
