"""`baton reconcile`: mends what the doctor finds and one call can mend. Without `--yes` it shows that, and asks."""

import sys
import time
from collections.abc import Iterator
from functools import partial

import click

from orchestrator.cli import output
from orchestrator.cli.common import SHOWN_IDS, checked_exchange_from, json_option, line
from orchestrator.cli.doctor import PAUSE, document, report
from orchestrator.doctor import Diagnosis, diagnosed, find
from orchestrator.reconcile import Plan, Report, is_mendable, planned, reconcile
from shared.ledger import RunLedger


@click.command(name="reconcile")
@click.option("--yes", is_flag=True, help="Do it, without asking.")
@json_option()
@click.pass_context
def command(ctx: click.Context, *, yes: bool, as_json: bool) -> int:
    """Mend what was done by hand, by RQ's tools, or by an accident.

    Shows what it would do, and asks. Safe at any time: each run is looked at once more in the step that moves it.
    Exit code 0: all is well now. 1: something is left that needs a hand, or the answer was no.
    """
    with checked_exchange_from(ctx, steers=True) as (exchange, settings):
        pause = partial(time.sleep, PAUSE)
        if not yes:
            findings = find(exchange, pause)
            found, plan = diagnosed(findings), planned(findings)
            del findings  # all of Redis, as it was
            _show_plan(found, plan, as_json=as_json)
            if plan.is_empty:
                return 1 if found.violations else 0
            if as_json or not sys.stdin.isatty():
                raise click.UsageError("Nobody can answer here: with --yes it is done.", ctx)
            if not click.confirm("Mend this?", err=True):
                return 1
        told = reconcile(exchange, RunLedger(exchange, settings), pause)
    if as_json:
        output.document(document_of(told))
    else:
        for text in told_by(told):
            click.echo(text)
    return 1 if told.left.violations else 0


def _show_plan(found: Diagnosis, plan: Plan, *, as_json: bool) -> None:
    if as_json:
        output.document({"done": False, "ids": list(plan.ids), "found": document(found)})
        return
    for text in report(found):
        click.echo(text)
    mendable = sum(map(is_mendable, found.violations))
    click.echo(f"would mend {mendable} of {len(found.violations)} violations, of {_ids(len(plan.ids))}")


def told_by(told: Report) -> Iterator[str]:
    """What was done and what is left, as lines of text."""
    ids_of: dict[str, list[str]] = {}
    for run_id, words in told.done.items():
        ids_of.setdefault("; ".join(words), []).append(run_id)
    for words, ids in ids_of.items():
        shown = ", ".join(line(run_id, 200) for run_id in ids[:SHOWN_IDS])
        more = f" and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
        yield line(words)
        yield f"    {_ids(len(ids))}: {shown}{more}"
    for counter in told.counters:
        yield f"counter of {line(counter.state)}: {counter.found}, not {line(counter.counted) or 'missing'}"
    if told.done or told.counters:
        yield ""
    yield from report(told.left)


def _ids(number: int) -> str:
    return "1 id" if number == 1 else f"{number} ids"


def document_of(told: Report) -> dict[str, object]:
    """What was done and what is left for `--json`: nothing is cut."""
    return {
        "done": True,
        "ids": {run_id: list(words) for run_id, words in told.done.items()},
        "counters": {counter.state: counter.found for counter in told.counters},
        "found": document(told.found),
        "left": document(told.left),
    }
