"""`baton limits list`, `show`, `set` and `delete`: how many runs may run at the same time. Deleting asks first."""

from typing import Any

import click

from orchestrator.cli import complete, output
from orchestrator.cli.cells import ALARM, Cell, Column, Row
from orchestrator.cli.common import checked_exchange_from, json_option, line, say
from orchestrator.cli.consent import agreed, yes_option
from orchestrator.cli.runs_list import COLUMNS as RUN_COLUMNS
from orchestrator.cli.runs_list import document as run_document
from orchestrator.cli.runs_list import run_cells
from orchestrator.cli.spans import ago, span
from orchestrator.operations import Operations
from shared.clock import from_epoch, iso
from shared.keys import process_of
from shared.views.limits import Holder, Limit, limits
from shared.views.runs import rows_of

COLUMNS = (
    Column("limit", is_whole=True),
    *(Column(name, is_number=True) for name in ("slots", "used", "waiting")),
    Column("note"),
)
HOLDERS = (
    Column("holder", is_whole=True),
    Column("since", is_number=True),
    Column("worker"),
    Column("lease", is_number=True),
)
SHOWN_WAITERS = 20

limit_argument = click.argument("name", metavar="LIMIT", shell_complete=complete.limits)


@click.command(name="list")
@json_option()
@click.pass_context
def list_limits(ctx: click.Context, *, as_json: bool) -> None:
    """List all limits: slots, who holds them, how many wait.

    A run needs a slot of each limit that is named by a tag of its task: the tag `db` names the limit `tag:db`.
    """
    with checked_exchange_from(ctx) as (exchange, _):
        look = limits(exchange)
    if as_json:
        output.document({"limits": [document(limit) for limit in look.rows]})
        return
    output.table(COLUMNS, [_cells(limit) for limit in look.rows])
    if not look.rows:
        say(ctx, "No limit yet: `baton limits set` makes one.")


@click.command(name="show")
@limit_argument
@json_option()
@click.pass_context
def show(ctx: click.Context, name: str, *, as_json: bool) -> int:
    """Show one limit: its holders, and the runs that wait for a slot.

    The first 100 of each are told. Exit code 1: there is no such limit.
    """
    with checked_exchange_from(ctx) as (exchange, _):
        look = limits(exchange, [name])
        members = look.rows[0].waiters[:SHOWN_WAITERS] if look.rows else ()
        waiting = rows_of(exchange, [member for member in members if not process_of(member)])
        processes = [member for member in members if process_of(member)]
    if not look.rows:
        return _unknown(ctx, name)
    (limit,) = look.rows
    if as_json:
        output.document({**document(limit), "next": [run_document(row) for row in waiting]})
        return 0
    titles = [column.title for column in COLUMNS]
    output.facts(list(zip(titles, _cells(limit), strict=True)))
    if limit.holders:
        click.echo("\nholders")
        output.table(HOLDERS, [_holder(holder, look.at) for holder in limit.holders])
    if waiting:
        click.echo("\nnext")
        output.table(RUN_COLUMNS, run_cells(waiting, look.at))
    if processes:
        click.echo("\nprocesses that wait, with how many slots they want")
        for member in processes:
            click.echo(f"{line(process_of(member))} {member.rpartition('/')[2]}")
    return 0


@click.command(name="set")
@limit_argument
@click.argument("slots", type=click.IntRange(0, 1_000_000), metavar="SLOTS")
@click.option("--decay", type=float, metavar="RATE", help="Slots taken by rate_limit that free themselves each second.")
@json_option()
@click.pass_context
def set_limit(ctx: click.Context, name: str, slots: int, decay: float | None, *, as_json: bool) -> None:
    """Let so many runs with this limit run at the same time.

    It holds at once. Lowering it takes no slot away from a run that has one; with 0 no run begins. Without --decay no
    slot frees itself.
    """
    with checked_exchange_from(ctx, steers=True) as (exchange, settings):
        waiting = Operations(exchange, settings).set_limit(name, slots, decay)
    if as_json:
        output.document({"name": name, "slots": slots, "decay": decay, "waiting": waiting})
    else:
        click.echo(f"{line(name)} has {slots} slot{'' if slots == 1 else 's'}; {waiting} waiting")


@click.command(name="delete")
@limit_argument
@yes_option()
@json_option()
@click.pass_context
def delete(ctx: click.Context, name: str, *, yes: bool, as_json: bool) -> int:
    """Delete a limit: everybody who waits for it goes on.

    Exit code 1: there is no such limit, or the answer was no.
    """
    with checked_exchange_from(ctx, steers=True) as (exchange, settings):
        look = limits(exchange, [name])
        if not look.rows:
            return _unknown(ctx, name)
        (limit,) = look.rows
        if not yes and as_json:
            output.document({"done": False, **document(limit)})
        elif not yes:
            click.echo(f"would delete {line(name)} and let {limit.waiting} waiting runs go on")
        if not agreed(ctx, f"Delete {line(name)}?", yes=yes, as_json=as_json):
            return 1
        waiting = Operations(exchange, settings).set_limit(name, None)
    if as_json:
        output.document({"done": True, "name": name, "waiting": waiting})
    else:
        click.echo(f"deleted {line(name)}; {waiting} wait for its end still")
    return 0


def _unknown(ctx: click.Context, name: str) -> int:
    say(ctx, f"No limit is called {line(name, 100)!r}.")
    return 1


def _cells(limit: Limit) -> Row:
    numbers = (limit.slots, limit.used, limit.waiting)
    return (limit.name, *("-" if number is None else str(number) for number in numbers), _note(limit))


def _note(limit: Limit) -> Cell:
    if limit.problems:
        return Cell("; ".join(f"{key}: {why}" for key, why in limit.problems.items()), ALARM)
    if limit.slots is None:
        return Cell("deleted: those that wait are let go")
    if limit.decay is not None:
        return Cell(f"{limit.decay:g} a second free themselves")
    return Cell("no run begins", "yellow") if limit.slots == 0 else Cell("")


def _holder(holder: Holder, at: float) -> Row:
    return (
        f"kept for {holder.run_id}" if holder.is_reserved else holder.run_id or holder.member,
        ago(at - holder.since),
        holder.worker or "-",
        "-" if holder.lease_left is None else span(holder.lease_left) if holder.lease_left > 0 else Cell("over", ALARM),
    )


def document(limit: Limit) -> dict[str, Any]:
    """The limit for `--json`."""
    return {
        "name": limit.name,
        "slots": limit.slots,
        "decay": limit.decay,
        "used": limit.used,
        "waiting": limit.waiting,
        "holders": [
            {
                "run": holder.run_id,
                "reserved": holder.is_reserved,
                "worker": holder.worker,
                "since": iso(from_epoch(holder.since)),
                "lease_left": holder.lease_left,
            }
            for holder in limit.holders
        ],
        "waiters": list(limit.waiters),
        "problems": dict(limit.problems),
    }
