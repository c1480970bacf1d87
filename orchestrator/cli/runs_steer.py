"""`baton runs cancel`, `retry` and `force`: steer runs, by id or all that match. They show which, and ask."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import click

from orchestrator.cli import output
from orchestrator.cli.common import SHOWN_IDS, checked_exchange_from, json_option, line, say
from orchestrator.cli.consent import agreed, yes_option
from orchestrator.cli.selection import Question, chosen, selection_options, show_plan, tally
from orchestrator.cli.spans import SECONDS_OR_NONE
from orchestrator.operations import Operations
from shared.errors import BatonError, InvalidValue, RedisUnavailable
from shared.state_types import TERMINAL_STATES, StateType
from shared.states import Cancelled, Completed, Crashed, Failed, Pending

MAKERS: Final = {
    StateType.PENDING: Pending,
    StateType.COMPLETED: Completed,
    StateType.FAILED: Failed,
    StateType.CRASHED: Crashed,
    StateType.CANCELLED: Cancelled,
}
UNFINISHED: Final = frozenset(StateType) - TERMINAL_STATES
UNHAPPY: Final = frozenset({StateType.FAILED, StateType.CRASHED})
TO = click.Choice([kind.value for kind in MAKERS], case_sensitive=False)
PAGE: Final = 500

message_option = click.option("--message", default="", help="A text for its history.")


class Steered(NamedTuple):
    """What came of one run: the state that now holds, or why it was left as it is."""

    run_id: str
    state: str
    error: str | None = None


Act = Callable[[Operations, Sequence[str]], list[Steered]]


@click.command(name="cancel")
@selection_options
@message_option
@yes_option()
@json_option()
@click.pass_context
def cancel(ctx: click.Context, question: Question, message: str, *, yes: bool, as_json: bool) -> int:
    """Cancel runs.

    Those that wait at once, those that run as soon as their process has ended them; what they submitted is cancelled
    too. By ids, or beginnings of ids; or every run that matches the filters and has not ended. Exit code 1: none
    matches, one had ended otherwise or is gone, or the answer was no.
    """
    if question.wanted.states & TERMINAL_STATES:
        raise click.UsageError("What has ended cannot be cancelled.")

    def act(operations: Operations, ids: Sequence[str]) -> list[Steered]:
        answers = operations.cancel_many(ids, message)
        why = {"TERMINAL": "it has ended", "GONE": "there is no such run", "BROKEN": "its record is unreadable"}
        return [
            Steered(run_id, answer.state_type, why.get(answer.tag)) for run_id, answer in zip(ids, answers, strict=True)
        ]

    return _steer(ctx, "cancel", question, UNFINISHED, act, yes=yes, as_json=as_json)


@click.command(name="retry")
@selection_options
@click.option("--delay", type=SECONDS_OR_NONE, default=0.0, metavar="SECONDS", help="Not before so long from now.")
@click.option("--rerun", is_flag=True, help="Also those that completed; what they returned is dropped.")
@message_option
@yes_option()
@json_option()
@click.pass_context
def retry(
    ctx: click.Context, question: Question, delay: float, message: str, *, rerun: bool, yes: bool, as_json: bool
) -> int:
    """Run again what has ended.

    It is a new attempt, with all its tries. By ids, or beginnings of ids; or every run that matches the filters and
    FAILED or CRASHED; those that were CANCELLED only with --state. Exit code 1: none matches, one has not ended,
    completed or is gone, or the answer was no.
    """
    if question.wanted.states & UNFINISHED:
        raise click.UsageError("What has not ended cannot be retried.")
    if StateType.COMPLETED in question.wanted.states and not rerun:
        raise click.UsageError("What completed runs again with --rerun only.")

    def again(operations: Operations, run_id: str) -> str:
        return operations.retry(run_id, delay=delay, message=message, rerun=rerun).type

    usual = UNHAPPY | {StateType.COMPLETED} if rerun else UNHAPPY
    return _steer(ctx, "retry", question, usual, _one_by_one(again), yes=yes, as_json=as_json)


@click.command(name="force")
@selection_options
@click.option("--to", "target", type=TO, required=True, metavar="STATE", help=f"One of {', '.join(MAKERS)}.")
@click.option("--reason", required=True, help="Why; it goes into the history.")
@yes_option()
@json_option()
@click.pass_context
def force(ctx: click.Context, question: Question, target: str, reason: str, *, yes: bool, as_json: bool) -> int:
    """Write a state without asking the rules.

    For what cannot be mended otherwise. Whoever runs a run is fenced: its outcome will not be recorded. By ids, or
    beginnings of ids; or every run that matches the filters. Exit code 1: none matches, one is gone, or the answer was
    no.
    """
    if not reason.strip():
        raise InvalidValue("--reason is empty: it goes into the history, where somebody will look for it")
    make = MAKERS[StateType(target)]

    def write(operations: Operations, run_id: str) -> str:
        return operations.force(run_id, make(), reason).type

    return _steer(
        ctx, f"force to {target}", question, frozenset(StateType), _one_by_one(write), yes=yes, as_json=as_json
    )


def _one_by_one(act: Callable[[Operations, str], str]) -> Act:
    """The same for each of many: what is refused is told, and the others go on."""

    def each(operations: Operations, run_id: str) -> Steered:
        try:
            return Steered(run_id, act(operations, run_id))
        except RedisUnavailable:
            raise
        except BatonError as error:
            return Steered(run_id, "", str(error))

    return lambda operations, ids: [each(operations, run_id) for run_id in ids]


def _steer(
    ctx: click.Context,
    word: str,
    question: Question,
    usual: frozenset[StateType],
    act: Act,
    *,
    yes: bool,
    as_json: bool,
) -> int:
    with checked_exchange_from(ctx, steers=True) as (exchange, settings):
        runs = chosen(exchange, question, usual)
        for place, why in runs.gaps.items():
            say(ctx, f"{place} {why}")
        if not runs.states:
            if as_json:
                output.document({"done": False, "runs": {}})
            say(ctx, "No run matches.")
            return 1
        if not yes:
            show_plan(word, runs, as_json=as_json)
        if not agreed(ctx, f"{word.capitalize()} {runs.told}?", yes=yes, as_json=as_json):
            return 1
        operations = Operations(exchange, settings)
        done = [row for page in _pages(ctx, list(runs.states)) for row in act(operations, page)]
    _tell(word, done, as_json=as_json)
    return 1 if any(row.error for row in done) else 0


def _pages(ctx: click.Context, ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """The ids, some at a time; who looks on sees how far it is."""
    pages = [ids[start : start + PAGE] for start in range(0, len(ids), PAGE)]
    if len(pages) == 1 or ctx.obj["quiet"] or output.is_plain():
        yield from pages
        return
    with click.progressbar(pages, file=sys.stderr) as shown:
        yield from shown


def _tell(word: str, done: Sequence[Steered], *, as_json: bool) -> None:
    well, refused = [row for row in done if row.error is None], [row for row in done if row.error is not None]
    if as_json:
        told = {row.run_id: {"state": row.state or None, "error": row.error} for row in done}
        output.document({"done": True, "runs": told})
    else:
        click.echo(f"{_past(word)} {tally(row.state for row in well)}")
    for row in refused[:SHOWN_IDS]:
        click.echo(f"{row.run_id}: {line(row.error or '')}" + (f": {row.state}" if row.state else ""), err=True)
    if len(refused) > SHOWN_IDS:
        click.echo(f"and {len(refused) - SHOWN_IDS} more were not {_past(word)}", err=True)


def _past(word: str) -> str:
    return {"cancel": "cancelled", "retry": "retried"}.get(word, word.replace("force", "forced"))
