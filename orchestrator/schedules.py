"""Schedules: what is submitted again and again, and when. Makes and changes them; `firing.py` submits their runs."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from orchestrator.acting import actor
from orchestrator.recurrences import Recurrence, recurrence
from shared.clock import from_epoch, iso, parse_iso, to_epoch
from shared.commands import NewRun
from shared.errors import InvalidCall, InvalidValue
from shared.ids import new_id
from shared.ledger import RunLedger
from shared.planning import PlannedCall
from shared.transport import Argument, Transport
from shared.views.schedules import Schedule, schedules

CatchUp = Literal["latest", "all", "none"]
Overlap = Literal["allow", "skip"]
_CATCH_UPS: Final = ("latest", "all", "none")
_OVERLAPS: Final = ("allow", "skip")
_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_MOMENT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Timing:
    """When a schedule is due: its rule, from `starts` to `ends`."""

    rule: Recurrence
    starts: datetime | None = None
    ends: datetime | None = None

    def after(self, moment: datetime) -> datetime | None:
        """The first occurrence after this time; None if there is none any more."""
        if self.starts is not None and moment < self.starts:
            moment = self.starts - _MOMENT
        found = self.rule.after(moment)
        return None if found is None or (self.ends is not None and found > self.ends) else found


def timing_of(schedule: Schedule) -> Timing:
    """The timing of a stored schedule.

    Raises:
        InvalidValue, InvalidCall: what is stored is none.
    """
    told = schedule.fields
    span = told.get("interval")
    try:
        interval = None if span is None else float(span)
    except ValueError:
        raise InvalidValue(f"interval {span!r} is no number of seconds") from None
    rule = recurrence(
        cron=told.get("cron"),
        interval=interval,
        rrule=told.get("rrule"),
        anchor=parse_iso(told.get("anchor", "")),
        timezone=told.get("timezone", "UTC"),
    )
    return Timing(rule, *(parse_iso(told[name]) if name in told else None for name in ("starts", "ends")))


def text_of_time(moment: datetime | None) -> str:
    """A due time as it is stored: seconds since 1970; '' for none."""
    return "" if moment is None else f"{to_epoch(moment):.6f}"


class Schedules:
    """The schedules of one Redis."""

    def __init__(self, ledger: RunLedger, transport: Transport) -> None:
        self._ledger = ledger
        self._transport = transport

    def create(
        self,
        run: NewRun,
        *,
        cron: str | None = None,
        interval: timedelta | float | None = None,
        rrule: str | None = None,
        timezone: str = "UTC",
        anchor: datetime | None = None,
        starts: datetime | None = None,
        ends: datetime | None = None,
        catch_up: CatchUp = "latest",
        overlap: Overlap = "allow",
        schedule_id: str | None = None,
    ) -> Schedule:
        """Store a schedule that submits runs like this one; one of the same id is changed, and goes on from now.

        Raises:
            InvalidCall, InvalidValue: as `Orchestrator.create_schedule`.
        """
        known = self._checked_id(schedule_id)
        for name, value, allowed in (("catch_up", catch_up, _CATCH_UPS), ("overlap", overlap, _OVERLAPS)):
            if value not in allowed:
                raise InvalidValue(f"'{name}' is {value!r}, and not one of {', '.join(allowed)}")
        if any(kind == "up" for kind, _ in run.ties):
            raise InvalidCall("a future is among the parameters: a schedule cannot wait for a run")
        at = from_epoch(schedules(self._transport, [known]).at)
        begun = at if anchor is None else anchor
        rule = recurrence(cron=cron, interval=interval, rrule=rrule, anchor=begun, timezone=timezone)
        first = Timing(rule, starts, ends).after(at - _MOMENT)
        if first is None:
            raise InvalidValue("this schedule would never be due: its rule and its end leave no time for it")
        span = interval.total_seconds() if isinstance(interval, timedelta) else interval
        told: dict[str, Argument | None] = {
            "task": run.task,
            "queue": run.queue,
            "cron": cron,
            "interval": None if span is None else f"{span:g}",
            "rrule": rrule,
            "timezone": timezone,
            "anchor": iso(begun),
            "starts": None if starts is None else iso(starts),
            "ends": None if ends is None else iso(ends),
            "catch_up": catch_up,
            "overlap": overlap,
            "changed_by": actor(),
        }
        fields = {name: value for name, value in told.items() if value is not None}
        call = PlannedCall.of(run).encoded()
        self._ledger.plan("set", known, next_due=text_of_time(first), call=call, fields=fields)
        return self.get(known)

    def get(self, schedule_id: str) -> Schedule:
        """The schedule of this id.

        Raises:
            InvalidValue: there is none.
        """
        found = schedules(self._transport, [schedule_id]).rows
        if not found:
            raise InvalidValue(f"there is no schedule {schedule_id!r}")
        return found[0]

    def all(self) -> tuple[Schedule, ...]:
        """Every schedule, by id."""
        return schedules(self._transport).rows

    def pause(self, schedule_id: str) -> bool:
        """Fire nothing more until it is resumed. True if it was not paused yet. Runs that are there go on."""
        return self._changed(
            schedule_id, self._ledger.plan("pause", schedule_id, fields={"paused_by": actor() or "somebody"})
        )

    def resume(self, schedule_id: str) -> bool:
        """Fire again, from now on. True if it was paused."""
        look = schedules(self._transport, [schedule_id])
        if not look.rows:
            return self._changed(schedule_id, "GONE")
        following = timing_of(look.rows[0]).after(from_epoch(look.at))
        return self._changed(schedule_id, self._ledger.plan("resume", schedule_id, next_due=text_of_time(following)))

    def delete(self, schedule_id: str) -> bool:
        """Forget a schedule; True if there was one. Runs that are there go on."""
        return self._ledger.plan("delete", schedule_id) == "OK"

    def _changed(self, schedule_id: str, answer: str) -> bool:
        if answer == "GONE":
            raise InvalidValue(f"there is no schedule {schedule_id!r}")
        return answer == "OK"

    def _checked_id(self, schedule_id: str | None) -> str:
        known = new_id() if schedule_id is None else schedule_id
        if not isinstance(known, str) or not _ID.fullmatch(known):
            raise InvalidValue(
                f"{known!r} is no id of a schedule: 1 to 100 of a-z 0-9 . _ - that begin with a-z or 0-9"
            )
        return known


def preview(timing: Timing, since: datetime, many: int = 10) -> list[datetime]:
    """The next occurrences, by the code that fires them."""
    found: list[datetime] = []
    moment: datetime | None = since
    while len(found) < many and moment is not None and (moment := timing.after(moment)) is not None:
        found.append(moment)
    return found
