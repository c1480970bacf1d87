"""`baton workers drain` and `check`: have workers end, and tell a probe whether they live."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import click

from orchestrator.cli import complete, output
from orchestrator.cli.cells import Column
from orchestrator.cli.common import checked_exchange_from, json_option, line, say
from orchestrator.cli.consent import agreed, yes_option
from orchestrator.cli.spans import SECONDS
from shared.clock import monotonic
from shared.ledger import RunLedger
from shared.transport import Transport
from shared.views.workers import Worker, workers

LOOK_EVERY = 0.2


@dataclass(frozen=True)
class _Wanted:
    """Which workers are meant: one by its name, those of a fleet, or all."""

    worker: str = ""
    fleet: str = ""

    @property
    def is_whole_fleet(self) -> bool:
        return not self.worker

    def among(self, rows: Sequence[Worker]) -> list[str]:
        """The names of those that live. A lease is what tells: also who lost Redis for a while may beat again."""
        return [row.name for row in rows if row.lease_left is not None and self._means(row)]

    def _means(self, row: Worker) -> bool:
        return self.worker in ("", row.name) and self.fleet in ("", row.fleet)


@click.command(name="drain")
@click.argument("name", metavar="[WORKER|FLEET]", default="", shell_complete=complete.fleets_and_workers)
@click.option("--all", "is_all", is_flag=True, help="All workers of all fleets.")
@click.option("--wait", "seconds", type=SECONDS, metavar="SECONDS", help="Wait so long until they have ended.")
@yes_option()
@json_option()
@click.pass_context
def drain(ctx: click.Context, name: str, *, is_all: bool, seconds: float | None, yes: bool, as_json: bool) -> int:
    """Have workers finish what runs, and end.

    They begin nothing more, and give back what they have not begun; what runs may take as long as it takes. A fleet
    whose workers are drained starts no others, and ends. WORKER may be the beginning of a name, if only one worker's
    begins so. Exit code 1: nobody is meant, or with --wait some have not ended in that time.
    """
    if bool(name) == is_all:
        raise click.UsageError("Name a worker or a fleet, or say --all.")
    with checked_exchange_from(ctx, steers=True) as (exchange, settings):
        rows = _working(exchange)
        wanted = _Wanted() if is_all else _meant(name, rows)
        names = wanted.among(rows) if wanted is not None else []
        if wanted is None or not names:
            say(ctx, "No worker is alive." if is_all else f"No live worker or fleet is called {line(name, 100)!r}.")
            return 1
        if not yes:
            _show(names, as_json=as_json)
        if not agreed(ctx, f"Drain {_workers(len(names))}?", yes=yes, as_json=as_json):
            return 1
        ledger = RunLedger(exchange, settings)
        ledger.drain(names, whole_fleet=wanted.is_whole_fleet)
        left = names if seconds is None else _left_after(ledger, exchange, wanted, seconds, {*names})
    if as_json:
        output.document({"done": True, "asked": names, "left": left})
    else:
        click.echo(f"asked {_workers(len(names))}" + ("" if seconds is None else f", {len(left)} not ended"))
    return 1 if left and seconds is not None else 0


def _show(names: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        output.document({"done": False, "asked": names})
        return
    click.echo(f"would drain {_workers(len(names))}")
    output.table([Column("worker", is_whole=True)], [(name,) for name in names])


def _workers(number: int) -> str:
    return f"{number} worker{'' if number == 1 else 's'}"


def _working(transport: Transport) -> list[Worker]:
    """Those that work on queues: also other processes hold leases."""
    return [row for row in workers(transport).rows if row.queues]


def _meant(name: str, rows: Sequence[Worker]) -> _Wanted | None:
    """Whom a name means: a fleet if it is one's whole name, else the worker whose name begins so.

    Raises:
        UsageError: several workers' names begin so.
    """
    living = [row for row in rows if row.lease_left is not None]
    if name in {row.fleet for row in living}:
        return _Wanted(fleet=name)
    names = [row.name for row in living]
    matches = [name] if name in names else [known for known in names if known.startswith(name)]
    if len(matches) > 1:
        raise click.UsageError(f"{len(matches)} workers' names begin with {line(name, 100)!r}.")
    return _Wanted(worker=matches[0]) if matches else None


def _left_after(ledger: RunLedger, transport: Transport, wanted: _Wanted, seconds: float, asked: set[str]) -> list[str]:
    """Those that live still when the time is over. Whoever a fleet has started since is asked as well."""
    until = monotonic() + seconds
    while left := wanted.among(_working(transport)):
        if fresh := [name for name in left if name not in asked]:
            ledger.drain(fresh, whole_fleet=wanted.is_whole_fleet)
            asked.update(fresh)
        if monotonic() > until:
            break
        time.sleep(min(LOOK_EVERY, seconds))
    return left


@click.command(name="check")
@click.option("--fleet", default="", help="Only workers of this fleet.")
@click.option("--at-least", type=click.IntRange(1), default=1, show_default=True, help="So many have to be alive.")
@json_option()
@click.pass_context
def check(ctx: click.Context, fleet: str, at_least: int, *, as_json: bool) -> int:
    """Ask whether enough workers are alive.

    For probes that run a command. Alive is who has beaten within its lease and is not draining. Exit code 1: too few
    are; 69: Redis cannot be asked, which no restart of workers mends.
    """
    with checked_exchange_from(ctx) as (exchange, _):
        rows = [row for row in _working(exchange) if fleet in ("", row.fleet)]
    alive = [row.name for row in rows if row.is_live and not row.is_draining]
    is_well = len(alive) >= at_least
    if as_json:
        output.document({"ok": is_well, "alive": len(alive), "at_least": at_least, "fleet": fleet or None})
    else:
        where = f" in fleet {line(fleet, 100)}" if fleet else ""
        click.echo(f"{_workers(len(alive))} alive{where}, {at_least} wanted: {'ok' if is_well else 'too few'}")
    return 0 if is_well else 1
