"""`baton quarantine list`, `show`, `requeue` and `drop`: what was put aside. Never decodes what lies there."""

from collections.abc import Sequence
from typing import Any, Final

import click

from orchestrator.cli import complete, output
from orchestrator.cli.cells import QUIET, Cell, Column
from orchestrator.cli.common import SHOWN_IDS, checked_exchange_from, json_option, line, say
from orchestrator.cli.consent import agreed, yes_option
from orchestrator.operations import Operations
from orchestrator.quarantine import requeued
from shared.ids import is_id
from shared.ledger import RunLedger
from shared.transport import Transport
from shared.views.quarantine import ENTRY, Entry, entries, named

COLUMNS = (
    Column("entry", is_whole=True),
    Column("reason"),
    Column("time"),
    Column("run", is_whole=True),
    Column("worker"),
    Column("note"),
)
MOST: Final = 10_000
REASONS: Final = {
    "fenced": "An outcome that came too late: its attempt was superseded.",
    "gone": "An outcome of a run that is not there any more.",
    "broken": "An outcome that could not be recorded, since the run's record is unreadable.",
    "unreadable": "What could not be read where it waited, and was taken out.",
    "crashed": "A run that was given up: its process was lost each time.",
    "hooks": "Hooks of a run's end that were not called: their process was lost each time, or too many were due.",
}

entries_argument = click.argument("ids", nargs=-1, metavar="[ENTRY]...", shell_complete=complete.entries)
reason_option = click.option("--reason", type=click.Choice(list(REASONS)), help="Only what is there for this reason.")


@click.command(name="list")
@reason_option
@click.option("--limit", type=click.IntRange(1, MOST), default=20, show_default=True, help="How many at most.")
@json_option()
@click.pass_context
def list_entries(ctx: click.Context, reason: str | None, limit: int, *, as_json: bool) -> None:
    """List what was put aside, newest first.

    Late outcomes, what could not be read, runs that were given up. About the newest 10,000 entries are kept.
    """
    with checked_exchange_from(ctx) as (exchange, _):
        total, rows = entries(exchange, limit, reason)
    if as_json:
        output.document({"total": total, "entries": [document(entry) for entry in rows]})
        return
    output.table(COLUMNS, [_cells(entry) for entry in rows])
    if total > len(rows):
        say(ctx, f"{total} entries in all.")


@click.command(name="show")
@click.argument("entry_id", metavar="ENTRY", shell_complete=complete.entries)
@json_option()
@click.pass_context
def show(ctx: click.Context, entry_id: str, *, as_json: bool) -> int:
    """Show one entry whole.

    Each field as text, or as hex where it is none. Exit code 1: there is no such entry.
    """
    with checked_exchange_from(ctx) as (exchange, _):
        found = _found(ctx, exchange, [entry_id])
    if not found:
        return 1
    (entry,) = found
    if as_json:
        output.document(document(entry))
        return 0
    why = REASONS.get(entry.reason, "")
    output.facts(
        [("entry", entry.id), ("why", why), *((line(name, 64), _shown(value)) for name, value in entry.fields.items())]
    )
    return 0


@click.command(name="requeue")
@entries_argument
@yes_option()
@json_option()
@click.pass_context
def requeue(ctx: click.Context, ids: tuple[str, ...], *, yes: bool, as_json: bool) -> int:
    """Put the runs of these entries back to work, and drop the entries.

    `crashed`: the run is retried. `unreadable`: once its record was mended by hand, it is put back where it belongs.
    Late outcomes are refused: their runs have gone on without them. Exit code 1: one was refused, or the answer was no.
    """
    if not ids:
        raise click.UsageError("Which entries? Give their ids.")
    with checked_exchange_from(ctx, steers=True) as (exchange, settings):
        found = _found(ctx, exchange, ids)
        if not found or not _agreed(ctx, "requeue the runs of", found, yes=yes, as_json=as_json):
            return 1
        ledger, operations = RunLedger(exchange, settings), Operations(exchange, settings)
        done = {entry.id: requeued(entry, ledger, operations) for entry in found}
        ledger.drop([entry_id for entry_id, answer in done.items() if answer.is_done])
    if as_json:
        output.document(
            {
                "done": True,
                "entries": {
                    entry_id: {"done": answer.is_done, "told": answer.told} for entry_id, answer in done.items()
                },
            }
        )
    else:
        for entry_id, answer in done.items():
            click.echo(f"{entry_id}: {'' if answer.is_done else 'refused: '}{line(answer.told)}")
    return 0 if len(found) == len(set(ids)) and all(answer.is_done for answer in done.values()) else 1


@click.command(name="drop")
@entries_argument
@reason_option
@click.option("--all", "is_all", is_flag=True, help="Every entry.")
@yes_option()
@json_option()
@click.pass_context
def drop(
    ctx: click.Context, ids: tuple[str, ...], reason: str | None, *, is_all: bool, yes: bool, as_json: bool
) -> int:
    """Remove entries: these, all that are there for a reason, or all.

    Only the entries go; runs are not touched. Exit code 1: there is none, or the answer was no.
    """
    if [bool(ids), reason is not None, is_all].count(True) != 1:
        raise click.UsageError("Which entries? Give their ids, --reason, or --all.")
    with checked_exchange_from(ctx, steers=True) as (exchange, settings):
        found = _found(ctx, exchange, ids) if ids else entries(exchange, 2 * MOST, reason)[1]
        if not found:
            say(ctx, "There is no such entry.")
            return 1
        if not _agreed(ctx, "drop", found, yes=yes, as_json=as_json):
            return 1
        number = RunLedger(exchange, settings).drop([entry.id for entry in found])
    if as_json:
        output.document({"done": True, "dropped": number})
    else:
        click.echo(f"dropped {_number_of(number)}")
    return 0


def _found(ctx: click.Context, exchange: Transport, ids: Sequence[str]) -> list[Entry]:
    """The entries that there are; of each other it is said that there is none."""
    for one in ids:
        if ENTRY.fullmatch(one) is None:
            raise click.UsageError(f"{line(repr(one), 100)} is no id of an entry: they look like 1700000000000-0.")
    found = named(exchange, ids)
    for one in ids:
        if one not in found:
            say(ctx, f"There is no entry {one}: it was dropped, or is too old.")
    return list(found.values())


def _agreed(ctx: click.Context, word: str, found: Sequence[Entry], *, yes: bool, as_json: bool) -> bool:
    told = f"{word} {_number_of(len(found))}"
    if not yes and as_json:
        output.document({"done": False, "entries": [entry.id for entry in found]})
    elif not yes:
        output.table(COLUMNS, [_cells(entry) for entry in found[:SHOWN_IDS]])
        if len(found) > SHOWN_IDS:
            click.echo(f"and {len(found) - SHOWN_IDS} more")
        click.echo(f"would {told}")
    return agreed(ctx, f"{told[0].upper()}{told[1:]}?", yes=yes, as_json=as_json)


def _number_of(number: int) -> str:
    return "1 entry" if number == 1 else f"{number} entries"


def _cells(entry: Entry) -> list[Cell | str]:
    run_id = entry.run_id or "-"
    note = ", ".join(part for part in (entry.told("state"), entry.told("message"), entry.told("queue")) if part)
    return [
        entry.id,
        entry.reason,
        entry.told("time") or "-",
        run_id if is_id(run_id) else line(run_id, 64),
        entry.told("worker") or "-",
        Cell(note, QUIET),
    ]


def _shown(value: bytes) -> str:
    """Bytes as text where they are plain text, else as hex."""
    text = _text(value)
    return f"{len(value)} bytes, hex {value.hex()}" if text is None else text


def _text(value: bytes) -> str | None:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    return text if text.replace("\n", "").replace("\t", "").isprintable() else None


def document(entry: Entry) -> dict[str, Any]:
    """The entry for `--json`: each field as text (null where it is none) and as hex."""
    return {
        "id": entry.id,
        "reason": entry.reason,
        "run": entry.run_id,
        "fields": {name: {"text": _text(value), "hex": value.hex()} for name, value in entry.fields.items()},
    }
