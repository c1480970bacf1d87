"""Submitting what schedules have due. Any number of processes may do it: each occurrence becomes one run at most.

# The due time that a schedule's row has is compared in the step that submits the run and writes the next one. Of two
# that fire the same occurrence the second finds another due time, or the run under the occurrence's key.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from orchestrator.schedules import Timing, text_of_time, timing_of
from shared import codec
from shared.clock import from_epoch, iso, to_epoch
from shared.commands import NewRun
from shared.errors import BadEnvelope, BatonError, InvalidCall, InvalidValue, RedisUnavailable
from shared.ids import new_id
from shared.ledger import RunLedger
from shared.planning import planned_call
from shared.runs import TaskRun
from shared.transport import Argument, Transport
from shared.views.schedules import Schedule, due_schedules, stored_call

log = logging.getLogger("baton.schedules")

MOST_STEPS: Final = 1_000
"""Occurrences that one pass goes through."""
STALE_AFTER: Final = timedelta(seconds=60)
"""With catch_up="none" what is older is not submitted any more."""
_WINDOWS: Final = (
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
    timedelta(days=31),
    timedelta(days=1500),
)
TRY_AGAIN: Final = 1.0
LOOK_AGAIN: Final = 10.0
"""Seconds for which one is left alone that could not be moved on: those behind it have their turn."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """What is to be done about a schedule that is due: the occurrence to be submitted, the next one, those left out."""

    due: datetime | None
    next_due: datetime | None
    missed: int = 0


def occurrence(timing: Timing, catch_up: str, due: datetime, at: datetime) -> Occurrence:
    """What to do about a schedule whose row says that it has been due since `due`."""
    if catch_up == "all":
        return Occurrence(due, timing.after(due))
    latest, missed, following = due, 0, timing.after(due)
    while following is not None and following <= at and missed < MOST_STEPS:
        latest, missed, following = following, missed + 1, timing.after(following)
    if following is not None and following <= at:
        latest, missed = _latest(timing, latest, at), missed + 1  # at least: nobody counts a year of seconds
        following = timing.after(at)
    if catch_up == "none" and at - latest >= STALE_AFTER:
        return Occurrence(None, following, missed + 1)
    return Occurrence(latest, following, missed)


def _latest(timing: Timing, known: datetime, at: datetime) -> datetime:
    """The last occurrence up to this time, where there are too many since a known one to go through them all."""
    for window in _WINDOWS:
        found = timing.after(max(known, at - window))
        if found is not None and found <= at:
            latest = found
            for _ in range(MOST_STEPS):
                following = timing.after(latest)
                if following is None or following > at:
                    break
                latest = following
            return latest
    return known


def run_of(transport: Transport, schedule: Schedule, due: datetime | None) -> NewRun:
    """A run of a schedule: that of an occurrence, or one besides.

    Raises:
        BadEnvelope: what the schedule submits is not there, or cannot be read.
    """
    stored = stored_call(transport, schedule.id)
    if stored is None:
        raise BadEnvelope(f"schedule {schedule.id}: what it submits is not there")
    call = planned_call(stored)
    ties = [*call.ties]
    if due is not None:
        ties += [
            ("idem", f"schedule:{schedule.id}:{iso(due)}"),
            ("digest", codec.digest([call.task, call.parameters], where="schedule")),
        ]
    return NewRun(
        new_id(),
        call.task,
        schedule.fields.get("queue", "default"),
        call.parameters,
        fields={**call.fields, "schedule": schedule.id},
        ties=ties,
        at=None if due is None else to_epoch(due),
    )


class Firing:
    """Looks at the schedules of one Redis, and submits what is due."""

    def __init__(self, ledger: RunLedger, transport: Transport) -> None:
        self._ledger = ledger
        self._transport = transport
        self._held: dict[str, tuple[str, float]] = {}

    def run(self) -> float:
        """Submit what is due; seconds until there is something to do again.

        Raises:
            RedisUnavailable: no answer.
        """
        look = due_schedules(self._transport)
        at = from_epoch(look.at)
        wait = TRY_AGAIN
        for schedule in look.rows:
            if schedule.next_due is None:
                continue
            if schedule.next_due > look.at:
                return min(wait, schedule.next_due - look.at)
            due, until = self._held.get(schedule.id, ("", 0.0))
            if due == schedule.next_due_text and look.at < until:
                continue
            try:
                wait = min(wait, self._fire(schedule, at))
            except RedisUnavailable:
                self._hold(schedule, at, LOOK_AGAIN)  # it may be this one's fault: the others come first
                raise
        return wait

    def _hold(self, schedule: Schedule, at: datetime, seconds: float) -> float:
        """Leave it alone for so long, unless it becomes due at another time."""
        self._held[schedule.id] = schedule.next_due_text, to_epoch(at) + seconds
        return TRY_AGAIN

    def _fire(self, schedule: Schedule, at: datetime) -> float:
        """Submit what this one has due; seconds until it is worth a look again."""
        try:
            timing = timing_of(schedule)
            due = from_epoch(schedule.next_due or 0.0)
            found = occurrence(timing, schedule.fields.get("catch_up", "latest"), due, at)
            if found.due is None or self._overlaps(schedule):
                return self._leave_out(schedule, found, at)
            run = run_of(self._transport, schedule, found.due)
        except (BadEnvelope, InvalidValue, InvalidCall) as error:
            return self._give_up(schedule, error, at)
        fields: dict[str, Argument] = {
            "last_due": iso(found.due),
            "last_run": run.id,
            "fired": schedule.count("fired") + 1,
            **self._counted(schedule, found.missed),
        }
        answer = self._ledger.fire(schedule.id, schedule.next_due_text, text_of_time(found.next_due), fields, run)
        return self._heard(schedule, run, answer, at)

    def _heard(self, schedule: Schedule, run: NewRun, answer: str, at: datetime) -> float:
        if answer == "OK":
            log.info("schedule %s: run %s is due", schedule.id, run.id)
        elif answer.startswith("FULL"):
            log.warning("schedule %s: its queue is full, it stays due", schedule.id)
            return self._hold(schedule, at, TRY_AGAIN)
        else:
            return self._not_moved(schedule, answer, at)
        return 0.0

    def _not_moved(self, schedule: Schedule, answer: str, at: datetime) -> float:
        """Somebody else was faster; or its row says that it is due, and its record that it is not, for good."""
        log.debug("schedule %s: %s", schedule.id, answer)
        self._hold(schedule, at, LOOK_AGAIN)
        return 0.0

    def _overlaps(self, schedule: Schedule) -> bool:
        """True if the run before has not ended, and this schedule is to wait for it."""
        before = schedule.fields.get("last_run")
        if schedule.fields.get("overlap") != "skip" or before is None:
            return False
        run = self._ledger.get_many([before])[before]
        return isinstance(run, TaskRun) and not run.state.is_final()

    def _leave_out(self, schedule: Schedule, found: Occurrence, at: datetime) -> float:
        skipped = schedule.count("skipped") + (found.due is not None)
        fields: dict[str, Argument] = {"skipped": skipped, **self._counted(schedule, found.missed)}
        log.info("schedule %s: an occurrence is left out", schedule.id)
        next_due = text_of_time(found.next_due)
        answer = self._ledger.plan("skip", schedule.id, due=schedule.next_due_text, next_due=next_due, fields=fields)
        return 0.0 if answer == "OK" else self._not_moved(schedule, answer, at)

    def _give_up(self, schedule: Schedule, error: BatonError, at: datetime) -> float:
        """A schedule that cannot be read is due no more, and says why; setting it anew mends it."""
        log.error("schedule %s: %s", schedule.id, error)
        answer = self._ledger.plan("skip", schedule.id, due=schedule.next_due_text, fields={"error": str(error)})
        return 0.0 if answer == "OK" else self._not_moved(schedule, answer, at)

    def _counted(self, schedule: Schedule, missed: int) -> Mapping[str, Argument]:
        return {"missed": schedule.count("missed") + missed} if missed else {}
