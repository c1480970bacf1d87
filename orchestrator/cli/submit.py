"""`baton submit`: one run of a task that is known by its key, from values on the command line."""

import json
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

import click

from orchestrator.cli import complete, output
from orchestrator.cli.common import checked_exchange_from, client_settings_from, exchange_from, json_option, line, say
from orchestrator.cli.ending import Ending, ending_of
from orchestrator.cli.runs import gone
from orchestrator.cli.spans import SECONDS_OR_NONE
from orchestrator.client import Orchestrator
from shared.details import details
from shared.specs import check_options, queue_name
from shared.views.tasks import Known, known_tasks

DEFAULT_QUEUE = "default"
MOST_NAMED = 20
MOST_BYTES = 8 * 1024 * 1024
"""Of JSON text; what a run may carry is less, and how much is a setting."""


@click.command(name="submit")
@click.argument("key", required=False, shell_complete=complete.task_keys)
@click.option("-p", "pairs", multiple=True, metavar="NAME=VALUE", help="A parameter; JSON if it reads as JSON.")
@click.option("--parameters", metavar="JSON", help="Parameters as a JSON object; - reads it from stdin.")
@click.option("--queue", default=DEFAULT_QUEUE, show_default=True, shell_complete=complete.queues, help="Its queue.")
@click.option("--delay", type=SECONDS_OR_NONE, metavar="SECONDS", help="Not before so long from now.")
@click.option("--at-front", is_flag=True, help="Before those that wait already.")
@click.option("--wait", is_flag=True, help="Stay until it has ended, and print its result.")
@click.option("--timeout", type=SECONDS_OR_NONE, metavar="SECONDS", help="With --wait: no longer than this.")
@json_option()
@click.pass_context
def submit(
    ctx: click.Context,
    key: str | None,
    pairs: tuple[str, ...],
    parameters: str | None,
    queue: str,
    delay: float | None,
    timeout: float | None,
    *,
    at_front: bool,
    wait: bool,
    as_json: bool,
) -> int:
    """Submit one run of the task KEY.

    Prints the run's id; with --wait its result. Exit code 1: it did not complete, or not in time. A key that nobody
    ever submitted and that no live worker announces is refused, unless there is no live worker at all.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout goes with --wait.")
    arguments = parameters_from(pairs, parameters)
    queue_name("--queue", queue)
    _check_key(ctx, key, queue)
    with Orchestrator(settings=client_settings_from(ctx)) as baton:
        future = baton.submit(key or "", arguments, queue=queue, delay=delay, at_front=at_front)
        if not wait:
            _answer_id(future.run_id, str(key), queue, as_json=as_json)
            return 0
        say(ctx, future.run_id)
        state = future.wait(timeout)
    ending = _ending(ctx, future.run_id)
    if state is None:
        told = f"run {future.run_id} has not ended within {timeout:g} s; it goes on"
        ending = Ending(ending.run_id, ending.state, None, told)
    return output.ending(ending, as_json=as_json)


def _answer_id(run_id: str, key: str, queue: str, *, as_json: bool) -> None:
    if as_json:
        output.document({"id": run_id, "task": key, "queue": queue})
    else:
        click.echo(run_id)


def _ending(ctx: click.Context, run_id: str) -> Ending:
    with exchange_from(ctx) as (exchange, settings):
        found = details(exchange, run_id, settings)
    if found is None:
        raise gone(run_id)
    return ending_of(found, settings)


# --- the task ---------------------------------------------------------------------------------------------------------


def _check_key(ctx: click.Context, key: str | None, queue: str) -> None:
    """Refuse a key that nobody knows, and warn of one that nobody will run.

    Raises:
        UsageError: no key, or one that was never heard of; lists those that are known.
        InvalidValue: not a task's key.
    """
    if key is not None:
        check_options({"key": key})
    with checked_exchange_from(ctx) as (exchange, _):
        known = known_tasks(exchange)
    if key is None:
        _refuse("Missing argument 'KEY'.", known, "")
    servants = [worker for worker in known.live if worker.announces(key)]
    if not servants and known.live and key not in known.submitted:
        _refuse(f"No task is called {line(repr(key))}.", known, key)
    if not servants:
        say(ctx, f"No live worker announces {line(key)}: the run waits until one does.")
    elif not any(queue in worker.queues for worker in servants):
        queues = ", ".join(sorted({name for worker in servants for name in worker.queues}))
        say(ctx, f"The workers that announce {line(key)} serve other queues than {queue}: {line(queues)}.")


def _refuse(text: str, known: Known, key: str) -> NoReturn:
    keys = sorted(known.submitted | known.announced)
    alike = get_close_matches(key, keys)
    if alike:
        text += f" Did you mean {' or '.join(map(line, alike))}?"
    more = f" and {len(keys) - MOST_NAMED} more" if len(keys) > MOST_NAMED else ""
    named = ", ".join(line(one) for one in keys[:MOST_NAMED])
    raise click.UsageError(f"{text} Known are: {named}{more}." if keys else f"{text} None is known here yet.")


# --- parameters -------------------------------------------------------------------------------------------------------


def parameters_from(pairs: Sequence[str], text: str | None) -> Mapping[str, Any]:
    """The parameters that the two options mean.

    Raises:
        UsageError: no pair, no JSON, no object, or a name that is given twice.
    """
    found = {} if text is None else _object(_from_stdin() if text == "-" else text)
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise click.UsageError(f"-p {line(repr(pair), 100)} is no pair: write NAME=VALUE.")
        if name in found:
            raise click.UsageError(f"The parameter {line(repr(name), 100)} is given twice.")
        found[name] = _value(value)
    return found


def _from_stdin() -> str:
    if sys.stdin is None:
        raise click.UsageError("--parameters should come from stdin, and that is closed.")
    data = sys.stdin.buffer.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise click.UsageError(f"--parameters from stdin is longer than {MOST_BYTES:,} bytes.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"--parameters from stdin is no UTF-8: {error.reason} at byte {error.start}.") from None


def _object(text: str) -> dict[str, Any]:
    try:
        value = _json(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise click.UsageError(f"--parameters is no JSON: {error.msg} at {where}.") from None
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--parameters is no JSON: {line(str(error), 200)}.") from None
    if not isinstance(value, dict):
        kind = {list: "an array", str: "a text", bool: "true or false"}.get(type(value), "a number or null")
        raise click.UsageError(f'--parameters holds {kind}; it must be an object, such as {{"name": "value"}}.')
    return value


def _value(text: str) -> Any:
    try:
        return _json(text)
    except (ValueError, RecursionError):
        return text


def _json(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
