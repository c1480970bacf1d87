"""`baton doctor`: says whether what is in Redis is in order, and how to repair what is not. Changes nothing."""

import time
from collections.abc import Iterator
from functools import partial

import click

from orchestrator.cli import output
from orchestrator.cli.common import SHOWN_IDS, checked_exchange_from, json_option, line
from orchestrator.doctor import Diagnosis, examine
from orchestrator.invariants import INVARIANTS, Violation

PAUSE = 0.2
"""Seconds before what looks wrong is looked at again."""
_LAWS = {invariant.name: invariant.law for invariant in INVARIANTS}


@click.command(name="doctor")
@json_option()
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool) -> int:
    """Check every invariant of what is in Redis.

    Reads only; safe at any time. Exit code 0: all is well. 1: something is wrong, and what repairs it is said.
    """
    with checked_exchange_from(ctx) as (exchange, _):
        diagnosis = examine(exchange, partial(time.sleep, PAUSE))
    if as_json:
        output.document(document(diagnosis))
    else:
        for text in report(diagnosis):
            click.echo(text)
    return 1 if diagnosis.violations else 0


def report(diagnosis: Diagnosis) -> Iterator[str]:
    """The diagnosis as lines of text."""
    for violation in diagnosis.violations:
        yield from _violation(violation)
    number = len(diagnosis.violations)
    verdict = _number_of(number, "violation") if number else "well"
    yield f"{verdict}: {_counts(diagnosis)}"


def _violation(violation: Violation) -> Iterator[str]:
    yield f"{violation.invariant}: {_LAWS[violation.invariant]}"
    yield f"    {line(violation.what)}"
    ids = violation.ids
    if ids:
        shown = ", ".join(line(run_id, 200) for run_id in ids[:SHOWN_IDS])
        more = f" and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
        yield f"    {_number_of(len(ids), 'id')}: {shown}{more}"
    yield f"    repair: {line(violation.repair)}"
    yield ""


def _counts(diagnosis: Diagnosis) -> str:
    states = ", ".join(f"{number} {state}" for state, number in diagnosis.states.items())
    runs = _number_of(diagnosis.runs, "run") + (f" ({states})" if states else "")
    text = f"{runs}, {_number_of(diagnosis.queues, 'queue')}, {_number_of(diagnosis.workers, 'worker')}"
    return text if diagnosis.compared_counters else f"{text}; counters not compared, there was no quiet moment"


def _number_of(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def document(diagnosis: Diagnosis) -> dict[str, object]:
    """The diagnosis for `--json`: nothing is cut."""
    violations = [
        {
            "invariant": violation.invariant,
            "law": _LAWS[violation.invariant],
            "what": violation.what,
            "total": len(violation.ids),
            "ids": violation.ids,
            "repair": violation.repair,
        }
        for violation in diagnosis.violations
    ]
    return {
        "well": not violations,
        "runs": diagnosis.runs,
        "states": dict(diagnosis.states),
        "queues": diagnosis.queues,
        "workers": diagnosis.workers,
        "compared_counters": diagnosis.compared_counters,
        "violations": violations,
    }
