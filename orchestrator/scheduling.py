"""What a producer does to schedules. Each call has a twin prefixed `a` for event loops."""

import asyncio
from abc import abstractmethod
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from orchestrator.firing import run_of
from orchestrator.operations import Operations
from orchestrator.schedules import CatchUp, Overlap, Schedules
from shared.commands import ACCEPTED, NewRun
from shared.errors import SubmitError
from shared.specs import TaskLike
from shared.views.schedules import Schedule
from worker.context import in_no_run


class Scheduling(Operations):
    """Makes and changes the schedules of one Redis. `baton server` submits their runs."""

    @abstractmethod
    def _run_of(self, task: TaskLike[..., Any] | str, parameters: Mapping[str, Any], queue: str | None) -> NewRun:
        """A run of the task, checked as one that is submitted."""

    @property
    def _schedules(self) -> Schedules:
        return Schedules(self._ledger, self._transport)

    def create_schedule(
        self,
        task: TaskLike[..., Any] | str,
        parameters: Mapping[str, Any] | None = None,
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
        queue: str | None = None,
        id: str | None = None,  # noqa: A002 - the name that the API has for it
    ) -> Schedule:
        """Have a task submitted again and again, as long as a `baton server` runs.

        One of `cron`, `interval` and `rrule` says when. Each occurrence becomes one run at most, whoever fires it, and
        the run is made when it is due.

        Args:
            task: a `@task`, or its key.
            parameters: arguments by name, the same for each run.
            cron: five fields, or six with seconds in front.
            interval: seconds, or a timedelta; one day and more keeps the local clock.
            rrule: a rule of RFC 5545; its times are local ones.
            timezone: an IANA name.
            anchor: from where an interval, or a rule without DTSTART, counts; by default now.
            starts: nothing is due before this.
            ends: nothing is due after this.
            catch_up: of what was missed while no server ran: the `latest` is submitted, `all` are, or `none` is that is
                more than a minute old.
            overlap: `skip` leaves an occurrence out while the run before has not ended.
            queue: where the runs wait; by default the task's own.
            id: of the schedule, by default a new one. One that there is already is changed, and goes on from now.

        Raises:
            InvalidCall, InvalidValue: no such rule, zone or option, or it would never be due.
            ParameterBindError: the parameters do not fit.
        """
        run = in_no_run(lambda: self._run_of(task, parameters or {}, queue))  # no child: it outlives every run
        return self._schedules.create(
            run,
            cron=cron,
            interval=interval,
            rrule=rrule,
            timezone=timezone,
            anchor=anchor,
            starts=starts,
            ends=ends,
            catch_up=catch_up,
            overlap=overlap,
            schedule_id=id,
        )

    async def acreate_schedule(
        self, task: TaskLike[..., Any] | str, parameters: Mapping[str, Any] | None = None, **options: Any
    ) -> Schedule:
        """The same as `create_schedule`, without blocking the event loop."""
        return await asyncio.to_thread(partial(self.create_schedule, task, parameters, **options))

    def get_schedule(self, schedule_id: str) -> Schedule:
        """A schedule as it is now.

        Raises:
            InvalidValue: there is no such schedule.
        """
        return self._schedules.get(schedule_id)

    async def aget_schedule(self, schedule_id: str) -> Schedule:
        """The same as `get_schedule`, without blocking the event loop."""
        return await asyncio.to_thread(self.get_schedule, schedule_id)

    def find_schedules(self) -> tuple[Schedule, ...]:
        """All schedules, by id."""
        return self._schedules.all()

    async def afind_schedules(self) -> tuple[Schedule, ...]:
        """The same as `find_schedules`, without blocking the event loop."""
        return await asyncio.to_thread(self.find_schedules)

    def pause_schedule(self, schedule_id: str) -> bool:
        """Fire nothing more until it is resumed. True if it was not paused yet. Runs that are there go on.

        Raises:
            InvalidValue: there is no such schedule.
        """
        return self._schedules.pause(schedule_id)

    async def apause_schedule(self, schedule_id: str) -> bool:
        """The same as `pause_schedule`, without blocking the event loop."""
        return await asyncio.to_thread(self.pause_schedule, schedule_id)

    def resume_schedule(self, schedule_id: str) -> bool:
        """Fire again, from now on: what was missed meanwhile is left out. True if it was paused.

        Raises:
            InvalidValue: there is no such schedule.
        """
        return self._schedules.resume(schedule_id)

    async def aresume_schedule(self, schedule_id: str) -> bool:
        """The same as `resume_schedule`, without blocking the event loop."""
        return await asyncio.to_thread(self.resume_schedule, schedule_id)

    def delete_schedule(self, schedule_id: str) -> bool:
        """Forget a schedule. True if there was one. Runs that are there go on."""
        return self._schedules.delete(schedule_id)

    async def adelete_schedule(self, schedule_id: str) -> bool:
        """The same as `delete_schedule`, without blocking the event loop."""
        return await asyncio.to_thread(self.delete_schedule, schedule_id)

    def run_schedule(self, schedule_id: str) -> str:
        """Submit a run of a schedule now, besides its occurrences; the run's id.

        Raises:
            InvalidValue: there is no such schedule.
            SubmitError: it was not accepted.
        """
        schedule = self.get_schedule(schedule_id)
        run = run_of(self._transport, schedule, None)
        (tag,) = self._ledger.submit([run])
        if tag not in ACCEPTED:
            raise SubmitError(f"schedule {schedule_id}: its run was not accepted: {tag}")
        return run.id

    async def arun_schedule(self, schedule_id: str) -> str:
        """The same as `run_schedule`, without blocking the event loop."""
        return await asyncio.to_thread(self.run_schedule, schedule_id)
