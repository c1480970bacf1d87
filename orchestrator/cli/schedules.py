"""`baton schedules ...`: what is submitted again and again. `baton server` does the submitting."""

from datetime import datetime, timedelta
from typing import Any

import click

from orchestrator.cli import complete, output
from orchestrator.cli.cells import ALARM, Cell, Column, Row
from orchestrator.cli.common import checked_exchange_from, client_settings_from, json_option, line, say
from orchestrator.cli.consent import agreed, yes_option
from orchestrator.cli.spans import SECONDS, ago
from orchestrator.cli.submit import parameters_from
from orchestrator.client import Orchestrator
from orchestrator.recurrences import recurrence, zone_of
from orchestrator.schedules import Schedules, Timing, preview, timing_of
from shared.clock import from_epoch, iso, parse_iso
from shared.errors import InvalidValue
from shared.ledger import RunLedger
from shared.views.schedules import Schedule, schedules

COLUMNS = (
    Column("schedule", is_whole=True),
    Column("task"),
    Column("when"),
    Column("next", is_number=True),
    Column("last", is_number=True),
    *(Column(name, is_number=True) for name in ("fired", "missed", "skipped")),
    Column("note"),
)
TOLD = 10
_HOUR = timedelta(hours=1)

schedule_argument = click.argument("schedule", metavar="SCHEDULE", shell_complete=complete.schedules)


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click only
    """A time as ISO text with its offset."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time that a text means."""
        try:
            return parse_iso(str(value))
        except InvalidValue:
            self.fail(f"{value!r} is no time such as 2026-11-20T09:15:00Z.", param, ctx)


def _rule_options(command: Any) -> Any:
    for option in reversed(
        (
            click.option("--cron", help="Five fields, or six with seconds in front."),
            click.option("--interval", type=SECONDS, metavar="SECONDS", help="Every so often, such as 30s or 1d."),
            click.option("--rrule", help="A rule of RFC 5545, in local times."),
            click.option("--timezone", default="UTC", show_default=True, help="An IANA name."),
            click.option("--anchor", type=Moment(), help="From where intervals and rules count; else now."),
            click.option("--starts", type=Moment(), help="Nothing is due before."),
            click.option("--ends", type=Moment(), help="Nothing is due after."),
        )
    ):
        command = option(command)
    return command


@click.command(name="list")
@json_option()
@click.pass_context
def list_schedules(ctx: click.Context, *, as_json: bool) -> None:
    """List all schedules: when they are due, what they have fired."""
    with checked_exchange_from(ctx) as (exchange, _):
        look = schedules(exchange)
    if as_json:
        output.document({"schedules": [document(schedule) for schedule in look.rows]})
        return
    output.table(COLUMNS, [_cells(schedule, look.at) for schedule in look.rows])
    if not look.rows:
        say(ctx, "No schedule yet: `baton schedules create` makes one.")


@click.command(name="create")
@click.argument("key", shell_complete=complete.task_keys)
@click.option("-p", "pairs", multiple=True, metavar="NAME=VALUE", help="A parameter; JSON if it reads as JSON.")
@click.option("--parameters", metavar="JSON", help="Parameters as a JSON object; - reads it from stdin.")
@_rule_options
@click.option(
    "--catch-up",
    type=click.Choice(["latest", "all", "none"]),
    default="latest",
    show_default=True,
    help="Of what was missed while no server ran.",
)
@click.option(
    "--overlap",
    type=click.Choice(["allow", "skip"]),
    default="allow",
    show_default=True,
    help="With skip none begins while the run before has not ended.",
)
@click.option("--queue", default="default", show_default=True, shell_complete=complete.queues, help="Of its runs.")
@click.option("--id", "schedule_id", help="Its name; one that is there is changed. Else one is made.")
@json_option()
@click.pass_context
def create(
    ctx: click.Context,
    /,
    key: str,
    pairs: tuple[str, ...],
    parameters: str | None,
    schedule_id: str | None,
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """Have the task KEY submitted again and again.

    As long as a `baton server` runs. One of --cron, --interval and --rrule says when. Prints the schedule's id.
    """
    arguments = parameters_from(pairs, parameters)
    with checked_exchange_from(ctx, steers=True), Orchestrator(settings=client_settings_from(ctx)) as baton:
        schedule = baton.create_schedule(key, arguments, id=schedule_id, **options)
    if as_json:
        output.document(document(schedule))
    else:
        click.echo(schedule.id)


@click.command(name="preview")
@click.argument("schedule", metavar="[SCHEDULE]", required=False, shell_complete=complete.schedules)
@_rule_options
@click.option("-n", "many", type=click.IntRange(1, 1000), default=TOLD, show_default=True, help="How many.")
@json_option()
@click.pass_context
def show_preview(
    ctx: click.Context,
    schedule: str | None,
    cron: str | None,
    interval: float | None,
    rrule: str | None,
    timezone: str,
    anchor: datetime | None,
    starts: datetime | None,
    ends: datetime | None,
    many: int,
    *,
    as_json: bool,
) -> int:
    """Print when a schedule is due next.

    Or one that --cron, --interval or --rrule would make. In its own time zone; where the clock has changed in between,
    the line says so.
    """
    with checked_exchange_from(ctx) as (exchange, _):
        look = schedules(exchange, [schedule or ""])
    at = from_epoch(look.at)
    if schedule is None:
        rule = recurrence(cron=cron, interval=interval, rrule=rrule, anchor=anchor or at, timezone=timezone)
        timing = Timing(rule, starts, ends)
    elif look.rows:
        timing, timezone = timing_of(look.rows[0]), look.rows[0].fields.get("timezone", "UTC")
    else:
        return _unknown(ctx, schedule)
    zone = zone_of(timezone)
    times = [moment.astimezone(zone) for moment in preview(timing, at, many)]
    if as_json:
        output.document({"timezone": timezone, "times": [moment.isoformat() for moment in times]})
        return 0
    before = at.astimezone(zone).utcoffset()
    for moment in times:
        shift = (moment.utcoffset() or timedelta()) - (before or timedelta())
        note = f"  the clock was put {'forward' if shift > timedelta() else 'back'} {abs(shift) / _HOUR:g} h"
        click.echo(f"{moment:%a} {moment.isoformat(sep=' ')}{note if shift else ''}")
        before = moment.utcoffset()
    if not times:
        say(ctx, "It is never due again.")
    return 0


@click.command(name="pause")
@schedule_argument
@json_option()
@click.pass_context
def pause(ctx: click.Context, schedule: str, *, as_json: bool) -> int:
    """Fire nothing more until it is resumed; runs that are there go on."""
    return _turn(ctx, schedule, "paused", as_json=as_json)


@click.command(name="resume")
@schedule_argument
@json_option()
@click.pass_context
def resume(ctx: click.Context, schedule: str, *, as_json: bool) -> int:
    """Fire again from now on.

    What was missed meanwhile is left out.
    """
    return _turn(ctx, schedule, "resumed", as_json=as_json)


@click.command(name="run")
@schedule_argument
@json_option()
@click.pass_context
def run_now(ctx: click.Context, schedule: str, *, as_json: bool) -> int:
    """Submit a run of a schedule now, besides its occurrences.

    Prints the run's id.
    """
    with checked_exchange_from(ctx, steers=True) as (exchange, _):
        if not schedules(exchange, [schedule]).rows:
            return _unknown(ctx, schedule)
    with Orchestrator(settings=client_settings_from(ctx)) as baton:
        run_id = baton.run_schedule(schedule)
    if as_json:
        output.document({"id": run_id, "schedule": schedule})
    else:
        click.echo(run_id)
    return 0


@click.command(name="delete")
@schedule_argument
@yes_option()
@json_option()
@click.pass_context
def delete(ctx: click.Context, schedule: str, *, yes: bool, as_json: bool) -> int:
    """Forget a schedule; runs that are there go on.

    Exit code 1: there is no such schedule, or the answer was no.
    """
    with checked_exchange_from(ctx, steers=True) as (exchange, settings):
        look = schedules(exchange, [schedule])
        if not look.rows:
            return _unknown(ctx, schedule)
        if not yes and as_json:
            output.document({"done": False, **document(look.rows[0])})
        elif not yes:
            click.echo(f"would delete {line(schedule)}: {line(look.rows[0].rule)}")
        if not agreed(ctx, f"Delete {line(schedule)}?", yes=yes, as_json=as_json):
            return 1
        done = Schedules(RunLedger(exchange, settings), exchange).delete(schedule)
    if as_json:
        output.document({"done": done, **document(look.rows[0])})
    else:
        click.echo(f"{line(schedule)} is deleted")
    return 0


def document(schedule: Schedule) -> dict[str, Any]:
    """A schedule as JSON types."""
    due = schedule.next_due
    return {
        "id": schedule.id,
        "next_due": None if due is None else iso(from_epoch(due)),
        "is_paused": schedule.is_paused,
        **{name: text for name, text in schedule.fields.items() if name != "paused"},
        **{name: schedule.count(name) for name in ("fired", "missed", "skipped")},
        "problems": dict(schedule.problems),
    }


def _turn(ctx: click.Context, name: str, word: str, *, as_json: bool) -> int:
    with checked_exchange_from(ctx, steers=True) as (exchange, settings):
        if not schedules(exchange, [name]).rows:
            return _unknown(ctx, name)
        all_of_them = Schedules(RunLedger(exchange, settings), exchange)
        changed = all_of_them.pause(name) if word == "paused" else all_of_them.resume(name)
    if as_json:
        output.document({"id": name, "changed": changed})
    else:
        click.echo(f"{line(name)} is {word}" if changed else f"{line(name)} was so already")
    return 0


def _cells(schedule: Schedule, at: float) -> Row:
    told = schedule.fields
    last = told.get("last_due")
    return [
        line(schedule.id),
        line(told.get("task", "?")),
        line(f"{schedule.rule} {told.get('timezone', '')}".strip()),
        "-" if schedule.next_due is None else ago(at - schedule.next_due),
        "-" if last is None else line(last),
        *(str(schedule.count(name)) for name in ("fired", "missed", "skipped")),
        _note(schedule, at),
    ]


def _note(schedule: Schedule, at: float) -> Cell | str:
    if schedule.problems:
        return Cell(line("; ".join(schedule.problems.values())), ALARM)
    if "error" in schedule.fields:
        return Cell(line(schedule.fields["error"]), ALARM)
    if schedule.is_paused:
        return f"paused by {line(schedule.fields.get('paused_by', '?'))}"
    if schedule.next_due is None:
        return "has ended"
    late = at - schedule.next_due
    return Cell("late: is there a `baton server`?", ALARM) if late > TOLD else ""


def _unknown(ctx: click.Context, name: str) -> int:
    click.echo(f"baton: there is no schedule {line(name)}", err=True)
    say(ctx, "`baton schedules list` tells which there are.")
    return 1
